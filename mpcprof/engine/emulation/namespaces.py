"""Network namespaces without names: the calls that make and enter them.

Nothing is mounted and nothing is named: a namespace lives by an open descriptor of the
process that made it, and the kernel removes it with the last process in it. There is
nothing to clean up, not even after SIGKILL of that process or of its controller.

A user without privileges gets a user namespace around them, in which only the holder
has rights over the network; a party keeps its own user id and has none.
"""

import contextlib
import ctypes
import math
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from mpcprof.engine.child import Child, die_with_parent, python_child
from mpcprof.engine.party.framing import (
    ChannelClosedError,
    Header,
    receive_frame,
    send_frame,
)
from mpcprof.errors import BackendUnavailableError, LinkError
from mpcprof.network import Network

PORT = 9700  # and the next ones, free in every namespace: nothing else runs there
# what the calls below raise when this machine or this user cannot: no right, no such
# device, a read-only /proc/sys, no pyroute2
UNAVAILABLE = (BackendUnavailableError, ImportError, OSError)
_PR_SET_TIMERSLACK = 29
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_TCP_SETTINGS = {
    # new connections must not inherit what old ones learnt about another network
    "tcp_no_metrics_save": "1",
    # parties compute between messages, and must not start slowly after every pause
    "tcp_slow_start_after_idle": "0",
}
# at least, and in delay-bandwidth products; half of a receive buffer is window
_BUFFERS = {"tcp_wmem": (4 << 20, 4), "tcp_rmem": (16 << 20, 8)}


def host(rank: int) -> str:
    """Return the address of a party, the same each time: the namespaces are ours."""
    return f"10.77.0.{rank + 1}"


