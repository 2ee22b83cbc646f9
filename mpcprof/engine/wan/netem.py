"""The kernel's netem as an emulation back-end: one veth pair between any two parties.

Both ends of a pair delay and slow what leaves them, so each ordered pair has its own
line. A party has one address, on its loopback; routes say which pair leads to whom, and
neighbours are entered by hand, so that no ARP request waits on a slow line.

netem counts what is on the wire, Ethernet header included. Its rate is set to
`bandwidth * 1514 / 1448` for full segments at MTU 1500 with time stamps, so that
`bandwidth_bytes_per_s` is goodput, as in the other back-ends.

The queue has room for a delay-bandwidth product and 64 MiB beyond, counted in full
segments. Changing the network leaves packets that are under way on their old schedule.

`shaper="tbf"` takes a token bucket in place of netem: the rate without the delay. It is
there to test all the rest on a kernel without netem.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from mpcprof.engine.wan.holder import NamespaceEmulation
from mpcprof.errors import LinkError

ShaperName = Literal["netem", "tbf"]

MTU_BYTES = 1500
SEGMENT_BYTES = 1448  # of payload: 20 IP, 20 TCP and 12 time stamps taken off
FRAME_BYTES = 1514
QUEUE_BYTES = 64 << 20
MOST_BYTES_PER_S = 2**32 - 1  # what the kernel's message has room for
_BURST_BYTES = 128 << 10  # of TBF: two segmentation-offload packets
_BURST_S = 0.001  # ... and a millisecond, so that its timer keeps up with any rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Veth:
    """The end of a veth pair that belongs to `rank` and leads to `peer`."""

    rank: int
    peer: int

    @property
    def device(self) -> str:
        """Its name in the namespace of `rank`."""
        return f"to{self.peer}"

    @property
    def mac(self) -> str:
        """Its Ethernet address, known to both ends beforehand."""
        return f"02:00:00:00:{self.rank:02x}:{self.peer:02x}"

    @property
    def other_end(self) -> "Veth":
        """The end that `peer` has."""
        return Veth(rank=self.peer, peer=self.rank)


@dataclass(frozen=True, slots=True, kw_only=True)
class Qdisc:
    """What one end of a pair does to what leaves it, in netem's terms.

    Attributes:
        delay_us: One way, in microseconds, netlink's unit in pyroute2.
        rate_bytes_per_s: On the wire; 0 is unlimited.
        limit_packets: Queue, in packets.
    """

    delay_us: int
    rate_bytes_per_s: int
    limit_packets: int

    @property
    def netem(self) -> dict[str, int]:
        """Options of netem in pyroute2's words."""
        return {
            "delay": self.delay_us,
            "rate": self.rate_bytes_per_s,
            "limit": self.limit_packets,
        }

    @property
    def tbf(self) -> dict[str, int]:
        """Options of a token bucket of the same rate."""
        rate = self.rate_bytes_per_s or MOST_BYTES_PER_S
        return {
            "rate": rate,
            "burst": max(_BURST_BYTES, int(rate * _BURST_S)),
            "limit": QUEUE_BYTES,
        }


def plan_veths(n_parties: int) -> tuple[Veth, ...]:
    """One end of every pair; its `other_end` is the other."""
    ranks = itertools.combinations(range(n_parties), 2)
    return tuple(Veth(rank=rank, peer=peer) for rank, peer in ranks)


def plan_qdisc(one_way_s: float, bandwidth_bytes_per_s: float | None) -> Qdisc:
    """The qdisc of a line; no bandwidth is no limit.

    Raises:
        LinkError: If the rate is more than netem can be told.
    """
    bandwidth = bandwidth_bytes_per_s or 0.0
    rate = math.ceil(bandwidth * FRAME_BYTES / SEGMENT_BYTES)
    if rate > MOST_BYTES_PER_S:
        raise LinkError(
            f"bandwidth_bytes_per_s={bandwidth:.0f}: netem can be told at most "
            f"{MOST_BYTES_PER_S * SEGMENT_BYTES // FRAME_BYTES}; choose another "
            "back-end or no limit"
        )
    queued_bytes = QUEUE_BYTES + one_way_s * bandwidth
    return Qdisc(
        delay_us=round(one_way_s * 1e6),
        rate_bytes_per_s=rate,
        limit_packets=math.ceil(queued_bytes / SEGMENT_BYTES),
    )


class NetemEmulation(NamespaceEmulation):
    """Parties in namespaces of their own, connected by veth pairs with netem."""

    name = "netem"
    module = "mpcprof.engine.wan.netem_process"

    def __init__(self, shaper: ShaperName = "netem") -> None:
        super().__init__(shaper=shaper)
