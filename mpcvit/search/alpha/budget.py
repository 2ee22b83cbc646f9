"""The most valuable choice that costs no more than a budget.

Maximise the mean alpha kept, summed over layers, plus the mean beta kept, so that a
layer of attention and one of activations count alike whatever their granularity.

Units of a group (the rows of a head, the tokens of a layer) cost the same, so the best
k of them are the k most valuable: only k is left to choose. Where all units are one
group, the largest k that the budget allows is the optimum. Elsewhere an integer program
has a binary z for each count k of each group g, and a share u of each cost that the
heads of a layer share:

    maximise    sum of value_gk z_gk
    subject to  sum over k of z_gk = 1
                z_gk <= u_v where count k of group g uses the variant v
                rest_s + sum of seconds_gk z_gk + sum of fixed_v u_v <= budget
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, linprog, milp
from scipy.sparse import coo_array

from mpcprof.errors import UsageError
from mpcprof.terms import Term
from mpcvit.search.alpha.cost import SearchCost
from mpcvit.search.alpha.space import Mask, Numbers
from mpcvit.search.base import too_quick

Counts = NDArray[np.int64]
_SLACK_S: Final = 1e-9  # sums of floats differ by less
_TIE: Final = 1e-6  # of a unit's value: of equal ones more are kept, the first layers'
_PROVEN: Final = 1e-6  # a smaller gap is none
_TIME_LIMIT_S: Final = 10.0
_SCALE: Final = 1e4  # the solver takes values and sums within 1e-6 as equal
_ATTEMPTS: Final = 5  # each with a budget lower by what the last one exceeded it
_OPTIMAL, _LIMIT_REACHED, _INFEASIBLE = 0, 1, 2  # scipy's statuses


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
    """Return the most valuable choice of at most `budget_s`; see its gap.

    The solver is deterministic unless it reaches its limit of 10 s; then the gap says
    what may be missing. Measured on `cifar` by row (1,820 units) under the costs of
    `semi2k.parquet`, 84 pairs of alpha and budget: each optimum is proven, in 0.13 s
    at most with heads serial and 2.6 s batched. Round costs, many sums of which are
    equal, are harder: 10 s leave a gap of 0.07 % serial and 6 % batched.

    Raises:
        UsageError: If even the quickest choice is slower, or the solver fails.
    """
    program = _Program(cost, alpha, beta)
    limit_s = budget_s
    for _ in range(_ATTEMPTS):
        found = program.best(limit_s)
        if found is None or found.latency_s <= budget_s + _SLACK_S:
            break
        limit_s -= found.latency_s - budget_s
    if found is None:
        least_s = program.quickest().latency_s
        raise too_quick("budget", budget_s, least_s, "what the quickest choice costs")
    return found


class _SharedCost(NamedTuple):
    """Seconds paid once where any of these columns is 1."""

    seconds: float
    columns: tuple[int, ...]


class _Program:
    """A binary column for each count of each group of units.

    Columns stand in the order of the groups, and of the counts from 0 on: (C,) values
    and seconds. Of each group its units, the most valuable first.
    """

    def __init__(self, cost: SearchCost, alpha: Numbers, beta: Numbers | None) -> None:
        self._cost = cost
        self._alpha, self._beta = alpha, beta
        parts = [alpha] if beta is None else [alpha, beta]
        self._worth = np.concatenate([_values(part).ravel() for part in parts])
        self._rest_s = cost.rest_s
        self._units: list[Counts] = []
        self._shared: list[_SharedCost] = []
        self._values, self._seconds = np.zeros(0), np.zeros(0)
        self._group_of: Counts = np.zeros(0, dtype=np.int64)
        places = np.arange(self._worth.size)
        self._add_attention(places[: alpha.size].reshape(alpha.shape))
        if beta is not None:
            self._add_activation(places[alpha.size :].reshape(beta.shape))

    @property
    def _shared_s(self) -> Numbers:
        return np.array([one.seconds for one in self._shared])

    def _add_attention(self, places: Counts) -> None:
        """Add units (L,), (L, H) or (L, H, N)."""
        cost = self._cost
        n_together = cost.n_heads if places.ndim == 1 else 1
        if places.ndim == 3 and cost.form == "additive":
            for head in places.reshape(-1, cost.n_tokens):
                self._add(head, cost.accurate_row, cost.cheap_row)
        elif places.ndim == 3:
            for layer in places:
                self._add_batched_rows(layer)
        elif cost.form == "additive":
            one, other = (
                replace(term, fixed_s=0.0, per_unit_s=term.latency_s)
                for term in (cost.accurate, cost.cheap)
            )
            self._add(places.ravel(), one, other, n_together)
        else:
            for layer in places.reshape(cost.n_layers, -1):
                self._add(layer, cost.accurate, cost.cheap, n_together)

    def _add_batched_rows(self, layer: Counts) -> None:
        """Add the heads (H, N) of a layer; pure ones share the variant's fixed cost."""
        cost, pure, cheap = self._cost, [], []
        for head in layer:
            cheap.append(self._values.size)
            self._add(head, cost.accurate_row, cost.cheap_row)
            pure.append(self._values.size - 1)
        for variant, columns in ((cost.accurate, pure), (cost.cheap, cheap)):
            self._seconds[columns] = variant.per_unit_s
            self._shared.append(_SharedCost(variant.fixed_s, tuple(columns)))

    def _add_activation(self, places: Counts) -> None:
        """Add units (L,) or (L, N)."""
        cost = self._cost
        n_together = cost.n_tokens if places.ndim == 1 else 1
        self._rest_s += cost.n_layers * cost.fused_mlp_s
        for layer in places.reshape(cost.n_layers, -1):
            self._add(layer, cost.apart_gelu, cost.linear, n_together)

    def _add(
        self, places: Counts, kept: Term, other: Term, n_together: int = 1
    ) -> None:
        """Add a group, each unit of which stands for so many heads or tokens."""
        ranked = places[np.argsort(-self._worth[places], kind="stable")]
        n_kept = np.arange(ranked.size + 1)
        n_other = ranked.size - n_kept
        seconds = (
            kept.fixed_s * (n_kept > 0)
            + n_together * kept.per_unit_s * n_kept
            + other.fixed_s * (n_other > 0)
            + n_together * other.per_unit_s * n_other
        )
        values = np.concatenate([[0.0], np.cumsum(self._worth[ranked])])
        group = np.full(n_kept.size, len(self._units))
        self._values = np.concatenate([self._values, values])
        self._seconds = np.concatenate([self._seconds, seconds])
        self._group_of = np.concatenate([self._group_of, group])
        self._units.append(ranked)

    def best(self, budget_s: float) -> Choice | None:
        """Return the most valuable choice within the budget; None if there is none.

        A choice by the relaxed program leaves the integer one few columns: none that
        loses more against the relaxed optimum than that choice does.
        """
        left_s = budget_s - self._rest_s
        if len(self._units) == 1:
            fits = self._seconds <= left_s + _SLACK_S
            best = np.where(fits, self._values, -np.inf).argmax()
            return self._choice(np.array([best])) if fits.any() else None
        rows = self._rows(left_s)
        columns, losses, bound = self._relax(rows, left_s)
        if columns is None:
            return None
        value = self._values[columns].sum()
        is_open = losses <= bound - value + _SLACK_S
        solved = self._solve(-self._values, rows, is_open)
        if solved.status != _INFEASIBLE and solved.x is not None:
            tried = self._use_up(self._split(solved.x, np.argmax), left_s)
            columns = max(columns, tried, key=lambda one: self._values[one].sum())
        value = self._values[columns].sum()
        if solved.status == _LIMIT_REACHED and solved.mip_dual_bound is not None:
            bound = min(bound, -solved.mip_dual_bound / _SCALE)
        is_proven = solved.status != _LIMIT_REACHED or bound - value <= _PROVEN * bound
        return self._choice(columns, 0.0 if is_proven else (bound - value) / bound)

    def quickest(self) -> Choice:
        """Return the choice that costs least."""
        return self._choice(self._quickest())

    def _quickest(self) -> Counts:
        every = np.ones(self._values.size, dtype=bool)
        solved = self._solve(self._seconds, self._rows(np.inf), every, has_shared=True)
        return self._split(solved.x, np.argmax)

    def _rows(self, left_s: float) -> LinearConstraint:
        """Return one column per group, uses of shared costs, and the budget."""
        n_columns, n_groups = self._values.size, len(self._units)
        uses = [
            (column, n_columns + number)
            for number, one in enumerate(self._shared)
            for column in one.columns
        ]
        used, shares = np.array(uses, dtype=np.int64).reshape(-1, 2).T
        use_rows = n_groups + np.arange(used.size)
        every = np.arange(n_columns + len(self._shared))
        parts = (  # coefficients, rows, columns
            (np.ones(n_columns), self._group_of, np.arange(n_columns)),
            (np.ones(used.size), use_rows, used),
            (-np.ones(used.size), use_rows, shares),
            (
                _SCALE * np.concatenate([self._seconds, self._shared_s]),
                np.full(every.size, n_groups + used.size),
                every,
            ),
        )
        values, rows, columns = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
        ones, zeros = np.ones(n_groups), np.zeros(used.size)
        low = np.concatenate([ones, zeros - np.inf, [-np.inf]])
        high = np.concatenate([ones, zeros, [_SCALE * left_s]])
        matrix = coo_array((values, (rows, columns))).tocsr()
        return LinearConstraint(matrix, low, high)

    def _relax(
        self, rows: LinearConstraint, left_s: float
    ) -> tuple[Counts | None, Numbers, float]:
        """Return a choice, what each column loses at least, and the most worth.

        The choice takes of each group the quickest of the columns that the relaxed
        optimum mixes, or the quickest of all.
        """
        n_groups = len(self._units)
        solved = linprog(
            np.concatenate([-_SCALE * self._values, 0 * self._shared_s]),
            A_eq=rows.A[:n_groups],
            b_eq=rows.ub[:n_groups],
            A_ub=rows.A[n_groups:],
            b_ub=rows.ub[n_groups:],
            bounds=(0, 1),
        )
        if solved.status == _INFEASIBLE:
            return None, self._values, 0.0
        _check(solved)
        mixed = np.where(
            solved.x[: self._values.size] > _SLACK_S, self._seconds, np.inf
        )
        columns = self._split(mixed, np.argmin)
        if self._total_s(columns) > left_s + _SLACK_S:
            columns = self._quickest()
            if self._total_s(columns) > left_s + _SLACK_S:
                return None, self._values, 0.0
        losses = solved.lower.marginals[: self._values.size] / _SCALE
        return self._use_up(columns, left_s), losses, -solved.fun / _SCALE

    def _solve(
        self,
        objective: Numbers,
        rows: LinearConstraint,
        is_open: Mask,
        *,
        has_shared: bool = False,
    ) -> OptimizeResult:
        """Return the solution of the least objective among the open columns."""
        n_shared = len(self._shared)
        solved = milp(
            _SCALE * np.concatenate([objective, self._shared_s * has_shared]),
            integrality=np.concatenate([np.ones(is_open.size), np.zeros(n_shared)]),
            bounds=Bounds(
                0, np.concatenate([is_open.astype(float), np.ones(n_shared)])
            ),
            constraints=rows,
            options={"mip_rel_gap": _SLACK_S, "time_limit": _TIME_LIMIT_S},
        )
        return _check(solved)

    def _split(self, x: Numbers, choose: Callable[[Numbers], np.intp]) -> Counts:
        """Return the chosen column of each group, (G,)."""
        ends = np.cumsum([units.size + 1 for units in self._units])
        parts = np.split(x[: ends[-1]], ends[:-1])
        firsts = np.concatenate([[0], ends[:-1]])
        columns: Counts = firsts + np.array([choose(part) for part in parts])
        return columns

    def _total_s(self, columns: Counts) -> float:
        """Return the seconds of a column of each group, without the rest."""
        shared_s = sum(
            one.seconds for one in self._shared if {*one.columns} & {*columns}
        )
        return float(self._seconds[columns].sum() + shared_s)

    def _use_up(self, columns: Counts, left_s: float) -> Counts:
        """Make the most valuable change of one group, as long as there is room."""
        columns = columns.copy()
        while True:
            seconds = self._seconds.copy()
            for one in self._shared:
                if not {*one.columns} & {*columns}:
                    seconds[[*one.columns]] += one.seconds
            now = columns[self._group_of]
            room_s = left_s - self._total_s(columns)
            fits = seconds - self._seconds[now] <= room_s
            gains = np.where(fits, self._values - self._values[now], 0.0)
            best = int(gains.argmax())
            if gains[best] <= 0:
                return columns
            columns[self._group_of[best]] = best

    def _choice(self, columns: Counts, gap: float = 0.0) -> Choice:
        mask = np.zeros(self._worth.size, dtype=bool)
        firsts = np.searchsorted(self._group_of, np.arange(len(self._units)))
        for units, n_kept in zip(self._units, columns - firsts, strict=True):
            mask[units[:n_kept]] = True
        alpha = mask[: self._alpha.size].reshape(self._alpha.shape)
        beta = None
        if self._beta is not None:
            beta = mask[self._alpha.size :].reshape(self._beta.shape)
        latency_s = self._cost.hard_latency_s(alpha, beta)
        return Choice(alpha=alpha, beta=beta, latency_s=latency_s, gap=gap)


def _values(weights: Numbers) -> Numbers:
    """Return each unit's share of the layer's mean, (L, ...)."""
    tie = _TIE * (2 - np.arange(weights.size) / weights.size)
    values: Numbers = weights + tie.reshape(weights.shape)
    return values * len(weights) / weights.size


def _check(solved: OptimizeResult) -> OptimizeResult:
    if solved.status not in (_OPTIMAL, _LIMIT_REACHED, _INFEASIBLE):
        raise UsageError(
            "expected the solver of the budget to find a choice; it says "
            f"{solved.message!r}"
        )
    return solved
