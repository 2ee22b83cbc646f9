"""The operations that networks are written in; each has a price under MPC."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, TypeVar

Shape: TypeAlias = tuple[int, ...]
Matrix: TypeAlias = Sequence[Sequence[float]]  # public, by rows
Interval: TypeAlias = tuple[float, float]  # the smallest and the largest value


class HasShape(Protocol):
    """An array, secret or known by its shape alone."""

    @property
    def shape(self) -> Shape:
        """Length of each axis."""


T = TypeVar("T", bound=HasShape)


class Algebra(Protocol[T]):
    """Operations on arrays of secrets; one implementation computes, one counts.

    Arrays broadcast as in numpy. The methods up to `row_sum` are primitives with a
    price; those from `add` on are local to a party: no message, and the time of a
    `local` step, or none where only the shape changes.
    """

    def part(self, name: str) -> AbstractContextManager[None]:
        """Count what is done inside to this part of the part around it."""

    def matmul(self, x: T, y: T) -> T:
        """Matrix products over the last two axes, one per leading index."""

    def mul(self, x: T, y: T) -> T:
        """Product of each pair of entries."""

    def square(self, x: T) -> T:
        """Each entry times itself."""

    def scale(self, x: T, factor: float) -> T:
        """Product with a public number, paid for as a truncation."""

    def exp(self, x: T) -> T:
        """e**x of each entry."""

    def reciprocal(self, x: T) -> T:
        """1/x of each entry."""

    def divide(self, x: T, y: T) -> T:
        """x/y of each pair of entries, at the price of `reciprocal` and `mul` of each.

        An entry of y that broadcasts is inverted once for each x.
        """

    def rsqrt(self, x: T) -> T:
        """x**-0.5 of each entry."""

    def relu(self, x: T) -> T:
        """max(x, 0) of each entry."""

    def gate(self, x: T, y: T) -> T:
        """y where x > 0, else 0, of equal shapes, at the price of `relu`."""

    def combine(self, x: T, matrix: Matrix) -> T:
        """Product with a public matrix over the last axis: (..., K) to (..., M).

        The product is local; one truncation of the (..., M) result is paid for.
        """

    def gelu_exact(self, x: T) -> T:
        """GeLU by erf."""

    def gelu_tanh(self, x: T) -> T:
        """GeLU by tanh."""

    def tanh(self, x: T) -> T:
        """Hyperbolic tangent of each entry."""

    def row_max(self, x: T) -> T:
        """Largest entry along the last axis, which stays with length 1."""

    def row_sum(self, x: T) -> T:
        """Sum along the last axis, which stays with length 1."""

    def add(self, x: T, y: T) -> T:
        """Sum of each pair of entries."""

    def subtract(self, x: T, y: T) -> T:
        """Difference of each pair of entries."""

    def shift(self, x: T, constant: float) -> T:
        """Sum with a public number."""

    def transpose(self, x: T) -> T:
        """Exchange the last two axes."""

    def swap(self, x: T) -> T:
        """Exchange the axes in front of the last one: (A, B, C) becomes (B, A, C)."""

    def reshape(self, x: T, shape: Shape) -> T:
        """Give the same entries another shape."""

    def cut(self, x: T, axis: int, start: int, stop: int) -> T:
        """Take indices start .. stop - 1 of an axis: a static slice."""

    def join(self, arrays: Sequence[T], axis: int) -> T:
        """Put arrays end to end along an axis."""

    def expect_within(self, x: T, low: float, high: float) -> T:
        """Return x, of which the owner of a plan says that it lies in that range.

        Raises:
            RangeError: In the clear, if it does not. Secrets are not looked at.
        """
