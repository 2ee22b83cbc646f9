"""The userspace relay: a process between the parties that is the wide-area network.

One listening port per ordered pair (a, b): `a` dials it in place of `b`. What `a` sends
there, and the acknowledgements that come back, are delayed and slowed by the shapers of
the two directions, so that all connections of one direction share its rate. Every
connection and direction has its own reader and writer thread: neither direction, and no
other pair, ever waits for a slow receiver of another.

Threads sleep to the microsecond, where an asyncio loop rounds timers to a millisecond:
at 20 ms one way that would be 5 % of every hop. The relay needs no privilege.

Usage: `python -m mpcprof.engine.emulation.relay CHANNEL_FD`, driven by frames.
"""

import contextlib
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, astuple

from mpcprof.engine.child import Child, die_with_parent, python_child, run_first
from mpcprof.engine.emulation.clock import (
    CarriedMessage,
    Counters,
    LineCount,
    MessageTracker,
    Path,
    PathClock,
)
from mpcprof.engine.emulation.pipe import Direction, Pipe
from mpcprof.engine.party.framing import (
    ChannelClosedError,
    Header,
    receive_frame,
    send_frame,
)
from mpcprof.errors import EngineError, LinkError, PartyDiedError
from mpcprof.network import Network

_HOST = "127.0.0.1"
_SOCKET_BUFFER_BYTES = 1 << 22
_DRAIN_S = 30.0
_POLL_S = 0.0005


class Relay:
    """All ordered pairs of `n_parties`, each from its own port to a target address."""

    def __init__(self, n_parties: int) -> None:
        self.clocks = (
            PathClock(is_synchronous=False),
            PathClock(is_synchronous=True),
            PathClock(is_synchronous=False, is_depth=True),
        )
        self._pipes: list[Pipe] = []
        self._trackers: list[MessageTracker] = []
        self._keeps_messages = False
        self.directions = {pair: Direction() for pair in _ordered_pairs(n_parties)}

    def listen(
        self,
        pair: tuple[int, int],
        port: int,
        target: tuple[str, int],
        promised_ports: Collection[int] = (),
        *,
        is_counted: bool = True,
    ) -> int:
        """Accept connections of `pair` on `port` (0: any free one); return the port.

        Args:
            promised_ports: Ports on which parties do not listen yet, left to them.
            is_counted: Whether the connections carry SPU's messages, to be counted.
        """
        server = _listen_beside(promised_ports, port)
        _in_thread(lambda: self._accept(server, pair, target, is_counted))
        taken: int = server.getsockname()[1]
        return taken

    def _accept(
        self,
        server: socket.socket,
        pair: tuple[int, int],
        target: tuple[str, int],
        is_counted: bool,
    ) -> None:
        while True:
            inner, _ = server.accept()
            try:
                outer = socket.create_connection(target)
            except OSError:
                inner.close()  # the target does not listen yet: the dialler tries again
                continue
            for end in (inner, outer):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES
                )
            there, back = self.directions[pair], self.directions[pair[1], pair[0]]
            tracker = MessageTracker(self.clocks, *pair) if is_counted else None
            if tracker:
                tracker.keeps_messages = self._keeps_messages
                self._trackers.append(tracker)
            else:  # the same line, and no byte in its count
                there, back = Direction(there.shaper), Direction(back.shaper)
            for pipe in (
                Pipe(inner, outer, there, tracker),
                Pipe(outer, inner, back, None),
            ):
                self._pipes.append(pipe)
                _in_thread(pipe.read)
                _in_thread(pipe.write)

    def forget(self) -> None:
        """Begin to count anew."""
        for clock in self.clocks:
            clock.reset()
        for direction in self.directions.values():
            direction.n_bytes = 0
        for tracker in self._trackers:
            tracker.forget()

    def keep_messages(self) -> None:
        """Note every message from now on, for `messages`."""
        self._keeps_messages = True
        for tracker in self._trackers:
            tracker.keeps_messages = True

    def messages(self) -> list[CarriedMessage]:
        """Return the messages since `forget`, in the order of their begin."""
        kept = [one for tracker in self._trackers for one in tracker.messages]
        return sorted(kept, key=lambda one: one.begin_s)

    def lines(self) -> list[LineCount]:
        """Return the messages of each ordered pair, over all connections.

        On an open line the kernel passes everything on, and nothing is counted.
        """
        counts = []
        for line in self.directions:
            own = [tracker for tracker in self._trackers if tracker.line == line]
            counts.append(
                LineCount(
                    sender=line[0],
                    receiver=line[1],
                    n_messages=sum(tracker.n_messages for tracker in own),
                    payload_bytes=sum(tracker.payload_bytes for tracker in own),
                    n_waits=sum(tracker.n_waits for tracker in own),
                )
            )
        return counts

    def wait_until_quiet(self) -> None:
        """Return when nothing is on its way.

        A late acknowledgement of one call would hold up, or wake, the next one.
        """
        deadline_s = time.monotonic() + _DRAIN_S
        while any(pipe.is_busy for pipe in self._pipes):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"the line was not quiet within {_DRAIN_S:g} s")
            time.sleep(_POLL_S)

    def set(self, *, delay_s: float, seconds_per_byte: float) -> None:
        """Change every line, once what is on its way has arrived."""
        self.wait_until_quiet()
        for clock in self.clocks:
            clock.set(delay_s=delay_s, seconds_per_byte=seconds_per_byte)
        for direction in self.directions.values():
            direction.shaper.set(delay_s=delay_s, seconds_per_byte=seconds_per_byte)


