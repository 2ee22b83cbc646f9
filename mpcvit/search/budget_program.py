"""The most valuable choice within a budget as a small integer program.

Every unit is a binary; what a variant costs once where it is used hangs on an indicator
that is binary by itself at the optimum.
"""

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from mpcprof.errors import UsageError
from mpcprof.units import format_duration
from mpcvit.search.cost import SearchCost, VariantCost

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]
_SCALE: Final = 1e4  # the solver stops at a gap of 1e-6 in the objective
_MOST_NODES: Final = 10_000  # not seconds: a busy machine finds the same
_AT_LIMIT: Final = 1  # of scipy's statuses


class _Program:
    """Variables in [0, 1], their seconds and value, and rows of `sum c x <= bound`."""

    def __init__(self, fixed_s: float) -> None:
        self.fixed_s = fixed_s
        self.seconds: list[float] = []
        self.values: list[float] = []
        self.is_binary: list[bool] = []
        self.rows: list[tuple[dict[int, float], float]] = []

    def add(
        self, *, seconds: float = 0.0, value: float = 0.0, is_binary: bool = False
    ) -> int:
        self.seconds.append(seconds)
        self.values.append(value)
        self.is_binary.append(is_binary)
        return len(self.seconds) - 1

    def require(self, coefficients: dict[int, float], bound: float) -> None:
        """Sum of coefficients times variables <= bound."""
        self.rows.append((coefficients, bound))

    def prefer_the_most_valuable(self, units: list[int]) -> None:
        """Of units that cost the same, each only after those worth more.

        An optimum is left: units can be exchanged. Without it the solver tries all
        that differ in nothing else.
        """
        ranked = sorted(units, key=lambda unit: -self.values[unit])
        for worth_more, unit in pairwise(ranked):
            self.require({unit: 1.0, worth_more: -1.0}, 0.0)

    def pay(self, units: list[int], cost: VariantCost, n_together: int = 1) -> None:
        """fixed_s where any is 1, per_unit_s for each."""
        self._used(units, cost.fixed_s, is_complement=False)
        for unit in units:
            self.seconds[unit] += n_together * cost.per_unit_s

    def pay_for_zeros(
        self, units: list[int], cost: VariantCost, n_together: int = 1
    ) -> None:
        """The same where a unit is 0."""
        self._used(units, cost.fixed_s, is_complement=True)
        for unit in units:
            self.fixed_s += n_together * cost.per_unit_s
            self.seconds[unit] -= n_together * cost.per_unit_s

    def _used(self, units: list[int], fixed_s: float, *, is_complement: bool) -> None:
        """An indicator at least as large as each unit, or as one minus it."""
        indicator = self.add(seconds=fixed_s)
        for unit in units:
            if is_complement:
                self.require({unit: -1.0, indicator: -1.0}, -1.0)
            else:
                self.require({unit: 1.0, indicator: -1.0}, 0.0)

    def solve(self, budget_s: float) -> Numbers | None:
        """The most valuable point, 0 or 1 each; None where the limit comes first.

        Raises:
            UsageError: If there is none, or the solver fails.
        """
        rows = [*self.rows, (dict(enumerate(self.seconds)), budget_s - self.fixed_s)]
        solved = milp(
            -_SCALE * np.array(self.values),
            integrality=np.array(self.is_binary, dtype=int),
            bounds=Bounds(0, 1),
            constraints=_constraint(rows, len(self.seconds)),
            options={"mip_rel_gap": 0.0, "node_limit": _MOST_NODES},
        )
        if solved.status == _AT_LIMIT:
            return None
        if not solved.success:
            raise UsageError(
                f"budget {format_duration(budget_s)}: expected the solver to find a "
                f"choice; it says {solved.message!r}"
            )
        point: Numbers = np.round(solved.x)
        return point


def _constraint(
    rows: list[tuple[dict[int, float], float]], n_variables: int
) -> LinearConstraint:
    entries = [(i, j, c) for i, (row, _) in enumerate(rows) for j, c in row.items()]
    index_i, index_j, values = zip(*entries, strict=True) if entries else ((), (), ())
    matrix = coo_array((values, (index_i, index_j)), shape=(len(rows), n_variables))
    bounds = np.array([bound for _, bound in rows])
    return LinearConstraint(matrix.tocsr(), -np.inf, bounds)


