"""Renders the brpc frames that SPU's link sends, for tests that stand in for it."""

import struct

MIB = 1 << 20  # SPU cuts a value above this into chunks of it
KIB_32 = 1 << 15  # as SPU 0.3.1b0 does above this
CHANNEL_KEY = b"root:P2P-3:0->1"
_META = bytes(range(59))  # the call's description; nobody reads it here


def varint(number: int) -> bytes:
    """A protobuf variable-length integer."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def frame(payload: bytes) -> bytes:
    """One `baidu_std` frame around a request."""
    header = struct.pack(">4sII", b"PRPC", len(_META) + len(payload), len(_META))
    return header + _META + payload


def push(key: bytes, value: bytes, *, rank: int = 0, chunk_info: bytes = b"") -> bytes:
    """A PushRequest in its frame; protobuf omits a rank of 0 and an empty value."""
    payload = b"\x08" + varint(rank) if rank else b""
    payload += b"\x12" + varint(len(key)) + key
    if value:
        payload += b"\x1a" + varint(len(value)) + value
    return frame(payload + chunk_info)


def message(number: int, value: bytes, *, rank: int = 0) -> list[bytes]:
    """The frames of a message: one, or one per chunk of a value above 1 MiB."""
    key = CHANNEL_KEY + b"\x01\x02" + str(number).encode()
    return _pushes(key, value, rank, MIB)


def old_message(number: int, value: bytes) -> list[bytes]:
    """The frames of a message of SPU 0.3.1b0, whose keys are counted but not marked."""
    return _pushes(b"root:%d:ALLGATHER" % number, value, 0, KIB_32)


def _pushes(key: bytes, value: bytes, rank: int, chunk_bytes: int) -> list[bytes]:
    if len(value) <= chunk_bytes:
        return [push(key, value, rank=rank)]
    frames = []
    for offset in range(0, len(value), chunk_bytes):
        info = b"\x08" + varint(len(value))
        info += b"\x10" + varint(offset) if offset else b""
        chunk_info = b"\x20\x01\x2a" + varint(len(info)) + info
        part = value[offset : offset + chunk_bytes]
        frames.append(push(key, part, rank=rank, chunk_info=chunk_info))
    return frames


def acknowledgement(number: int, *, rank: int = 0) -> bytes:
    """The frame that says that message `number` was taken."""
    return push(b"ACK\x01\x02", str(number).encode(), rank=rank)


def old_acknowledgement() -> bytes:
    """The same of SPU 0.3.1b0, which does not say of which message."""
    return push(b"ACK\x01\x00", b"")
