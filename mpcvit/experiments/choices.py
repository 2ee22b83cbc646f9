"""Derived choices as trials: budgets between extremes, random ones of equal cost."""

import math
from dataclasses import replace
from typing import Final

import numpy as np

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture, Heads
from mpcprof.units import format_duration
from mpcvit.experiments.trial import Trial
from mpcvit.paper.published import Published
from mpcvit.search.baselines import at_random
from mpcvit.search.derive import Derived
from mpcvit.search.result import SearchResult

_END: Final = 0.01  # alphas as near to 0 or 1 are there
_DRAWS: Final = 40  # for each random choice that is wanted


def spread_budgets_s(
    result: SearchResult, n_budgets: int, heads: Heads
) -> tuple[float, ...]:
    """So many budgets at equal steps between the two extremes, the largest first.

    In whole milliseconds. The extremes, nothing accurate and everything, need no
    search.

    Raises:
        UsageError: If that is less than one.
    """
    if n_budgets < 1:
        raise UsageError(f"n_budgets={n_budgets}: expected at least 1")
    cost = result.cost.for_heads(heads)
    beta = result.beta
    least_s, most_s = (
        float(
            cost.latency_s(
                0 * result.alpha + share, None if beta is None else 0 * beta + share
            )
        )
        for share in (0.0, 1.0)
    )
    step_s = (most_s - least_s) / (n_budgets + 1)
    # rounded up: what a budget meets exactly is still within it
    return tuple(
        math.ceil((most_s - n * step_s) * 1e3) / 1e3 for n in range(1, n_budgets + 1)
    )


def draw_at_cost(
    result: SearchResult,
    chosen: Derived,
    *,
    n: int,
    tolerance: float,
    heads: Heads,
    seed: int = 0,
) -> tuple[Derived, ...]:
    """Different random choices whose predicted latency is that of `chosen`.

    Those that differ only in which heads of a layer are accurate are one and the same:
    trained from scratch, heads of a layer are interchangeable.

    The budget of each is drawn from its latency to `tolerance` above, so that where
    units are fine the random ones are, if anything, allowed more.

    Args:
        tolerance: A choice that is off by a larger share is drawn again.

    Raises:
        UsageError: If there are not so many, or a number is out of range.
    """
    check_draw(n, tolerance)
    random = np.random.default_rng(seed)
    seen = {_essence(chosen.architecture)}
    found: list[Derived] = []
    for draw in range(_DRAWS * n):
        budget_s = chosen.predicted_s * (1 + random.uniform(0, tolerance))
        one = at_random(result, budget_s, seed=seed + draw, heads=heads)
        is_off = abs(one.predicted_s / chosen.predicted_s - 1) > tolerance
        if is_off or _essence(one.architecture) in seen:
            continue
        seen.add(_essence(one.architecture))
        found.append(replace(one, label=f"random-{len(found) + 1}"))
        if len(found) == n:
            return tuple(found)
    raise UsageError(
        f"{len(found)} random choices within {tolerance:.2%} of "
        f"{format_duration(chosen.predicted_s, digits=4)}: expected {n}; ask for "
        "fewer, or a larger --tolerance"
    )


def check_draw(n: int, tolerance: float) -> None:
    """Refuse what no random choices can be drawn by.

    Raises:
        UsageError: If there is to be none, or the tolerance is no share.
    """
    if n < 1:
        raise UsageError(f"n_random={n}: expected at least 1")
    if not 0 <= tolerance <= 1:  # refuses NaN too
        raise UsageError(f"tolerance={tolerance}: expected a share from 0 to 1")


def _essence(architecture: Architecture) -> Architecture:
    """The same for all that differ in the order of a layer's heads."""
    heads = tuple(tuple(sorted(layer)) for layer in architecture.attention)
    return replace(architecture, attention=heads)


def make_trial(
    group: str,
    derived: Derived,
    result: SearchResult,
    published: Published | None = None,
) -> Trial:
    """A derived architecture as one to be trained."""
    return Trial(
        group=group,
        name=derived.label,
        architecture=derived.architecture,
        detail=describe(derived, result),
        published=published,
    )


def describe(derived: Derived, result: SearchResult) -> str:
    """How many units are accurate, and the heads that they make in each layer."""
    accurate = result.space.accurate
    heads = [
        sum(head.count(accurate) / len(head) for head in layer)
        for layer in derived.architecture.attention
    ]
    by_layer = "-".join(f"{count:.3g}" for count in heads)
    text = f"{derived.n_accurate}/{derived.n_units} accurate, heads {by_layer}"
    if derived.n_gelu is not None:
        text += f", {derived.n_gelu}/{derived.n_gelu_units} GeLU"
    return text + derived.shortfall()


def warn_of_indifference(result: SearchResult) -> tuple[str, ...]:
    """A sentence where a search ended with alphas that rank next to nothing."""
    is_at_end = (result.alpha < _END) | (result.alpha > 1 - _END)
    if not is_at_end.all() or 0.0 < result.alpha.round().mean() < 1.0:
        return ()
    end = int(result.alpha.round().max())
    return (
        f"Every alpha of the search is {end}: it ranks nothing, and what is derived of "
        f"it is by chance; search with a {'larger' if end else 'smaller'} --lambda.",
    )
