"""Networks between parties: a bandwidth in each direction and a round-trip time."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.units import (
    format_bandwidth,
    format_duration,
    is_duration,
    parse_bandwidth_bytes_per_s,
    parse_duration_s,
)

_UNLIMITED = "unlimited"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Network:
    """A link between each pair of parties, the same in both directions.

        >>> str(mpcprof.Network(bandwidth_bytes_per_s=44e6, rtt_s=0.04))
        '44MBps,40ms'

    Attributes:
        bandwidth_bytes_per_s: Rate of each direction by itself; infinite if unlimited.
        rtt_s: Seconds of a round trip; a message takes half of it.

    Raises:
        UsageError: If the bandwidth is not above 0 or the round trip is below 0.
    """

    bandwidth_bytes_per_s: float
    rtt_s: float

    def __post_init__(self) -> None:
        if not self.bandwidth_bytes_per_s > 0:  # refuses NaN too
            raise UsageError(
                f"bandwidth_bytes_per_s={self.bandwidth_bytes_per_s}: "
                "expected more than 0, such as 44MBps"
            )
        if not 0 <= self.rtt_s < math.inf:
            raise UsageError(
                f"rtt_s={self.rtt_s}: expected a finite time of at least 0, "
                "such as 40ms"
            )

    @property
    def one_way_s(self) -> float:
        """RTT / 2 in seconds: the cost of a hop before its bytes."""
        return self.rtt_s / 2

    @property
    def is_loopback(self) -> bool:
        """Whether nothing is emulated."""
        return self == LOOPBACK

    def __str__(self) -> str:
        if self.is_loopback:
            return "loopback"
        if math.isinf(self.bandwidth_bytes_per_s):
            bandwidth = _UNLIMITED
        else:
            bandwidth = format_bandwidth(self.bandwidth_bytes_per_s)
        return f"{bandwidth},{format_duration(self.rtt_s)}"


LOOPBACK = Network(bandwidth_bytes_per_s=math.inf, rtt_s=0.0)
NETWORKS = {
    # the paper's wide-area network, after Cheetah
    "wan": Network(bandwidth_bytes_per_s=44e6, rtt_s=0.040),
    "lan": Network(bandwidth_bytes_per_s=384e6, rtt_s=0.0003),
}


_WAY = r"one[ -]?way|each way|both ways|up(?:load|link)?|down(?:load|link)?"
_NAME = r"rtt|round[ -]?trip|ping|delay|latency|rate|bandwidth"
_NUMBER = r"[\d.]+(?:e[+-]?\d+)?"
_UNIT = rf"(?!(?:{_WAY}|{_NAME})\b)[^\s\d,;/=:]*(?:/s(?:ec)?\b)?"
_VALUE = rf"unlimited|{_NUMBER}\s*{_UNIT}"
_PART = re.compile(  # `rtt 40ms` or `40ms rtt`
    rf"(?:(?P<before>{_WAY}|{_NAME})[\s=:]*(?P<after_it>{_VALUE})"
    rf"|(?P<value>{_VALUE})\s*(?P<after>(?:{_WAY})\b|(?:{_NAME})\b(?![\s=:]*\d))?)"
    r"\s*(?:[,;/]\s*)?",
    re.IGNORECASE,
)
_SHARED_UNIT = re.compile(rf"({_NUMBER})\s*/\s*(?={_NUMBER}\s*([^\s\d,;/]+))", re.I)
_LABELS_OF_DURATIONS = ("rtt", "round trip", "roundtrip", "ping", "delay", "latency")
_ONE_WAY = ("one way", "each way")
_EXPECTED = "expected bandwidth and round-trip time, such as 44MBps,40ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A bandwidth or a duration as typed, and what the words beside it say."""

    text: str
    label: str

    @property
    def is_duration(self) -> bool:
        """Whether it is a time; else it is a bandwidth."""
        return is_duration(self.text)


def parse_network(text: str) -> Network:
    """Read `wan`, `lan`, `loopback`, `44MBps,40ms`, `0.5ms 1Gbit` or `unlimited,40ms`.

    Or FILE.json of `mpcprof link`, with a measured network.

        >>> mpcprof.parse_network("44MBps,40ms").rtt_s
        0.04

    A duration is a round trip, unless `one way` stands beside it.

    Raises:
        UnknownNameError: If a name without a comma is not a preset.
        UsageError: If a part is not acceptable or may mean two things, or there are not
            two parts.
    """
    known = {**NETWORKS, "loopback": LOOPBACK}
    name = text.strip().casefold()
    if name in known:
        return known[name]
    if name.endswith(".json"):
        return read_network(Path(text.strip()))
    if not any(letter.isdigit() for letter in text) and _UNLIMITED not in name:
        hint = did_you_mean(name, [*known])
        raise UnknownNameError(f"no network {text!r}; {hint}, or type 44MBps,40ms")
    rates, durations = _sort(_split(text), text)
    return Network(
        bandwidth_bytes_per_s=_bandwidth_bytes_per_s(rates, durations, text),
        rtt_s=_rtt_s(durations, text),
    )


