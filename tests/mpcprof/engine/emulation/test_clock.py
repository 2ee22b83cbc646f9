"""Laws of the logical clock that finds the critical path on the wire."""

import itertools
from collections import defaultdict, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.engine.emulation.clock import (
    WINDOW_MESSAGES,
    Arriving,
    MessageTracker,
    Path,
    PathClock,
)
from tests.brpc_frames import MIB, acknowledgement, message

DELAY_S = 0.020
SECONDS_PER_BYTE = 1 / 44e6

Line = tuple[int, int]


class Wire:
    """Parties whose messages travel until the test delivers them, oldest first."""

    def __init__(
        self, *, delay_s: float = DELAY_S, seconds_per_byte: float = SECONDS_PER_BYTE
    ) -> None:
        self.clocks = (
            PathClock(is_synchronous=False),
            PathClock(is_synchronous=True),
            PathClock(is_synchronous=False, is_depth=True),
        )
        for clock in self.clocks:
            clock.set(delay_s=delay_s, seconds_per_byte=seconds_per_byte)
        self._trackers: dict[Line, MessageTracker] = {}
        self._on_the_way: dict[Line, deque[tuple[int, list[list[Arriving]]]]] = (
            defaultdict(deque)
        )
        self._numbers: dict[Line, itertools.count[int]] = defaultdict(
            lambda: itertools.count(1)
        )

    @property
    def lower(self) -> Path:
        return self.clocks[0].longest

    @property
    def upper(self) -> Path:
        return self.clocks[1].longest

    @property
    def deepest(self) -> Path:
        return self.clocks[2].longest

    def put(self, line: Line, content: bytes, number: int = 0) -> None:
        """Bytes on a line; a message has a `number` and will be acknowledged."""
        if line not in self._trackers:
            self._trackers[line] = MessageTracker(self.clocks, *line)
        self._on_the_way[line].append((number, self._trackers[line].sent(content)))

    def send(self, line: Line, n_bytes: int = 100) -> int:
        """A message on a line; the bytes of its frames."""
        number = next(self._numbers[line])
        content = b"".join(message(number, bytes(n_bytes)))
        self.put(line, content, number)
        return len(content)

    def deliver(self, line: Line) -> None:
        """The oldest thing on a line arrives; a message is acknowledged at once."""
        if not self._on_the_way[line]:
            return
        number, whole = self._on_the_way[line].popleft()
        self._trackers[line].received(whole)
        if number:
            self.put(line[::-1], acknowledgement(number))

    def deliver_all(self, *lines: Line) -> None:
        """What is on these lines now arrives."""
        for line, n_waiting in [(line, len(self._on_the_way[line])) for line in lines]:
            for _ in range(n_waiting):
                self.deliver(line)


def weight_s(path: Path) -> float:
    return path.hops * DELAY_S + path.n_bytes * SECONDS_PER_BYTE


@given(sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=40))
@settings(deadline=None)
def test_a_ping_pong_has_a_hop_and_the_bytes_of_every_message(sizes):
    wire, lines = Wire(), itertools.cycle([(0, 1), (1, 0)])

    total_bytes = 0
    for n_bytes, line in zip(sizes, lines, strict=False):
        total_bytes += wire.send(line, n_bytes)
        wire.deliver_all(line)

    assert wire.lower == Path(len(sizes), total_bytes)


@given(n_rounds=st.integers(1, 40), sizes=st.tuples(*[st.integers(0, 5000)] * 2))
@settings(deadline=None)
def test_a_simultaneous_exchange_is_one_hop_a_round(n_rounds, sizes):
    wire = Wire()

    for _ in range(n_rounds):
        sent_bytes = wire.send((0, 1), sizes[0]), wire.send((1, 0), sizes[1])
        wire.deliver_all((0, 1), (1, 0))

    # what a party sends comes after what it got from the other: sizes take turns
    path_bytes = n_rounds // 2 * sum(sent_bytes) + n_rounds % 2 * max(sent_bytes)
    overhead_bytes = 2 * n_rounds  # message numbers grow from one digit to two
    assert wire.lower.hops == n_rounds
    assert abs(wire.lower.n_bytes - path_bytes) <= overhead_bytes


@given(sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=WINDOW_MESSAGES))
@settings(deadline=None)
def test_a_stream_within_the_window_is_one_hop_with_all_the_bytes(sizes):
    wire = Wire()

    total_bytes = sum(wire.send((0, 1), n_bytes) for n_bytes in sizes)
    wire.deliver_all((0, 1))

    assert wire.lower == Path(1, total_bytes)


def stream_by_window(wire: Wire, n_messages: int, n_bytes: int) -> int:
    """Each message waits for the acknowledgement of the tenth before it."""
    total_bytes = 0
    for index in range(n_messages):
        if index >= WINDOW_MESSAGES:
            wire.deliver((0, 1))
            wire.deliver((1, 0))
        total_bytes += wire.send((0, 1), n_bytes)
    wire.deliver_all((0, 1))
    return total_bytes


