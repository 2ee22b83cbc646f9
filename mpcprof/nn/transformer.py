"""A whole Transformer, as `architecture.json` describes it.

Norms in front of attention and MLP, or behind them as in BERT; learned positions; a
class token or the mean of all tokens; a bias in qkv or none. Patches of the image are
cut, and words embedded or spelt as one-hot rows, in the clear by their owner;
everything from there on is secret.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from mpcprof.errors import UsageError
from mpcprof.nn.algebra import Algebra, Shape, T
from mpcprof.nn.approximation import cut_evenly
from mpcprof.nn.architecture import Architecture, Head
from mpcprof.nn.attention import get_attention
from mpcprof.nn.mixing import Mixer
from mpcprof.nn.mlp import (
    by_token,
    for_each,
    fused_mlp,
    has_relu_behind,
    join_all,
    linear,
    mlp,
    split_all,
)
from mpcprof.nn.norm import NORM_EPSILON, centred, get_norm, layernorm, unit_norm
from mpcprof.nn.plan import LayerPlan, Plan, unplanned
from mpcprof.nn.rewrite import grouped
from mpcprof.nn.stem import convolve_image, stem_shapes

W = TypeVar("W")  # a weight of any kind
EMBEDDING_WEIGHTS: Final = tuple(
    f"embedding.{name}" for name in ("weight", "bias", "class_token", "positions")
)
MIXING_WEIGHTS: Final = ("mixing.weight", "mixing.bias")
HEAD_WEIGHTS: Final = ("norm.gamma", "norm.beta", "head.weight", "head.bias")


def input_shape(architecture: Architecture, n_batch: int) -> Shape:
    """Return (B, N - 1, P), the shape of images cut into patches.

    P is D where embedded tokens are given, the number of words and types for their
    one-hot rows, and N - 1 is N without a class token. For a stem it is (B, S S, c),
    the pixels.
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
    kept = tuple(
        name
        for norm in architecture.model.stream_norms
        for name in _norm_names(norm, is_there=True)
    )
    return {
        name: shape
        for name, shape in shapes.items()
        if not name.endswith((".gamma", ".beta")) or name.endswith(kept)
    }


def _all_shapes(architecture: Architecture, *, has_qkv_bias: bool) -> dict[str, Shape]:
    model = architecture.model
    shapes = stem_shapes(model)
    if model.is_one_hot:
        shapes["embedding.weight"] = (model.n_rows, model.width)
    elif model.has_embedding:
        shapes["embedding.weight"] = (model.patch_dim, model.width)
        shapes["embedding.bias"] = (model.width,)
    if model.has_class_token:
        shapes["embedding.class_token"] = (1, 1, model.width)
    if architecture.n_layers:
        shapes["embedding.positions"] = (1, model.n_tokens, model.width)
    for name in _norm_names("embedding.norm", architecture.has_embedding_norm):
        shapes[name] = (model.width,)
    for layer in range(architecture.n_layers):
        own = _layer_shapes(architecture, layer, has_qkv_bias)
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in own.items()}
    for name in _norm_names("norm", architecture.has_last_norm):
        shapes[name] = (model.width,)
    if model.has_pooler:
        shapes["pooler.weight"] = (model.width, model.width)
        shapes["pooler.bias"] = (model.width,)
    shapes["head.weight"] = (model.width, model.n_classes)
    shapes["head.bias"] = (model.n_classes,)
    return shapes


def _norm_names(name: str, is_there: bool) -> tuple[str, ...]:
    return (f"{name}.gamma", f"{name}.beta") if is_there else ()