def _listen_beside(promised_ports: Collection[int], port: int) -> socket.socket:
    with contextlib.ExitStack() as held:  # or the kernel might give it once more
        while True:
            server = socket.create_server((_HOST, port))
            if server.getsockname()[1] not in promised_ports:
                return server
            held.enter_context(server)


def _in_thread(work: Callable[[], None]) -> None:
    """Start `work`; its error ends the relay, as half of one lets parties wait."""

    def run() -> None:
        try:
            work()
        except Exception as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
            os._exit(1)

    threading.Thread(target=run, daemon=True).start()


def serve(channel: socket.socket) -> None:
    """Answer the controller until it is gone."""
    header, _ = receive_frame(channel)
    relay = Relay(header["n_parties"])
    send_frame(channel, {})
    while True:
        header, _ = receive_frame(channel)
        try:
            answer = _answer(relay, header)
        except OSError as error:
            answer = {"error": str(error)}
        send_frame(channel, answer)


def _answer(relay: Relay, header: Header) -> Header:
    command = header["command"]
    if command == "listen":
        pair = (header["sender"], header["receiver"])
        target = (_HOST, header["target_port"])
        port = relay.listen(
            *(pair, header["port"], target, header["promised_ports"]),
            is_counted=header["link"] == 0,
        )
        return {"port": port}
    if command == "set":
        relay.set(
            delay_s=header["delay_s"], seconds_per_byte=header["seconds_per_byte"]
        )
        return {}
    if command == "reset":
        relay.wait_until_quiet()
        relay.forget()
        return {}
    if command == "keep":
        relay.keep_messages()
        return {}
    return {
        "paths": [[c.longest.hops, c.longest.n_bytes] for c in relay.clocks],
        "carried_bytes": sum(d.n_bytes for d in relay.directions.values()),
        "lines": [asdict(line) for line in relay.lines()],
        "messages": [astuple(one) for one in relay.messages()],
    }


def main() -> None:
    """Serve the channel whose descriptor is the only argument."""
    die_with_parent()
    run_first()
    sys.setswitchinterval(0.0002)  # a reader must not wait 5 ms for another's slice
    with contextlib.suppress(ChannelClosedError):
        serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)


