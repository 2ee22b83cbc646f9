"""Architectures to hold searched ones against: uniform, by layer, even, at random."""

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture, Heads, uniform_architecture
from mpcprof.nn.preset import ModelPreset
from mpcprof.units import format_duration
from mpcvit.search.alpha.budget import choose_within
from mpcvit.search.alpha.cost import SearchCost
from mpcvit.search.alpha.derive import Derived, derive_by_budget, make_derived
from mpcvit.search.alpha.result import SearchResult
from mpcvit.search.alpha.space import Mask, Numbers, SearchSpace

UNIFORM: Final = ("softmax", "relu_softmax", "scale", "2quad", "linformer")
_DRAWS: Final = 40  # for each random choice that is wanted


def spread_budgets_s(
    result: SearchResult, n_budgets: int, heads: Heads
) -> tuple[float, ...]:
    """Return budgets at equal steps between the two extremes, the largest first.

    In whole milliseconds. The extremes themselves, everything cheap and everything
    accurate, need no search.

    Raises:
        UsageError: If `n_budgets` is less than one.
    """
    if n_budgets < 1:
        raise UsageError(f"n_budgets={n_budgets}: expected at least 1")
    cost = result.cost.for_heads(heads)
    least_s, most_s = extremes_s(cost, result.space, result.model)
    step_s = (most_s - least_s) / (n_budgets + 1)
    # rounded up: what a budget meets exactly is still within it
    return tuple(
        math.ceil((most_s - n * step_s) * 1e3) / 1e3 for n in range(1, n_budgets + 1)
    )


def uniform_baselines(model: ModelPreset, *, heads: Heads) -> dict[str, Architecture]:
    """Return one attention in every head, GeLU in every layer, by attention."""
    return {
        name: uniform_architecture(model, attention=name, heads=heads)
        for name in UNIFORM
    }


def by_layer(result: SearchResult, budget_s: float, *, heads: Heads) -> Derived:
    """Keep whole layers instead of heads, by their mean alpha and beta.

    Source: MPCViT section 5.4, comparison with per-layer search.
    Differs: there layers are ranked by a search of their own; run one with
        granularity="layer" for that.

    Raises:
        UsageError: If no choice is as quick as that.
    """
    coarse = replace(
        result,
        space=replace(
            result.space,
            granularity="layer",
            activation="none" if result.beta is None else "layer",
        ),
        alpha=_layer_means(result.alpha),
        beta=None if result.beta is None else _layer_means(result.beta),
    )
    derived = derive_by_budget(coarse, budget_s, heads=heads)
    return replace(derived, label=f"by-layer-{budget_s:g}s")


def _layer_means(values: Numbers) -> Numbers:
    means: Numbers = values.reshape(len(values), -1).mean(axis=1)
    return means


def at_random(
    result: SearchResult, budget_s: float, *, seed: int, heads: Heads
) -> Derived:
    """Return a random choice of about the same cost, for the same space.

    From the quickest choice on, units are made accurate in a random order, each if the
    budget still allows it. Rows of a head, and tokens of a layer, follow each other:
    what is mixed is dearer than either, and would leave random choices fewer units.

    Raises:
        UsageError: If no choice is as quick as that.
    """
    random = np.random.default_rng(seed)
    wholes = _wholes(result)
    by_whole = random.permutation(wholes.max() + 1)[wholes]
    order = np.lexsort((random.permutation(wholes.size), by_whole))
    return _fill(result, budget_s, order, f"random-{budget_s:g}s-{seed}", heads)


def extremes_s(
    cost: SearchCost, space: SearchSpace, model: ModelPreset
) -> tuple[float, float]:
    """Return the seconds of the model with every unit cheap, and accurate."""
    alpha, beta = space.alpha_shape(model), space.beta_shape(model)
    shapes = (alpha,) if beta is None else (alpha, beta)
    cheap_s, accurate_s = (
        float(cost.latency_s(*(np.full(shape, share) for shape in shapes)))
        for share in (0.0, 1.0)
    )
    return cheap_s, accurate_s


def derive_additive(result: SearchResult, budget_s: float) -> Derived:
    """Return what a budget of additive seconds buys, priced with heads batched."""
    cost = result.cost.for_heads("serial")
    choice = choose_within(cost, result.alpha, result.beta, budget_s)
    label = f"budget-{budget_s:g}s-additive"
    derived = make_derived(result, label, choice.alpha, choice.beta, "batched")
    return replace(derived, gap=choice.gap)


