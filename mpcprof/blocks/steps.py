"""The steps that a block is made of: primitives with their sizes, and nothing else.

A step carries the name of the primitive that profiles store. Additions, transpositions,
slices and concatenations of shares cost no message and are no steps.
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from mpcprof.dims import Dims
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean

Size: TypeAlias = tuple[int, ...]

ROW_OPERATIONS: Final = ("max", "sum")
PRODUCT_OPERATIONS: Final = ("matmul",)


class Step(NamedTuple):
    """One primitive of a block. A named tuple: a model has thousands of them.

    Attributes:
        operation: Name of the primitive.
        size: (n_entries,) of an elementwise one; (n_rows, row_length) of `max` and
            `sum`; (n_products, P, Q, R) of `matmul`, products of (P, Q) and (Q, R).
        part: What it belongs to, from the outside in: `layer 1/attention/softmax`.
    """

    operation: str
    size: Size
    part: str = ""


def _attention_map(dims: Dims) -> Size:
    return (dims.n_heads * dims.n_tokens**2,)


def _attention_rows(dims: Dims) -> Size:
    return (dims.n_heads * dims.n_tokens, dims.n_tokens)


def _hidden_layer(dims: Dims) -> Size:
    return (dims.n_tokens * dims.hidden,)


PRIMITIVE_SIZES: Final[dict[str, Callable[[Dims], Size]]] = {
    **dict.fromkeys(
        ("exp", "less", "mul", "reciprocal", "relu", "select", "square", "truncation"),
        _attention_map,
    ),
    **dict.fromkeys(ROW_OPERATIONS, _attention_rows),
    **dict.fromkeys(("gelu_exact", "gelu_tanh", "sigmoid", "tanh"), _hidden_layer),
    "matmul": lambda dims: (1, dims.n_tokens, dims.width, dims.hidden),
    "rsqrt": lambda dims: (dims.n_tokens,),
}
_DIMS: Final[dict[Callable[[Dims], Size], tuple[str, ...]]] = {
    _attention_map: ("n_heads", "n_tokens"),
    _attention_rows: ("n_heads", "n_tokens"),
    _hidden_layer: ("n_tokens", "hidden"),
    PRIMITIVE_SIZES["matmul"]: ("n_tokens", "width", "hidden"),
    PRIMITIVE_SIZES["rsqrt"]: ("n_tokens",),
}


def check_sizes(name: str, dims: Dims, dim_names: tuple[str, ...]) -> None:
    """Refuse sizes of other dimensions than these, or of fewer.

    Raises:
        UsageError: If they are not exactly these.
    """
    given = {key for key, _ in dims.items()}
    if given != {*dim_names}:
        raise UsageError(f"{name} [{dims}]: expected sizes of {', '.join(dim_names)}")


def primitive_step(workload: str, dims: Dims) -> Step:
    """The one step that a primitive is.

    Raises:
        UnknownNameError: If it is no primitive.
        UsageError: If the sizes are not those of its dimensions.
    """
    if workload not in PRIMITIVE_SIZES:
        hint = did_you_mean(workload, tuple(PRIMITIVE_SIZES))
        raise UnknownNameError(f"no primitive {workload!r}; {hint}")
    size = PRIMITIVE_SIZES[workload]
    check_sizes(workload, dims, _DIMS[size])
    return Step(workload, size(dims), workload)


def n_entries(size: Size) -> int:
    """Entries that a step works on; multiplications, for a product."""
    return math.prod(size)
