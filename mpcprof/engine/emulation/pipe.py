"""One direction of a relayed connection: its delay and rate, and what carries it."""

import contextlib
import fcntl
import os
import queue
import select
import socket
import time
from dataclasses import dataclass, field
from threading import Lock

from mpcprof.engine.emulation.clock import Arriving, MessageTracker

_CHUNK_BYTES = 1 << 17
_SPLICE_BYTES = 1 << 20
_QUEUE_CHUNKS = 8192  # up to 1 GB a direction and connection: then the sender must wait
_SPIN_S = 0.0002  # the kernel wakes a sleeper about this late

# (when it arrives, what is whole with it, content)
Chunk = tuple[float, list[list[Arriving]], bytes]


class Shaper:
    """Delay and serialisation of one direction: a FIFO of fixed rate and delay.

    A chunk of n bytes that comes at t leaves the sender's interface at
    `max(t, when the chunk before it left) + n / rate` and arrives `delay_s` later,
    as on a real line: each byte waits once for the line and once for the distance.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._free_at_s = 0.0
        self._delay_s = 0.0
        self._seconds_per_byte = 0.0

    @property
    def is_open(self) -> bool:
        """Whether nothing is emulated: chunks pass as fast as they can."""
        return self._delay_s == 0 and self._seconds_per_byte == 0

    def set(self, *, delay_s: float, seconds_per_byte: float) -> None:
        """Change the line; bytes that are on the way keep their arrival time."""
        with self._lock:
            self._delay_s = delay_s
            self._seconds_per_byte = seconds_per_byte
            self._free_at_s = 0.0

    def arrival_s(self, now_s: float, n_bytes: int) -> float:
        """Return when the last of `n_bytes` that come at `now_s` arrives."""
        with self._lock:
            start_s = max(now_s, self._free_at_s)
            self._free_at_s = start_s + n_bytes * self._seconds_per_byte
            return self._free_at_s + self._delay_s


@dataclass(slots=True)
class Direction:
    """What goes from one party to another, over all connections."""

    shaper: Shaper = field(default_factory=Shaper)
    n_bytes: int = 0


class Pipe:
    """One direction of one connection: a reader, a line of chunks, a writer."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        direction: Direction,
        tracker: MessageTracker | None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._direction = direction
        self._tracker = tracker
        self._line: queue.Queue[Chunk] = queue.Queue(_QUEUE_CHUNKS)
        self._pipe_out, self._pipe_in = os.pipe()
        with contextlib.suppress(OSError):  # a user's quota: then smaller pieces
            fcntl.fcntl(self._pipe_in, fcntl.F_SETPIPE_SZ, _SPLICE_BYTES)

    @property
    def is_busy(self) -> bool:
        """Whether chunks are on their way."""
        return self._line.unfinished_tasks > 0

    def read(self) -> None:
        """Take chunks as they come; on an open line the kernel passes them on."""
        is_open = True
        while is_open:
            select.select([self._source], [], [])
            if self._direction.shaper.is_open and not self.is_busy:
                is_open = self._splice()
            else:
                is_open = self._queue()

    def _splice(self) -> bool:
        """Move what is there from socket to socket without copying it to here."""
        try:
            n_bytes = os.splice(self._source.fileno(), self._pipe_in, _SPLICE_BYTES)
            left = n_bytes
            while left:
                left -= os.splice(self._pipe_out, self._sink.fileno(), left)
        except OSError:
            n_bytes = 0
        self._direction.n_bytes += n_bytes
        if not n_bytes:
            self._line.put((0.0, [], b""))
        return n_bytes > 0

    def _queue(self) -> bool:
        """Put a chunk on the line, to arrive when the shaper says."""
        try:
            content = self._source.recv(_CHUNK_BYTES)
        except OSError:
            content = b""
        now_s = time.monotonic()
        self._direction.n_bytes += len(content)
        arrival_s = self._direction.shaper.arrival_s(now_s, len(content))
        tracker = self._tracker
        messages = tracker.sent(content, now_s, arrival_s) if tracker else []
        self._line.put((arrival_s, messages, content))
        return bool(content)

    def write(self) -> None:
        """Deliver each chunk at its arrival time."""
        content = b"-"
        while content:
            arrival_s, messages, content = self._line.get()
            _sleep_until(arrival_s)
            if self._tracker:
                self._tracker.received(messages)
            with contextlib.suppress(
                OSError
            ):  # the receiver is gone: so is its session
                if content:
                    self._sink.sendall(content)
                else:
                    self._sink.shutdown(socket.SHUT_WR)
            self._line.task_done()


def _sleep_until(at_s: float) -> None:
    left_s = at_s - time.monotonic()
    if left_s <= 0:
        return
    if left_s > _SPIN_S:
        time.sleep(left_s - _SPIN_S / 2)
