"""From the tensors of another framework to an architecture and its weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture, Head, LayerActivation
from mpcprof.nn.preset import Embedding, ModelPreset, Pooling
from mpcvit.importing.layout import Layout, find_layout
from mpcvit.models.vit import check_weights

_ALPHA_KINDS = ("relu_softmax_mpcvit", "scale")  # of alpha 1 and 0
_BETA_KINDS = ("gelu_exact", "identity_relu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What tensors do not say; None for what the framework usually does.

    Attributes:
        name: Name of the model.
        n_heads: Number of heads.
        activation: Activation of the MLPs.
        norm_epsilon: Number that layernorms add to the variance.
        pooling: What the classifier reads.
        n_tokens: Number of words of a text; None for as many as there are positions.
        embedding: Who embeds words.
    """

    name: str
    n_heads: int | None = None
    activation: str | None = None
    norm_epsilon: float | None = None
    pooling: Pooling | None = None
    n_tokens: int | None = None
    embedding: Embedding | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedNetwork:
    """A network out of somebody else's file.

    Attributes:
        weights: Weights, named as in `mpcprof.nn.transformer.weight_shapes`.
        unused: Names of tensors that a classification does not read, or that the
            client keeps to look words up.
    """

    layout: Layout
    architecture: Architecture
    weights: Mapping[str, Tensor]
    unused: tuple[str, ...]


def convert_network(tensors: Mapping[str, Tensor], hints: Hints) -> ImportedNetwork:
    """Return the network that these tensors are the parameters of.

    Raises:
        UsageError: If a tensor is missing, has another shape than the others ask for,
            or is part of a network that `architecture.json` cannot say.
    """
    layout = find_layout(tensors)
    unused = tuple(name for name in tensors if name.endswith(layout.unused))
    left = _Tensors(
        {_new_name(name): tensors[name] for name in tensors if name not in unused}
    )
    model = _find_sizes(left, layout, hints)
    if layout.words and not model.is_one_hot:
        unused = (*unused, *_take_tables(left, layout, model))
    activation = hints.activation or "gelu_exact"
    architecture = Architecture(
        model=model,
        attention=tuple(
            _find_heads(left, layout, model, layer) for layer in range(model.n_layers)
        ),
        activation=tuple(
            _find_activation(left, layout, model, layer, activation)
            for layer in range(model.n_layers)
        ),
    )
    weights = (_embed_words if layout.words else _embedding)(left, layout, model)
    for layer in range(model.n_layers):
        own = _layer(left, layout, architecture, layer)
        weights |= {f"layers.{layer}.{name}": weight for name, weight in own.items()}
    if layout.last_norm:
        norm = left.take_norm(layout.last_norm, model.width)
        weights["norm.gamma"], weights["norm.beta"] = norm
    if layout.pooler:
        pooler = left.take_linear(layout.pooler, model.width, model.width)
        weights["pooler.weight"], weights["pooler.bias"] = pooler
    weights["head.weight"], weights["head.bias"] = left.take_linear(
        layout.head, model.width, model.n_classes
    )
    left.check_empty(layout)
    check_weights(architecture, weights)
    return ImportedNetwork(
        layout=layout, architecture=architecture, weights=weights, unused=unused
    )


def _new_name(name: str) -> str:
    """Return the name that a parameter of an older BERT has today."""
    for old, new in (("LayerNorm.gamma", "weight"), ("LayerNorm.beta", "bias")):
        if name.endswith(old):
            return f"{name.rpartition('.')[0]}.{new}"
    return name