class RelayEmulation:
    """One relay process; parties listen on loopback and dial the relay's ports.

    Args:
        base_port: First port to use, for parties and then relay links, or 0 for
            free ones chosen by the kernel.
    """

    name = "relay"

    def __init__(self, base_port: int = 0) -> None:
        self._base_port = base_port
        self._child: Child | None = None
        self._n_parties = 0
        self._party_ports: list[int] = []
        self._link_ports: dict[tuple[int, int, int], int] = {}

    def start(self, n_parties: int, n_links: int = 1) -> None:
        """Start the relay and open one port per ordered pair and link.

        Raises:
            LinkError: If a port is in use.
        """
        self._n_parties = n_parties
        self._party_ports = free_ports(n_parties * n_links, self._base_port)
        self._child = python_child("relay", "mpcprof.engine.emulation.relay")
        self._child.ask({"command": "start", "n_parties": n_parties})
        port = self._base_port + len(self._party_ports) if self._base_port else 0
        lines = itertools.product(range(n_links), _ordered_pairs(n_parties))
        for index, (link, pair) in enumerate(lines):
            taken = self._listen(pair, link, port + index if port else 0)
            self._link_ports[pair[0], pair[1], link] = taken

    def _listen(self, pair: tuple[int, int], link: int, port: int) -> int:
        header = {
            "command": "listen",
            "sender": pair[0],
            "receiver": pair[1],
            "link": link,
            "port": port,
            "promised_ports": self._party_ports,
            "target_port": self._party_port(pair[1], link),
        }
        try:
            taken = self._ask(header)["port"]
        except PartyDiedError:
            raise
        except EngineError as error:
            raise LinkError(
                f"the relay cannot listen on port {port}: {error}; "
                "choose another --base-port"
            ) from None
        return int(taken)

    def _party_port(self, rank: int, link: int) -> int:
        return self._party_ports[link * self._n_parties + rank]

    def _ask(self, header: Header) -> Header:
        assert self._child is not None, "start() comes first"
        return self._child.ask(header)

    def command_prefix(self, rank: int) -> tuple[str, ...]:
        """Return no words: the party runs where the controller runs."""
        return ()

    def listen_address(self, rank: int, link: int = 0) -> str:
        """Return a loopback address of this party's own."""
        return f"{_HOST}:{self._party_port(rank, link)}"

    def peer_address(self, rank: int, peer: int, link: int = 0) -> str:
        """Return the relay's address for what `rank` sends to `peer`."""
        return f"{_HOST}:{self._link_ports[rank, peer, link]}"

    def set_network(self, network: Network) -> None:
        """Change all lines from the next chunk on; connections stay open."""
        self._ask(
            {
                "command": "set",
                "delay_s": network.one_way_s,
                "seconds_per_byte": 1 / network.bandwidth_bytes_per_s,
            }
        )

    def reset_counters(self) -> None:
        """Begin to count the critical path and the bytes anew."""
        self._ask({"command": "reset"})

    def keep_messages(self) -> None:
        """Have the relay note every message from now on, for a trace."""
        self._ask({"command": "keep"})

    def counters(self) -> Counters:
        """Return critical path and bytes since the reset; see `PathClock`."""
        counted = self._ask({"command": "count"})
        lower, upper, deepest = counted["paths"]
        return Counters(
            lower=Path(*lower),
            upper=Path(*upper),
            deepest=Path(*deepest),
            carried_bytes=counted["carried_bytes"],
            lines=tuple(LineCount(**line) for line in counted["lines"]),
            messages=tuple(CarriedMessage(*one) for one in counted["messages"]),
        )

    def watched(self) -> tuple[Child, ...]:
        """Return the relay process."""
        return (self._child,) if self._child else ()

    def close(self) -> None:
        """End the relay."""
        if self._child:
            self._child.close()
            self._child = None


def free_ports(n_ports: int, base_port: int = 0) -> list[int]:
    """Find ports that nobody listens on: `base_port` and the next ones, or any.

    Raises:
        LinkError: If one of the ports asked for is taken.
    """
    with contextlib.ExitStack() as stack:
        ports = []
        for index in range(n_ports):
            wanted = base_port + index if base_port else 0
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, wanted))
            except OverflowError:
                raise LinkError(
                    f"port {wanted} is above 65535; choose a lower --base-port"
                ) from None
            except OSError as error:
                raise LinkError(
                    f"port {wanted} is in use ({error.strerror}); "
                    "choose another --base-port, or none to take free ones"
                ) from None
            ports.append(int(probe.getsockname()[1]))
    return ports


def _ordered_pairs(n_parties: int) -> tuple[tuple[int, int], ...]:
    return tuple(itertools.permutations(range(n_parties), 2))


if __name__ == "__main__":
    main()
