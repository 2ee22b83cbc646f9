"""How far truncations alone can move a result: a bound beside each entry.

A run of SPU and one of the emulation round every product at random, so they differ. The
bound follows all roundings at once: with each entry goes a radius that no run exceeds.
"""
# ruff: noqa: D102 - the methods are documented in `Algebra` and `SpuFunctions`

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.nn.algebra import Matrix, Shape
from mpcvit.secure.fixed_point import FixedPointAlgebra, encode_number, truncation_noise
from mpcvit.secure.spu_functions import FunctionOptions, SpuFunctions


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """Numbers as they were without truncation, and their largest distance from a run.

    Attributes:
        radius: |a run's entry - value| at most; infinite where the ring is left, or
            where truncations decide by which power of two SPU normalises.
    """

    value: Tensor
    radius: Tensor

    @property
    def shape(self) -> Shape:
        """Length of each axis."""
        return tuple(self.value.shape)


class TruncationBound(SpuFunctions[Bounded]):
    """See `mpcprof.nn.algebra.Algebra`; intervals around each entry.

    An interval does not know that two numbers were made of the same one, so the bound
    of a long program is wide: what is seen stays far inside.
    """

    def __init__(
        self,
        fraction_bits: int = 18,
        field_bits: int = 64,
        *,
        protocol: str = "semi2k",
        functions: FunctionOptions | None = None,
    ) -> None:
        super().__init__(fraction_bits, functions or FunctionOptions())
        if self.functions.exp_mode != "EXP_TAYLOR":
            raise UsageError(
                f"fxp_exp_mode={self.functions.exp_mode}: expected EXP_TAYLOR, the one "
                "form of exp that a bound can follow"
            )
        low, high = truncation_noise(protocol)
        unit = 2.0**-fraction_bits
        # rounded down after a noise in [low, high): from low - 1 to high, but for ends
        self._middle = (low + high - 1) / 2 * unit
        self._reach = (high - low + 1) / 2 * unit
        self._end = 2.0 ** (field_bits - 2 - 2 * fraction_bits)
        self._plain = FixedPointAlgebra(fraction_bits, field_bits)

    def encode(self, array: ArrayLike | Tensor) -> Bounded:
        """Share numbers: nothing is random about that."""
        return self.exact(self._plain.encode(array))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        yield

    def _truncate(self, value: Tensor, radius: Tensor) -> Bounded:
        inside = value.abs() + radius < self._end  # false of 0 times infinity as well
        radius = torch.where(inside, radius + self._reach, torch.inf)
        return Bounded(value=value + self._middle, radius=radius)

    def _public(self, number: float) -> float:
        return encode_number(number, self.fraction_bits)

    # ------------------------------------------------------------ products

    def mul(self, x: Bounded, y: Bounded) -> Bounded:
        radius = x.radius * y.value.abs() + (x.value.abs() + x.radius) * y.radius
        return self._truncate(x.value * y.value, radius)

    def matmul(self, x: Bounded, y: Bounded) -> Bounded:
        radius = x.radius @ y.value.abs() + (x.value.abs() + x.radius) @ y.radius
        return self._truncate(x.value @ y.value, radius)

    def scale(self, x: Bounded, factor: float) -> Bounded:
        public = self._public(factor)
        return self._truncate(x.value * public, x.radius * abs(public))

    def combine(self, x: Bounded, matrix: Matrix) -> Bounded:
        rows = [[self._public(number) for number in row] for row in matrix]
        public = torch.tensor(rows, dtype=torch.float64)  # (K, M)
        return self._truncate(x.value @ public, x.radius @ public.abs())

    def divide_by_power(self, x: Bounded, n_bits: int) -> Bounded:
        part = 2.0**-n_bits
        return self._truncate(x.value * part, x.radius * part)

    def times(self, x: Bounded, whole: int) -> Bounded:
        return Bounded(value=x.value * whole, radius=x.radius * abs(whole))

    def weigh(self, terms: Sequence[Bounded], factors: Sequence[float]) -> Bounded:
        public = [self._public(factor) for factor in factors]
        pairs = [*zip(terms, public, strict=True)]
        value = sum((x.value * factor for x, factor in pairs), torch.zeros(()))
        radius = sum((x.radius * abs(factor) for x, factor in pairs), torch.zeros(()))
        return self._truncate(value, radius)

    # ------------------------------------------------------------ comparisons

    def choose(self, test: Bounded, x: Bounded, y: Bounded | float) -> Bounded:
        """Let either come out where truncations decide on which side of 0 a test is."""
        if not isinstance(y, Bounded):
            y = self.exact(torch.full_like(x.value, self._public(y)))
        is_first = test.value > 0
        chosen = torch.where(is_first, x.radius, y.radius)
        either = (x.value - y.value).abs() + torch.maximum(x.radius, y.radius)
        is_open = (test.value.abs() <= test.radius) & (test.radius > 0)
        return Bounded(
            value=torch.where(is_first, x.value, y.value),
            radius=torch.where(is_open, either, chosen),
        )

    def relu(self, x: Bounded) -> Bounded:
        return Bounded(value=torch.clamp(x.value, min=0.0), radius=x.radius)

    def gate(self, x: Bounded, y: Bounded) -> Bounded:
        return self.choose(x, y, 0.0)

    def row_max(self, x: Bounded) -> Bounded:
        value, radius = (part.amax(-1, keepdim=True) for part in (x.value, x.radius))
        return Bounded(value=value, radius=radius)

    def expect_within(self, x: Bounded, low: float, high: float) -> Bounded:
        return x

    def by_top_bit(self, x: Bounded, function: Callable[[Tensor], Bounded]) -> Bounded:
        """Let both neighbours come out where truncations decide on the top bit."""
        ends = [self._top_bit(x.value + sign * x.radius) for sign in (-1, 1)]
        middle = function(self._top_bit(x.value))
        radius = middle.radius
        for other in map(function, ends):
            away = (other.value - middle.value).abs() + other.radius
            radius = torch.maximum(radius, away)
        is_open = (ends[1] - ends[0] > 1) | ((ends[0] < 0) & (ends[1] >= 0))
        return Bounded(
            value=middle.value, radius=torch.where(is_open, torch.inf, radius)
        )

    def _top_bit(self, value: Tensor) -> Tensor:
        _, exponent = torch.frexp(value * 2.0**self.fraction_bits)
        return torch.where(value * 2.0**self.fraction_bits >= 1, exponent - 1, -1)

    def exact(self, values: Tensor) -> Bounded:
        return Bounded(value=values, radius=torch.zeros_like(values))

    # ------------------------------------------------------------ local

    def add(self, x: Bounded, y: Bounded) -> Bounded:
        return Bounded(value=x.value + y.value, radius=x.radius + y.radius)

    def subtract(self, x: Bounded, y: Bounded) -> Bounded:
        return Bounded(value=x.value - y.value, radius=x.radius + y.radius)

    def shift(self, x: Bounded, constant: float) -> Bounded:
        return Bounded(value=x.value + self._public(constant), radius=x.radius)

    def row_sum(self, x: Bounded) -> Bounded:
        return self._both(self._plain.row_sum, x)

    def transpose(self, x: Bounded) -> Bounded:
        return self._both(self._plain.transpose, x)

    def swap(self, x: Bounded) -> Bounded:
        return self._both(self._plain.swap, x)

    def reshape(self, x: Bounded, shape: Shape) -> Bounded:
        return self._both(lambda part: part.reshape(shape), x)

    def cut(self, x: Bounded, axis: int, start: int, stop: int) -> Bounded:
        return self._both(lambda part: part.narrow(axis, start, stop - start), x)

    def join(self, arrays: Sequence[Bounded], axis: int) -> Bounded:
        return Bounded(
            value=torch.cat([x.value for x in arrays], axis),
            radius=torch.cat([x.radius for x in arrays], axis),
        )

    def _both(self, move: Callable[[Tensor], Tensor], x: Bounded) -> Bounded:
        return Bounded(value=move(x.value), radius=move(x.radius))
