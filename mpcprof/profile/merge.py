"""The profile: records of one deployment, merged and compared."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from mpcprof.deployment import Deployment
from mpcprof.errors import MissingEntryError, ProfileError, did_you_mean
from mpcprof.profile.record import Record, RecordKey

_RESERVED = ("schema_version", "deployment")  # the file's own, beside the extras


def _canonical(extra: str) -> str:
    """The same JSON object with its keys sorted, so that equal means equal."""
    try:
        values = json.loads(extra)
    except ValueError:
        values = None
    if not isinstance(values, dict) or any(name in values for name in _RESERVED):
        raise ProfileError(
            f"extra={extra!r}: expected a JSON object without {' or '.join(_RESERVED)}"
        )
    return json.dumps(values, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Immutable; sorted by key, so that the order of measuring never matters.

    Attributes:
        extra: JSON object, as text, of what else the file holds (fitted coefficients);
            its values are kept as they are when records are added.

    Raises:
        ProfileError: If two records share a key, or one has another number of parties.
    """

    deployment: Deployment
    records: tuple[Record, ...] = ()
    extra: str = "{}"
    _by_key: dict[RecordKey, Record] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        for record in self.records:
            if record.key in self._by_key:
                raise ProfileError(f"two records of {record.key}: expected one")
            if record.n_parties != self.deployment.n_parties:
                raise ProfileError(
                    f"record of {record.key} has {record.n_parties} ranks: expected "
                    f"{self.deployment.n_parties}, as {self.deployment.protocol} has"
                )
            self._by_key[record.key] = record
        ordered = tuple(sorted(self.records, key=lambda record: record.key))
        object.__setattr__(self, "records", ordered)
        object.__setattr__(self, "extra", _canonical(self.extra))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    @property
    def keys(self) -> frozenset[RecordKey]:
        """The keys on file: what a resumed sweep leaves out."""
        return frozenset(self._by_key)

    def get(self, key: RecordKey) -> Record:
        """The record of `key`.

        Raises:
            MissingEntryError: If it was not measured; nothing is interpolated here.
        """
        if key in self._by_key:
            return self._by_key[key]
        raise MissingEntryError(f"no record of {key}; {self._nearest(key)}")

    def _nearest(self, key: RecordKey) -> str:
        same_name = [r for r in self.records if r.workload == key.workload]
        if not same_name:
            names = sorted({r.workload for r in self.records})
            return did_you_mean(key.workload, names) if names else "0 records on file"
        same_case = [r for r in same_name if r.dims == key.dims]
        if same_case:
            measured = ", ".join(f"{r.network} {r.mode}" for r in same_case)
            return f"this case was measured on: {measured}"
        dims = sorted({r.dims for r in same_name})
        shown = "; ".join(str(d) for d in dims[:5])
        return f"{key.workload} was measured for {len(dims)} shapes: {shown}"

    def extended(self, records: tuple[Record, ...]) -> "Profile":
        """With `records` added.

        Raises:
            ProfileError: If one of their keys is there already.
        """
        return Profile(
            deployment=self.deployment,
            records=self.records + records,
            extra=self.extra,
        )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines that its records were measured on."""
        return tuple(sorted({record.host for record in self}))

    def call_s(self, record: Record) -> float:
        """Seconds of one call among many: the median of its repeats, or their mean.

        See `Deployment.typical_call`.
        """
        return self.deployment.typical_call(record.latencies_s)

    def filtered(self, workloads: tuple[str, ...]) -> "Profile":
        """Only the records of `workloads`; all of them if it is empty.

        Raises:
            MissingEntryError: If one of them was never measured.
        """
        names = sorted({r.workload for r in self.records})
        for name in workloads:
            if name not in names:
                hint = did_you_mean(name, names) if names else "0 records on file"
                raise MissingEntryError(f"no record of workload {name!r}; {hint}")
        kept = tuple(r for r in self if not workloads or r.workload in workloads)
        return Profile(deployment=self.deployment, records=kept, extra=self.extra)


def merge_profiles(first: Profile, *others: Profile) -> Profile:
    """All records of all profiles, whatever their order; equal duplicates count once.

    Extras are kept only if all agree: coefficients belong to the records they were
    fitted to.

    Raises:
        ProfileError: If deployments differ, or two different records share a key.
    """
    records: dict[RecordKey, Record] = {}
    for profile in (first, *others):
        difference = first.deployment.difference(profile.deployment)
        if difference:
            raise ProfileError(
                f"profiles of two deployments do not merge: {difference}"
            )
        for record in profile:
            if records.setdefault(record.key, record) != record:
                raise ProfileError(
                    f"two different records of {record.key} do not merge; "
                    "remove one, or measure again with --fresh"
                )
    extras = {profile.extra for profile in (first, *others)}
    return Profile(
        deployment=first.deployment,
        records=tuple(records.values()),
        extra=extras.pop() if len(extras) == 1 else "{}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDiff:
    """One case in two profiles.

    Attributes:
        a_latency_s: Of a call: see `Profile.call_s`.
        ratio: Latency in b over latency in a.
        is_slower: Ratio above 1 + tolerance.
        has_equal_bytes: Summed over ranks: exactly, or within the tolerance where calls
            differ by what they refill of a stock.
        has_equal_hops: Exactly if both were counted, else within half a hop or the
            tolerance: measured hops carry an error.
    """

    key: RecordKey
    a_latency_s: float
    b_latency_s: float
    ratio: float
    is_slower: bool
    has_equal_bytes: bool
    has_equal_hops: bool

    @property
    def is_regression(self) -> bool:
        """Slower, or other bytes, or other hops."""
        return self.is_slower or not (self.has_equal_bytes and self.has_equal_hops)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileDiff:
    """Two profiles case by case.

    Attributes:
        common: Cases in both.
        deployment: The first difference of their deployments in words, or None.
    """

    tolerance: float
    deployment: str | None
    common: tuple[RecordDiff, ...]
    only_a: tuple[RecordKey, ...]
    only_b: tuple[RecordKey, ...]

    @property
    def has_regressions(self) -> bool:
        """Whether a case in both got slower, or needs other bytes or hops."""
        return any(entry.is_regression for entry in self.common)

    @property
    def summary(self) -> str:
        """One line, or two where the deployments differ."""
        n_regressions = sum(entry.is_regression for entry in self.common)
        line = (
            f"{len(self.common)} cases in both, {n_regressions} regressions at "
            f"{100 * self.tolerance:.4g}% tolerance; {len(self.only_a)} only in a, "
            f"{len(self.only_b)} only in b"
        )
        return f"{line}\ndeployments: {self.deployment}" if self.deployment else line


def _has_equal_hops(a: Record, b: Record, tolerance: float) -> bool:
    if a.hops_basis == b.hops_basis == "counted":
        return a.hops == b.hops
    return abs(a.hops - b.hops) <= max(0.5, tolerance * a.hops)


def _has_like_bytes(a: Record, b: Record, tolerance: float) -> bool:
    difference = abs(a.mean_total_bytes_sent - b.mean_total_bytes_sent)
    return difference <= tolerance * a.mean_total_bytes_sent


def _diff_records(
    first: Profile, second: Profile, a: Record, tolerance: float
) -> RecordDiff:
    b = second.get(a.key)
    a_latency_s, b_latency_s = first.call_s(a), second.call_s(b)
    if first.deployment.keeps_stock:
        has_equal_bytes = _has_like_bytes(a, b, tolerance)
    else:
        has_equal_bytes = a.total_bytes_sent == b.total_bytes_sent
    ratio = b_latency_s / a_latency_s
    return RecordDiff(
        key=a.key,
        a_latency_s=a_latency_s,
        b_latency_s=b_latency_s,
        ratio=ratio,
        is_slower=ratio > 1 + tolerance,
        has_equal_bytes=has_equal_bytes,
        has_equal_hops=_has_equal_hops(a, b, tolerance),
    )


def diff_profiles(a: Profile, b: Profile, tolerance: float) -> ProfileDiff:
    """What became of the cases of `a` in `b`; tolerance 0.05 forgives 5 % latency.

    Raises:
        MissingEntryError: If they have no case in common: that is no comparison.
    """
    if (len(a) or len(b)) and not a.keys & b.keys:
        raise MissingEntryError(
            f"nothing to compare: none of the {len(a)} cases of one profile is among "
            f"the {len(b)} of the other"
        )
    return ProfileDiff(
        tolerance=tolerance,
        deployment=a.deployment.difference(b.deployment),
        common=tuple(
            _diff_records(a, b, record, tolerance) for record in a if record.key in b
        ),
        only_a=tuple(sorted(a.keys - b.keys)),
        only_b=tuple(sorted(b.keys - a.keys)),
    )