def draw_at_cost(
    result: SearchResult,
    chosen: Derived,
    *,
    n: int,
    tolerance: float,
    heads: Heads,
    seed: int = 0,
) -> tuple[Derived, ...]:
    """Return n different random choices whose predicted latency is that of `chosen`.

    Two choices that differ only in the order of a layer's heads count as one: trained
    from scratch, heads of a layer are interchangeable. The budget of each draw lies
    between the latency of `chosen` and `tolerance` above, so that where units are fine
    random choices are, if anything, allowed more.

    Args:
        tolerance: A choice whose latency differs by a larger share is drawn again.

    Raises:
        UsageError: If there are not so many, or a number is out of range.
    """
    if n < 1:
        raise UsageError(f"n_random={n}: expected at least 1")
    if not 0 <= tolerance <= 1:  # refuses NaN too
        raise UsageError(f"tolerance={tolerance}: expected a share from 0 to 1")
    random = np.random.default_rng(seed)
    seen = {_without_order(chosen.architecture)}
    found: list[Derived] = []
    for draw in range(_DRAWS * n):
        budget_s = chosen.predicted_s * (1 + random.uniform(0, tolerance))
        one = at_random(result, budget_s, seed=seed + draw, heads=heads)
        is_off = abs(one.predicted_s / chosen.predicted_s - 1) > tolerance
        if is_off or _without_order(one.architecture) in seen:
            continue
        seen.add(_without_order(one.architecture))
        found.append(replace(one, label=f"random-{len(found) + 1}"))
        if len(found) == n:
            return tuple(found)
    raise UsageError(
        f"{len(found)} random choices within {tolerance:.2%} of "
        f"{format_duration(chosen.predicted_s, digits=4)}: expected {n}; ask for "
        "fewer, or a larger --tolerance"
    )


def _without_order(architecture: Architecture) -> Architecture:
    """Return the architecture with each layer's heads sorted."""
    heads = tuple(tuple(sorted(layer)) for layer in architecture.attention)
    return replace(architecture, attention=heads)


def evenly(result: SearchResult, budget_s: float, *, heads: Heads) -> Derived:
    """Return the same share of every layer's units, of about the same cost.

    From the quickest choice on, every layer's first unit is made accurate, then every
    layer's second one, each if the budget still allows it; where rows are units, so
    are first heads, then second ones. Which heads of a layer they are makes no
    difference to a training from scratch.

    Source: MPCViT section 5.4, which replaces "heads in each layer uniformly".

    Raises:
        UsageError: If no choice is as quick as that.
    """
    shares = [_shares(result.alpha)]
    if result.beta is not None:
        shares.append(_shares(result.beta))
    order = np.argsort(np.concatenate(shares), kind="stable")
    return _fill(result, budget_s, order, f"even-{budget_s:g}s", heads)


def _shares(values: Numbers) -> Numbers:
    """Return how much of its layer is accurate before each unit, flat; 0 to below 1.

    Rows (L, H, N) of a head follow each other: a head that has both is the dearest.
    """
    n_layers, n_heads = (*values.shape, 1)[:2]
    by_head = np.tile((np.arange(n_heads) + 0.5) / n_heads, n_layers)
    shares: Numbers = np.repeat(by_head, values.size // by_head.size)
    return shares


def _fill(
    result: SearchResult,
    budget_s: float,
    order: NDArray[np.int64],
    label: str,
    heads: Heads,
) -> Derived:
    """Make units accurate in that order, from the quickest choice on.

    A row that is too dear is tried with all of its head, a token with all of its layer:
    one that is wholly accurate may be quicker than one that has both.
    """
    cost = result.cost.for_heads(heads)
    beta = result.beta
    start = choose_within(
        cost, 0 * result.alpha - 1, None if beta is None else 0 * beta - 1, budget_s
    )
    masks = (start.alpha, start.beta)
    kept = np.concatenate([mask.ravel() for mask in masks if mask is not None])
    wholes = _wholes(result)
    n_alpha = result.alpha.size

    def split(flat: Mask) -> tuple[Mask, Mask | None]:
        alpha = flat[:n_alpha].reshape(result.alpha.shape)
        return alpha, None if beta is None else flat[n_alpha:].reshape(beta.shape)

    def fits(flat: Mask) -> bool:
        return cost.hard_latency_s(*split(flat)) <= budget_s

    for unit in order[~kept[order]]:
        alone, whole = kept.copy(), kept | (wholes == wholes[unit])
        alone[unit] = True
        kept = next((tried for tried in (alone, whole) if fits(tried)), kept)
    return make_derived(result, label, *split(kept), heads)


def _wholes(result: SearchResult) -> NDArray[np.int64]:
    """Return for each unit, flat, the number of its head or layer, or its own."""
    per_head = result.alpha.shape[2:] or (1,)
    numbers: NDArray[np.int64] = np.arange(result.alpha.size) // per_head[0]
    if result.beta is None:
        return numbers
    per_layer = result.beta.shape[1:] or (1,)
    of_beta = np.arange(result.beta.size) // per_layer[0]
    return np.concatenate([numbers, numbers.max() + 1 + of_beta])
