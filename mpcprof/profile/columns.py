"""The columns of a profile: one table for the file, the checks, exports and the docs.

A new column is a new entry here, and a field of `Record` where it is stored.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, TypeAlias, get_args

from mpcprof.dims import DIM_NAMES
from mpcprof.errors import ProfileError

Level = Literal["pphlo", "hal", "mpc"]
Kind = Literal["primitive", "block", "model", "function", "steps"]
Mode = Literal["emulated", "priced"]
Emulation = Literal["relay", "tun", "netem", "hosts", "none"]
HopsBasis = Literal["counted", "measured"]
ColumnType = Literal[
    "string", "int64", "double", "list of int64", "list of double", "list of struct"
]
# Where a value comes from; "computed" and "deployment" are shown and never stored.
Origin = Literal["record", "dims", "network", "computed", "deployment"]
Check: TypeAlias = Callable[[str, object], None]

LARGEST_COUNT: Final = 2**63 - 1  # what a parquet column holds


def check_count(name: str, value: object) -> None:
    """Refuse what is no whole number of at least 0."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    if not (is_int and 0 <= value <= LARGEST_COUNT):  # type: ignore[operator]
        raise ProfileError(f"{name}={value!r}: expected a whole number of at least 0")


def check_number(name: str, value: object) -> None:
    """Refuse what is no finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value)):  # type: ignore[arg-type]
        raise ProfileError(f"{name}={value!r}: expected a finite number")


def check_quantity(name: str, value: object) -> None:
    """Refuse what is no finite number of at least 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and 0 <= value < math.inf):  # type: ignore[operator]
        raise ProfileError(f"{name}={value!r}: expected a finite number of at least 0")


def one_of(*choices: str) -> Check:
    """Return a check that refuses all but `choices`."""

    def check(name: str, value: object) -> None:
        if value not in choices:
            known = ", ".join(choices)
            raise ProfileError(f"{name}={value!r}: expected one of {known}")

    return check


def or_none(check: Check) -> Check:
    """Return a check that allows None besides what `check` allows."""
    return lambda name, value: None if value is None else check(name, value)


def each(check: Check) -> Check:
    """Return a check of every entry of a tuple."""

    def check_each(name: str, values: object) -> None:
        if not isinstance(values, tuple):
            raise ProfileError(f"{name}={values!r}: expected a tuple")
        for i, value in enumerate(values):
            check(f"{name}[{i}]", value)

    return check_each


def _check_repeats(name: str, values: object) -> None:
    each(check_quantity)(name, values)
    if not values or min(values) <= 0:  # type: ignore[call-overload]
        raise ProfileError(f"{name}={values}: expected at least one, each above 0")


def _check_name(name: str, value: object) -> None:
    if not value:
        raise ProfileError(f"{name}={value!r}: expected the name of a workload")


def _check_versions(name: str, value: object) -> None:
    try:
        is_object = isinstance(json.loads(value), dict)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        is_object = False
    if not is_object:
        raise ProfileError(f"{name}={value!r}: expected JSON text, package to version")


def _check_utc(name: str, value: object) -> None:
    try:
        offset = datetime.fromisoformat(value).utcoffset()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        offset = None
    if offset != timedelta(0):
        raise ProfileError(
            f"{name}={value!r}: expected ISO 8601 in UTC, "
            "such as 2026-01-31T12:00:00+00:00"
        )


def _accept(name: str, value: object) -> None:
    """Accept a value that another type checks, or any text."""


