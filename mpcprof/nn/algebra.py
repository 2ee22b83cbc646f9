"""What a block may do to an array: the operations that MPC has a price for."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, TypeVar

Shape: TypeAlias = tuple[int, ...]
Interval: TypeAlias = tuple[float, float]  # the smallest and the largest value


class HasShape(Protocol):
    """An array, secret or only imagined."""

    @property
    def shape(self) -> Shape:
        """Length of each axis."""
        ...


T = TypeVar("T", bound=HasShape)


class Algebra(Protocol[T]):
    """Operations on arrays of secrets; one implementation computes, one counts.

    Arrays broadcast as in numpy. Every method of the first group is a primitive with a
    price; those of the second are local to a party: no message, hardly any time.
    """

    def part(self, name: str) -> AbstractContextManager[None]:
        """What is done inside belongs to this part, within the part around it."""
        ...

    def matmul(self, x: T, y: T) -> T:
        """Matrix products over the last two axes, one per leading index."""
        ...

    def mul(self, x: T, y: T) -> T:
        """Product of each pair of entries."""
        ...

    def square(self, x: T) -> T:
        """Each entry times itself."""
        ...

    def scale(self, x: T, factor: float) -> T:
        """Product with a public number: a truncation."""
        ...

    def exp(self, x: T) -> T:
        """e**x of each entry."""
        ...

    def reciprocal(self, x: T) -> T:
        """1/x of each entry."""
        ...

    def divide(self, x: T, y: T) -> T:
        """x/y of each pair of entries, at the price of `reciprocal` and `mul` of each.

        A y that broadcasts is inverted as often as its entries are used.
        """
        ...

    def rsqrt(self, x: T) -> T:
        """x**-0.5 of each entry."""
        ...

    def relu(self, x: T) -> T:
        """max(x, 0) of each entry."""
        ...

    def gelu_exact(self, x: T) -> T:
        """GeLU by erf."""
        ...

    def gelu_tanh(self, x: T) -> T:
        """GeLU by tanh."""
        ...

    def row_max(self, x: T) -> T:
        """Largest entry along the last axis, which stays with length 1."""
        ...

    def row_sum(self, x: T) -> T:
        """Sum along the last axis, which stays with length 1."""
        ...

    def add(self, x: T, y: T) -> T:
        """Sum of each pair of entries."""
        ...

    def subtract(self, x: T, y: T) -> T:
        """Difference of each pair of entries."""
        ...

    def shift(self, x: T, constant: float) -> T:
        """Sum with a public number."""
        ...

    def transpose(self, x: T) -> T:
        """The last two axes exchanged."""
        ...

    def swap(self, x: T) -> T:
        """The last two but one axes exchanged: (A, B, C) becomes (B, A, C)."""
        ...

    def reshape(self, x: T, shape: Shape) -> T:
        """The same entries in another shape."""
        ...

    def cut(self, x: T, axis: int, start: int, stop: int) -> T:
        """Indices start .. stop - 1 of an axis: a static slice."""
        ...

    def join(self, arrays: Sequence[T], axis: int) -> T:
        """Arrays end to end along an axis."""
        ...
