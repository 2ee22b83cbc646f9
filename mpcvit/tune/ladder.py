"""From the cheapest way to compute every place to the most accurate, step by step."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mpcprof.nn.approximation import InverseBounds, SoftmaxBounds
from mpcvit.tune.ranges import Place

Value: TypeAlias = InverseBounds | SoftmaxBounds | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One way to compute a place.

    Attributes:
        value: Bounds, or name of an activation; None or "" for what the checkpoint has.
        latency_s: Predicted seconds of the network, rewritten, with this place so.
        error: Root mean square of what this alone changes in the logits.
    """

    value: Value
    latency_s: float
    error: float


Choice: TypeAlias = Mapping[Place, Alternative]


def frontier(alternatives: Sequence[Alternative]) -> tuple[Alternative, ...]:
    """Return the alternatives, cheapest first, that no cheaper one equals in error.

    One whose error is no number, as where powers grow beyond all, is dropped.
    """
    kept: list[Alternative] = []
    finite = [one for one in alternatives if math.isfinite(one.error)]
    for one in sorted(finite, key=lambda one: (one.latency_s, one.error)):
        if not kept or one.error < kept[-1].error:
            kept.append(one)
    return tuple(kept)


def back_off(ladders: Mapping[Place, Sequence[Alternative]]) -> tuple[Choice, ...]:
    """Return choices from the cheapest on; each takes one place back a step or more.

    The next place is the one where a lost second removes most squared error: errors of
    different places add up as squares.

    Args:
        ladders: Alternatives of each place, as `frontier` sorts them.
    """
    levels = dict.fromkeys(ladders, 0)
    choices = [_choice(ladders, levels)]
    while moves := [
        (_worth(ladder[levels[place]], ladder[level]), -number, place, level)
        for number, (place, ladder) in enumerate(ladders.items())
        for level in range(levels[place] + 1, len(ladder))
    ]:
        *_, place, level = max(moves, key=lambda move: move[:2])
        levels[place] = level
        choices.append(_choice(ladders, levels))
    return tuple(choices)


def _choice(
    ladders: Mapping[Place, Sequence[Alternative]], levels: Mapping[Place, int]
) -> Choice:
    return {place: ladder[levels[place]] for place, ladder in ladders.items()}


def _worth(now: Alternative, then: Alternative) -> float:
    """Return the squared error that a lost second removes."""
    return (now.error**2 - then.error**2) / (then.latency_s - now.latency_s)


def most_trials(choices: Sequence[Choice]) -> int:
    """Return how many choices `find_first` tries at most."""
    n = len(choices)
    return min(n, 2) + max(n - 2, 0).bit_length()


def find_first(
    choices: Sequence[Choice], holds: Callable[[Choice], bool]
) -> int | None:
    """Return the position of a choice that holds while the one before does not.

    Bisection: some ten trials of a hundred choices; None if the last does not hold.
    """
    if holds(choices[0]):
        return 0
    low, high = 0, len(choices) - 1  # low does not hold
    if high == 0 or not holds(choices[high]):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(choices[middle]) else (middle, high)
    return high