def read_network(path: Path) -> Network:
    """Read a network from a file that `mpcprof link` wrote.

    Raises:
        UsageError: If there is none in it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Network(
            bandwidth_bytes_per_s=float(values["bandwidth_bytes_per_s"]),
            rtt_s=float(values["rtt_s"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error} in it"
        raise UsageError(
            f"{str(path)!r} is no measured network: {reason}; expected a file of "
            "`mpcprof link`"
        ) from None


def _split(text: str) -> list[_Part]:
    """Return the parts of a network.

    Raises:
        UsageError: If there is something else in it.
    """
    left = _SHARED_UNIT.sub(r"\1\2 / ", text.strip())  # 100/20Mbps
    parts = []
    while left:
        match = _PART.match(left)
        if match is None:
            raise UsageError(f"{text!r} is not a network; {_EXPECTED}")
        label = (match["before"] or match["after"] or "").lower().replace("-", " ")
        typed = (match["value"] or match["after_it"]).strip()
        parts.append(_Part(text=typed, label=label))
        left = left[match.end() :]
    return parts


def _sort(parts: list[_Part], text: str) -> tuple[list[_Part], list[_Part]]:
    """Return the bandwidths and the durations; a number without a unit is refused.

    Raises:
        UsageError: If one of the two is absent, or there is too much.
    """
    bare = [part for part in parts if part.text[-1] in "0123456789."]
    united = [part for part in parts if part not in bare]
    durations = [part for part in united if part.is_duration]
    rates = [part for part in united if not part.is_duration]
    if len(parts) == 2 and len(bare) == 1:  # their message says which units there are
        (parse_bandwidth_bytes_per_s if durations else parse_duration_s)(bare[0].text)
    if bare or not 0 < len(rates) <= 2 or not 0 < len(durations) <= 2:
        raise UsageError(f"{text!r} is not a network; {_EXPECTED}")
    wrong = [part for part in rates if part.label in _LABELS_OF_DURATIONS]
    wrong += [part for part in durations if part.label in ("rate", "bandwidth")]
    for part in wrong:
        raise UsageError(
            f"{text!r}: {part.label} stands beside {part.text}; {_EXPECTED}"
        )
    return rates, durations


def _bandwidth_bytes_per_s(
    rates: list[_Part], durations: list[_Part], text: str
) -> float:
    values = [
        math.inf
        if rate.text.casefold() == _UNLIMITED
        else parse_bandwidth_bytes_per_s(rate.text)
        for rate in rates
    ]
    if len(set(values)) > 1:
        slower = rates[values.index(min(values))].text
        raise UsageError(
            f"{text!r}: a network here is the same in both directions, and a round of "
            "a protocol, which uses both, waits for the slower one; type "
            f"{slower},{durations[0].text}"
        )
    if len(rates) == 1 and _is_one_direction(rates[0]):
        raise UsageError(
            f"{text!r} has the bandwidth of one direction; type {rates[0].text},"
            f"{durations[0].text} if the other one has no less"
        )
    return values[0]


def _rtt_s(durations: list[_Part], text: str) -> float:
    values_s = [parse_duration_s(duration.text) for duration in durations]
    first, first_s = durations[0], values_s[0]
    if len(values_s) == 2:
        if first_s == values_s[1] and all(map(_is_one_direction, durations)):
            return 2 * first_s
        raise UsageError(
            f"{text!r} has two durations; type the round trip alone: their sum, "
            f"{format_duration(sum(values_s), digits=6)}, if each is one way"
        )
    if first.label in ("delay", "latency", "both ways") or _is_one_direction(first):
        raise UsageError(
            f"{text!r}: {first.text} may be a round trip ({first.text} rtt) or one way "
            f"({first.text} one way, a round trip of {format_duration(2 * first_s)}); "
            "type one of them"
        )
    return 2 * first_s if first.label in _ONE_WAY else first_s


def _is_one_direction(part: _Part) -> bool:
    return part.label.startswith(("up", "down"))
