"""The TUN relay: a process that carries IP packets between namespaces over slow lines.

It holds a TUN device in the namespace of every party and forwards by destination. Each
ordered pair has its own line (`Shaper`), so slow start, windows and acknowledgements
are the kernel's own, which the userspace relay cannot show.

The MTU is 1500, as on a real line: segments, the initial window (10 segments, 14 kB)
and slow start are the usual ones. What lets Python keep up is segmentation offload: the
kernel hands over up to 64 KB of consecutive segments in one piece with a virtio-net
header, and takes them so on the other side. A piece arrives as a whole when its last
byte would (64 KB: 1.5 ms at 44 MB/s); a receiver acknowledges pieces, not segments.

Only the payload of TCP is charged to a line: `bandwidth_bytes_per_s` is goodput here,
as in the userspace relay; on a real line headers take 52 of every 1500 bytes. Bare
acknowledgements wait for the distance only: behind the queue of the other direction
they would slow each direction by the load of the other.

A new connection starts slowly (1 MB takes about 0.3 s at 40 ms and 44 MB/s); a pause of
an old one does not close its window again, as is usual on hosts tuned for long lines.

A line queues up to 64 MiB (1.5 s at 44 MB/s) and drops what comes beyond. TCP keeps far
below: a send buffer ends at 4 delay-bandwidth products (or what the host allows, if
that is more), so losses need about ten bulk connections in one direction.

Usage: `python -m mpcprof.engine.emulation.tun CHANNEL_FD`, driven by frames.
"""

import contextlib
import fcntl
import itertools
import math
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from mpcprof.engine.child import run_first
from mpcprof.engine.emulation import namespaces
from mpcprof.engine.emulation.namespaces import NamespaceEmulation
from mpcprof.engine.emulation.pipe import Shaper
from mpcprof.engine.party.framing import Header, receive_frame, send_frame
from mpcprof.errors import BackendUnavailableError

MTU_BYTES = 1500
QUEUE_BYTES = 64 << 20
_DEVICE = "/dev/net/tun"
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4 = 0x01, 0x02
_VNET_BYTES = 10  # struct virtio_net_hdr, before every packet
_PACKET_BYTES = _VNET_BYTES + (1 << 16)
_DEVICE_QUEUE_PACKETS = 10_000  # the default of 500 overflows while this process waits
_BURST_PACKETS = 16  # read before due packets are looked at again
_TCP = 6
_SYN_FIN_RST = 0x07


class Line:
    """Packets on their way from one party to another, in order, with their due time."""

    def __init__(self) -> None:
        self.shaper = Shaper()
        self.n_dropped = 0
        self._on_the_way: deque[tuple[float, int, bytes]] = deque()
        self._queued_bytes = 0

    @property
    def due_s(self) -> float:
        """Time at which the next packet arrives."""
        return self._on_the_way[0][0] if self._on_the_way else math.inf

    def send(self, now_s: float, packet: bytes) -> None:
        """Put a packet on the line, or drop it when the queue is full."""
        if self._queued_bytes + len(packet) > QUEUE_BYTES:
            self.n_dropped += 1
            return
        n_bytes = payload_bytes(packet)
        self._queued_bytes += len(packet)
        due_s = self.shaper.arrival_s(now_s, n_bytes)
        self._on_the_way.append((due_s, n_bytes, packet))

    def receive(self) -> bytes:
        """Take the next packet off the line."""
        packet = self._on_the_way.popleft()[2]
        self._queued_bytes -= len(packet)
        return packet

    def set(self, now_s: float, *, one_way_s: float, seconds_per_byte: float) -> None:
        """Change the line; what is under way starts again at `now_s`."""
        self.shaper.set(delay_s=one_way_s, seconds_per_byte=seconds_per_byte)
        self._on_the_way = deque(
            (self.shaper.arrival_s(now_s, n_bytes), n_bytes, packet)
            for _, n_bytes, packet in self._on_the_way
        )


def payload_bytes(packet: bytes) -> int:
    """Count the bytes behind the IP and TCP headers; behind IP for other protocols."""
    ip_bytes = (packet[_VNET_BYTES] & 0x0F) * 4
    n_bytes = len(packet) - _VNET_BYTES - ip_bytes
    if packet[_VNET_BYTES + 9] == _TCP:
        n_bytes -= (packet[_VNET_BYTES + ip_bytes + 12] >> 4) * 4
    return n_bytes


