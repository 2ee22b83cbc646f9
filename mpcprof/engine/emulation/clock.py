"""Finds the critical path where it can be seen: on the wire between the parties."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from mpcprof.engine.emulation.messages import MessageReader

WINDOW_MESSAGES = 10  # SPU's default `throttle_window_size`


@dataclass(frozen=True, slots=True)
class Path:
    """A chain of messages, each begun after the one before had wholly arrived.

    Whole numbers for one call; fractions in the mean over calls.
    """

    hops: float = 0
    n_bytes: float = 0

    def plus(self, hops: float, n_bytes: float) -> "Path":
        """Return the chain with these hops and bytes behind it."""
        return Path(self.hops + hops, self.n_bytes + n_bytes)


@dataclass(slots=True)
class _Count:
    """One count: the longest path to each party, line and acknowledgement."""

    reached: dict[int, Path] = field(default_factory=dict)
    lines: dict[tuple[int, int], Path] = field(default_factory=dict)
    acked: dict[tuple[int, int, int], Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Arriving:
    """What a part of a connection carries: a whole message or an acknowledgement."""

    count: _Count
    path: Path
    acked: int = 0


class PathClock:
    """The longest path of messages since the last reset: its hops and its bytes.

    A logical clock in the manner of Lamport (1978), where a message weighs the delay
    and its bytes over the rate. Messages of one direction follow each other on its
    line, and one waits for the acknowledgement of the tenth before it, as SPU's link
    does. It needs a delay well above what parties differ in compute, or a message that
    happens to arrive earlier looks like a cause; `docs/methodology.md` compares it with
    other ways.

    Args:
        is_synchronous: Whether what a party sends waits for every acknowledgement that
            it has had. The wire does not tell a program that waited for one from a
            program that computed meanwhile: without, the path is a lower bound, with
            it an upper bound.
        is_depth: Whether bytes weigh nothing: the path of most messages, which is the
            same on every network where the heaviest one need not be.
    """

    def __init__(self, *, is_synchronous: bool, is_depth: bool = False) -> None:
        self._is_synchronous = is_synchronous
        self._is_depth = is_depth
        self._count = _Count()
        self._lock = threading.Lock()
        self._delay_s = 0.0
        self._seconds_per_byte = 0.0

    def set(self, *, delay_s: float, seconds_per_byte: float) -> None:
        """Say what a hop and a byte weigh from now on."""
        self._delay_s = 1.0 if self._is_depth else delay_s
        self._seconds_per_byte = 0.0 if self._is_depth else seconds_per_byte

    def reset(self) -> None:
        """Begin a new count; what is still on its way belongs to the old one."""
        self._count = _Count()

    def begin(self, line: tuple[int, int], number: int) -> Arriving:
        """Return the path to a message that begins now on a line."""
        count = self._count
        before = count.reached.get(line[0], Path())
        window = count.acked.get((*line, number - WINDOW_MESSAGES), Path())
        return Arriving(count, self._longer(before, window))

    def end(
        self, begun: Arriving, line: tuple[int, int], n_bytes: int, n_waits: int = 0
    ) -> Arriving:
        """Return the path that a message makes on arrival, now wholly on its line.

        A message within which its sender waited for answers makes two more hops each.
        """
        count = begun.count
        with self._lock:
            waited = self._longer(begun.path, count.lines.get(line, Path()))
            waited = waited.plus(2 * n_waits, 0)
            count.lines[line] = waited.plus(0, n_bytes)
            return Arriving(count, waited.plus(1, n_bytes))

    def acknowledge(self, line: tuple[int, int], number: int) -> Arriving:
        """Return the path of an acknowledgement that leaves its sender now."""
        count = self._count
        path = count.reached.get(line[0], Path()).plus(1, 0)
        return Arriving(count, path, number)

    def arrive(self, arriving: Arriving, line: tuple[int, int]) -> None:
        """Note that a message or an acknowledgement has wholly come over a line."""
        count, (sender, receiver) = arriving.count, line
        with self._lock:
            if arriving.acked:
                count.acked[receiver, sender, arriving.acked] = arriving.path
                if not self._is_synchronous:
                    return
            before = count.reached.get(receiver, Path())
            count.reached[receiver] = self._longer(before, arriving.path)

    @property
    def longest(self) -> Path:
        """The critical path since the last reset."""
        path = Path()
        for reached in self._count.reached.values():
            path = self._longer(path, reached)
        return path

    def _longer(self, first: Path, second: Path) -> Path:
        return max(first, second, key=self._weight_s)

    def _weight_s(self, path: Path) -> float:
        return path.hops * self._delay_s + path.n_bytes * self._seconds_per_byte


@dataclass(frozen=True, slots=True)
class CarriedMessage:
    """A message on its way, on the clock that all processes of the machine share.

    Attributes:
        begin_s: When its first byte came from the sender.
        arrival_s: When its last byte reaches the receiver.
        n_bytes: Payload, without frames.
    """

    sender: int
    receiver: int
    begin_s: float
    arrival_s: float
    n_bytes: int


class MessageTracker:
    """Tells the clocks of what passes on one connection, and counts it.

    Attributes:
        line: Sender and receiver.
        n_messages: Sent since `forget`, without the greeting.
        payload_bytes: In these, without frames.
        n_waits: Round trips for which a sender paused within a message.
        messages: Every message since `forget`, if it keeps them; else none.
        keeps_messages: Whether it does.
    """

    def __init__(self, clocks: Sequence[PathClock], sender: int, receiver: int) -> None:
        self._clocks = clocks
        self.line = (sender, receiver)
        self._reader = MessageReader()
        self._begun: dict[int, list[Arriving]] = {}
        self._begun_s: dict[int, float] = {}
        self.keeps_messages = False
        self.forget()

    def forget(self) -> None:
        """Begin to count anew."""
        self.n_messages = self.payload_bytes = self.n_waits = 0
        self.messages: list[CarriedMessage] = []

    def sent(
        self, content: bytes, now_s: float = 0.0, arrival_s: float = 0.0
    ) -> list[list[Arriving]]:
        """Return, by clock, what is whole with `content`, put on the line now.

        Args:
            arrival_s: When `content` will have arrived.
        """
        line = self.line
        whole = []
        for event in self._reader.feed(content):
            number = event.number
            if event.kind == "began":
                self._begun[number] = [c.begin(line, number) for c in self._clocks]
                self._begun_s[number] = now_s
            elif event.kind == "acked":
                whole.append([c.acknowledge(line, number) for c in self._clocks])
            else:
                pairs = zip(self._clocks, self._begun.pop(number), strict=True)
                size, n_waits = event.n_bytes, event.n_waits
                whole.append([c.end(b, line, size, n_waits) for c, b in pairs])
                self.n_messages += 1 if number else 0
                self.n_waits += event.n_waits
                self.payload_bytes += event.payload_bytes if number else 0
                begun_s = self._begun_s.pop(number)
                if self.keeps_messages and number:
                    self.messages.append(
                        CarriedMessage(*line, begun_s, arrival_s, event.payload_bytes)
                    )
        return whole

    def received(self, whole: list[list[Arriving]]) -> None:
        """Note that what had become whole has reached the receiver."""
        for arriving in whole:
            for clock, one in zip(self._clocks, arriving, strict=True):
                clock.arrive(one, self.line)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCount:
    """What one party sent to another.

    Attributes:
        payload_bytes: Bytes as SPU counts them: without frames.
        n_waits: Round trips for which the sender paused within a message.
    """

    sender: int
    receiver: int
    n_messages: int
    payload_bytes: int
    n_waits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a back-end that sees the messages counted since it was reset.

    Attributes:
        lower: The critical path if no party ever waited for an acknowledgement.
        upper: The critical path if parties waited for every acknowledgement.
        deepest: The path of most hops, whatever its bytes, where `lower` is the one
            that takes longest.
        carried_bytes: Bytes of all directions together, framing included.
        lines: Messages by sender and receiver; zeros on loopback, where nobody looks.
        messages: Each of them, where the back-end was told to keep them.
    """

    lower: Path
    upper: Path
    deepest: Path
    carried_bytes: int
    lines: tuple[LineCount, ...]
    messages: tuple[CarriedMessage, ...] = ()
