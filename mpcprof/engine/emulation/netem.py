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

import errno
import itertools
import math
import socket
from dataclasses import dataclass
from typing import Any, Literal

from mpcprof.engine.emulation import namespaces
from mpcprof.engine.emulation.namespaces import NamespaceEmulation
from mpcprof.engine.party.framing import Header, receive_frame, send_frame
from mpcprof.errors import BackendUnavailableError, LinkError

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
        """Name of the device in the namespace of `rank`."""
        return f"to{self.peer}"

    @property
    def mac(self) -> str:
        """Ethernet address, known to both ends beforehand."""
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
    """Return one end of every pair; its `other_end` is the other."""
    ranks = itertools.combinations(range(n_parties), 2)
    return tuple(Veth(rank=rank, peer=peer) for rank, peer in ranks)


def plan_qdisc(one_way_s: float, bandwidth_bytes_per_s: float | None) -> Qdisc:
    """Return the qdisc of a line; no bandwidth is no limit.

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
    module = "mpcprof.engine.emulation.netem"

    def __init__(self, shaper: ShaperName = "netem") -> None:
        super().__init__(shaper=shaper)


_HANDLE = 0x1_0000  # 1:0


class VethHub:
    """The namespaces and the pairs between them."""

    def __init__(self) -> None:
        self._shaper: ShaperName = "netem"
        self._namespaces: list[int] = []
        self._ends: list[Veth] = []

    def begin(self, header: Header) -> list[int]:
        """Make namespaces, pairs and qdiscs; returns the namespaces' descriptors."""
        self._shaper = header["shaper"]
        for rank in range(header["n_parties"]):
            self._namespaces.append(namespaces.make_namespace())
            namespaces.widen_tcp_buffers(0)
            with namespaces.netlink() as route:
                loopback = route.link_lookup(ifname="lo")[0]
                address = namespaces.host(rank)
                route.addr("add", index=loopback, address=address, prefixlen=32)
        for veth in plan_veths(header["n_parties"]):
            namespaces.enter(self._namespaces[veth.rank])
            add_pair(veth, self._namespaces[veth.peer])
            self._ends += [veth, veth.other_end]
        for end in self._ends:
            self._set_up(end)
        return self._namespaces

    def _set_up(self, end: Veth) -> None:
        namespaces.enter(self._namespaces[end.rank])
        peer = namespaces.host(end.peer)
        with namespaces.netlink() as route:
            index = route.link_lookup(ifname=end.device)[0]
            route.link("set", index=index, mtu=MTU_BYTES, state="up")
            route.neigh(
                "add",
                dst=peer,
                lladdr=end.other_end.mac,
                ifindex=index,
                state="permanent",
            )
            source = namespaces.host(end.rank)
            route.route("add", dst=f"{peer}/32", oif=index, scope=253, prefsrc=source)
            shape(route, index, self._shaper, plan_qdisc(0.0, None), command="add")

    def run(self, channel: socket.socket) -> None:
        """Obey the controller until it is gone."""
        while True:
            header, _ = receive_frame(channel)
            send_frame(channel, self._set(header))

    def _set(self, header: Header) -> Header:
        one_way_s = header["one_way_s"]
        bandwidth = header["bandwidth_bytes_per_s"]
        try:
            qdisc = plan_qdisc(one_way_s, bandwidth)
        except LinkError as error:
            return {"refused": str(error)}
        for end in self._ends:
            namespaces.enter(self._namespaces[end.rank])
            namespaces.widen_tcp_buffers(2 * one_way_s * (bandwidth or 0.0))
            with namespaces.netlink() as route:
                index = route.link_lookup(ifname=end.device)[0]
                shape(route, index, self._shaper, qdisc, command="change")
        return {}


def add_pair(veth: Veth, peer_namespace: int) -> None:
    """Make a veth pair from this namespace to another, with both ends down."""
    other = veth.other_end
    with namespaces.netlink() as route:
        route.link(
            "add",
            kind="veth",
            ifname=veth.device,
            address=veth.mac,
            peer={
                "ifname": other.device,
                "address": other.mac,
                "net_ns_fd": peer_namespace,
            },
        )


def shape(
    route: Any,  # Any: pyroute2 has no types
    index: int,
    shaper: ShaperName,
    qdisc: Qdisc,
    *,
    command: Literal["add", "change"],
) -> None:
    """Put a qdisc on a device, or change the one that is there.

    Raises:
        BackendUnavailableError: If the kernel does not have it.
    """
    try:
        if shaper == "netem":
            route.nlm_request_batch([netem_message(index, qdisc, command=command)])
        else:
            route.tc(command, shaper, index=index, handle=_HANDLE, **qdisc.tbf)
    except Exception as error:
        if getattr(error, "code", None) != errno.ENOENT:
            raise
        raise BackendUnavailableError(
            f"this kernel has no {shaper} qdisc (sch_{shaper})"
        ) from None


def netem_message(
    index: int, qdisc: Qdisc, *, command: Literal["add", "change"]
) -> Any:  # Any: pyroute2 has no types
    """Make the netlink message, as `tc` sends it.

    Made by hand because `IPRoute.tc` of pyroute2 0.9 sends the rate a second time, as
    an attribute of the message (TCA_RATE), which the kernel refuses.
    """
    from pyroute2 import netlink
    from pyroute2.netlink import rtnl
    from pyroute2.netlink.rtnl.tcmsg import sched_netem, tcmsg

    message = tcmsg()
    message["index"] = index
    message["handle"] = _HANDLE
    message["parent"] = rtnl.TC_H_ROOT
    message["attrs"] = [
        ("TCA_KIND", "netem"),
        ("TCA_OPTIONS", sched_netem.get_parameters(qdisc.netem)),
    ]
    existing = {
        "add": netlink.NLM_F_CREATE | netlink.NLM_F_EXCL,
        "change": netlink.NLM_F_REPLACE,
    }
    message["header"]["type"] = rtnl.RTM_NEWQDISC
    message["header"]["flags"] = (
        netlink.NLM_F_REQUEST | netlink.NLM_F_ACK | existing[command]
    )
    return message


if __name__ == "__main__":
    hub = VethHub()
    namespaces.serve(hub.begin, hub.run)
