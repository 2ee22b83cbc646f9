"""From a block or an architecture to its steps, without an array."""

import functools

from mpcprof.blocks.architecture import Architecture
from mpcprof.blocks.catalogue import block_function, block_shapes
from mpcprof.blocks.counting import Bare, CountingAlgebra
from mpcprof.blocks.steps import PRIMITIVE_SIZES, Step, primitive_step
from mpcprof.blocks.transformer import patches_shape, vit, weight_shapes
from mpcprof.dims import Dims


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
