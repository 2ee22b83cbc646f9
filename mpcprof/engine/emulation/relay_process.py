"""The relay: a process that stands between the parties and is the wide-area network.

One listening port per ordered pair (a, b): `a` dials it in place of `b`. What `a` sends
there, and the acknowledgements that come back, are delayed and slowed by the shapers of
the two directions, so that all connections of one direction share its rate. Every
connection and direction has its own reader and writer thread: neither direction, and no
other pair, ever waits for a slow receiver of another.

Threads sleep to the microsecond, where an asyncio loop rounds timers to a millisecond:
at 20 ms one way that would be 5 % of every hop.

Usage: `python -m mpcprof.engine.emulation.relay_process CHANNEL_FD`, driven by frames.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection

from mpcprof.engine.emulation.clock import MessageTracker, PathClock
from mpcprof.engine.emulation.lifetime import die_with_parent, run_first
from mpcprof.engine.emulation.pipe import Direction, Pipe
from mpcprof.engine.party.framing import (
    ChannelClosedError,
    Header,
    receive_frame,
    send_frame,
)

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
        self.directions = {
            (a, b): Direction(sender=a, receiver=b)
            for a in range(n_parties)
            for b in range(n_parties)
            if a != b
        }

    def listen(
        self,
        pair: tuple[int, int],
        port: int,
        target: tuple[str, int],
        promised_ports: Collection[int] = (),
    ) -> int:
        """Accept connections of `pair` on `port` (0: any free one); the port taken.

        None of `promised_ports`, which parties will listen on but do not yet.
        """
        server = _listen_beside(promised_ports, port)
        threading.Thread(
            target=self._accept, args=(server, pair, target), daemon=True
        ).start()
        taken: int = server.getsockname()[1]
        return taken

    def _accept(
        self, server: socket.socket, pair: tuple[int, int], target: tuple[str, int]
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
            a, b = pair
            self._carry(inner, outer, self.directions[a, b], is_data=True)
            self._carry(outer, inner, self.directions[b, a], is_data=False)

    def _carry(
        self,
        source: socket.socket,
        sink: socket.socket,
        direction: Direction,
        *,
        is_data: bool,
    ) -> None:
        tracker = (
            MessageTracker(self.clocks, direction.sender, direction.receiver)
            if is_data
            else None
        )
        if tracker:
            self._trackers.append(tracker)
        pipe = Pipe(source, sink, direction, tracker)
        self._pipes.append(pipe)
        for work in (pipe.read, pipe.write):
            threading.Thread(
                target=_end_relay_on_error, args=(work,), daemon=True
            ).start()

    def forget(self) -> None:
        """Begin counting anew."""
        for clock in self.clocks:
            clock.reset()
        for direction in self.directions.values():
            direction.n_bytes = 0
        for tracker in self._trackers:
            tracker.forget()

    def messages(self) -> list[tuple[int, int, int, int, int]]:
        """Sender, receiver, messages, payload bytes, waits; over all connections.

        On an open line the kernel passes everything on, and nothing is counted.
        """
        counts = []
        for line in self.directions:
            own = [tracker for tracker in self._trackers if tracker.line == line]
            n_messages = sum(tracker.n_messages for tracker in own)
            n_bytes = sum(tracker.payload_bytes for tracker in own)
            n_waits = sum(tracker.n_waits for tracker in own)
            counts.append((*line, n_messages, n_bytes, n_waits))
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
            server = socket.create_server(("127.0.0.1", port))
            if server.getsockname()[1] not in promised_ports:
                return server
            held.enter_context(server)


def _end_relay_on_error(work: Callable[[], None]) -> None:
    """Half a relay would let the parties wait for ever."""
    try:
        work()
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(1)


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
        target = (header["host"], header["target_port"])
        promised_ports = header["promised_ports"]
        return {"port": relay.listen(pair, header["port"], target, promised_ports)}
    if command == "set":
        relay.set(
            delay_s=header["delay_s"], seconds_per_byte=header["seconds_per_byte"]
        )
        return {}
    if command == "reset":
        relay.wait_until_quiet()
        relay.forget()
        return {}
    counts = [[d.sender, d.receiver, d.n_bytes] for d in relay.directions.values()]
    paths = [[c.longest.hops, c.longest.n_bytes] for c in relay.clocks]
    return {"paths": paths, "bytes": counts, "messages": relay.messages()}


def main() -> None:
    """Serve the channel whose descriptor is the only argument."""
    die_with_parent()
    run_first()
    sys.setswitchinterval(0.0002)  # a reader must not wait 5 ms for another's slice
    with contextlib.suppress(ChannelClosedError):
        serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)


if __name__ == "__main__":
    main()
