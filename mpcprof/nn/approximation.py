"""Approximations that hold on a range of inputs, known before a network is deployed."""

import math
from dataclasses import dataclass

from mpcprof.errors import UsageError


def check_range(what: str, low: float, high: float) -> None:
    """Refuse a range that is empty, reversed or not finite.

    Raises:
        UsageError: If it is one; the message begins with `what`.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            f"{what}: low={low} and high={high}: expected finite numbers, low below "
            "high; calibrate it again with mpcvit tune"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InverseBounds:
    """A range of positive numbers, and how their power -1 or -1/2 is found on it.

    Attributes:
        degree: Degree of the polynomial that the iteration starts from.
        n_steps: Number of Newton steps.

    Raises:
        UsageError: If the range is empty or not positive, or a count is out of range.
    """

    low: float
    high: float
    degree: int
    n_steps: int

    def __post_init__(self) -> None:
        check_range("range of an inverse", self.low, self.high)
        if self.low <= 0:
            raise UsageError(f"low={self.low}: expected a range of numbers above 0")
        for name, least in (("degree", 1), ("n_steps", 0)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"{name}={getattr(self, name)}: expected at least {least}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxBounds:
    """A range of the scores of a softmax, and how it is computed on it.

    Attributes:
        n_squarings: Number of squarings that make exp of its quadratic base.
        total: Range of a row's sum of exp, and how its reciprocal is found.

    Raises:
        UsageError: If the range is empty, or a count is out of range.
    """

    low: float
    high: float
    n_squarings: int
    total: InverseBounds

    def __post_init__(self) -> None:
        check_range("range of scores", self.low, self.high)
        if self.n_squarings < 0:
            raise UsageError(f"n_squarings={self.n_squarings}: expected at least 0")
