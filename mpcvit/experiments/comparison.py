"""Two groups of accuracies: which is higher, and whether chance explains it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, Final

from scipy.stats import t as student_t

from mpcprof.errors import UsageError

_LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One mean less another, by Welch's t.

    Attributes:
        difference: Of the means, in shares.
        standard_error: Of the difference, by the spread within both groups; None where
            neither group has two members.
        degrees_of_freedom: Of that error; None likewise.
    """

    difference: float
    standard_error: float | None
    degrees_of_freedom: float | None

    @property
    def p_value(self) -> float | None:
        """How often chance alone gives means so far apart, either way."""
        if self.standard_error is None:
            return None
        ratio = abs(self.difference) / self.standard_error
        return float(2 * student_t.sf(ratio, self.degrees_of_freedom))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of 95 % confidence, around the difference, in shares."""
        if self.standard_error is None:
            return None
        quantile = student_t.ppf((1 + _LEVEL) / 2, self.degrees_of_freedom)
        margin = float(quantile) * self.standard_error
        return self.difference - margin, self.difference + margin

    @property
    def is_certain(self) -> bool:
        """Whether 0 is outside the 95 % interval."""
        p_value = self.p_value
        return p_value is not None and p_value < 1 - _LEVEL

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Shares."""
        return {
            "difference": self.difference,
            "standard_error": self.standard_error,
            "degrees_of_freedom": self.degrees_of_freedom,
            "p_value": self.p_value,
            "interval_95": self.interval,
        }

    def __str__(self) -> str:
        """In points of a hundred."""
        points = f"{100 * self.difference:+.2f} points"
        if self.interval is None:
            return f"{points} (no spread to hold it against)"
        low, high = self.interval
        judged = "hardly explains" if self.is_certain else "may explain"
        return (
            f"{points}, {_LEVEL:.0%} interval {100 * low:+.2f} to {100 * high:+.2f} "
            f"(p = {self.p_value:.2g}, chance {judged} it)"
        )


def compare_means(
    first: Sequence[float], second: Sequence[float], *, n_test: int
) -> Comparison:
    """mean(first) - mean(second), with Welch's error and degrees of freedom.

    A group of one is taken to vary as the other does. No group varies less than
    accuracies that are rounded to one test image, 1 / (n_test sqrt(12)): equal
    accuracies of two seeds are no proof that a third is the same. All are of the same
    test images: the error says what other trainings would change, not other images.

    Raises:
        UsageError: If there is no test image.
    """
    if n_test < 1:
        raise UsageError(f"n_test={n_test}: expected at least one test image")
    difference = fmean(first) - fmean(second)
    variances = [_variance(group, n_test) for group in (first, second)]
    known = [one for one in variances if one is not None]
    if not known:
        return Comparison(
            difference=difference, standard_error=None, degrees_of_freedom=None
        )
    sizes = (len(first), len(second))
    squares = [
        (known[0] if one is None else one) / size
        for one, size in zip(variances, sizes, strict=True)
    ]
    return Comparison(
        difference=difference,
        standard_error=math.sqrt(sum(squares)),
        degrees_of_freedom=_degrees_of_freedom(squares, sizes),
    )


def _variance(group: Sequence[float], n_test: int) -> float | None:
    if len(group) < 2:
        return None
    return max(variance(group), 1 / (12 * n_test**2))


def _degrees_of_freedom(squares: Sequence[float], sizes: Sequence[int]) -> float:
    """Welch and Satterthwaite's; the larger group's alone beside a group of one."""
    if min(sizes) == 1:
        return max(sizes) - 1
    parts = [
        square**2 / (size - 1) for square, size in zip(squares, sizes, strict=True)
    ]
    return sum(squares) ** 2 / sum(parts)