class _Tensors:
    """Tensors of a file that nobody has asked for yet."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._left = tensors

    def shape(self, name: str, n_axes: int) -> tuple[int, ...]:
        """Return the shape of a tensor that must be there, and have so many axes."""
        self._check_there(name)
        shape = tuple(self._left[name].shape)
        if len(shape) != n_axes or 0 in shape:
            raise UsageError(f"{name} has shape {shape}: expected {n_axes} axes")
        return shape

    def has(self, name: str) -> bool:
        """Return whether the tensor is there, not yet taken."""
        return name in self._left

    @property
    def names(self) -> list[str]:
        """Names of what is left."""
        return [*self._left]

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor of that shape, which is then gone."""
        self._check_there(name)
        tensor = self._left.pop(name)
        if tuple(tensor.shape) != shape:
            raise UsageError(
                f"{name} has shape {tuple(tensor.shape)}: expected {shape}, as the "
                "other tensors have it"
            )
        if not tensor.is_floating_point():
            raise UsageError(f"{name} is of {tensor.dtype}: expected floating point")
        return tensor

    def take_norm(self, name: str, width: int) -> tuple[Tensor, Tensor]:
        """Return gamma and beta of a layernorm."""
        return self.take(f"{name}.weight", width), self.take(f"{name}.bias", width)

    def take_linear(self, name: str, n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
        """Return weight (in, out) and bias (out,) of a linear layer."""
        weight = self.take(f"{name}.weight", n_out, n_in)  # torch's own order
        return weight.T.contiguous(), self.take(f"{name}.bias", n_out)

    def _check_there(self, name: str) -> None:
        if name not in self._left:
            raise UsageError(
                f"{name} is missing: expected all of a classifier's parameters in one "
                f"file, found {len(self._left)} others"
            )

    def check_empty(self, layout: Layout) -> None:
        """Refuse what is left: the network would be another one without it."""
        for name in self._left:
            raise UsageError(
                f"{name}: nothing in a {layout.name} has that name; a network with it "
                "cannot be imported"
            )


def _find_sizes(tensors: _Tensors, layout: Layout, hints: Hints) -> ModelPreset:
    """Return the sizes, all but the number of heads from the shapes."""
    of_input = (_text_sizes if layout.words else _image_sizes)(tensors, layout, hints)
    n_classes, width = tensors.shape(f"{layout.head}.weight", 2)
    n_layers, first = layout.count_layers(tensors.names), layout.layer(0)
    hidden, _ = tensors.shape(f"{first}{layout.linear1}.weight", 2)
    rows, _ = tensors.shape(f"{first}{layout.qkv[0]}.weight", 2)
    heads_width = rows * len(layout.qkv) // 3
    n_heads = _count_heads(tensors, layout, hints, heads_width)
    usual: Pooling = of_input["pooling"]
    if hints.pooling not in (None, usual):
        raise UsageError(
            f"pooling {hints.pooling!r} by the config.json: the tensors are those of "
            f"{usual!r}; expected the config.json of these weights"
        )
    epsilon = hints.norm_epsilon
    return ModelPreset(
        name=hints.name,
        n_layers=n_layers,
        n_heads=n_heads,
        width=width,
        mlp_ratio=hidden / width,
        n_classes=n_classes,
        has_qkv_bias=tensors.has(f"{first}{layout.qkv[0]}.bias"),
        own_head_dim=0 if heads_width == width else heads_width // n_heads,
        norm_order=layout.norm_order,
        norm_epsilon=layout.norm_epsilon if epsilon is None else epsilon,
        **of_input,
    )


# Any: sizes, and names of choices
def _image_sizes(tensors: _Tensors, layout: Layout, hints: Hints) -> dict[str, Any]:
    if hints.n_tokens or hints.embedding:
        raise UsageError(
            f"a {layout.name} reads an image: leave out --tokens and --embedding; they "
            "are of a text"
        )
    _, n_channels, patch, across = tensors.shape(f"{layout.patches}.weight", 4)
    if patch != across:
        raise UsageError(f"patches of {patch} x {across} pixels: expected squares")
    has_class_token = tensors.has(layout.class_token)
    return {
        "image_size": patch * _grid_side(tensors, layout, has_class_token),
        "patch": patch,
        "n_channels": n_channels,
        "pooling": "class_token" if has_class_token else "mean",
    }


def _text_sizes(tensors: _Tensors, layout: Layout, hints: Hints) -> dict[str, Any]:
    n_positions = tensors.shape(layout.positions, 2)[0]
    n_tokens = hints.n_tokens or n_positions
    if n_tokens > n_positions:
        raise UsageError(
            f"--tokens {n_tokens}: {layout.positions} has {n_positions}; expected no "
            "more tokens than positions"
        )
    return {
        "n_embeddings": n_tokens,
        "n_words": tensors.shape(f"{layout.words}.weight", 2)[0],
        "n_types": tensors.shape(f"{layout.types}.weight", 2)[0],
        "embedding": hints.embedding or "client",
        "has_pooler": bool(layout.pooler),
        "pooling": "first",
    }


def _count_heads(
    tensors: _Tensors, layout: Layout, hints: Hints, heads_width: int
) -> int:
    alpha = f"{layout.layer(0)}{layout.alpha}"
    found = tensors.shape(alpha, 4)[1] if layout.alpha and tensors.has(alpha) else 1
    n_heads = hints.n_heads or (found if found > 1 else None)
    if n_heads is None:
        raise UsageError(
            f"the number of heads is not in the tensors, {heads_width} wide together: "
            "give --heads N, or --config config.json, which says it"
        )
    if heads_width % n_heads or (found > 1 and found != n_heads):
        own = f", whose {alpha} has {found}" if found > 1 else ""
        raise UsageError(
            f"{n_heads} heads of queries {heads_width} wide together{own}: expected a "
            "number that divides it"
        )
    return n_heads


def _grid_side(tensors: _Tensors, layout: Layout, has_class_token: bool) -> int:
    """Return the patches in a row; the class token may have no position."""
    _, n_positions, _ = tensors.shape(layout.positions, 3)
    for n_patches in (n_positions - has_class_token, n_positions):
        side = math.isqrt(n_patches)
        if side and side**2 == n_patches:
            return side
    raise UsageError(
        f"{layout.positions} of {n_positions} tokens: expected those of a square image"
        f"{' and a class token' * has_class_token}"
    )


def _find_heads(
    tensors: _Tensors, layout: Layout, model: ModelPreset, layer: int
) -> tuple[Head, ...]:
    """Return the attention of each head, or of each of its rows."""
    name = f"{layout.layer(layer)}{layout.alpha}"
    if not layout.alpha or not tensors.has(name):
        return (("softmax",),) * model.n_heads
    alpha = _take_shares(tensors, name, (1, model.n_heads, model.n_tokens, 1))
    return tuple(_choose(_ALPHA_KINDS, row) for row in alpha[0, :, :, 0].tolist())


def _find_activation(
    tensors: _Tensors, layout: Layout, model: ModelPreset, layer: int, usual: str
) -> LayerActivation:
    """Return the activation of the layer, or of each of its tokens."""
    name = f"{layout.layer(layer)}{layout.beta}"
    if not layout.beta or not tensors.has(name):
        return (usual,)
    beta = _take_shares(tensors, name, (1, model.n_tokens, 1))
    return _choose(_BETA_KINDS, beta[0, :, 0].tolist())


def _take_shares(tensors: _Tensors, name: str, shape: tuple[int, ...]) -> Tensor:
    """Take shares of one choice, each 0 or 1, and give all rows or tokens one."""
    given = tensors.shape(name, len(shape))
    shares = tensors.take(name, *given)
    if any(own not in (1, full) for own, full in zip(given, shape, strict=True)):
        raise UsageError(
            f"{name} has shape {given}: expected 1 or {shape} of each axis"
        )
    wrong = shares[(shares != 0) & (shares != 1)]
    if wrong.numel():
        raise UsageError(
            f"{name} has a share of {wrong[0]:.4g}: expected 0 or 1 alone; a search's "
            "network is a mixture, import the one that was trained after it"
        )
    return shares.expand(shape)


def _choose(kinds: tuple[str, str], shares: list[float]) -> tuple[str, ...]:
    names = tuple(kinds[0] if share else kinds[1] for share in shares)
    return names[:1] if len({*names}) == 1 else names


def _embedding(
    tensors: _Tensors, layout: Layout, model: ModelPreset
) -> dict[str, Tensor]:
    patch, width = model.patch, model.width
    kernel = tensors.take(
        f"{layout.patches}.weight", width, model.n_channels, patch, patch
    )
    by_entry = kernel.permute(2, 3, 1, 0)  # (row, column, c, D), as patches are cut
    weights = {
        "embedding.weight": by_entry.reshape(model.patch_dim, width).contiguous(),
        "embedding.bias": tensors.take(f"{layout.patches}.bias", width),
    }
    if model.has_class_token:
        weights["embedding.class_token"] = tensors.take(layout.class_token, 1, 1, width)
    n_positions = tensors.shape(layout.positions, 3)[1]
    positions = tensors.take(layout.positions, 1, n_positions, width)
    none = positions.new_zeros(1, model.n_tokens - n_positions, width)
    weights["embedding.positions"] = torch.cat([none, positions], dim=1)
    return weights


def _take_tables(
    tensors: _Tensors, layout: Layout, model: ModelPreset
) -> dict[str, Tensor]:
    """Return the tables of words and of token types, by their names."""
    names = {f"{layout.words}.weight": model.n_words}
    names[f"{layout.types}.weight"] = model.n_types
    return {name: tensors.take(name, n, model.width) for name, n in names.items()}


def _embed_words(
    tensors: _Tensors, layout: Layout, model: ModelPreset
) -> dict[str, Tensor]:
    """Return positions and norm, and the tables where the parties multiply by them."""
    n_positions = tensors.shape(layout.positions, 2)[0]
    positions = tensors.take(layout.positions, n_positions, model.width)
    weights = {"embedding.positions": positions[None, : model.n_tokens].contiguous()}
    if model.is_one_hot:
        tables = [*_take_tables(tensors, layout, model).values()]
        weights["embedding.weight"] = torch.cat(tables)
    norm = tensors.take_norm(layout.embedding_norm, model.width)
    weights["embedding.norm.gamma"], weights["embedding.norm.beta"] = norm
    return weights


def _layer(
    tensors: _Tensors, layout: Layout, architecture: Architecture, layer: int
) -> dict[str, Tensor]:
    model, begin = architecture.model, layout.layer(layer)
    width, inner = model.width, model.heads_width
    weights: dict[str, Tensor] = {}
    for name, theirs in (("norm1", layout.norm1), ("norm2", layout.norm2)):
        gamma, beta = tensors.take_norm(begin + theirs, width)
        weights[f"{name}.gamma"], weights[f"{name}.beta"] = gamma, beta
    n_each = 3 * inner // len(layout.qkv)
    parts = [tensors.take(f"{begin}{n}.weight", n_each, width) for n in layout.qkv]
    weights["attention.qkv"] = torch.cat(parts).T.contiguous()
    if model.has_qkv_bias:
        biases = [tensors.take(f"{begin}{n}.bias", n_each) for n in layout.qkv]
        weights["attention.qkv_bias"] = torch.cat(biases)
    projection = tensors.take_linear(begin + layout.projection, inner, width)
    names = ("attention.projection.weight", "attention.projection.bias")
    scale = _take_scale(tensors, begin, layout.scale1, width)
    weights |= dict(zip(names, (one * scale for one in projection), strict=True))
    scale = _take_scale(tensors, begin, layout.scale2, width)
    return weights | _mlp(tensors, layout, architecture, layer, scale)


def _take_scale(tensors: _Tensors, begin: str, name: str, width: int) -> Tensor:
    """Return the factor of each channel, which the linear layer in front takes over."""
    if name and tensors.has(begin + name):
        return tensors.take(begin + name, width)
    return torch.ones(width)


def _mlp(
    tensors: _Tensors,
    layout: Layout,
    architecture: Architecture,
    layer: int,
    scale: Tensor,
) -> dict[str, Tensor]:
    begin, width = layout.layer(layer), architecture.model.width
    hidden = architecture.hidden(layer)
    w1, b1 = tensors.take_linear(begin + layout.linear1, width, hidden)
    w2, b2 = tensors.take_linear(begin + layout.linear2, hidden, width)
    w2, b2 = w2 * scale, b2 * scale
    if architecture.is_fused(layer):  # in float64: one rounding, not two
        wide = w1.double() @ w2.double()
        bias = b1.double() @ w2.double() + b2.double()
        return {"mlp.fused.weight": wide.float(), "mlp.fused.bias": bias.float()}
    return {
        "mlp.linear1.weight": w1,
        "mlp.linear1.bias": b1,
        "mlp.linear2.weight": w2,
        "mlp.linear2.bias": b2,
    }
