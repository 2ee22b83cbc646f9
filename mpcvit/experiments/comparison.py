"""Two groups of accuracies: which is higher, and whether chance explains it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One mean less another.

    Attributes:
        difference: Of the means, in shares.
        standard_error: Of the difference, by the spread within both groups; None where
            a group has too few members to have one.
    """

    difference: float
    standard_error: float | None

    @property
    def is_certain(self) -> bool:
        """Whether the difference is more than two of its standard errors."""
        error = self.standard_error
        return error is not None and abs(self.difference) > 2 * error

    def __str__(self) -> str:
        """In points of a hundred."""
        if self.standard_error is None:
            return f"{100 * self.difference:+.2f} points (no spread to hold it against)"
        judged = "beyond" if self.is_certain else "within"
        return (
            f"{100 * self.difference:+.2f} points, {judged} two standard errors of "
            f"{100 * self.standard_error:.2f}"
        )


def compare_means(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """mean(first) - mean(second); its error is sqrt(s1^2 / n1 + s2^2 / n2).

    A group of one is taken to vary as the other does. All are of the same test images:
    the error says what other trainings would change, not other images.
    """
    errors = []
    for group, other in ((first, second), (second, first)):
        spread = stdev(group) if len(group) > 1 else None
        if spread is None and len(other) > 1:
            spread = stdev(other)
        errors.append(None if spread is None else spread**2 / len(group))
    squares = [error for error in errors if error is not None]
    return Comparison(
        difference=fmean(first) - fmean(second),
        standard_error=math.sqrt(sum(squares)) if len(squares) == 2 else None,
    )
