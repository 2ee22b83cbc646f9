"""The blocks that can be measured and priced by name, with their input shapes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mpcprof.dims import Dims
from mpcprof.errors import UsageError, look_up
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.mlp import fused_mlp, mlp
from mpcprof.nn.norm import layernorm
from mpcprof.nn.steps import (
    PRIMITIVE_SIZES,
    Bare,
    CountingAlgebra,
    Step,
    check_sizes,
    primitive_step,
)
from mpcprof.nn.transformer import classify, embed, patches_shape, vit, weight_shapes

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a network with named dimensions.

    Attributes:
        function: (algebra, *inputs) to one array.
        shapes: Of the inputs, weights included, at given sizes.
    """

    function: Callable[..., Any]  # Any: the algebra's own array
    dim_names: tuple[str, ...]
    shapes: Callable[[Dims], Shapes]


def _attention_block(name: str) -> Block:
    """Heads of one variant, batched: q, k, v of (H, N, K), then its own weights."""
    variant = ATTENTIONS[name]
    return Block(
        function=variant.function,
        dim_names=("n_heads", "n_tokens", "head_dim"),
        shapes=lambda dims: (
            ((dims.n_heads, dims.n_tokens, dims.head_dim),) * 3
            + variant.weight_shapes(dims.n_tokens)
        ),
    )


def _mlp_block(activation: str) -> Block:
    """Two linear layers, all of (N, D), D to F and back."""
    return Block(
        function=lambda ops, x, w1, b1, w2, b2: mlp(
            ops, x, w1, b1, w2, b2, [activation]
        ),
        dim_names=("n_tokens", "width", "hidden"),
        shapes=lambda dims: (
            (dims.n_tokens, dims.width),
            (dims.width, dims.hidden),
            (dims.hidden,),
            (dims.hidden, dims.width),
            (dims.width,),
        ),
    )


def _fused_block(activation: str) -> Block:
    return Block(
        function=lambda ops, x, w, b: fused_mlp(ops, x, w, b, [activation]),
        dim_names=("n_tokens", "width"),
        shapes=_square_layer,
    )


def _square_layer(dims: Dims) -> Shapes:
    return ((dims.n_tokens, dims.width), (dims.width, dims.width), (dims.width,))


_EMBEDDING = ("weight", "bias", "class_token", "positions")
_HEAD = ("norm.gamma", "norm.beta", "head.weight", "head.bias")


def _embedding_block() -> Block:
    """(1, N - 1, F) patches to (1, N, D), F being the numbers in a patch."""

    def function(ops: Any, patches: Any, *weights: Any) -> Any:  # Any: as in Block
        names = (f"embedding.{name}" for name in _EMBEDDING)
        return embed(ops, patches, dict(zip(names, weights, strict=True)))

    def shapes(dims: Dims) -> Shapes:
        if dims.n_tokens < 2:
            raise UsageError(
                f"patch_embedding: n_tokens={dims.n_tokens}: expected at least 2, the "
                "class token and a patch"
            )
        return (
            (1, dims.n_tokens - 1, dims.hidden),
            (dims.hidden, dims.width),
            (dims.width,),
            (1, 1, dims.width),
            (1, dims.n_tokens, dims.width),
        )

    return Block(
        function=function, dim_names=("n_tokens", "width", "hidden"), shapes=shapes
    )


def _head_block() -> Block:
    """(1, N, D) tokens to (1, F) logits, F being the number of classes."""

    def function(ops: Any, x: Any, *weights: Any) -> Any:  # Any: as in Block
        return classify(ops, x, dict(zip(_HEAD, weights, strict=True)))

    return Block(
        function=function,
        dim_names=("n_tokens", "width", "hidden"),
        shapes=lambda dims: (
            (1, dims.n_tokens, dims.width),
            (dims.width,),
            (dims.width,),
            (dims.width, dims.hidden),
            (dims.hidden,),
        ),
    )


BLOCKS: Final[dict[str, Block]] = {
    **{f"attn.{name}": _attention_block(name) for name in ATTENTIONS},
    **{
        f"mlp.{name}": _mlp_block(name)
        for name in ("gelu_exact", "gelu_tanh", "relu", "quad", "identity")
    },
    "mlp.fused": _fused_block("identity"),
    "mlp.fused_relu": _fused_block("identity_relu"),
    "layernorm": Block(
        function=layernorm,
        dim_names=("n_tokens", "width"),
        shapes=lambda dims: (
            (dims.n_tokens, dims.width),
            (dims.width,),
            (dims.width,),
        ),
    ),
    "patch_embedding": _embedding_block(),
    "head": _head_block(),
}


def get_block(name: str) -> Block:
    """The block of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("block", name, BLOCKS)


def block_function(name: str) -> Callable[..., Any]:  # Any: the algebra's own array
    """The function of a block; see `get_block`."""
    return get_block(name).function


def block_shapes(name: str, dims: Dims) -> Shapes:
    """Input shapes of a block at given sizes.

    Raises:
        UsageError: If a dimension is missing, is none of its own, or too small.
    """
    block = get_block(name)
    check_sizes(name, dims, block.dim_names)
    return block.shapes(dims)


@functools.lru_cache(maxsize=256)
def trace_block(name: str, dims: Dims) -> tuple[Step, ...]:
    """Steps of a primitive or a block at given sizes.

    Raises:
        UnknownNameError: If there is no such one.
        UsageError: If the sizes are not those of its dimensions.
    """
    if name in PRIMITIVE_SIZES:
        return (primitive_step(name, dims),)
    ops = CountingAlgebra()
    block_function(name)(ops, *(Bare(shape) for shape in block_shapes(name, dims)))
    return tuple(ops.steps)


@functools.lru_cache(maxsize=256)
def trace_model(architecture: Architecture, n_batch: int = 1) -> tuple[Step, ...]:
    """Steps of a whole model for a batch of images."""
    ops = CountingAlgebra()
    weights = {name: Bare(shape) for name, shape in weight_shapes(architecture).items()}
    vit(ops, architecture, Bare(patches_shape(architecture, n_batch)), weights)
    return tuple(ops.steps)
