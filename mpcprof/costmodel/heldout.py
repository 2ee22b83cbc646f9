"""Fits a cost model to a profile, and says how wrong it is on sizes it has not seen."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from mpcprof.costmodel.fit import Costs, OperationFit, fit_costs, limits
from mpcprof.costmodel.model import CostModel, one_line
from mpcprof.costmodel.observations import (
    Observation,
    call_overhead_s,
    digest,
    observe,
    primitive_records,
)
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.steps import Size
from mpcprof.profile.record import Profile

_N_FOLDS = 5
_UNTESTED_ERROR = 0.5  # of an operation with one size, of which none can be left out


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Errors of one operation on sizes that its fit has not seen.

    |predicted - measured| / measured, of a record's own network. None where only one
    size was measured: nothing can be left out.

    Attributes:
        n_records: That were left out, each once.
        median: Of the latency, like the next two.
        max_bytes_error: Of the bytes summed over ranks.
        max_rank_bytes_error: Of the bytes of rank 0, which vary by call in aby3.
        has_exact_bytes: The fit reproduces the sum over ranks in every record.
        has_exact_hops: Likewise.
    """

    operation: str
    n_records: int
    median: float | None
    percentile_95: float | None
    largest: float | None
    max_bytes_error: float | None
    max_rank_bytes_error: float | None
    max_hops_error: float | None
    has_exact_bytes: bool
    has_exact_hops: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutPair:
    """One record, and what a fit says of it that has not seen its size."""

    operation: str
    size: Size
    network: Network
    measured_s: float
    predicted_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """A record that was left out, and the fit without its size."""

    seen: Observation
    costs: Costs
    per_call_s: float

    @property
    def latency_s(self) -> float:
        """Predicted."""
        return self.per_call_s + self.costs.latency_s(self.seen.size, self.seen.network)

    @property
    def latency_error(self) -> float:
        """Relative, like the next three."""
        return _relative(self.latency_s, self.seen.latency_s)

    @property
    def total_bytes_error(self) -> float:
        """Of the sum over ranks."""
        predicted = self.costs.total_bytes_sent.predict(self.seen.size)
        return _relative(predicted, self.seen.total_bytes_sent)

    @property
    def rank_bytes_error(self) -> float:
        """Of rank 0."""
        predicted = self.costs.bytes_sent.predict(self.seen.size)
        return _relative(predicted, self.seen.bytes_sent)

    @property
    def hops_error(self) -> float:
        """On the critical path."""
        return _relative(self.costs.hops.predict(self.seen.size), self.seen.hops)


def fit_cost_model(profile: Profile) -> CostModel:
    """Return the cost model of the primitives in `profile`.

        >>> profile = mpcprof.read_profile("profiles/semi2k.parquet")
        >>> "exp" in mpcprof.fit_cost_model(profile).operations
        True

    Raises:
        MissingEntryError: If it holds none.
        UnknownNameError: If a primitive is not one that blocks are made of.
    """
    records = primitive_records(profile)
    per_call_s = call_overhead_s(records)
    observations = observe(profile, per_call_s)
    networks = Counter(o.network for o in observations)
    return CostModel(
        deployment=profile.deployment,
        hosts=one_line([record.host for record in records]),
        per_call_s=per_call_s,
        reference=max(networks, key=lambda network: (networks[network], network)),
        records_digest=digest(records),
        fits=tuple(_fit(group, per_call_s) for group in _by_operation(observations)),
        observations=observations,
    )


def held_out_errors(
    profile: Profile, n_folds: int = _N_FOLDS, seed: int = 0
) -> tuple[HeldOut, ...]:
    """How wrong each operation's fit is on sizes left out, `n_folds` times a part.

    Raises:
        MissingEntryError: If there is no record of a primitive.
        UsageError: If there are fewer than two folds.
    """
    return tuple(
        _held_out(group, _tests(group, per_call_s, n_folds, seed))
        for group, per_call_s in _groups(profile, n_folds)
    )


def held_out_pairs(
    profile: Profile, n_folds: int = _N_FOLDS, seed: int = 0
) -> tuple[HeldOutPair, ...]:
    """Predicted and measured latency of each record, its size left out of the fit.

    Folds as in `held_out_errors`. Operations with one size have no pair.

    Raises:
        MissingEntryError: If there is no record of a primitive.
        UsageError: If there are fewer than two folds.
    """
    return tuple(
        HeldOutPair(
            operation=test.seen.operation,
            size=test.seen.size,
            network=test.seen.network,
            measured_s=test.seen.latency_s,
            predicted_s=test.latency_s,
        )
        for group, per_call_s in _groups(profile, n_folds)
        for test in _tests(group, per_call_s, n_folds, seed)
    )


def _groups(
    profile: Profile, n_folds: int
) -> list[tuple[tuple[Observation, ...], float]]:
    """Of each operation its records, and what a call costs."""
    if n_folds < 2:
        raise UsageError(f"n_folds={n_folds}: expected at least 2")
    records = primitive_records(profile)
    per_call_s = call_overhead_s(records)
    groups = _by_operation(observe(profile, per_call_s))
    return [(group, per_call_s) for group in groups]


def _by_operation(
    observations: Sequence[Observation],
) -> Iterator[tuple[Observation, ...]]:
    for name in sorted({o.operation for o in observations}):
        yield tuple(o for o in observations if o.operation == name)


def _fit(group: Sequence[Observation], per_call_s: float) -> OperationFit:
    errors = [t.latency_error for t in _tests(group, per_call_s, _N_FOLDS, 0)]
    costs = fit_costs(group)
    return OperationFit(
        operation=group[0].operation,
        n_sizes=len({o.size for o in group}),
        relative_error=_percentile_95(errors) if errors else _UNTESTED_ERROR,
        costs=costs,
        limits=limits(group, costs),
    )


def _tests(
    group: Sequence[Observation], per_call_s: float, n_folds: int, seed: int
) -> list[_Test]:
    sizes = sorted({o.size for o in group})
    if len(sizes) < 2:
        return []
    random.Random(seed).shuffle(sizes)
    n_folds = min(n_folds, len(sizes))
    tests = []
    for fold in range(n_folds):
        left_out: set[Size] = {*sizes[fold::n_folds]}
        costs = fit_costs([o for o in group if o.size not in left_out])
        tests += [
            _Test(seen=o, costs=costs, per_call_s=per_call_s)
            for o in group
            if o.size in left_out
        ]
    return tests


def _relative(predicted: float, measured: float) -> float:
    return abs(predicted - measured) / (measured or 1.0)


def _percentile_95(values: Sequence[float]) -> float:
    if len(values) < 2:
        return max(values)
    return quantiles(values, n=20, method="inclusive")[-1]


def _held_out(group: Sequence[Observation], tests: Sequence[_Test]) -> HeldOut:
    latencies = [test.latency_error for test in tests]
    costs = fit_costs(group)
    return HeldOut(
        operation=group[0].operation,
        n_records=len(tests),
        median=median(latencies) if latencies else None,
        percentile_95=_percentile_95(latencies) if latencies else None,
        largest=max(latencies, default=None),
        max_bytes_error=max((t.total_bytes_error for t in tests), default=None),
        max_rank_bytes_error=max((t.rank_bytes_error for t in tests), default=None),
        max_hops_error=max((t.hops_error for t in tests), default=None),
        has_exact_bytes=costs.total_bytes_sent.is_exact,
        has_exact_hops=costs.hops.is_exact,
    )
