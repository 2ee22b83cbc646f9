"""Profiles merged into one, and compared case by case."""

from collections.abc import Sequence
from dataclasses import dataclass

from mpcprof.errors import MissingEntryError, ProfileError
from mpcprof.profile.record import Profile, Record, RecordKey


def merge_profiles(first: Profile, *others: Profile) -> Profile:
    """Return all records of all profiles, in any order; equal duplicates count once.

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
        a_latency_s: Seconds of a typical call in a; see `Profile.call_s`.
        ratio: Latency in b over latency in a.
        is_slower: Whether the ratio is above 1 + tolerance.
        has_equal_bytes: Whether bytes summed over ranks are equal: exactly, or within
            the tolerance where calls differ by what they refill of a stock. Where
            the program differs from call to call, whether the ranges meet.
        has_equal_hops: Whether hops are equal: exactly if both were counted, else
            within half a hop or the tolerance, since measured hops carry an error;
            or whether the ranges meet, as for bytes.
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
        """Whether b is slower, or needs other bytes or other hops."""
        return self.is_slower or not (self.has_equal_bytes and self.has_equal_hops)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileDiff:
    """Two profiles case by case.

    Attributes:
        common: Cases in both.
        deployment: First difference of their deployments in words, or None.
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
        """One line for people, or two where the deployments differ."""
        n_regressions = sum(entry.is_regression for entry in self.common)
        line = (
            f"{len(self.common)} cases in both, {n_regressions} regressions at "
            f"{100 * self.tolerance:.4g}% tolerance; {len(self.only_a)} only in a, "
            f"{len(self.only_b)} only in b"
        )
        return f"{line}\ndeployments: {self.deployment}" if self.deployment else line


def _has_equal_hops(a: Record, b: Record, tolerance: float) -> bool:
    if a.differs_by_call or b.differs_by_call:
        of_a, of_b = (one.hops_by_repeat or (one.hops,) for one in (a, b))
        return _overlap(of_a, of_b, tolerance)
    if a.hops_basis == b.hops_basis == "counted":
        return a.hops == b.hops
    return abs(a.hops - b.hops) <= max(0.5, tolerance * a.hops)


def _overlap(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    """Tell whether ranges meet, as those of a program that differs by call do."""
    more = 1 + tolerance
    return min(a) <= max(b) * more and min(b) <= max(a) * more


def _has_like_bytes(a: Record, b: Record, tolerance: float) -> bool:
    difference = abs(a.mean_total_bytes_sent - b.mean_total_bytes_sent)
    return difference <= tolerance * a.mean_total_bytes_sent


def _diff_records(
    first: Profile, second: Profile, a: Record, tolerance: float
) -> RecordDiff:
    b = second.get(a.key)
    a_latency_s, b_latency_s = first.call_s(a), second.call_s(b)
    if a.differs_by_call or b.differs_by_call:
        has_equal_bytes = _overlap(
            a.total_bytes_sent_by_repeat, b.total_bytes_sent_by_repeat, tolerance
        )
    elif first.deployment.keeps_stock:
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
    """Compare `b` with `a` case by case; tolerance 0.05 forgives 5 % latency.

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