def check_weight_shapes(
    expected: Mapping[str, Shape], shapes: Mapping[str, Shape]
) -> None:
    """Refuse weights that are not those of the architecture.

    Args:
        expected: The shape of each of its weights by name.
        shapes: The shape of each given weight by name.

    Raises:
        UsageError: If names or shapes differ; the message names the first.
    """
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
    for name in _norm_names("norm1", architecture.has_norm1(layer)):
        shapes[name] = (model.width,)
    if mixer is None:
        shapes |= _attention_shapes(architecture, layer, has_qkv_bias)
    else:
        own = mixer.weight_shapes(model.n_tokens, model.width)
        shapes |= dict(zip(MIXING_WEIGHTS, own, strict=False))
    for name in _norm_names("norm2", architecture.has_norm2(layer)):
        shapes[name] = (model.width,)
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
    """Return logits (B, C) of an input of `input_shape`: patches, pixels or tokens.

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
        if architecture.has_embedding_norm:
            with ops.part("norm"):
                x = _normalise(ops, x, weights, "embedding.norm", architecture, plan)
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


def embed(ops: Algebra[T], inputs: T, weights: Mapping[str, T]) -> T:
    """Project patches or words, put the class token in front, add positions: (B, N, D).

    Without weights for it, the tokens are embedded already, none stands in front, or
    places do not matter.
    """
    tokens = inputs
    if "embedding.weight" in weights:
        weight, bias = weights["embedding.weight"], weights.get("embedding.bias")
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
    """Return logits (B, C) of the first token alone, or of the mean, normalised.

    With a pooler, a linear layer and a tanh stand in front of the classifier.

    Args:
        architecture: The network; None for a layernorm of the class token.

    Source: the mean behind the norm, Beyer et al. 2022 (arXiv 2205.01580).
    """
    n_batch, n_tokens, width = x.shape
    is_mean = architecture is not None and architecture.model.pooling == "mean"
    if not is_mean:
        x = ops.reshape(ops.cut(x, 1, 0, 1), (n_batch, width))
    if architecture is None or architecture.has_last_norm:
        x = _normalise(ops, x, weights, "norm", architecture, plan)
    if is_mean:
        total = ops.row_sum(ops.transpose(x))  # (B, D, 1)
        is_folded = plan is not None and plan.is_folded
        mean = total if is_folded else ops.scale(total, 1.0 / n_tokens)
        x = ops.reshape(mean, (n_batch, width))
    if "pooler.weight" in weights:
        with ops.part("pooler"):
            pooled = linear(ops, x, weights["pooler.weight"], weights["pooler.bias"])
            x = ops.tanh(pooled)
    return linear(ops, x, weights["head.weight"], weights["head.bias"])


def _normalise(
    ops: Algebra[T],
    x: T,
    weights: Mapping[str, T],
    name: str,
    architecture: Architecture | None,
    plan: Plan | None,
    layer: int | None = None,
) -> T:
    """Apply the layernorm of that name, or what its folding leaves of it.

    Folded, a gamma has the factor of `unit_norm`, and is there in the stream alone.
    """
    gamma, beta = f"{name}.gamma", f"{name}.beta"
    epsilon = architecture.model.norm_epsilon if architecture else NORM_EPSILON
    place = -1 if name == "norm" else layer or 0
    norm = get_norm(architecture.norm[place] if architecture else "layernorm")
    if architecture is None or plan is None or not plan.is_folded:
        own = weights[gamma], weights[beta], epsilon, norm.inverse_root
        plain: T = layernorm(ops, x, *own)
        return plain
    is_centred = architecture.is_centred
    unit = 1.0  # of the sum of squares, over the variance
    if is_centred:
        unit = x.shape[-1] * plan.stream_scale**2
    bounds, multiple = None, 1  # of the embedding's
    if name == "norm":
        bounds, multiple = plan.last_norm, plan.last_norm_multiple
    elif layer is not None:
        bounds, multiple = plan.layers[layer].norm(name)
    normed = unit_norm(
        ops,
        x,
        epsilon * unit,
        bounds,
        multiple,
        is_centred=is_centred,
        inverse_root=functools.partial(norm.inverse_root, unit=unit * multiple**2),
    )
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

    With norms between, mlp(norm(x)) is added to norm(x). Post-norm, norms stand behind:
    y = norm(x + attention(x)), then norm(y + mlp(y)).

    A pruned last layer returns the first token alone, (B, 1, D).
    """
    plan = plan or unplanned(architecture)

    def normalise(x: T, name: str, has_norm: bool) -> T:
        with ops.part("norm"):  # entered twice a layer, whatever is inside
            if not has_norm:
                return x
            return _normalise(ops, x, weights, name, architecture, plan, layer)

    def keep(x: T, name: str, has_norm: bool) -> T:
        return x

    is_post = architecture.model.is_post_norm
    before, behind = (keep, normalise) if is_post else (normalise, keep)
    is_last = layer == architecture.n_layers - 1
    n_rows = 1 if plan.is_pruned and is_last else x.shape[1]
    normed = before(x, "norm1", architecture.has_norm1(layer))
    if mixer := architecture.mixer(layer):
        with ops.part("mixing"):
            mixed = _mix(ops, architecture, mixer, normed, n_rows, weights)
            x = _first(ops, x, n_rows)
            x = x if mixed is None else ops.add(x, mixed)
    else:
        with ops.part("attention"):
            attended = _attend(ops, architecture, layer, normed, n_rows, weights, plan)
            x = ops.add(_first(ops, x, n_rows), attended)
    x = behind(x, "norm1", architecture.has_norm1(layer))
    normed = before(x, "norm2", architecture.has_norm2(layer))
    if not architecture.hidden(layer):
        return x
    x = normed if architecture.model.is_norm_between else x
    with ops.part("mlp"):
        x = _add_mlp(ops, architecture, layer, x, normed, weights, plan)
    return behind(x, "norm2", architecture.has_norm2(layer))


def _add_mlp(
    ops: Algebra[T],
    architecture: Architecture,
    layer: int,
    x: T,
    normed: T,
    weights: Mapping[str, T],
    plan: Plan,
) -> T:
    names = for_each(architecture.activation[layer], x.shape[1])
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


def _attend(
    ops: Algebra[T],
    architecture: Architecture,
    layer: int,
    x: T,
    n_rows: int,
    weights: Mapping[str, T],
    plan: Plan,
) -> T:
    bias = weights.get("attention.qkv_bias")
    with ops.part("qkv"):
        qkv = linear(ops, x, weights["attention.qkv"], bias)  # (B, N, 3 H K)
    q, k, v = cut_evenly(ops, qkv, 3, 2)
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
    head_dim = q.shape[2] // len(heads)

    def cut_head(x: T, head: int) -> T:
        return ops.cut(x, 2, head * head_dim, (head + 1) * head_dim)  # (B, N, K)

    done: dict[int, T] = {}
    for group in _groups(heads, is_batched):
        names = heads[group[0]]
        qs, ks, vs = (join_all([cut_head(x, h) for h in group], ops) for x in (q, k, v))
        is_own = is_folded and is_pure(names)
        own = plan or LayerPlan()
        values = _attend_rows(ops, names, qs, ks, vs, weights, own, is_own)
        done |= zip(group, split_all(values, len(group), ops), strict=True)
    return join_all([done[head] for head in range(len(heads))], ops, axis=2)


def is_pure(head: Head) -> bool:
    """Return whether all rows of a head have one variant."""
    return len({*head}) == 1


def _groups(heads: Sequence[Head], is_batched: bool) -> list[list[int]]:
    groups: dict[Head | int, list[int]] = {}
    for index, head in enumerate(heads):
        is_shared = is_batched and is_pure(head)
        groups.setdefault(head if is_shared else index, []).append(index)
    return list(groups.values())


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

    return by_token(ops, q, for_each(names, q.shape[1]), attend)
