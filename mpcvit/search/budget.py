"""The most valuable choice that costs no more than a budget.

Maximise the mean alpha kept, summed over layers, plus the same of beta, so that a layer
of attention and one of activations count alike whatever their granularity.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import UsageError
from mpcprof.units import format_at_least, format_duration
from mpcvit.search.budget_program import solve_program
from mpcvit.search.budget_rows import Block, Group, fill, least_ticks
from mpcvit.search.cost import SearchCost, VariantCost

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]
_SLACK_S: Final = 1e-9  # of sums of floats
_TIE: Final = 1e-6  # of a unit's value: of equal ones more are kept, the first layers'
_TICKS: Final = 2.0**58  # in the dearest choice: sums stay whole numbers of 64 bits
_MOST_BINARIES: Final = 600  # of an integer program; of more even its start takes long
_PROVEN: Final = 1e-6  # a smaller gap is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which units stay accurate (alpha) and keep their GeLU (beta).

    Attributes:
        gap: At most this share of the most valuable choice's worth is missing; 0 where
            that is proven to a millionth.
    """

    alpha: Mask
    beta: Mask | None
    latency_s: float
    gap: float


def choose_within(
    cost: SearchCost, alpha: Numbers, beta: Numbers | None, budget_s: float
) -> Choice:
    """The most valuable choice of at most `budget_s`, or nearly so; see its gap.

    The same on every machine. Additive attention alone is a knapsack of groups; what
    pays for sharing, and GeLU besides, goes to an integer program, unless that is large
    or reaches its limit.

    Raises:
        UsageError: If even the quickest choice is slower, or the solver fails.
    """
    values = _values(alpha)
    beta_values = None if beta is None else _values(beta)
    knapsack = _Knapsack(cost, values, beta_values)
    if knapsack.least_s > budget_s + _SLACK_S:
        least = format_at_least(knapsack.least_s)
        raise UsageError(
            f"budget {format_duration(budget_s)}: expected at least {least}, what the "
            "quickest choice costs"
        )
    n_units = alpha.size + (0 if beta is None else beta.size)
    is_alone = cost.form == "additive" and beta is None
    found, gap = None, 0.0
    if not is_alone and n_units <= _MOST_BINARIES:
        found = solve_program(cost, values, beta_values, budget_s + _SLACK_S)
    if found is None:
        kept, gap = knapsack.fill(budget_s + _SLACK_S / 2)
        found = kept[: alpha.size].reshape(alpha.shape), None
        if beta is not None:
            found = found[0], kept[alpha.size :].reshape(beta.shape)
    latency_s = cost.latency_s(
        found[0].astype(float), None if found[1] is None else found[1].astype(float)
    )
    return Choice(alpha=found[0], beta=found[1], latency_s=float(latency_s), gap=gap)


def _values(weights: Numbers) -> Numbers:
    """Of each unit (L, ...) its share of the layer's mean."""
    tie = _TIE * (2 - np.arange(weights.size) / weights.size)
    values: Numbers = weights + tie.reshape(weights.shape)
    return values * len(weights) / weights.size


