"""The record: one workload, one network, by real parties; and the profile of many."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from statistics import fmean, median
from typing import Literal, get_args

from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.errors import MissingEntryError, ProfileError, did_you_mean
from mpcprof.network import Network

Level = Literal["pphlo", "hal", "mpc"]
Kind = Literal["primitive", "block", "model", "function", "steps"]
Mode = Literal["emulated", "priced"]
Emulation = Literal["relay", "tun", "netem", "none"]
HopsBasis = Literal["counted", "measured"]
_SIGNED = ("loopback_s_per_hop", "loopback_s_per_byte")
_RESERVED = ("schema_version", "deployment")  # the file's own, beside the extras
_INT64_MAX = 2**63 - 1  # what a parquet column holds


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ProfileError(f"{name}={value!r}: expected one of {', '.join(choices)}")


def _check_count(name: str, value: object) -> None:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not (is_int and 0 <= value <= _INT64_MAX):  # type: ignore[operator]
        raise ProfileError(f"{name}={value!r}: expected a whole number of at least 0")


def _check_number(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value)):  # type: ignore[arg-type]
        raise ProfileError(f"{name}={value!r}: expected a finite number")


def _check_quantity(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 <= value < math.inf):  # type: ignore[operator]
        raise ProfileError(f"{name}={value!r}: expected a finite number of at least 0")


def _check_each(
    name: str, values: object, check: Callable[[str, object], None]
) -> None:
    if not isinstance(values, tuple):
        raise ProfileError(f"{name}={values!r}: expected a tuple")
    for i, value in enumerate(values):
        check(f"{name}[{i}]", value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line of SPU's own profile: all calls of one operation in one repeat.

    Attributes:
        count: Calls.
        duration_s: Seconds in all calls together, as rank 0 saw them.
        bytes_sent: By rank 0; None where the build does not print it, like the rest.
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
        _check_choice("level", self.level, get_args(Level))
        _check_count("count", self.count)
        _check_quantity("duration_s", self.duration_s)
        for name in ("bytes_sent", "bytes_received", "send_actions", "recv_actions"):
            value = getattr(self, name)
            if value is not None:
                _check_count(name, value)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RecordKey:
    """What tells the records of one profile apart."""

    workload: str
    dims: Dims
    network: Network
    mode: str

    def __str__(self) -> str:
        return f"{self.workload} [{self.dims}] on {self.network}, {self.mode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One workload on one network. Its deployment is the profile's.

    Attributes:
        latencies_s: Wall time of each repeat, warm-ups excluded.
        warmups_s: Wall time of the calls that came before.
        loopbacks_s: Wall time of the same case on the link that nothing slows down.
        compute_s: What is left on a network that costs nothing: loopback time net of
            loopback_s_per_hop x hops + loopback_s_per_byte x bytes.
        hidden_s: More compute, of one party before it sends, that goes on while a
            message of its peer travels; paid where messages are faster than that.
        busy_s_by_rank: Processor time of each party in one loopback call.
        loopback_s_per_hop: The host's calibration that compute_s was made with; may be
            below 0.
        loopback_s_per_byte: Likewise.
        compile_s: Source to SPU's own form.
        first_call_s: The first call of this case, cold.
        setup_s: Connect, base OT and keys; in no other number.
        setup_bytes: Sent for that, summed over parties.
        bytes_sent_by_rank: One repeat, as are the other counters by rank.
        total_bytes_sent_by_repeat: Summed over ranks.
        wire_bytes: On the critical path: what the latency formula prices. Counted by
            SPU in semi2k, where an exchange is symmetric; else seen on the wire.
        carried_bytes: All that the relay carried in one repeat, framing included; 0
            where another back-end emulated. More than SPU counts in Cheetah, whose
            oblivious transfers bypass the counters.
        hops: One-way messages on the critical path.
        hops_basis: `counted` by SPU, or `measured` from two or more delays.
        max_abs_error: Of the revealed output against the float64 reference.
        versions: JSON text, package to version.
        created_at: ISO 8601 with the offset of UTC.

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
    max_abs_error: float
    operations: tuple[Operation, ...]
    seed: int
    host: str
    versions: str
    commit: str
    created_at: str

    def __post_init__(self) -> None:
        if not self.workload:
            raise ProfileError("workload='': expected the name of a workload")
        try:
            _check_choices(self)
            _check_numbers(self)
            _check_lengths(self)
            _check_provenance(self)
        except ProfileError as error:
            raise ProfileError(f"record of {self.workload}: {error}") from None

    @property
    def key(self) -> RecordKey:
        """What no two records of a profile share."""
        return RecordKey(
            workload=self.workload,
            dims=self.dims,
            network=self.network,
            mode=self.mode,
        )

    @property
    def n_parties(self) -> int:
        """How many ranks the counters are of."""
        return len(self.bytes_sent_by_rank)

    @property
    def latency_s(self) -> float:
        """Median of the repeats."""
        return median(self.latencies_s)

    @property
    def bytes_sent(self) -> int:
        """By rank 0 in one repeat."""
        return self.bytes_sent_by_rank[0]

    @property
    def bytes_received(self) -> int:
        """By rank 0 in one repeat."""
        return self.bytes_received_by_rank[0]

    @property
    def send_actions(self) -> int:
        """Messages that rank 0 sent in one repeat; hops in semi2k only."""
        return self.send_actions_by_rank[0]

    @property
    def total_bytes_sent(self) -> int:
        """Summed over ranks, one repeat."""
        return sum(self.bytes_sent_by_rank)

    @property
    def mean_total_bytes_sent(self) -> float:
        """Summed over ranks; differs from one repeat's where stocks are refilled."""
        return fmean(self.total_bytes_sent_by_repeat)