@given(n_messages=st.integers(1, 55))
@settings(deadline=None)
def test_every_window_of_a_stream_that_waits_for_acknowledgements_is_two_hops(
    n_messages,
):
    wire = Wire()

    total_bytes = stream_by_window(wire, n_messages, n_bytes=100)

    n_waits = (n_messages - 1) // WINDOW_MESSAGES
    assert wire.lower.hops == 1 + 2 * n_waits
    assert 0 < wire.lower.n_bytes <= total_bytes


@given(n_messages=st.integers(1, 55))
@settings(deadline=None)
def test_a_stream_that_waits_for_the_rate_anyway_is_one_hop_with_all_the_bytes(
    n_messages,
):
    wire = Wire(seconds_per_byte=1.0)

    total_bytes = stream_by_window(wire, n_messages, n_bytes=100)

    assert wire.lower == Path(1, total_bytes)


def test_a_message_of_many_chunks_is_one_hop():
    wire = Wire()

    n_bytes = wire.send((0, 1), 3 * MIB)
    wire.deliver_all((0, 1))

    assert wire.lower == Path(1, n_bytes)


def test_a_message_begun_before_another_arrives_does_not_come_after_it():
    wire = Wire()
    first, second = message(1, bytes(2 * MIB))

    wire.put((0, 1), first)
    wire.send((1, 0))
    wire.deliver_all((1, 0))
    wire.put((0, 1), second)
    wire.deliver_all((0, 1))

    assert wire.lower.hops == 1


def test_a_chain_through_three_parties_has_a_hop_for_each_leg():
    wire = Wire()

    total_bytes = 0
    for line in [(0, 1), (1, 2), (2, 0)]:
        total_bytes += wire.send(line)
        wire.deliver_all(line)

    assert wire.lower == Path(3, total_bytes)


def test_the_heavier_of_two_paths_counts_whole():
    wire = Wire()

    n_bytes = wire.send((0, 1), 44_000_000)  # a second at 44 MB/s, 50 hops
    for line in [(0, 2), (2, 0), (0, 2)]:
        wire.send(line)
        wire.deliver_all(line)
    wire.deliver_all((0, 1))

    assert wire.lower == Path(1, n_bytes)
    assert wire.deepest.hops == 3


@pytest.mark.parametrize("n_before", [1, 7])
def test_a_reset_forgets_what_is_on_its_way(n_before):
    wire = Wire()
    for _ in range(n_before):
        wire.send((0, 1))
        wire.deliver_all((0, 1))
    wire.send((0, 1))

    for clock in wire.clocks:
        clock.reset()
    wire.deliver_all((0, 1), (1, 0))

    assert wire.lower == Path()

    n_bytes = wire.send((0, 1))
    wire.deliver_all((0, 1))

    assert wire.lower == Path(1, n_bytes)


def test_a_message_that_began_before_a_reset_belongs_to_the_old_count():
    wire = Wire()
    first, second = message(1, bytes(2 * MIB))
    wire.put((0, 1), first)

    for clock in wire.clocks:
        clock.reset()
    wire.put((0, 1), second)
    wire.deliver_all((0, 1))

    assert wire.lower == wire.upper == Path()


def test_waiting_for_an_acknowledgement_is_two_hops_by_the_synchronous_clock_only():
    wire = Wire()
    for _ in range(2):
        wire.send((0, 1))
        wire.deliver((0, 1))
        wire.deliver((1, 0))

    assert wire.lower.hops == 1
    assert wire.upper.hops == 4  # the last acknowledgement has come as well


_lines = st.sampled_from([*itertools.permutations(range(3), 2)])
_acts = st.one_of(
    st.tuples(st.just("send"), _lines, st.sampled_from([0, 100, 5000, 500_000])),
    st.tuples(st.just("deliver"), _lines, st.just(0)),
)


@given(acts=st.lists(_acts, max_size=60))
@settings(max_examples=80, deadline=None)
def test_the_synchronous_clock_is_never_below_the_other_and_neither_above_all_there_is(
    acts,
):
    wire = Wire()

    n_messages = total_bytes = 0
    for act, line, n_bytes in acts:
        if act == "send":
            total_bytes += wire.send(line, n_bytes)
            n_messages += 1
        else:
            wire.deliver(line)
        assert weight_s(wire.lower) <= weight_s(wire.upper) + 1e-12
        assert weight_s(wire.deepest) <= weight_s(wire.lower) + 1e-12
        assert wire.deepest.hops >= wire.lower.hops

    assert wire.lower.n_bytes <= total_bytes
    assert wire.upper.n_bytes <= total_bytes
    assert wire.upper.hops <= 2 * n_messages