def _call(function: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.unshare and os.setns came with 3.12
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def isolate() -> bool:
    """Gain the right to make network namespaces; True if a user namespace was needed.

    Must run before this process has a second thread.

    Raises:
        BackendUnavailableError: If the user may not.
    """
    uid, gid = os.getuid(), os.getgid()
    try:
        with contextlib.suppress(PermissionError):
            _call("unshare", _CLONE_NEWNET)
            return False
        _call("unshare", _CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        _call("unshare", _CLONE_NEWNET)
    except OSError as error:
        raise BackendUnavailableError(
            f"this user may not make network namespaces ({error.strerror})"
        ) from None
    return True


def make_namespace() -> int:
    """Move into a new network namespace, loopback up; return its descriptor."""
    _call("unshare", _CLONE_NEWNET)
    with netlink() as route:
        route.link("set", index=route.link_lookup(ifname="lo")[0], state="up")
    for name, value in _TCP_SETTINGS.items():
        _write_sysctl(name, value)
    _choose_congestion_control()
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def enter(descriptor: int) -> None:
    """Move this thread into a network namespace."""
    _call("setns", descriptor, _CLONE_NEWNET)


def widen_tcp_buffers(bdp_bytes: float) -> None:
    """Let connections of this namespace fill a line of that delay-bandwidth product.

    Only limits that are too low are raised; what a buffer starts with stays.
    """
    for name, (least_bytes, n_products) in _BUFFERS.items():
        wanted = min(max(least_bytes, int(n_products * bdp_bytes)), 2**31 - 1)
        low, default, high = Path(f"/proc/sys/net/ipv4/{name}").read_text().split()
        if int(high) < wanted:
            _write_sysctl(name, f"{low} {default} {wanted}")


def _choose_congestion_control() -> None:
    """Let windows grow until something is full: by cubic, or reno if it is reserved.

    A host may prefer BBR, which probes and backs off, and so never quite fills a line.
    """
    for algorithm in ("cubic", "reno"):
        with contextlib.suppress(OSError):
            _write_sysctl("tcp_congestion_control", algorithm)
            return


def _write_sysctl(name: str, value: str) -> None:
    Path(f"/proc/sys/net/ipv4/{name}").write_text(value)


def sleep_precisely() -> None:
    """Let this thread sleep to the microsecond, not to within 50 as usual."""
    _call("prctl", _PR_SET_TIMERSLACK, 1, 0, 0, 0)


def reason(error: Exception) -> str:
    """Return one line about an error of `UNAVAILABLE`."""
    if isinstance(error, ImportError):
        return f"the package {error.name} is not installed"
    return str(error)


@contextlib.contextmanager
def netlink() -> Iterator[Any]:  # Any: pyroute2 has no types
    """Open a pyroute2 socket into this namespace; its errors become OSError."""
    # slow to load, and not needed by who only asks for a back-end
    from pyroute2 import IPRoute, NetlinkError

    with IPRoute() as route:
        try:
            yield route
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from None


def serve(
    begin: Callable[[Header], list[int]], run: Callable[[socket.socket], None]
) -> None:
    """Set up with `begin`, say to the controller which namespaces there are, `run`.

    The channel's descriptor is the only argument of this process, which ends with the
    controller.
    """
    with contextlib.suppress(ChannelClosedError):
        _serve(socket.socket(fileno=int(sys.argv[1])), begin, run)


def _serve(
    channel: socket.socket,
    begin: Callable[[Header], list[int]],
    run: Callable[[socket.socket], None],
) -> None:
    header, _ = receive_frame(channel)
    try:
        has_user_namespace = isolate()
        die_with_parent()  # last, since a change of credentials would undo it
        answer: Header = {
            "namespaces": begin(header),
            "has_user_namespace": has_user_namespace,
        }
    except UNAVAILABLE as error:
        answer = {"unavailable": reason(error)}
    send_frame(channel, answer)
    if "namespaces" in answer:
        run(channel)


def find_nsenter() -> str:
    """Return the path of `nsenter`.

    Raises:
        BackendUnavailableError: If there is none.
    """
    path = shutil.which("nsenter")
    if path is None:
        raise BackendUnavailableError("there is no command nsenter (util-linux)")
    return path


def line_header(network: Network) -> Header:
    """Return the `set` command for a network."""
    bandwidth = network.bandwidth_bytes_per_s
    return {
        "command": "set",
        "one_way_s": network.one_way_s,
        "bandwidth_bytes_per_s": None if math.isinf(bandwidth) else bandwidth,
    }


class NamespaceEmulation:
    """What the back-ends in namespaces have in common; an `Emulation`.

    A child process holds the namespaces of the parties.

    Attributes:
        name: The back-end as a record names it.
        module: What the holding process runs; it calls `namespaces.serve`.

    Args:
        options: Sent along with the first command of the holding process.
    """

    name: str
    module: ClassVar[str]

    def __init__(self, **options: str) -> None:
        self._options = options
        self._child: Child | None = None
        self._namespaces: list[int] = []
        self._has_user_namespace = False

    def start(self, n_parties: int, n_links: int = 1) -> None:
        """Make namespaces and the links between them, open until `set_network`.

        Raises:
            BackendUnavailableError: If this machine cannot do it; says why.
        """
        find_nsenter()
        self._child = python_child(f"{self.name} emulation", self.module)
        try:
            answer = self.ask(
                {"command": "start", "n_parties": n_parties, **self._options}
            )
            if "unavailable" in answer:
                raise BackendUnavailableError(
                    f"{self.name} emulation: {answer['unavailable']}; "
                    "--emulation relay needs nothing"
                )
        except BaseException:
            self.close()
            raise
        self._namespaces = answer["namespaces"]
        self._has_user_namespace = answer["has_user_namespace"]

    def ask(self, header: Header) -> Header:
        """Return the answer of the process that holds the namespaces.

        Raises:
            LinkError: If it refuses.
        """
        assert self._child is not None, "start() comes first"
        answer = self._child.ask(header)
        if "refused" in answer:
            raise LinkError(f"{self._child.name}: {answer['refused']}")
        return answer

    def command_prefix(self, rank: int) -> tuple[str, ...]:
        """Return words that make a command run in the namespace of `rank`.

        `nsenter` replaces itself by the command: the process id, the open
        descriptors and the parent-death signal stay.
        """
        assert self._child is not None, "start() comes first"
        process = f"/proc/{self._child.pid}"
        words = [find_nsenter(), f"--net={process}/fd/{self._namespaces[rank]}"]
        if self._has_user_namespace:
            words += [f"--user={process}/ns/user", "--preserve-credentials"]
        return tuple(words)

    def listen_address(self, rank: int, link: int = 0) -> str:
        """Return the address of the party in its namespace."""
        return f"{host(rank)}:{PORT + link}"

    def peer_address(self, rank: int, peer: int, link: int = 0) -> str:
        """Return where `peer` listens, the same for everyone."""
        return self.listen_address(peer, link)

    def set_network(self, network: Network) -> None:
        """Change all lines, in both directions, while connections stay open.

        Raises:
            LinkError: If the back-end cannot emulate it.
        """
        self.ask(line_header(network))

    def reset_counters(self) -> None:
        """Do nothing: packets do not show the messages."""

    def counters(self) -> None:
        """Return None: packets do not show the messages."""

    def watched(self) -> tuple[Child, ...]:
        """Return the process that holds the namespaces."""
        return (self._child,) if self._child else ()

    def close(self) -> None:
        """End that process; a namespace goes with its last process, links and all."""
        if self._child:
            self._child.close()
            self._child = None
