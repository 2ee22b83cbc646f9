"""The record: one workload, one network, by real parties; and the profile of many."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from statistics import fmean, median
from typing import TYPE_CHECKING

from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.errors import MissingEntryError, ProfileError, did_you_mean
from mpcprof.html import html_table
from mpcprof.network import Network
from mpcprof.profile.columns import (
    OPERATION_COLUMNS,
    ORDERED,
    STORED,
    Column,
    Emulation,
    HopsBasis,
    Kind,
    Level,
    Mode,
)
from mpcprof.units import format_duration

if TYPE_CHECKING:
    import pandas as pd

_RESERVED = ("schema_version", "deployment")  # the file's own, beside the extras


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line of SPU's own profile: all calls of one operation in one repeat.

    `columns.OPERATION_COLUMNS` says what each field means.
    """

    level: Level
    name: str
    count: int
    duration_s: float
    bytes_sent: int | None
    bytes_received: int | None
    send_actions: int | None
    recv_actions: int | None

    def __post_init__(self) -> None:
        for column in OPERATION_COLUMNS:
            column.check(getattr(self, column.name))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RecordKey:
    """The identity of a record within its profile."""

    workload: str
    dims: Dims
    network: Network
    mode: str

    def __str__(self) -> str:
        return f"{self.workload} [{self.dims}] on {self.network}, {self.mode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One workload on one network, measured in the deployment of its profile.

    `columns.COLUMNS` says what each field means, and in which unit.
    `compute_s` and its stored column leave out `hidden_s`.

        >>> record = mpcprof.read_profile("profiles/semi2k.parquet").records[0]
        >>> isinstance(record, mpcprof.Record), record.latency_s > 0, record.hops_basis
        (True, True, 'counted')

    Raises:
        ProfileError: If a value is outside its domain.
    """

    workload: str
    kind: Kind
    dims: Dims
    network: Network
    mode: Mode
    emulation: Emulation
    latencies_s: tuple[float, ...]
    warmups_s: tuple[float, ...]
    loopbacks_s: tuple[float, ...]
    compute_s: float
    hidden_s: float
    busy_s_by_rank: tuple[float, ...]
    loopback_s_per_hop: float
    loopback_s_per_byte: float
    compile_s: float
    first_call_s: float
    setup_s: float
    setup_bytes: int
    bytes_sent_by_rank: tuple[int, ...]
    bytes_received_by_rank: tuple[int, ...]
    send_actions_by_rank: tuple[int, ...]
    recv_actions_by_rank: tuple[int, ...]
    total_bytes_sent_by_repeat: tuple[int, ...]
    wire_bytes: float
    carried_bytes: int
    hops: float
    hops_basis: HopsBasis
    hops_by_repeat: tuple[float, ...] = ()
    drivers_s: tuple[float, ...] = ()
    max_abs_error: float
    operations: tuple[Operation, ...]
    seed: int
    host: str
    versions: str
    commit: str
    created_at: str

    def __post_init__(self) -> None:
        try:
            for column in STORED:
                if column.origin == "record":
                    column.check(getattr(self, column.name))
            self._check_emulation()
            self._check_ranks()
        except ProfileError as error:
            raise ProfileError(f"record of {self.workload}: {error}") from None

    def _check_emulation(self) -> None:
        is_unemulated = self.mode == "emulated" and self.emulation == "none"
        if is_unemulated and not self.network.is_loopback:
            raise ProfileError(
                f"mode='emulated' with emulation='none' on {self.network}: expected "
                "the back-end that emulated it"
            )

    def _check_ranks(self) -> None:
        lengths = {
            column.name: len(getattr(self, column.name))
            for column in STORED
            if column.name.endswith("_by_rank")
        }
        if len({*lengths.values()}) != 1 or self.n_parties < 2:
            raise ProfileError(
                f"counters of {lengths} ranks: expected the same, 2 or more"
            )

    @property
    def key(self) -> RecordKey:
        """The identity of this record within its profile."""
        return RecordKey(
            workload=self.workload, dims=self.dims, network=self.network, mode=self.mode
        )

    @property
    def n_parties(self) -> int:
        """Number of parties."""
        return len(self.bytes_sent_by_rank)

    @property
    def latency_s(self) -> float:
        """Median of the repeats, in seconds."""
        return median(self.latencies_s)

    @property
    def driver_s(self) -> float:
        """Median of the drivers' seconds; 0 where the parties have none."""
        return median(self.drivers_s or (0.0,))

    @property
    def bytes_sent(self) -> int:
        """Bytes that rank 0 sent in one repeat."""
        return self.bytes_sent_by_rank[0]

    @property
    def bytes_received(self) -> int:
        """Bytes that rank 0 received in one repeat."""
        return self.bytes_received_by_rank[0]

    @property
    def send_actions(self) -> int:
        """Messages that rank 0 sent in one repeat; equal to hops in semi2k only."""
        return self.send_actions_by_rank[0]

    @property
    def total_bytes_sent(self) -> int:
        """Bytes of one repeat, summed over ranks."""
        return sum(self.bytes_sent_by_rank)

    @property
    def differs_by_call(self) -> bool:
        """Whether the program is another one in each call, as where SPU selects."""
        return bool(self.hops_by_repeat)

    @property
    def mean_total_bytes_sent(self) -> float:
        """Bytes of a mean repeat, summed over ranks; some repeats refill a stock."""
        return fmean(self.total_bytes_sent_by_repeat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The records of one deployment, sorted: the order of measuring never matters.

        >>> profile = mpcprof.read_profile("profiles/semi2k.parquet")
        >>> isinstance(profile, mpcprof.Profile)
        True
        >>> {record.workload for record in profile.filtered(("exp",))}
        {'exp'}

    Attributes:
        extra: JSON object, as text, of all else in the file, such as fitted
            coefficients; it is kept as it is when records are added.

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
        """The keys on file, which a resumed sweep leaves out."""
        return frozenset(self._by_key)

    def get(self, key: RecordKey) -> Record:
        """Return the record of `key`.

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
        """Return this profile with `records` added.

        Raises:
            ProfileError: If one of their keys is there already.
        """
        return Profile(
            deployment=self.deployment, records=self.records + records, extra=self.extra
        )

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines on which the records were measured."""
        return tuple(sorted({record.host for record in self}))

    def call_s(self, record: Record) -> float:
        """Return the seconds of a typical call: the median or the mean of its repeats.

        See `Deployment.typical_call`.
        """
        return self.deployment.typical_call(record.latencies_s)

    def rows(self, columns: Iterable[Column]) -> Iterator[dict[str, object]]:
        """Yield one row of plain values per record; None for an absent dimension."""
        for record in self:
            owners = {
                "dims": record.dims,
                "network": record.network,
                "deployment": self.deployment,
            }
            yield {
                column.name: _plain(owners.get(column.origin, record), column)
                for column in columns
            }

    def to_frame(self) -> "pd.DataFrame":
        """Return a DataFrame with a row for each record; columns as in the schema.

        >>> frame = mpcprof.read_profile("profiles/semi2k.parquet").to_frame()
        >>> bool(frame[frame.workload == "exp"].latency_s.min() > 0)
        True
        """
        import pandas as pd

        return pd.DataFrame([*self.rows(ORDERED)])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the deployment, and a row for each workload."""
        groups: dict[str, list[Record]] = {}
        for record in self:
            groups.setdefault(record.workload, []).append(record)
        rows = [
            (
                name,
                str(len(group)),
                ", ".join(sorted({str(record.network) for record in group})),
                *(
                    format_duration(end(r.latency_s for r in group), digits=3)
                    for end in (min, max)
                ),
            )
            for name, group in groups.items()
        ]
        header = ("workload", "records", "networks", "quickest", "slowest")
        about = f"{self.deployment}, {len(self)} records of {'; '.join(self.hosts)}"
        return f"<p><b>{escape(about)}</b></p>\n{html_table(header, rows)}"

    def filtered(self, workloads: tuple[str, ...]) -> "Profile":
        """Return only the records of `workloads`; all of them if it is empty.

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


def _canonical(extra: str) -> str:
    """Return the JSON object with sorted keys, so that equal objects are equal text."""
    try:
        values = json.loads(extra)
    except ValueError:
        values = None
    if not isinstance(values, dict) or any(name in values for name in _RESERVED):
        raise ProfileError(
            f"extra={extra!r}: expected a JSON object without {' or '.join(_RESERVED)}"
        )
    return json.dumps(values, sort_keys=True)


def _plain(owner: object, column: Column) -> object:
    value = getattr(owner, column.name)
    if column.origin == "dims":
        return value or None
    if column.type == "list of struct":
        names = [one.name for one in OPERATION_COLUMNS]
        return [{name: getattr(one, name) for name in names} for one in value]
    return [*value] if isinstance(value, tuple) else value
