"""The blocks that can be measured and priced by name, with their input shapes."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mpcprof.dims import Dims
from mpcprof.errors import UsageError, look_up
from mpcprof.nn.activation import ACTIVATIONS, Activation
from mpcprof.nn.algebra import Interval, Shape
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.attention import ATTENTIONS, Attention
from mpcprof.nn.efficientvit import (
    EfficientViT,
    efficientvit_shapes,
    pixels_shape,
    trace_efficientvit,
)
from mpcprof.nn.mixing import MIXERS, Mixer
from mpcprof.nn.mlp import fused_mlp, mlp
from mpcprof.nn.norm import NORMS, layernorm
from mpcprof.nn.plan import Plan
from mpcprof.nn.steps import (
    PRIMITIVES,
    Bare,
    CountingAlgebra,
    Step,
    check_dims,
    primitive_step,
)
from mpcprof.nn.transformer import (
    EMBEDDING_WEIGHTS,
    HEAD_WEIGHTS,
    classify,
    embed,
    input_shape,
    vit,
    weight_shapes,
)

Shapes: TypeAlias = tuple[Shape, ...]
AnyNetwork: TypeAlias = Architecture | EfficientViT
_Function: TypeAlias = Callable[..., Any]  # Any: the algebra's own array


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a network with named dimensions.

    The domain keeps each primitive where SPU is accurate (exp from -8 to 0, reciprocal
    from 0.1 to 300, rsqrt from 0.01 to 1000) and outputs within 50, up to 257 tokens,
    width 768 and hidden width 3072.

    Attributes:
        function: (algebra, *inputs) to one array.
        dim_names: Dimensions in the order they are shown.
        shapes: Shapes of the inputs, weights included, at given sizes.
        domain: Smallest and largest entry of each input.
        atol: See `rtol`.
        rtol: |block on SPU - block in float64| <= atol + rtol |block in float64|.
        source: Paper and equation.
    """

    function: _Function
    dim_names: tuple[str, ...]
    shapes: Callable[[Dims], Shapes]
    domain: tuple[Interval, ...]
    atol: float
    rtol: float = 0.0
    source: str


def _within(*bounds: float) -> tuple[Interval, ...]:
    return tuple((-bound, bound) for bound in bounds)


def _attention_block(variant: Attention) -> Block:
    """Take heads of one variant, batched: q, k, v of (H, N, K), then own weights."""
    return Block(
        function=variant.function,
        dim_names=("n_heads", "n_tokens", "head_dim"),
        shapes=lambda dims: (
            ((dims.n_heads, dims.n_tokens, dims.head_dim),) * 3
            + variant.weight_shapes(dims.n_tokens)
        ),
        domain=_within(*variant.bounds),
        atol=variant.atol,
        rtol=variant.rtol,
        source=variant.source,
    )


def grid_rows(n_tokens: int) -> int:
    """Return the rows of the most nearly square grid of so many tokens."""
    rows = range(1, math.isqrt(n_tokens) + 1)
    return max(n for n in rows if n_tokens % n == 0)


def _mixer_block(mixer: Mixer) -> Block:
    """Take tokens of one image, (1, N, D), then the mixer's weight and bias."""

    def function(ops: Any, x: Any, *weights: Any) -> Any:  # Any: as in Block
        assert mixer.function
        return mixer.function(ops, x, grid_rows(x.shape[1]), *weights)

    has_weights = bool(mixer.weight_bound)
    return Block(
        function=function,
        dim_names=("n_tokens", "width"),
        shapes=lambda dims: (
            (1, dims.n_tokens, dims.width),
            *mixer.weight_shapes(dims.n_tokens, dims.width),
        ),
        domain=_within(1.0, *((mixer.weight_bound, 0.5) if has_weights else ())),
        atol=mixer.atol,
        source=mixer.source,
    )


_FREE: Final = ("none", "shift")  # mixers that nothing is paid for
# what 3072 entries of W2 make of an error in each hidden value, with room for chance
_MLP_GAIN: Final = 25.0


def _mlp_block(name: str, activation: Activation) -> Block:
    """Take two linear layers, tokens of (N, D), D to F and back."""
    return Block(
        function=lambda ops, x, w1, b1, w2, b2: mlp(ops, x, w1, b1, w2, b2, [name]),
        dim_names=("n_tokens", "width", "hidden"),
        shapes=lambda dims: (
            (dims.n_tokens, dims.width),
            (dims.width, dims.hidden),
            (dims.hidden,),
            (dims.hidden, dims.width),
            (dims.width,),
        ),
        domain=_within(1.0, 0.125, 1.0, 0.125, 0.5),
        atol=_MLP_GAIN * activation.spu_error,
        source=activation.source,
    )


def _fused_block(activation: str) -> Block:
    return Block(
        function=lambda ops, x, w, b: fused_mlp(ops, x, w, b, [activation]),
        dim_names=("n_tokens", "width"),
        shapes=lambda dims: (
            (dims.n_tokens, dims.width),
            (dims.width, dims.width),
            (dims.width,),
        ),
        domain=_within(1.0, 0.25, 0.5),
        atol=2e-5,  # one truncation: as matmul
        rtol=1e-6,
        source="W1 W2 fused; MPCViT section 4.5",
    )


_GAMMA: Final = (0.5, 1.5)


