"""The latency formula: compute, hops and bytes to seconds, and back.

    latency = compute_s + max(hidden_s, hops x RTT/2 + wire_bytes / bandwidth)

`hidden_s` is 0 or small beside a wide-area network's part, which leaves

    latency = compute_s + hops x RTT/2 + wire_bytes / bandwidth.
"""

from dataclasses import dataclass

from mpcprof.network import Network


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

    def compute_s(
        self, loopback_s: float, *, hidden_s: float, hops: float, wire_bytes: float
    ) -> float:
        """Loopback time net of its link and of what a slow network hides; >= 0."""
        link_s = hops * self.loopback_s_per_hop + wire_bytes * self.loopback_s_per_byte
        return max(loopback_s - link_s - hidden_s, 0.0)


def price_s(
    network: Network,
    *,
    compute_s: float,
    hops: float,
    wire_bytes: float,
    hidden_s: float = 0.0,
) -> float:
    """Seconds on `network`: compute_s + max(hidden_s, hops RTT/2 + bytes/bandwidth).

    `wire_bytes` are those of the critical path: a full-duplex exchange is paid once.
    """
    transfer_s = wire_bytes / network.bandwidth_bytes_per_s
    return compute_s + max(hidden_s, hops * network.one_way_s + transfer_s)
