"""The latency formula: compute, hops and bytes to seconds, and back.

    latency = exposed_s + max(hidden_s, hops x RTT/2 + wire_bytes / bandwidth)

`hidden_s` is 0 or small beside a wide-area network's part, which leaves

    latency = compute_s + hops x RTT/2 + wire_bytes / bandwidth.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from mpcprof.network import Network

Basis: TypeAlias = Literal["measured", "interpolated", "extrapolated"]
BASES: Final[tuple[Basis, ...]] = ("measured", "interpolated", "extrapolated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the loopback link of a host itself costs; see `docs/methodology.md`.

    Attributes:
        loopback_s_per_hop: Seconds of a loopback run per hop that an emulated run does
            not have beside RTT/2; below 0 where a party wakes up late from a long wait.
        loopback_s_per_byte: Seconds of a loopback run per wire byte that an emulated
            run spends inside the transfer; below 0 where it adds to the transfer.
    """

    loopback_s_per_hop: float
    loopback_s_per_byte: float

    def exposed_s(
        self, loopback_s: float, *, hidden_s: float, hops: float, wire_bytes: float
    ) -> float:
        """Return a loopback run's seconds net of its link and of `hidden_s`; >= 0."""
        link_s = hops * self.loopback_s_per_hop + wire_bytes * self.loopback_s_per_byte
        return max(loopback_s - link_s - hidden_s, 0.0)


def price_s(
    network: Network,
    *,
    hops: float,
    wire_bytes: float,
    exposed_s: float = 0.0,
    hidden_s: float = 0.0,
) -> float:
    """Return seconds: exposed_s + max(hidden_s, hops RTT/2 + wire_bytes / bandwidth).

    `wire_bytes` are those of the critical path: a full-duplex exchange is paid once.
    """
    transfer_s = wire_bytes / network.bandwidth_bytes_per_s
    return exposed_s + max(hidden_s, hops * network.one_way_s + transfer_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs of one step on any network, without what every call costs.

    Attributes:
        bytes_sent: Bytes that rank 0 sends.
        total_bytes_sent: Bytes sent, summed over ranks.
        wire_bytes: Bytes on the critical path, which the latency formula prices.
        hops: One-way messages on the critical path.
        exposed_s: Compute left after overlap with the network; negative if hops
            overestimate the waiting.
        hidden_s: Further compute, which a slow network hides.
        basis: Where the numbers come from.
        reach: Size over the largest measured size; above 1 if extrapolated.
    """

    bytes_sent: float = 0.0
    total_bytes_sent: float = 0.0
    wire_bytes: float = 0.0
    hops: float = 0.0
    exposed_s: float = 0.0
    hidden_s: float = 0.0
    basis: Basis = "measured"
    reach: float = 1.0

    @property
    def compute_s(self) -> float:
        """Seconds left on a network that costs nothing."""
        return self.exposed_s + self.hidden_s

    def latency_s(self, network: Network) -> float:
        """Return the seconds of the step on `network`."""
        return price_s(
            network,
            exposed_s=self.exposed_s,
            hidden_s=self.hidden_s,
            hops=self.hops,
            wire_bytes=self.wire_bytes,
        )

    def plus(self, more: "Costs") -> "Costs":
        """Return the costs with bytes, hops and compute of `more`; the basis stays."""
        return replace(
            self,
            bytes_sent=self.bytes_sent + more.bytes_sent,
            total_bytes_sent=self.total_bytes_sent + more.total_bytes_sent,
            wire_bytes=self.wire_bytes + more.wire_bytes,
            hops=self.hops + more.hops,
            exposed_s=self.exposed_s + more.exposed_s,
            hidden_s=self.hidden_s + more.hidden_s,
        )

    def minus(self, start: "Costs") -> "Costs":
        """Return the costs without the bytes and hops of `start`."""
        return replace(
            self,
            bytes_sent=self.bytes_sent - start.bytes_sent,
            total_bytes_sent=self.total_bytes_sent - start.total_bytes_sent,
            hops=self.hops - start.hops,
        )