def is_acknowledgement(packet: bytes) -> bool:
    """Tell whether a packet is TCP and says nothing but how much has arrived."""
    if packet[_VNET_BYTES + 9] != _TCP or payload_bytes(packet):
        return False
    ip_bytes = (packet[_VNET_BYTES] & 0x0F) * 4
    return not packet[_VNET_BYTES + ip_bytes + 13] & _SYN_FIN_RST


class TunRelay:
    """The devices of the parties and the lines between them."""

    def __init__(self) -> None:
        self._namespaces: list[int] = []
        self._tuns: list[int] = []
        # by device, destination, and whether they are for acknowledgements
        self._lines: dict[tuple[int, bytes, bool], Line] = {}
        self._targets: dict[Line, int] = {}

    def begin(self, header: Header) -> list[int]:
        """Make namespaces, devices and lines; return the namespaces' descriptors."""
        n_parties = header["n_parties"]
        for rank in range(n_parties):
            self._namespaces.append(namespaces.make_namespace())
            namespaces.widen_tcp_buffers(0)
            self._tuns.append(open_tun(rank))
        for sender in range(n_parties):
            for receiver, is_ack in itertools.product(range(n_parties), (False, True)):
                line = Line()
                address = socket.inet_aton(namespaces.host(receiver))
                self._lines[self._tuns[sender], address, is_ack] = line
                self._targets[line] = self._tuns[receiver]
        return self._namespaces

    def run(
        self, channel: socket.socket, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Carry packets and obey the controller until it is gone."""
        run_first()
        namespaces.sleep_precisely()
        watched = [channel.fileno(), *self._tuns]
        while True:
            due_s = self._deliver(clock())
            wait_s = None if due_s == math.inf else max(0.0, due_s - clock())
            # not epoll, which rounds a wait up to a millisecond: 5 % of a hop
            for descriptor in select.select(watched, [], [], wait_s)[0]:
                if descriptor == channel.fileno():
                    header, _ = receive_frame(channel)
                    send_frame(channel, self._answer(header, clock()))
                else:
                    self._collect(descriptor, clock())

    def _collect(self, tun: int, now_s: float) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_BURST_PACKETS):
                packet = os.read(tun, _PACKET_BYTES)
                address = packet[_VNET_BYTES + 16 : _VNET_BYTES + 20]
                line = self._lines.get((tun, address, is_acknowledgement(packet)))
                if line is not None:  # else multicast, or IPv6 looking for a router
                    line.send(now_s, packet)

    def _deliver(self, now_s: float) -> float:
        next_s = math.inf
        for line, tun in self._targets.items():
            while line.due_s <= now_s:
                os.write(tun, line.receive())
            next_s = min(next_s, line.due_s)
        return next_s

    def _answer(self, header: Header, now_s: float) -> Header:
        if header["command"] == "count":
            return {"dropped": sum(line.n_dropped for line in self._targets)}
        one_way_s = header["one_way_s"]
        bandwidth = header["bandwidth_bytes_per_s"] or math.inf
        if bandwidth < math.inf:
            for descriptor in self._namespaces:
                namespaces.enter(descriptor)
                namespaces.widen_tcp_buffers(2 * one_way_s * bandwidth)
        for line in self._targets:
            line.set(now_s, one_way_s=one_way_s, seconds_per_byte=1 / bandwidth)
        return {}


def open_tun(rank: int) -> int:
    """Make a TUN device with the address of `rank` here, up; return its descriptor.

    Raises:
        BackendUnavailableError: If there is no TUN, or not for this user.
    """
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    try:
        tun = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"wan", flags))
        fcntl.ioctl(tun, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    except OSError as error:
        raise BackendUnavailableError(
            f"this user cannot make a device with {_DEVICE} ({error.strerror})"
        ) from None
    with namespaces.netlink() as route:
        index = route.link_lookup(ifname="wan")[0]
        route.addr("add", index=index, address=namespaces.host(rank), prefixlen=24)
        route.link(
            "set", index=index, mtu=MTU_BYTES, txqlen=_DEVICE_QUEUE_PACKETS, state="up"
        )
    return tun


class TunEmulation(NamespaceEmulation):
    """Parties in namespaces of their own, connected through the TUN relay.

    `set_network` changes all lines at once: what is under way begins its way anew, so
    that nothing is lost, overtaken, or waits for the end of an old queue.
    """

    name = "tun"
    module = "mpcprof.engine.emulation.tun"

    def n_dropped(self) -> int:
        """Return how many packets were dropped since the start; none should be."""
        return int(self.ask({"command": "count"})["dropped"])


if __name__ == "__main__":
    tun_relay = TunRelay()
    namespaces.serve(tun_relay.begin, tun_relay.run)
