"""Finds the messages of SPU's link in a stream of brpc frames (protocol `baidu_std`).

A frame is `PRPC`, the size of its body, the size of the call's description in it, and
the body: a push of a message, of a chunk of a large one, or of the acknowledgement that
the receiver has taken a message. Messages of a channel are numbered from 1: by SPU
itself, or here for 0.3.1b0, whose messages and acknowledgements keep their order. That
build sends ten chunks of 32 KiB and waits for the answers to all before the next ten.
"""

import re
import struct
from dataclasses import dataclass, field

from mpcprof.builds import PAPER_BUILD

_HEADER = struct.Struct(">4sII")
_MAGIC = b"PRPC"
_HEAD_BYTES = 512  # the description is 59 bytes, a key some tens
_TAIL_BYTES = 32
# PushRequest: optional sender_rank (field 1), then the key (field 2) with its length;
# the key of a message ends in its number, that of an acknowledgement is always the same
_KEY = re.compile(rb"(?:\x08.)?\x12(.)", re.DOTALL)
_NUMBER = re.compile(rb"\x01\x02(\d+)\Z")
_ACK_KEYS = (b"ACK\x01\x02", b"ACK\x01\x00")  # the second one is of 0.3.1b0
_GREETING_KEY = b"connect_"
_ACKED = re.compile(rb"\x1a.(\d+)", re.DOTALL)  # then the value: which message
_VARINT = rb"[\x80-\xff]*[\x00-\x7f]"
_VALUE = re.compile(rb"\x1a(" + _VARINT + rb")", re.DOTALL)  # absent if it is empty
# the end of a chunk: trans_type = chunked, then chunk_info with the message's length
_CHUNK_INFO = re.compile(
    rb"\x20\x01\x2a.\x08(" + _VARINT + rb")(?:\x10" + _VARINT + rb")?\Z", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Event:
    """What a part of the stream brought.

    Attributes:
        kind: `began` or `ended` for a message; `acked` for an acknowledgement.
        number: Number of the message, 0 for the greeting.
        n_bytes: Bytes of an ended message, frames included.
        payload_bytes: Bytes of an ended message without frames: what SPU counts.
        n_waits: Round trips for which its sender paused within the message.
    """

    kind: str
    number: int
    n_bytes: int = 0
    payload_bytes: int = 0
    n_waits: int = 0


@dataclass(slots=True)
class MessageReader:
    """Follows one connection chunk by chunk."""

    _head: bytearray = field(default_factory=bytearray)
    _tail: bytes = b""
    _frame_bytes: int = 0
    _left: int = 0
    _number: int = 0
    _is_message: bool = False
    _open: dict[bytes, int] = field(default_factory=dict)  # unnumbered ones, by key
    _n_unnumbered: int = 0
    _n_acked: int = 0
    _sizes: dict[int, int] = field(default_factory=dict)
    _payloads: dict[int, int] = field(default_factory=dict)
    _n_chunks: dict[int, int] = field(default_factory=dict)  # of unnumbered ones

    def feed(self, content: bytes) -> list[Event]:
        """Return what began, ended or was acknowledged within `content`.

        Raises:
            ValueError: If the stream is not made of brpc frames.
        """
        events: list[Event] = []
        position = 0
        while position < len(content):
            if self._left:
                position = self._take_body(content, position)
            else:
                position = self._take_head(content, position, events)
            if self._is_message and not self._left:
                self._end_frame(events)
        return events

    def _take_head(self, content: bytes, position: int, events: list[Event]) -> int:
        """Collect until header and key are there; then the rest is only counted."""
        part = content[position : position + self._head_size() - len(self._head)]
        self._head += part
        if len(self._head) == self._head_size():
            self._begin_frame(events)
        return position + len(part)

    def _head_size(self) -> int:
        if len(self._head) < _HEADER.size:
            return _HEADER.size
        magic, body_bytes, _ = _HEADER.unpack_from(self._head)
        if magic != _MAGIC:
            raise ValueError(f"expected a brpc frame, got {bytes(self._head[:12])!r}")
        return int(_HEADER.size + min(body_bytes, _HEAD_BYTES))

    def _begin_frame(self, events: list[Event]) -> None:
        _, body_bytes, meta_bytes = _HEADER.unpack_from(self._head)
        payload = bytes(self._head[_HEADER.size + meta_bytes :])
        self._frame_bytes = _HEADER.size + body_bytes
        self._left = self._frame_bytes - len(self._head)
        self._tail = payload[-_TAIL_BYTES:]
        self._head.clear()
        match = _KEY.match(payload)
        if not match:
            raise ValueError(f"expected a push with a key, got {payload[:12]!r}")
        key = payload[match.end() : match.end() + match[1][0]]
        if key in _ACK_KEYS:
            self._n_acked += 1
            acked = _ACKED.match(payload, match.end() + len(key))
            events.append(Event("acked", int(acked[1]) if acked else self._n_acked))
            return
        self._number = self._number_of(key)
        self._is_message = True
        if self._number not in self._sizes:
            self._sizes[self._number] = self._payloads[self._number] = 0
            events.append(Event("began", self._number))
        value = _VALUE.match(payload, match.end() + len(key))
        self._payloads[self._number] += _decode(value[1]) if value else 0

    def _number_of(self, key: bytes) -> int:
        if number := _NUMBER.search(key):
            return int(number[1])
        if key.startswith(_GREETING_KEY):
            return 0
        if key not in self._open:
            self._n_unnumbered += 1
            self._open[key] = self._n_unnumbered
            self._n_chunks[self._n_unnumbered] = 0
        return self._open[key]

    def _take_body(self, content: bytes, position: int) -> int:
        part = content[position : position + self._left]
        self._left -= len(part)
        self._tail = (self._tail + part[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        return position + len(part)

    def _end_frame(self, events: list[Event]) -> None:
        self._is_message = False
        number = self._number
        self._sizes[number] += self._frame_bytes
        if number in self._n_chunks:
            self._n_chunks[number] += 1
        info = _CHUNK_INFO.search(self._tail)
        if info and self._payloads[number] < _decode(info[1]):
            return
        self._open = {k: n for k, n in self._open.items() if n != number}
        size, payload = self._sizes.pop(number), self._payloads.pop(number)
        n_waits = (self._n_chunks.pop(number, 1) - 1) // PAPER_BUILD.chunks_at_once
        events.append(Event("ended", number, size, payload, n_waits))


def _decode(varint: bytes) -> int:
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(varint))