def solve_program(
    cost: SearchCost,
    alpha_values: Numbers,
    beta_values: Numbers | None,
    budget_s: float,
) -> tuple[Mask, Mask | None] | None:
    """Units kept, the most valuable within the budget; None where a limit comes first.

    None too where the solver, which keeps the bound to a millionth, exceeds it.

    Raises:
        UsageError: If no choice is as quick, or the solver fails.
    """
    program = _Program(cost.rest_s)
    units = _add_attention(program, cost, alpha_values)
    tokens = None
    if beta_values is not None:
        tokens = _add_activation(program, cost, beta_values)
    if (point := program.solve(budget_s)) is None:
        return None
    alpha = point[units] > 0.5
    beta = None if tokens is None else point[tokens] > 0.5
    latency_s = cost.latency_s(
        alpha.astype(float), None if beta is None else beta.astype(float)
    )
    return (alpha, beta) if latency_s <= budget_s else None


def _add_units(program: _Program, values: Numbers) -> NDArray[np.int64]:
    """A binary for each."""
    units = [program.add(value=float(v), is_binary=True) for v in values.ravel()]
    return np.array(units).reshape(values.shape)


def _add_attention(
    program: _Program, cost: SearchCost, alpha: Numbers
) -> NDArray[np.int64]:
    """One unit per entry of alpha: (L,), (L, H) or (L, H, N)."""
    units = _add_units(program, alpha)
    if alpha.ndim == 3:
        for layer in units.tolist():
            _add_rows(program, cost, layer)
        return units
    n_together = 1 if alpha.ndim == 2 else cost.n_heads
    for layer in units.reshape(cost.n_layers, -1).tolist():
        program.prefer_the_most_valuable(layer)
        if cost.form == "grouped":
            program.pay(layer, cost.accurate, n_together)
            program.pay_for_zeros(layer, cost.cheap, n_together)
            continue
        for unit in layer:
            program.fixed_s += n_together * cost.cheap.alone_s
            extra_s = cost.accurate.alone_s - cost.cheap.alone_s
            program.seconds[unit] += n_together * extra_s
    return units


def _add_rows(program: _Program, cost: SearchCost, heads: list[list[int]]) -> None:
    """Rows of one layer's heads; see `SearchCost`."""
    for rows in heads:
        program.prefer_the_most_valuable(rows)
    if cost.form == "additive":
        for rows in heads:
            program.pay(rows, cost.accurate_row)
            program.pay_for_zeros(rows, cost.cheap_row)
        return
    pure, pure_cheap = [], []
    for rows in heads:
        pure.append(_add_pure(program, rows, cost.accurate_row, is_complement=False))
        pure_cheap.append(_add_pure(program, rows, cost.cheap_row, is_complement=True))
        fixed_s = cost.accurate_row.fixed_s + cost.cheap_row.fixed_s
        program.fixed_s += fixed_s
        for indicator in (pure[-1], pure_cheap[-1]):
            program.seconds[indicator] -= fixed_s
    program.pay(pure, cost.accurate)
    program.pay(pure_cheap, cost.cheap)


def _add_pure(
    program: _Program, rows: list[int], cost: VariantCost, *, is_complement: bool
) -> int:
    """1 at most where all rows are of the variant; pays the rows where it is 0."""
    pure = program.add(seconds=-len(rows) * cost.per_unit_s)
    for row in rows:
        if is_complement:
            program.require({pure: 1.0, row: 1.0}, 1.0)
            program.fixed_s += cost.per_unit_s
            program.seconds[row] -= cost.per_unit_s
        else:
            program.require({pure: 1.0, row: -1.0}, 0.0)
            program.seconds[row] += cost.per_unit_s
    return pure


def _add_activation(
    program: _Program, cost: SearchCost, beta: Numbers
) -> NDArray[np.int64]:
    """One unit per entry of beta: (L,) or (L, N)."""
    units = _add_units(program, beta)
    n_together = 1 if beta.ndim == 2 else cost.n_tokens
    apart = VariantCost(
        alone_s=0.0, fixed_s=cost.mlp_s - cost.fused_mlp_s, per_unit_s=0.0
    )
    for layer in units.reshape(cost.n_layers, -1).tolist():
        program.prefer_the_most_valuable(layer)
        program.fixed_s += cost.fused_mlp_s
        program.pay(layer, apart)
        program.pay(layer, cost.gelu, n_together)
        program.pay_for_zeros(layer, cost.linear, n_together)
    return units
