"""Held-out errors: how wrong the fits are on sizes that they have not seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from mpcprof.costmodel.fit import (
    N_FOLDS,
    HeldOut,
    fit_operation,
    leave_out_sizes,
    percentile_95,
)
from mpcprof.costmodel.observations import (
    Observation,
    by_operation,
    call_overhead_s,
    observe,
    primitive_records,
)
from mpcprof.errors import UsageError
from mpcprof.profile.record import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutErrors:
    """Errors of one operation on sizes that its fit has not seen.

    Errors are |predicted - measured| / measured on a record's own network; None where
    only one size was measured, since it cannot be left out.

    Attributes:
        n_records: Number of records that were left out, each once.
        median: Median error of the latency.
        percentile_95: 95th percentile of the error of the latency.
        largest: Largest error of the latency.
        max_bytes_error: Largest error of the bytes summed over ranks.
        max_rank_bytes_error: Largest error of the bytes of rank 0, which vary by call
            in aby3.
        has_exact_bytes: Whether the fit reproduces the bytes summed over ranks in every
            record.
        has_exact_hops: Whether the fit reproduces the hops in every record.
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


def held_out_errors(
    profile: Profile, n_folds: int = N_FOLDS, seed: int = 0
) -> tuple[HeldOutErrors, ...]:
    """Return the errors of each operation, with sizes left out in `n_folds` folds.

    Raises:
        MissingEntryError: If there is no record of a primitive.
        UsageError: If there are fewer than two folds.
    """
    return tuple(
        _errors(group, cases) for group, cases in _groups(profile, n_folds, seed)
    )


def held_out_latencies(
    profile: Profile, n_folds: int = N_FOLDS, seed: int = 0
) -> tuple[HeldOut, ...]:
    """Return each record with its latency predicted by a fit without its size.

    The folds are those of `held_out_errors`. Operations with one size are left out.

    Raises:
        MissingEntryError: If there is no record of a primitive.
        UsageError: If there are fewer than two folds.
    """
    return tuple(case for _, cases in _groups(profile, n_folds, seed) for case in cases)


def _groups(
    profile: Profile, n_folds: int, seed: int
) -> Iterator[tuple[tuple[Observation, ...], list[HeldOut]]]:
    if n_folds < 2:
        raise UsageError(f"n_folds={n_folds}: expected at least 2")
    per_call_s = call_overhead_s(primitive_records(profile))
    for group in by_operation(observe(profile, per_call_s)):
        yield group, [*leave_out_sizes(group, per_call_s, n_folds, seed)]


def _errors(group: Sequence[Observation], cases: Sequence[HeldOut]) -> HeldOutErrors:
    errors = [case.latency_error for case in cases]
    fit = fit_operation(group)

    def largest(name: str) -> float | None:
        return max((case.error(name) for case in cases), default=None)

    return HeldOutErrors(
        operation=group[0].operation,
        n_records=len(cases),
        median=median(errors) if errors else None,
        percentile_95=percentile_95(errors) if errors else None,
        largest=max(errors, default=None),
        max_bytes_error=largest("total_bytes_sent"),
        max_rank_bytes_error=largest("bytes_sent"),
        max_hops_error=largest("hops"),
        has_exact_bytes=fit.total_bytes_sent.is_exact,
        has_exact_hops=fit.hops.is_exact,
    )