_CHECKS: Final[dict[str, Check]] = {
    "int64": check_count,
    "double": check_quantity,
    "list of int64": each(check_count),
    "list of double": each(check_quantity),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a profile.

    Attributes:
        name: Name in the file, and of the attribute of `Record` or of `origin`.
        unit: Unit of its numbers; empty for text.
        meaning: What the value says, in Markdown.
        rule: Check of a value of a record; by default that of its type: whole numbers
            and quantities of at least 0.
        since: Schema version that brought it; empty in older files.
    """

    name: str
    type: ColumnType
    unit: str = ""
    meaning: str
    origin: Origin = "record"
    rule: Check | None = None
    since: int = 1

    @property
    def is_stored(self) -> bool:
        """Whether the file has the column; the others are made when shown."""
        return self.origin in ("record", "dims", "network")

    def check(self, value: object) -> None:
        """Refuse a value outside the column's domain.

        Raises:
            ProfileError: If it is; the message names the column.
        """
        rule = self.rule or _CHECKS.get(self.type, _accept)
        rule(self.name, value)


def _column(
    type_: ColumnType,
    unit: str,
    name: str,
    meaning: str,
    rule: Check | None = None,
    origin: Origin = "record",
    since: int = 1,
) -> Column:
    return Column(
        name=name,
        type=type_,
        unit=unit,
        meaning=meaning,
        rule=rule,
        origin=origin,
        since=since,
    )


def _choice(name: str, meaning: str, *choices: str) -> Column:
    known = ", ".join(f"`{choice}`" for choice in choices)
    return _text(name, f"{meaning}: {known}", one_of(*choices))


_added = partial(_column, since=2)
_text = partial(_column, "string", "")
_count, _counts = (partial(_column, t, "") for t in ("int64", "list of int64"))
_bytes, _each_bytes = (partial(_column, t, "B") for t in ("int64", "list of int64"))
_time, _times = (partial(_column, t, "s") for t in ("double", "list of double"))
_number = partial(_column, "double", "")

_NO_DIM = "size; null if the workload has no such dimension"
_CALIBRATION = "constant of the host, used for `compute_s`; may be below 0"
COLUMNS: Final = (
    _text(
        "workload",
        "registered name, or `module:function(shapes)` for a function of yours",
        _check_name,
    ),
    _choice("kind", "sort of workload", *get_args(Kind)),
    *(_count(name, _NO_DIM, origin="dims") for name in DIM_NAMES),
    _column(
        *("double", "B/s", "bandwidth_bytes_per_s"),
        "bandwidth of each direction; infinite if not limited",
        origin="network",
    ),
    _time("rtt_s", "round trip", origin="network"),
    _choice("mode", "delays waited for, or added by formula", *get_args(Mode)),
    _choice(
        "emulation",
        "back-end of the network (`hosts`: a real network)",
        *get_args(Emulation),
    ),
    _times("latencies_s", "wall time of each repeat, no warm-ups", _check_repeats),
    _times("warmups_s", "wall time of each untimed call after the first"),
    _times("loopbacks_s", "wall time of each call on loopback"),
    _time(
        "compute_s",
        "compute that a slow network does not hide: loopback time minus "
        "`loopback_s_per_hop` x hops, `loopback_s_per_byte` x bytes and `hidden_s`",
    ),
    _time(
        "hidden_s",
        "further compute, by one party while a message of its peer travels; it counts "
        "only where messages are faster",
    ),
    _times("busy_s_by_rank", "processor time of each party in one loopback call"),
    _time("loopback_s_per_hop", _CALIBRATION, check_number),
    _column("double", "s/B", "loopback_s_per_byte", _CALIBRATION, check_number),
    _time("compile_s", "compilation from JAX to SPU's executable"),
    _time("first_call_s", "the first call of this case, cold"),
    _time("setup_s", "connecting, base OT and keys; not part of any other number"),
    _bytes("setup_bytes", "bytes sent for the set-up, summed over parties"),
    _each_bytes("bytes_sent_by_rank", "payload that a party sent in one repeat"),
    _each_bytes("bytes_received_by_rank", "payload that a party received"),
    _counts("send_actions_by_rank", "messages that a party sent; not hops"),
    _counts("recv_actions_by_rank", "messages that a party received in one repeat"),
    _each_bytes("total_bytes_sent_by_repeat", "payload, summed over parties"),
    _column(
        *("double", "B", "wire_bytes"),
        "bytes on the critical path, which the latency formula prices: SPU's count in "
        "semi2k, whose exchanges are symmetric, otherwise seen on the wire",
    ),
    _bytes(
        "carried_bytes",
        "all bytes that the relay carried in one repeat, framing included; 0 for other "
        "back-ends. In Cheetah a refill of oblivious transfers sends many small "
        "messages, and this is twice SPU's count",
    ),
    _number("hops", "one-way messages on the critical path"),
    _choice("hops_basis", "SPU's count, or seen on the wire", *get_args(HopsBasis)),
    _added(
        *("list of double", "", "hops_by_repeat"),
        "hops of each repeat if the program differs from call to call, as when SPU "
        "selects at random; `hops`, bytes and messages are then those of the median "
        "call. Empty if all calls do the same",
    ),
    _column(
        *("list of double", "s", "drivers_s"),
        "seconds that a program around SPU took in each repeat, beside the latency: "
        "SecretFlow compiles and sends the function in each call. Empty if the parties "
        "run SPU alone",
        since=3,
    ),
    _number("max_abs_error", "largest error against the float64 reference"),
    _column("list of struct", "", "operations", "SPU's own split of one repeat"),
    _count("seed", "seed of the inputs"),
    _text("host", "machine on which it was measured; `compute_s` holds for it"),
    _text("versions", "JSON object, package to version", _check_versions),
    _text("commit", "commit of mpcprof"),
    _text("created_at", "time in ISO 8601, UTC", _check_utc),
    _time("latency_s", "median of `latencies_s`", origin="computed"),
    _bytes("bytes_sent", "payload that rank 0 sent in one repeat", origin="computed"),
    _bytes("bytes_received", "payload that rank 0 received", origin="computed"),
    _count(
        "send_actions",
        "messages that rank 0 sent in one repeat; equal to hops in semi2k only",
        origin="computed",
    ),
    _bytes("total_bytes_sent", "payload, summed over parties", origin="computed"),
    _text("protocol", "protocol of SPU, or crypten", origin="deployment"),
    _text("runtime", "build of SPU, of SecretFlow or of CrypTen", origin="deployment"),
    _count("field_bits", "width of the ring in bits", origin="deployment"),
    _count("fraction_bits", "fraction bits of fixed point", origin="deployment"),
    _text("options", "JSON object: options unlike the defaults", origin="deployment"),
    _text("beaver", "type of the beaver triples", origin="deployment"),
)
STORED: Final = tuple(column for column in COLUMNS if column.is_stored)
_FIRST: Final = (
    *("workload", "kind", "n_batch", "n_heads", "n_tokens", "head_dim", "width"),
    *("hidden", "bandwidth_bytes_per_s", "rtt_s", "mode", "emulation", "latency_s"),
    *("latencies_s", "warmups_s", "compute_s", "bytes_sent", "bytes_received"),
    *("send_actions", "hops", "setup_s", "protocol", "runtime", "field_bits"),
    *("fraction_bits", "options", "beaver", "host", "created_at"),
)
_BY_NAME: Final = {column.name: column for column in COLUMNS}
# as tables show them: those that a reader looks for first, then the rest
LEADING: Final = tuple(_BY_NAME[name] for name in _FIRST)
ORDERED: Final = tuple(dict.fromkeys((*LEADING, *COLUMNS)))

_or_null = or_none(check_count)
# what rank 0 saw; null where the build does not print it
OPERATION_COLUMNS: Final = (
    _choice("level", "views of the same time, not to be added", *get_args(Level)),
    _text("name", "the operation, by SPU's name"),
    _count("count", "calls"),
    _time("duration_s", "seconds of all calls together, as rank 0 saw them"),
    _bytes("bytes_sent", "payload that rank 0 sent, or null", _or_null),
    _bytes("bytes_received", "payload that rank 0 received, or null", _or_null),
    _count("send_actions", "messages that rank 0 sent, or null", _or_null),
    _count("recv_actions", "messages that rank 0 received, or null", _or_null),
)
