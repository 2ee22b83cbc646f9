"""The process that holds namespaces, veth pairs between them, and their qdiscs.

Usage: `python -m mpcprof.engine.wan.netem_process CHANNEL_FD`, driven by frames.
"""

import contextlib
import errno
import socket
import sys
from typing import Any, Literal

from mpcprof.engine.party.framing import (
    ChannelClosedError,
    Header,
    receive_frame,
    send_frame,
)
from mpcprof.engine.wan import namespaces
from mpcprof.engine.wan.netem import (
    MTU_BYTES,
    Qdisc,
    ShaperName,
    Veth,
    plan_qdisc,
    plan_veths,
)
from mpcprof.errors import BackendUnavailableError, LinkError

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
    """A veth pair from this namespace to another; both ends still down."""
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
    """The netlink message, as `tc` sends it.

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


def main() -> None:
    """Serve the channel whose descriptor is the only argument."""
    hub = VethHub()
    with contextlib.suppress(ChannelClosedError):
        channel = socket.socket(fileno=int(sys.argv[1]))
        namespaces.serve(channel, hub.begin, hub.run)


if __name__ == "__main__":
    main()
