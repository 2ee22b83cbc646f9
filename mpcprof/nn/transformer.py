"""A whole Transformer, as `architecture.json` describes it, and its MLP.

Pre-norm, learned positions; a class token or the mean of all tokens; a bias in qkv or
none. Patches of the image are cut, and words embedded, in the clear by their owner;
everything from there on is secret.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from mpcprof.errors import UsageError
from mpcprof.nn.activation import fold_of, get_activation
from mpcprof.nn.algebra import Algebra, Shape, T
from mpcprof.nn.architecture import Architecture, Head
from mpcprof.nn.attention import get_attention
from mpcprof.nn.mixing import Mixer
from mpcprof.nn.norm import NORM_EPSILON, centred, layernorm, unit_norm
from mpcprof.nn.plan import LayerPlan, Plan, unplanned
from mpcprof.nn.rewrite import grouped
from mpcprof.nn.stem import convolve_image, stem_shapes

W = TypeVar("W")  # a weight of any kind
EMBEDDING_WEIGHTS: Final = tuple(
    f"embedding.{name}" for name in ("weight", "bias", "class_token", "positions")
)
MIXING_WEIGHTS: Final = ("mixing.weight", "mixing.bias")
_STREAM_NORM: Final = ("norm2.gamma", "norm2.beta")  # where norms stand between
HEAD_WEIGHTS: Final = ("norm.gamma", "norm.beta", "head.weight", "head.bias")


def input_shape(architecture: Architecture, n_batch: int) -> Shape:
    """Return (B, N - 1, P), the shape of images cut into patches.

    P is D where embedded tokens are given, and N - 1 is N without a class token. For a
    stem it is (B, S S, c), the pixels.
    """
    model = architecture.model
    return (n_batch, model.n_inputs, model.input_dim)


def weight_shapes(
    architecture: Architecture, plan: Plan | None = None
) -> dict[str, Shape]:
    """Return the shape of every weight by name, in the order that `vit` takes.

    Folded weights have no gamma and beta, but of norms in the residual stream; queries,
    keys and values have a bias. So do those of a layer whose norm is no layernorm,
    folded or not.
    """
    plan = plan or unplanned(architecture)
    shapes = _all_shapes(plan.apply(architecture), has_qkv_bias=plan.is_folded)
    if not plan.is_folded:
        return shapes
    kept = _STREAM_NORM if architecture.model.is_norm_between else ()
    return {
        name: shape
        for name, shape in shapes.items()
        if not name.endswith((".gamma", ".beta")) or name.endswith(kept)
    }


def _all_shapes(architecture: Architecture, *, has_qkv_bias: bool) -> dict[str, Shape]:
    model = architecture.model
    shapes = stem_shapes(model)
    if model.has_embedding:
        shapes["embedding.weight"] = (model.patch_dim, model.width)
        shapes["embedding.bias"] = (model.width,)
    if model.has_class_token:
        shapes["embedding.class_token"] = (1, 1, model.width)
    if architecture.n_layers:
        shapes["embedding.positions"] = (1, model.n_tokens, model.width)
    for layer in range(architecture.n_layers):
        own = _layer_shapes(architecture, layer, has_qkv_bias)
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in own.items()}
    if architecture.has_last_norm:
        shapes["norm.gamma"] = shapes["norm.beta"] = (model.width,)
    shapes["head.weight"] = (model.width, model.n_classes)
    shapes["head.bias"] = (model.n_classes,)
    return shapes


def check_weight_shapes(
    architecture: Architecture, shapes: Mapping[str, Shape]
) -> None:
    """Refuse weights that are not those of the architecture.

    Args:
        shapes: The shape of each given weight by name.

    Raises:
        UsageError: If names or shapes differ; the message names the first.
    """
    expected = weight_shapes(architecture)
    remedy = "take the weights of a network of this architecture"
    missing = [name for name in expected if name not in shapes]
    unknown = [name for name in shapes if name not in expected]
    if missing or unknown:
        raise UsageError(
            f"weights: {len(missing)} missing{_example(missing)}, {len(unknown)} "
            f"unknown{_example(unknown)}; {remedy}"
        )
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise UsageError(
                f"weight {name} has shape {shapes[name]}: expected {shape}; {remedy}"
            )


def _example(names: list[str]) -> str:
    return f" ({names[0]})" if names else ""


def _layer_shapes(
    architecture: Architecture, layer: int, has_qkv_bias: bool
) -> dict[str, Shape]:
    model, mixer = architecture.model, architecture.mixer(layer)
    shapes: dict[str, Shape] = {}
    if architecture.has_norm1(layer):
        shapes["norm1.gamma"] = shapes["norm1.beta"] = (model.width,)
    if mixer is None:
        shapes |= _attention_shapes(architecture, layer, has_qkv_bias)
    else:
        own = mixer.weight_shapes(model.n_tokens, model.width)
        shapes |= dict(zip(MIXING_WEIGHTS, own, strict=False))
    if architecture.has_norm2(layer):
        shapes["norm2.gamma"] = shapes["norm2.beta"] = (model.width,)
    return shapes | _mlp_shapes(architecture, layer)


def _attention_shapes(
    architecture: Architecture, layer: int, has_qkv_bias: bool
) -> dict[str, Shape]:
    model = architecture.model
    shapes: dict[str, Shape] = {"attention.qkv": (model.width, 3 * model.heads_width)}
    has_layernorm = architecture.has_norm1(layer)
    if model.has_qkv_bias or has_qkv_bias or not has_layernorm:
        shapes["attention.qkv_bias"] = (3 * model.heads_width,)
    for name in layer_variants(architecture.attention[layer]):
        own = get_attention(name).weight_shapes(model.n_tokens)
        shapes |= {f"attention.{name}.{i}": shape for i, shape in enumerate(own)}
    shapes["attention.projection.weight"] = (model.heads_width, model.width)
    shapes["attention.projection.bias"] = (model.width,)
    return shapes


def _mlp_shapes(architecture: Architecture, layer: int) -> dict[str, Shape]:
    width, hidden = architecture.model.width, architecture.hidden(layer)
    if architecture.is_fused(layer):
        return {"mlp.fused.weight": (width, width), "mlp.fused.bias": (width,)}
    if not hidden:
        return {}
    return {
        "mlp.linear1.weight": (width, hidden),
        "mlp.linear1.bias": (hidden,),
        "mlp.linear2.weight": (hidden, width),
        "mlp.linear2.bias": (width,),
    }


def layer_variants(heads: Sequence[Head]) -> tuple[str, ...]:
    """Return the attention variants of a layer, each once, in order of its heads."""
    return tuple(dict.fromkeys(name for head in heads for name in head))


def vit(
    ops: Algebra[T],
    architecture: Architecture,
    patches: T,
    weights: Mapping[str, T],
    plan: Plan | None = None,
) -> T:
    """Return logits (B, C) of an input of `input_shape`: patches, pixels or embeddings.

    Args:
        plan: How the network is deployed; its weights are folded if it says so.
    """
    plan = plan or unplanned(architecture)
    architecture = plan.apply(architecture)
    model, is_centred = architecture.model, architecture.is_centred
    if model.stem:
        with ops.part("stem"):
            is_folded = plan.is_folded
            patches = convolve_image(ops, model, patches, weights, is_folded=is_folded)
    with ops.part("embedding"):
        if plan.is_folded and model.n_embeddings and is_centred:
            patches = centred(ops, patches)
            if plan.stream_scale != 1:
                patches = ops.scale(patches, plan.stream_scale)
        x = embed(ops, patches, weights)  # (B, N, D)
    for layer in range(architecture.n_layers):
        with ops.part(f"layer {layer + 1}"):
            own = layer_weights(weights, layer)
            x = transformer_layer(ops, architecture, layer, x, own, plan)
    with ops.part("head"):
        return classify(ops, x, weights, architecture, plan)


def layer_weights(weights: Mapping[str, W], layer: int) -> dict[str, W]:
    """Return the weights of one layer by their names inside it."""
    prefix = f"layers.{layer}."
    own = [name for name in weights if name.startswith(prefix)]
    return {name.removeprefix(prefix): weights[name] for name in own}


def linear(ops: Algebra[T], x: T, weight: T, bias: T | None = None) -> T:
    """Return x W + b for x of (A, D), or of (B, N, D) as one product of (B N, D)."""
    if len(x.shape) == 2:
        product = ops.matmul(x, weight)
    else:
        n_batch, n_tokens, width = x.shape
        flat = ops.matmul(ops.reshape(x, (n_batch * n_tokens, width)), weight)
        product = ops.reshape(flat, (n_batch, n_tokens, weight.shape[-1]))
    return product if bias is None else ops.add(product, bias)


def embed(ops: Algebra[T], inputs: T, weights: Mapping[str, T]) -> T:
    """Project patches, put the class token in front, add positions: (B, N, D).

    Without weights for it, the tokens are embedded already, none stands in front, or
    places do not matter.
    """
    tokens = inputs
    if "embedding.weight" in weights:
        weight, bias = weights["embedding.weight"], weights["embedding.bias"]
        tokens = linear(ops, inputs, weight, bias)
    if "embedding.class_token" in weights:
        class_token = ops.join([weights["embedding.class_token"]] * inputs.shape[0], 0)
        tokens = ops.join([class_token, tokens], 1)  # (B, N, D)
    if "embedding.positions" in weights:
        tokens = ops.add(tokens, weights["embedding.positions"])
    return tokens


def classify(
    ops: Algebra[T],
    x: T,
    weights: Mapping[str, T],
    architecture: Architecture | None = None,
    plan: Plan | None = None,
) -> T:
    """Return logits (B, C) of the class token alone, or of the mean, normalised.

    Args:
        architecture: The network; None for a layernorm of the class token.

    Source: the mean behind the norm, Beyer et al. 2022 (arXiv 2205.01580).
    """
    n_batch, n_tokens, width = x.shape
    pooling = architecture.model.pooling if architecture else "class_token"
    if pooling == "class_token":
        x = ops.reshape(ops.cut(x, 1, 0, 1), (n_batch, width))
    if architecture is None or architecture.has_last_norm:
        is_centred = architecture is None or architecture.is_centred
        model = architecture.model if architecture else None
        epsilon = model.norm_epsilon if model else NORM_EPSILON
        x = _normalise(ops, x, weights, "norm", epsilon, plan, is_centred=is_centred)
    if pooling == "mean":
        total = ops.row_sum(ops.transpose(x))  # (B, D, 1)
        is_folded = plan is not None and plan.is_folded
        mean = total if is_folded else ops.scale(total, 1.0 / n_tokens)
        x = ops.reshape(mean, (n_batch, width))
    return linear(ops, x, weights["head.weight"], weights["head.bias"])


def _normalise(
    ops: Algebra[T],
    x: T,
    weights: Mapping[str, T],
    name: str,
    epsilon: float,
    plan: Plan | None,
    layer: LayerPlan | None = None,
    *,
    is_centred: bool,
) -> T:
    """Apply the layernorm of that name, or what its folding leaves of it.

    Folded, a gamma has the factor of `unit_norm`, and is there in the stream alone.
    """
    gamma, beta = f"{name}.gamma", f"{name}.beta"
    if plan is None or not plan.is_folded:
        return layernorm(ops, x, weights[gamma], weights[beta], epsilon)
    if is_centred:
        epsilon *= x.shape[-1] * plan.stream_scale**2
    if layer is None:
        bounds, multiple = plan.last_norm, plan.last_norm_multiple
    else:
        bounds, multiple = layer.norm(name)
    normed = unit_norm(ops, x, epsilon, bounds, multiple, is_centred=is_centred)
    if gamma not in weights:
        return normed
    return ops.add(ops.mul(normed, weights[gamma]), weights[beta])


def transformer_layer(
    ops: Algebra[T],
    architecture: Architecture,
    layer: int,
    x: T,
    weights: Mapping[str, T],
    plan: Plan | None = None,
) -> T:
    """Add attention(norm(x)), or a mixer, to x of (B, N, D), then mlp(norm(x)) to that.

    With norms between, mlp(norm(x)) is added to norm(x).

    A pruned last layer returns the class token alone, (B, 1, D).
    """
    plan = plan or unplanned(architecture)
    own, is_centred = plan.layers[layer], architecture.is_centred
    epsilon = architecture.model.norm_epsilon

    def normalise(x: T, name: str, has_norm: bool) -> T:
        with ops.part("norm"):  # entered twice a layer, whatever is inside
            if not has_norm:
                return x
            return _normalise(
                ops, x, weights, name, epsilon, plan, own, is_centred=is_centred
            )

    is_last = layer == architecture.n_layers - 1
    n_rows = 1 if plan.is_pruned and is_last else x.shape[1]
    normed = normalise(x, "norm1", architecture.has_norm1(layer))
    if mixer := architecture.mixer(layer):
        with ops.part("mixing"):
            mixed = _mix(ops, architecture, mixer, normed, n_rows, weights)
            x = _first(ops, x, n_rows)
            x = x if mixed is None else ops.add(x, mixed)
    else:
        with ops.part("attention"):
            attended = _attend(ops, architecture, layer, normed, n_rows, weights, plan)
            x = ops.add(_first(ops, x, n_rows), attended)
    normed = normalise(x, "norm2", architecture.has_norm2(layer))
    if not architecture.hidden(layer):
        return x
    x = normed if architecture.model.is_norm_between else x
    with ops.part("mlp"):
        return _add_mlp(ops, architecture, layer, x, normed, weights, plan)


def _add_mlp(
    ops: Algebra[T],
    architecture: Architecture,
    layer: int,
    x: T,
    normed: T,
    weights: Mapping[str, T],
    plan: Plan,
) -> T:
    names = _for_each(architecture.activation[layer], x.shape[1])
    if architecture.is_fused(layer):
        weight, bias = weights["mlp.fused.weight"], weights["mlp.fused.bias"]
        x = ops.add(x, fused_mlp(ops, normed, weight, bias, names))
    else:
        w1, b1 = weights["mlp.linear1.weight"], weights["mlp.linear1.bias"]
        w2, b2 = weights["mlp.linear2.weight"], weights["mlp.linear2.bias"]
        done = mlp(ops, normed, w1, b1, w2, b2, names, is_folded=plan.is_folded)
        x = ops.add(x, done)
    is_off = plan.is_folded and architecture.is_centred and has_relu_behind(names)
    return centred(ops, x) if is_off else x


def _mix(
    ops: Algebra[T],
    architecture: Architecture,
    mixer: Mixer,
    x: T,
    n_rows: int,
    weights: Mapping[str, T],
) -> T | None:
    """Return what the mixer adds to the first rows; None for nothing."""
    if mixer.function is None:
        return None
    own = [weights[name] for name in MIXING_WEIGHTS if name in weights]
    if n_rows < x.shape[1]:  # each row of a weight makes a token, where no grid is
        own = [ops.cut(weight, 0, 0, n_rows) for weight in own]
    mixed: T = mixer.function(ops, x, architecture.model.grid_side, *own)
    return mixed


def _first(ops: Algebra[T], x: T, n_rows: int) -> T:
    return x if n_rows == x.shape[1] else ops.cut(x, 1, 0, n_rows)


def _for_each(names: tuple[str, ...], n_rows: int) -> tuple[str, ...]:
    return names * n_rows if len(names) == 1 else names


def _attend(
    ops: Algebra[T],
    architecture: Architecture,
    layer: int,
    x: T,
    n_rows: int,
    weights: Mapping[str, T],
    plan: Plan,
) -> T:
    width = architecture.model.heads_width  # D, but for heads of a width of their own
    bias = weights.get("attention.qkv_bias")
    with ops.part("qkv"):
        qkv = linear(ops, x, weights["attention.qkv"], bias)  # (B, N, 3 D)
    q, k, v = (ops.cut(qkv, 2, i * width, (i + 1) * width) for i in range(3))
    q = _first(ops, q, n_rows)
    heads, own = architecture.attention[layer], plan.layers[layer]
    values = attend_heads(
        grouped(ops, own.n_together, plan.product_price),
        heads,
        q,
        k,
        v,
        weights,
        architecture.heads == "batched",
        own,
        is_folded=plan.is_folded,
    )
    with ops.part("projection"):
        return linear(
            ops,
            values,
            weights["attention.projection.weight"],
            weights["attention.projection.bias"],
        )


def attend_heads(
    ops: Algebra[T],
    heads: Sequence[Head],
    q: T,
    k: T,
    v: T,
    weights: Mapping[str, T],
    is_batched: bool,
    plan: LayerPlan | None = None,
    *,
    is_folded: bool = False,
) -> T:
    """Attend with each head's own variant, k and v of (B, N, D), q of N rows or fewer.

    Batched, the heads of one variant are computed together, stacked on the images: they
    share hops, except those of matrix products, of which SPU runs one per head. A head
    that mixes variants is computed alone, and no public factor is folded into it.
    """
    n_batch, _, width = q.shape
    head_dim = width // len(heads)

    def cut_head(x: T, head: int) -> T:
        return ops.cut(x, 2, head * head_dim, (head + 1) * head_dim)  # (B, N, K)

    done: dict[int, T] = {}
    for group in _groups(heads, is_batched):
        names = heads[group[0]]
        qs, ks, vs = (_join([cut_head(x, h) for h in group], ops) for x in (q, k, v))
        is_own = is_folded and is_pure(names)
        own = plan or LayerPlan()
        values = _attend_rows(ops, names, qs, ks, vs, weights, own, is_own)
        for place, head in enumerate(group):
            start = place * n_batch
            is_alone = len(group) == 1
            done[head] = (
                values if is_alone else ops.cut(values, 0, start, start + n_batch)
            )
    return _join([done[head] for head in range(len(heads))], ops, axis=2)


def is_pure(head: Head) -> bool:
    """Return whether all rows of a head have one variant."""
    return len({*head}) == 1


def _groups(heads: Sequence[Head], is_batched: bool) -> list[list[int]]:
    groups: dict[Head | int, list[int]] = {}
    for index, head in enumerate(heads):
        is_shared = is_batched and is_pure(head)
        groups.setdefault(head if is_shared else index, []).append(index)
    return list(groups.values())


def _join(arrays: list[T], ops: Algebra[T], axis: int = 0) -> T:
    return arrays[0] if len(arrays) == 1 else ops.join(arrays, axis)


def _attend_rows(
    ops: Algebra[T],
    names: Head,
    q: T,
    k: T,
    v: T,
    weights: Mapping[str, T],
    plan: LayerPlan,
    is_folded: bool,
) -> T:
    """Compute the rows of each variant of one head together: (G, N, K)."""
    n_tokens = k.shape[1]

    def attend(name: str, rows: T) -> T:
        variant = plan.attention(name)
        n_own = len(variant.weight_shapes(n_tokens))
        own = [weights[f"attention.{name}.{index}"] for index in range(n_own)]
        with ops.part(name):
            values: T = variant.function(ops, rows, k, v, *own, is_folded=is_folded)
        return values

    return by_token(ops, q, _for_each(names, q.shape[1]), attend)


def mlp(
    ops: Algebra[T],
    x: T,
    w1: T,
    b1: T,
    w2: T,
    b2: T,
    activation: Sequence[str],
    *,
    is_folded: bool = False,
) -> T:
    """Return W2 act(W1 x + b1) + b2 of (B, N, D), one activation or one per token.

    Tokens with the same activation are computed together.

    Args:
        is_folded: Whether the linear layers hold the numbers of `ActivationFold`.
    """
    hidden = linear(ops, x, w1, b1)  # (B, N, F)
    fold = fold_of(activation) if is_folded else None

    def activate(name: str, x: T) -> T:
        activated: T = (fold or get_activation(name)).function(ops, x)
        return activated

    activated = by_token(ops, hidden, activation, activate)
    out = linear(ops, activated, w2, b2)  # (B, N, D)
    return _relu_behind(ops, out, activation)


def fused_mlp(
    ops: Algebra[T], x: T, weight: T, bias: T, activation: Sequence[str]
) -> T:
    """Return (W1 W2) x + b1 W2 + b2: both linear layers of linearised tokens as one.

    Source: MPCViT section 4.5.
    """
    return _relu_behind(ops, linear(ops, x, weight, bias), activation)


def _relu_behind(ops: Algebra[T], x: T, activation: Sequence[str]) -> T:
    if not has_relu_behind(activation):
        return x
    behind = [
        "relu" if get_activation(name).has_relu_behind else "" for name in activation
    ]
    return by_token(ops, x, behind, lambda name, x: ops.relu(x) if name else x)


def has_relu_behind(activation: Sequence[str]) -> bool:
    """Return whether a ReLU follows the MLP of a token."""
    return any(get_activation(name).has_relu_behind for name in activation)


def by_token(
    ops: Algebra[T], x: T, names: Sequence[str], apply: Callable[[str, T], T]
) -> T:
    """Apply to each token of (B, N, D) what its name says, once per different name.

    Slices are static, and joined: SPU makes a loop of a scatter.
    """
    if len({*names}) == 1:
        return apply(names[0], x)
    runs: dict[str, list[tuple[int, int]]] = {}  # (start, stop) of each stretch
    for name, run in itertools.groupby(range(len(names)), names.__getitem__):
        start, *others = run
        runs.setdefault(name, []).append((start, start + 1 + len(others)))
    pieces: dict[int, T] = {}
    for name, stretches in runs.items():
        cuts = [ops.cut(x, 1, start, stop) for start, stop in stretches]
        done = apply(name, _join(cuts, ops, axis=1))
        begin = 0
        for start, stop in stretches:
            pieces[start] = ops.cut(done, 1, begin, begin + stop - start)
            begin += stop - start
    return ops.join([pieces[start] for start in sorted(pieces)], 1)