class _Knapsack:
    """Groups of units that cost the same, and of each group its units, best first."""

    def __init__(self, cost: SearchCost, alpha: Numbers, beta: Numbers | None) -> None:
        parts = [alpha.ravel()] if beta is None else [alpha.ravel(), beta.ravel()]
        self._values = np.concatenate(parts)
        self._rest_s = cost.rest_s
        self._tick_s = _most_s(cost) / _TICKS
        self._blocks: list[Block] = []
        self._units: list[Counts] = []
        indices = np.arange(self._values.size)
        self._add_attention(cost, indices[: alpha.size].reshape(alpha.shape))
        if beta is not None:
            self._add_activation(cost, indices[alpha.size :].reshape(beta.shape))

    @property
    def least_s(self) -> float:
        """Seconds of the quickest choice."""
        return self._rest_s + least_ticks(self._blocks) * self._tick_s

    def fill(self, budget_s: float) -> tuple[Mask, float]:
        """Units kept, and the gap."""
        budget = self._to_ticks(min(budget_s - self._rest_s, _TICKS * self._tick_s))
        filling = fill(self._blocks, max(budget, least_ticks(self._blocks)))
        mask = np.zeros(self._values.size, dtype=bool)
        for units, n_kept in zip(self._units, filling.kept, strict=True):
            mask[units[:n_kept]] = True
        missing = filling.bound - filling.value
        gap = missing / filling.bound if missing > 0 < filling.bound else 0.0
        return mask, gap if gap > _PROVEN else 0.0

    def _to_ticks(self, seconds: float) -> int:
        return round(seconds / self._tick_s)

    def _add_attention(self, cost: SearchCost, units: Counts) -> None:
        """Units (L,), (L, H) or (L, H, N)."""
        n_together = cost.n_heads if units.ndim == 1 else 1
        if units.ndim == 3 and cost.form == "additive":
            self._add_groups(
                units.reshape(-1, cost.n_tokens), cost.accurate_row, cost.cheap_row, 1
            )
        elif units.ndim == 3:
            for layer in units:
                self._add_batched_rows(cost, layer)
        elif cost.form == "additive":
            accurate, cheap = _alone(cost.accurate), _alone(cost.cheap)
            self._add_groups(units.reshape(1, -1), accurate, cheap, n_together)
        else:
            by_layer = units.reshape(cost.n_layers, -1)
            self._add_groups(by_layer, cost.accurate, cost.cheap, n_together)

    def _add_activation(self, cost: SearchCost, units: Counts) -> None:
        """Units (L,) or (L, N)."""
        n_together = cost.n_tokens if units.ndim == 1 else 1
        self._rest_s += cost.n_layers * cost.fused_mlp_s
        apart_s = cost.mlp_s - cost.fused_mlp_s
        gelu = replace(cost.gelu, fixed_s=cost.gelu.fixed_s + apart_s)
        by_layer = units.reshape(cost.n_layers, -1)
        self._add_groups(by_layer, gelu, cost.linear, n_together)

    def _add_groups(
        self,
        groups: Counts,
        kept: VariantCost,
        other: VariantCost,
        n_together: int,
    ) -> None:
        """Each row of units (G, U) shares the fixed seconds of either variant."""
        for units in groups:
            ticks = self._count_ticks(units.size, kept, other, n_together)
            self._blocks.append(((self._group(units, ticks),),))
            self._units.append(self._ranked(units))

    def _add_batched_rows(self, cost: SearchCost, heads: Counts) -> None:
        """A layer's rows (H, N): with purely accurate heads or none, cheap or none."""
        mixed = self._count_ticks(heads.shape[1], cost.accurate_row, cost.cheap_row, 1)
        mixed[-1] = self._to_ticks(cost.accurate.per_unit_s)
        mixed[0] = self._to_ticks(cost.cheap.per_unit_s)
        modes = []
        for is_accurate, is_cheap in product((True, False), repeat=2):
            fixed_s = (
                is_accurate * cost.accurate.fixed_s + is_cheap * cost.cheap.fixed_s
            )
            fixed = np.array([self._to_ticks(fixed_s)])
            none = np.zeros(1, dtype=np.int64)
            allowed = slice(0 if is_cheap else 1, None if is_accurate else -1)
            modes.append(
                (
                    Group(kept=none, ticks=fixed, values=np.zeros(1)),
                    *(self._group(units, mixed, allowed) for units in heads),
                )
            )
        self._blocks.append(tuple(mode for mode in modes if mode[-1].kept.size))
        self._units += [heads[0, :0], *(self._ranked(units) for units in heads)]

    def _count_ticks(
        self, n_units: int, kept: VariantCost, other: VariantCost, n_together: int
    ) -> Counts:
        n_kept = np.arange(n_units + 1)
        ticks: Counts = (
            self._to_ticks(kept.fixed_s) * (n_kept > 0)
            + self._to_ticks(n_together * kept.per_unit_s) * n_kept
            + self._to_ticks(other.fixed_s) * (n_kept < n_units)
            + self._to_ticks(n_together * other.per_unit_s) * (n_units - n_kept)
        )
        return ticks

    def _group(
        self, units: Counts, ticks: Counts, allowed: slice = slice(None)
    ) -> Group:
        worth = np.cumsum(self._values[self._ranked(units)])
        return Group(
            kept=np.arange(units.size + 1)[allowed],
            ticks=ticks[allowed],
            values=np.concatenate([[0.0], worth])[allowed],
        )

    def _ranked(self, units: Counts) -> Counts:
        ranked: Counts = units[np.argsort(-self._values[units], kind="stable")]
        return ranked


def _alone(cost: VariantCost) -> VariantCost:
    return VariantCost(alone_s=cost.alone_s, fixed_s=0.0, per_unit_s=cost.alone_s)


def _most_s(cost: SearchCost) -> float:
    """More than any choice costs: every variant of everything, fixed seconds each."""
    head_s = sum(
        abs(one.alone_s) + abs(one.fixed_s) + abs(one.per_unit_s)
        for one in (cost.accurate, cost.cheap)
    )
    row_s, token_s = (
        sum(abs(one.fixed_s) + cost.n_tokens * abs(one.per_unit_s) for one in pair)
        for pair in (
            (cost.accurate_row, cost.cheap_row),
            (cost.gelu, cost.linear),
        )
    )
    mlp_s = abs(cost.mlp_s) + abs(cost.fused_mlp_s)
    return cost.n_layers * (cost.n_heads * (head_s + row_s) + token_s + mlp_s)
