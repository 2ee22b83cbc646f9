"""Messages from process to process: a JSON header, then raw blobs.

A frame is `>I` header length, the header, and the blobs whose sizes it lists. No
pickle: a party may run in another Python with another numpy.
"""

import io
import json
import socket
import struct
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

# Any: the header is JSON from the other process, checked where it is used
Header = Dict[str, Any]
Frame = Tuple[Header, List[bytes]]

_LENGTH = struct.Struct(">I")


class ChannelClosedError(EOFError):
    """The other end is gone."""


def send_frame(
    channel: socket.socket, header: Header, blobs: Sequence[bytes] = ()
) -> None:
    """Send one frame; `header` must not use the key `sizes`."""
    try:
        channel.sendall(_head(header, blobs))
        for blob in blobs:
            channel.sendall(blob)
    except OSError as error:
        raise ChannelClosedError(str(error)) from None


def receive_frame(channel: socket.socket) -> Frame:
    """Receive the next frame.

    Raises:
        ChannelClosedError: If the other end closed, also in the middle of a frame.
        socket.timeout: If the channel has a timeout and nothing came within it.
    """
    return _take_apart(lambda size: _receive_exactly(channel, size))


def pack(header: Header, blobs: Sequence[bytes]) -> bytes:
    """Make one message of a frame, for links that carry whole messages."""
    return b"".join([_head(header, blobs), *blobs])


def unpack(message: bytes) -> Frame:
    """Take a message of `pack` apart."""
    return _take_apart(io.BytesIO(message).read)


def _head(header: Header, blobs: Sequence[bytes]) -> bytes:
    text = json.dumps(dict(header, sizes=[len(blob) for blob in blobs])).encode()
    return _LENGTH.pack(len(text)) + text


def _take_apart(take: Callable[[int], bytes]) -> Frame:
    (length,) = _LENGTH.unpack(take(_LENGTH.size))
    header = json.loads(take(length).decode())
    return header, [take(size) for size in header.pop("sizes")]


def _receive_exactly(channel: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        try:
            n_received: Optional[int] = channel.recv_into(view[done:])
        except ConnectionError as error:
            raise ChannelClosedError(str(error)) from None
        if not n_received:
            raise ChannelClosedError("the other end closed the channel")
        done += n_received
    return bytes(buffer)
