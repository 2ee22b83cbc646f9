"""Primitives and their sizes: the steps that blocks are made of, and their counting.

A step carries the name of the primitive that profiles store. Additions, slices and
concatenations of shares cost no message but time: each is a `local` step. Other shapes
of the same entries are no steps.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partialmethod
from itertools import zip_longest
from typing import Final, NamedTuple, TypeAlias

from mpcprof.dims import Dims
from mpcprof.errors import UsageError, look_up
from mpcprof.nn.algebra import Matrix, Shape

Size: TypeAlias = tuple[int, ...]

ROW_OPERATIONS: Final = ("max", "sum")
PRODUCT_OPERATIONS: Final = ("matmul",)
LOCAL: Final = "local"  # no bytes, no hops; free where a profile has no record of it


class Step(NamedTuple):
    """One primitive at one size; a named tuple, as a model has thousands of them.

    Attributes:
        operation: Name of the primitive.
        size: (n_entries,) of an elementwise primitive; (n_rows, row_length) of `max`
            and `sum`; (n_products, P, Q, R) of `matmul`, products of (P, Q) and (Q, R).
        part: Place in the network, such as `layer 1/attention/softmax`.
    """

    operation: str
    size: Size
    part: str = ""

    @property
    def n_products(self) -> int:
        """Products one after another, each at the cost of one; 1 but of `matmul`."""
        return self.size[0] if self.operation in PRODUCT_OPERATIONS else 1


class Primitive(NamedTuple):
    """A primitive as it is measured.

    Attributes:
        dim_names: Its dimensions.
        shapes: Shape of each input at given sizes.
        n_steps: Steps that a measured call takes, all of the size of its inputs.
    """

    dim_names: tuple[str, ...]
    shapes: Callable[[Dims], tuple[Shape, ...]]
    n_steps: int = 1


def _on_scores(n_inputs: int, n_steps: int = 1) -> Primitive:
    """Take inputs of (H, N, N), the scores of every head of one layer."""
    return Primitive(
        ("n_heads", "n_tokens"),
        lambda dims: ((dims.n_heads, dims.n_tokens, dims.n_tokens),) * n_inputs,
        n_steps,
    )


PRIMITIVES: Final[dict[str, Primitive]] = {
    "exp": _on_scores(1),
    "less": _on_scores(1),
    LOCAL: _on_scores(1, n_steps=20),
    "mul": _on_scores(2),
    "reciprocal": _on_scores(1),
    "relu": _on_scores(1),
    "select": _on_scores(3),
    "square": _on_scores(1),
    "truncation": _on_scores(1),
    "max": _on_scores(1),
    "sum": _on_scores(1),
    **dict.fromkeys(
        ("gelu_exact", "gelu_tanh", "sigmoid", "tanh"),
        Primitive(("n_tokens", "hidden"), lambda dims: ((dims.n_tokens, dims.hidden),)),
    ),
    "matmul": Primitive(
        ("n_tokens", "width", "hidden"),
        lambda dims: ((dims.n_tokens, dims.width), (dims.width, dims.hidden)),
    ),
    "rsqrt": Primitive(("n_tokens",), lambda dims: ((dims.n_tokens, 1),)),
}


def without_local(steps: Iterable[Step]) -> list[Step]:
    """Return the steps that are not local to a party."""
    return [step for step in steps if step.operation != LOCAL]


def check_dims(name: str, dims: Dims, dim_names: tuple[str, ...]) -> None:
    """Refuse sizes of other dimensions than `dim_names`.

    Raises:
        UsageError: If one of these dimensions is 0, or another one is not.
    """
    given = dict(dims.items())
    for dim in dim_names:
        if dim not in given:
            raise UsageError(f"{name}: {dim}=0: expected at least 1")
    for dim, size in given.items():
        if dim not in dim_names:
            has = ", ".join(dim_names) or "none"
            raise UsageError(
                f"{name}: {dim}={size}: it has no such dimension, only {has}"
            )


def primitive_step(workload: str, dims: Dims) -> Step:
    """Return the step that a call of a primitive takes once, or `n_steps` times.

    Raises:
        UnknownNameError: If it is no primitive.
        UsageError: If the sizes are not those of its dimensions.
    """
    primitive = look_up("primitive", workload, PRIMITIVES)
    check_dims(workload, dims, primitive.dim_names)
    first, *others = primitive.shapes(dims)
    if workload in PRODUCT_OPERATIONS:
        return Step(workload, (1, *first, others[0][-1]), workload)
    if workload in ROW_OPERATIONS:
        return Step(workload, (math.prod(first[:-1]), first[-1]), workload)
    return Step(workload, (math.prod(first),), workload)


# ruff: noqa: D102 - the methods are documented in `Algebra`


class Bare(NamedTuple):
    """An array known by its shape alone."""

    shape: Shape


def broadcast_shape(x: Shape, y: Shape) -> Shape:
    """Return the shape of an elementwise result, as numpy has it.

    Raises:
        ValueError: If the shapes do not broadcast.
    """
    if x == y:
        return x
    pairs = [*zip_longest(x[::-1], y[::-1], fillvalue=1)]  # from the last axis on
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        raise ValueError(f"shapes {x} and {y} do not broadcast")
    return tuple(max(pair) for pair in reversed(pairs))


class CountingAlgebra:
    """The algebra on shapes; see `Algebra`.

    Attributes:
        steps: Steps taken so far.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._part = ""

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the steps inside to this part of the part around it."""
        outer = self._part
        self._part = f"{outer}/{name}" if outer else name
        try:
            yield
        finally:
            self._part = outer

    def _entries(self, operation: str, x: Bare) -> Bare:
        self.steps.append(Step(operation, (math.prod(x.shape),), self._part))
        return x

    def _rows(self, operation: str, x: Bare) -> Bare:
        *rows, length = x.shape
        self.steps.append(Step(operation, (math.prod(rows), length), self._part))
        return Bare((*rows, 1))

    square = partialmethod(_entries, "square")
    exp = partialmethod(_entries, "exp")
    reciprocal = partialmethod(_entries, "reciprocal")
    rsqrt = partialmethod(_entries, "rsqrt")
    relu = partialmethod(_entries, "relu")
    gelu_exact = partialmethod(_entries, "gelu_exact")
    gelu_tanh = partialmethod(_entries, "gelu_tanh")
    tanh = partialmethod(_entries, "tanh")
    row_max = partialmethod(_rows, "max")
    row_sum = partialmethod(_rows, "sum")

    def matmul(self, x: Bare, y: Bare) -> Bare:
        *leading, p, q = x.shape
        *leading_y, q_y, r = y.shape
        if leading != leading_y or q != q_y:
            raise ValueError(f"no product of {x.shape} and {y.shape}")
        size = (math.prod(leading), p, q, r)
        self.steps.append(Step("matmul", size, self._part))
        return Bare((*leading, p, r))

    def mul(self, x: Bare, y: Bare) -> Bare:
        return self._entries("mul", Bare(broadcast_shape(x.shape, y.shape)))

    def scale(self, x: Bare, factor: float) -> Bare:
        return self._entries("truncation", x)

    def divide(self, x: Bare, y: Bare) -> Bare:
        return self.mul(x, self.reciprocal(Bare(broadcast_shape(x.shape, y.shape))))

    def gate(self, x: Bare, y: Bare) -> Bare:
        if x.shape != y.shape:
            raise ValueError(f"no gate of {x.shape} for {y.shape}")
        return self._entries("relu", y)

    def combine(self, x: Bare, matrix: Matrix) -> Bare:
        *leading, length = x.shape
        if length != len(matrix):
            raise ValueError(f"no combination of {x.shape} by {len(matrix)} rows")
        weighted = self._entries(LOCAL, Bare((*leading, len(matrix[0]))))
        return self._entries("truncation", weighted)

    def add(self, x: Bare, y: Bare) -> Bare:
        return self._entries(LOCAL, Bare(broadcast_shape(x.shape, y.shape)))

    subtract = add

    def shift(self, x: Bare, constant: float) -> Bare:
        return self._entries(LOCAL, x)

    def transpose(self, x: Bare) -> Bare:
        *leading, p, q = x.shape
        return Bare((*leading, q, p))

    def swap(self, x: Bare) -> Bare:
        *leading, a, b, c = x.shape
        return Bare((*leading, b, a, c))

    def reshape(self, x: Bare, shape: Shape) -> Bare:
        if math.prod(shape) != math.prod(x.shape):
            raise ValueError(f"{x.shape} does not fit into {shape}")
        return Bare(shape)

    def cut(self, x: Bare, axis: int, start: int, stop: int) -> Bare:
        if not 0 <= start < stop <= x.shape[axis]:
            raise ValueError(f"no slice {start}:{stop} of axis {axis} of {x.shape}")
        taken = Bare((*x.shape[:axis], stop - start, *x.shape[axis + 1 :]))
        return self._entries(LOCAL, taken)

    def join(self, arrays: Sequence[Bare], axis: int) -> Bare:
        beside = {x.shape[:axis] + x.shape[axis + 1 :] for x in arrays}
        if len(beside) != 1:
            raise ValueError(f"no joining of {arrays} along axis {axis}")
        before, behind = arrays[0].shape[:axis], arrays[0].shape[axis + 1 :]
        length = sum(x.shape[axis] for x in arrays)
        return self._entries(LOCAL, Bare((*before, length, *behind)))

    def expect_within(self, x: Bare, low: float, high: float) -> Bare:
        return x
