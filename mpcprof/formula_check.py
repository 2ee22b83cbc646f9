"""How well the latency formula explains what was really waited for."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median, quantiles

from mpcprof.errors import MissingEntryError
from mpcprof.pricing import price_s
from mpcprof.profiles import Profile
from mpcprof.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class FormulaErrors:
    """|emulated - formula| / emulated over some records.

    Attributes:
        name: The workload, or `all`.
        worst: The record with the largest error.
    """

    name: str
    n_records: int
    median: float
    percentile_95: float
    largest: float
    worst: Record


def formula_error(profile: Profile, record: Record) -> float:
    """(formula - emulated) / emulated of one record, signed; see `Profile.call_s`."""
    priced_s = price_s(
        record.network,
        compute_s=record.compute_s,
        hidden_s=record.hidden_s,
        hops=record.hops,
        wire_bytes=record.wire_bytes,
    )
    return priced_s / profile.call_s(record) - 1


def check_formula(profile: Profile) -> tuple[FormulaErrors, ...]:
    """Errors over all emulated records, then by workload.

    Raises:
        MissingEntryError: If no record is emulated on a network.
    """
    records = [r for r in profile if r.mode == "emulated" and not r.network.is_loopback]
    if not records:
        raise MissingEntryError("no emulated record; expected `sweep --mode emulated`")
    return (_summary("all", profile, records), *_by_workload(profile, records))


def _by_workload(profile: Profile, records: list[Record]) -> Iterator[FormulaErrors]:
    for name in sorted({record.workload for record in records}):
        yield _summary(name, profile, [r for r in records if r.workload == name])


def _summary(name: str, profile: Profile, records: list[Record]) -> FormulaErrors:
    errors = [abs(formula_error(profile, record)) for record in records]
    many = errors * 2 if len(errors) == 1 else errors
    return FormulaErrors(
        name=name,
        n_records=len(records),
        median=median(errors),
        percentile_95=quantiles(many, n=20, method="inclusive")[-1],
        largest=max(errors),
        worst=max(records, key=lambda record: abs(formula_error(profile, record))),
    )