def _check_choices(record: Record) -> None:
    for name, literal in (
        ("kind", Kind),
        ("mode", Mode),
        ("emulation", Emulation),
        ("hops_basis", HopsBasis),
    ):
        _check_choice(name, getattr(record, name), get_args(literal))
    is_unemulated = record.mode == "emulated" and record.emulation == "none"
    if is_unemulated and not record.network.is_loopback:
        raise ProfileError(
            f"mode='emulated' with emulation='none' on {record.network}: expected the "
            "back-end that emulated it"
        )


def _check_numbers(record: Record) -> None:
    for one in fields(record):
        value = getattr(record, one.name)
        if one.name in _SIGNED:
            _check_number(one.name, value)
        elif one.type is float:
            _check_quantity(one.name, value)
        elif one.type is int:
            _check_count(one.name, value)
        elif one.type == tuple[float, ...]:
            _check_each(one.name, value, _check_quantity)
        elif one.type == tuple[int, ...]:
            _check_each(one.name, value, _check_count)
    if not record.latencies_s or min(record.latencies_s) <= 0:
        raise ProfileError(
            f"latencies_s={record.latencies_s}: expected at least one, each above 0"
        )


def _check_lengths(record: Record) -> None:
    lengths = {
        name: len(getattr(record, name))
        for name in (field.name for field in fields(record))
        if name.endswith("_by_rank")
    }
    if len({*lengths.values()}) != 1 or record.n_parties < 2:
        raise ProfileError(f"counters of {lengths} ranks: expected the same, 2 or more")


def _check_provenance(record: Record) -> None:
    try:
        is_object = isinstance(json.loads(record.versions), dict)
    except (TypeError, ValueError):
        is_object = False
    if not is_object:
        raise ProfileError(
            f"versions={record.versions!r}: expected JSON text, package to version"
        )
    try:
        offset = datetime.fromisoformat(record.created_at).utcoffset()
    except (TypeError, ValueError):
        offset = None
    if offset != timedelta(0):
        raise ProfileError(
            f"created_at={record.created_at!r}: expected ISO 8601 in UTC, "
            "such as 2026-01-31T12:00:00+00:00"
        )


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
