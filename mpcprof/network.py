"""Networks between parties: a bandwidth in each direction and a round-trip time."""

import math
from dataclasses import dataclass

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.units import (
    format_bandwidth,
    format_duration,
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


def parse_network(text: str) -> Network:
    """Read `wan`, `lan`, `loopback`, `44MBps,40ms` or `unlimited,40ms`.

        >>> mpcprof.parse_network("44MBps,40ms").rtt_s
        0.04

    Raises:
        UnknownNameError: If a name without a comma is not a preset.
        UsageError: If a part is not acceptable, or there are not two parts.
    """
    known = {**NETWORKS, "loopback": LOOPBACK}
    if text.strip() in known:
        return known[text.strip()]
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and not parts[0][:1].isdigit():
        hint = did_you_mean(text, [*known])
        raise UnknownNameError(f"no network {text!r}; {hint}, or type 44MBps,40ms")
    if len(parts) != 2:
        raise UsageError(
            f"{text!r} is not a network; expected bandwidth and round-trip time, "
            "such as 44MBps,40ms"
        )
    return Network(
        bandwidth_bytes_per_s=(
            math.inf
            if parts[0] == _UNLIMITED
            else parse_bandwidth_bytes_per_s(parts[0])
        ),
        rtt_s=parse_duration_s(parts[1]),
    )