def _norm_block(name: str, bound: float, tolerance: float) -> Block:
    """Take tokens of (N, D) up to a bound, of which the norm is accurate on SPU."""
    norm = NORMS[name]
    return Block(
        function=functools.partial(layernorm, inverse_root=norm.inverse_root),
        dim_names=("n_tokens", "width"),
        shapes=lambda dims: ((dims.n_tokens, dims.width), (dims.width,), (dims.width,)),
        domain=((-bound, bound), _GAMMA, (-0.5, 0.5)),
        atol=tolerance,
        rtol=2 * tolerance,
        source=f"LayerNorm, {norm.source}",
    )


def _embedding_block() -> Block:
    """Take (1, N - 1, F) patches to (1, N, D), F being the values in a patch."""

    def function(ops: Any, patches: Any, *weights: Any) -> Any:  # Any: as in Block
        return embed(ops, patches, dict(zip(EMBEDDING_WEIGHTS, weights, strict=True)))

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
        function=function,
        dim_names=("n_tokens", "width", "hidden"),
        shapes=shapes,
        domain=((0.0, 1.0), *_within(0.25, 0.5, 0.5, 0.5)),
        atol=2e-5,
        rtol=1e-6,
        source="patches, class token and positions of ViT, Dosovitskiy et al. 2020",
    )


def _head_block() -> Block:
    """Take (1, N, D) tokens to (1, F) logits, F being the number of classes."""

    def function(ops: Any, x: Any, *weights: Any) -> Any:  # Any: as in Block
        return classify(ops, x, dict(zip(HEAD_WEIGHTS, weights, strict=True)))

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
        domain=((-1.0, 1.0), _GAMMA, *_within(0.5, 0.25, 0.5)),
        atol=2e-3,
        rtol=2e-3,  # LayerNorm's error is a factor, the same for all of the token
        source="LayerNorm and linear classifier on the class token, ViT",
    )


BLOCKS: Final[dict[str, Block]] = {
    **{f"attn.{name}": _attention_block(own) for name, own in ATTENTIONS.items()},
    **{
        f"mix.{name}": _mixer_block(mixer)
        for name, mixer in MIXERS.items()
        if name not in _FREE
    },
    **{
        f"mlp.{name}": _mlp_block(name, activation)
        for name, activation in ACTIVATIONS.items()
        if not activation.has_relu_behind
    },
    "mlp.fused": _fused_block("identity"),
    "mlp.fused_relu": _fused_block("identity_relu"),
    # rsqrt within 4e-4, 1/D rounded to 2**-18 (half of 1e-3 for width 768)
    "layernorm": _norm_block("layernorm", 1.0, 1e-3),
    # variances of 20, over eta: 2700 multiples of 2**-18, each step's lost bits all on
    # one side; parties are off by 0.4 % of a value before beta
    "layernorm_secformer": _norm_block(
        "layernorm_secformer", bound=8.0, tolerance=5e-3
    ),
    "patch_embedding": _embedding_block(),
    "head": _head_block(),
}


def block_shapes(name: str, dims: Dims) -> Shapes:
    """Return the input shapes of a block at given sizes.

    Raises:
        UnknownNameError: If there is no such block.
        UsageError: If a dimension is missing, is none of its own, or too small.
    """
    block = look_up("block", name, BLOCKS)
    check_dims(name, dims, block.dim_names)
    return block.shapes(dims)


@functools.lru_cache(maxsize=256)
def trace_block(name: str, dims: Dims) -> tuple[Step, ...]:
    """Return the steps of a primitive or a block at given sizes.

    Raises:
        UnknownNameError: If there is no such one.
        UsageError: If the sizes are not those of its dimensions.
    """
    if name in PRIMITIVES:
        return (primitive_step(name, dims),)
    ops = CountingAlgebra()
    inputs = map(Bare, block_shapes(name, dims))
    BLOCKS[name].function(ops, *inputs)
    return tuple(ops.steps)


@functools.lru_cache(maxsize=256)
def trace_model(
    architecture: AnyNetwork, n_batch: int = 1, plan: Plan | None = None
) -> tuple[Step, ...]:
    """Return the steps of a whole model for a batch of images, deployed by a plan."""
    if isinstance(architecture, EfficientViT):
        return trace_efficientvit(architecture, n_batch)
    ops = CountingAlgebra()
    shapes = weight_shapes(architecture, plan)
    weights = {name: Bare(shape) for name, shape in shapes.items()}
    vit(ops, architecture, Bare(input_shape(architecture, n_batch)), weights, plan)
    return tuple(ops.steps)


def network_shapes(
    architecture: AnyNetwork, n_batch: int = 1, plan: Plan | None = None
) -> tuple[Shape, dict[str, Shape]]:
    """Return the shape of the input, and of every weight that parties hold."""
    if isinstance(architecture, EfficientViT):
        return pixels_shape(architecture, n_batch), efficientvit_shapes(architecture)
    return input_shape(architecture, n_batch), weight_shapes(architecture, plan)


def count_inputs(
    architecture: AnyNetwork, n_batch: int = 1, plan: Plan | None = None
) -> int:
    """Return the entries of all that parties hold in shares: inputs and weights."""
    own, weights = network_shapes(architecture, n_batch, plan)
    return math.prod(own) + sum(map(math.prod, weights.values()))
