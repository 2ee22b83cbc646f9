"""Laws of the reader that finds messages in the stream of SPU's link."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.engine.emulation.messages import Event, MessageReader
from tests.brpc_frames import (
    KIB_32,
    MIB,
    acknowledgement,
    frame,
    message,
    old_acknowledgement,
    old_message,
    push,
)

SIZES_BYTES = (0, 1, 127, 128, 400, 500, 5000, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB)
_NOISE = bytes(range(251)) + b"PRPC"  # the magic may well occur in a share

sizes = st.sampled_from(SIZES_BYTES)
ranks = st.integers(0, 2)
numbers = st.integers(1, 10**6)


def make_value(n_bytes: int) -> bytes:
    return (_NOISE * (n_bytes // len(_NOISE) + 1))[:n_bytes]


def events_of(number: int, frames: list[bytes], n_bytes: int) -> list[Event]:
    size = sum(map(len, frames))
    return [Event("began", number), Event("ended", number, size, n_bytes)]


@st.composite
def streams(draw):
    """A stream of messages and acknowledgements, and the events that it holds."""
    content, events = b"", []
    for number in range(1, 1 + draw(st.integers(1, 4))):
        rank = draw(ranks)
        if draw(st.booleans()):
            acked = draw(numbers)
            content += acknowledgement(acked, rank=rank)
            events.append(Event("acked", acked))
        n_bytes = draw(sizes)
        frames = message(number, make_value(n_bytes), rank=rank)
        content += b"".join(frames)
        events += events_of(number, frames, n_bytes)
    return content, events


@given(stream=streams(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_events_do_not_depend_on_where_the_stream_is_cut(stream, data):
    content, expected = stream
    places = st.integers(0, len(content))
    cuts = sorted(data.draw(st.lists(places, max_size=20), "cuts"))
    reader = MessageReader()

    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        found += reader.feed(content[begin:end])

    assert found == expected


@given(number=numbers, acked=numbers, rank=ranks, n_bytes=st.integers(0, 700))
@settings(max_examples=25)
def test_a_stream_may_come_byte_by_byte(number, acked, rank, n_bytes):
    frames = message(number, make_value(n_bytes), rank=rank)
    content = b"".join([*frames, acknowledgement(acked, rank=rank)])
    reader = MessageReader()

    found = [event for byte in content for event in reader.feed(bytes([byte]))]

    assert found == [*events_of(number, frames, n_bytes), Event("acked", acked)]


@pytest.mark.parametrize("n_chunks", [2, 3, 5])
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_a_message_of_many_chunks_ends_once_with_the_bytes_of_all_frames(
    n_chunks, excess
):
    n_bytes = n_chunks * MIB + excess
    frames = message(17, make_value(n_bytes))

    found = MessageReader().feed(b"".join(frames))

    assert len(frames) == n_chunks + (excess > 0)
    assert found == events_of(17, frames, n_bytes)


def test_a_message_ends_with_its_last_byte_and_not_before():
    *chunks, last = message(3, make_value(2 * MIB))
    reader = MessageReader()

    before = reader.feed(b"".join(chunks) + last[:-1])
    after = reader.feed(last[-1:])

    assert [event.kind for event in before] == ["began"]
    assert [event.kind for event in after] == ["ended"]


def test_chunks_of_two_messages_may_alternate():
    first, second = (message(n, make_value(2 * MIB)) for n in (1, 2))

    found = MessageReader().feed(first[0] + second[0] + first[1] + second[1])

    began_1, ended_1 = events_of(1, first, 2 * MIB)
    began_2, ended_2 = events_of(2, second, 2 * MIB)
    assert found == [began_1, began_2, ended_1, ended_2]


def test_a_message_without_a_number_has_number_0():
    greeting = push(b"connect_1", b"hello")

    found = MessageReader().feed(greeting)

    assert found == events_of(0, [greeting], 5)


@pytest.mark.parametrize(
    ("n_bytes", "n_waits"),
    [(0, 0), (1000, 0), (10 * KIB_32, 0), (10 * KIB_32 + 1, 1), (31 * KIB_32, 3)],
)
def test_an_old_message_tells_after_which_ten_chunks_its_sender_paused(
    n_bytes, n_waits
):
    frames = old_message(7, make_value(n_bytes))

    began, ended = MessageReader().feed(b"".join(frames))

    assert began == Event("began", 1)
    assert ended == Event("ended", 1, sum(map(len, frames)), n_bytes, n_waits)


def test_old_messages_and_acknowledgements_are_numbered_in_their_order():
    first, second = (old_message(n, make_value(3 * KIB_32)) for n in (7, 8))
    content = [push(b"connect_1", b""), old_acknowledgement(), first[0], second[0]]
    content += [old_acknowledgement(), *first[1:], *second[1:]]

    found = MessageReader().feed(b"".join(content))

    assert [(event.kind, event.number) for event in found] == [
        *(("began", 0), ("ended", 0), ("acked", 1), ("began", 1), ("began", 2)),
        *(("acked", 2), ("ended", 1), ("ended", 2)),
    ]


@given(garbage=st.binary(min_size=12, max_size=64).filter(lambda b: b[:4] != b"PRPC"))
def test_a_stream_that_is_not_brpc_is_refused(garbage):
    with pytest.raises(ValueError, match="expected a brpc frame"):
        MessageReader().feed(garbage)


def test_garbage_between_frames_is_refused():
    reader = MessageReader()
    reader.feed(b"".join(message(1, b"value")))

    with pytest.raises(ValueError, match="expected a brpc frame"):
        reader.feed(b"GET / HTTP/1.1\r\n")


def test_a_frame_without_a_key_is_refused():
    with pytest.raises(ValueError, match="expected a push with a key"):
        MessageReader().feed(frame(b"\x1a\x05value"))
