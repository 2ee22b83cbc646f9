"""Messages between the controller and a party: a JSON header, then raw blobs.

A frame is `>I` header length, the header, and the blobs whose sizes it lists. No
pickle: a party may run in another Python with another numpy.
"""

import json
import socket
import struct
from typing import Any, Dict, List, Optional, Sequence, Tuple

# Any: the header is JSON from the other process, checked where it is used
Header = Dict[str, Any]

_LENGTH = struct.Struct(">I")


class ChannelClosedError(EOFError):
    """The other end is gone."""


def send_frame(
    channel: socket.socket, header: Header, blobs: Sequence[bytes] = ()
) -> None:
    """Send one frame; `header` must not use the key `blob_sizes`."""
    text = json.dumps(dict(header, blob_sizes=[len(b) for b in blobs])).encode()
    try:
        channel.sendall(_LENGTH.pack(len(text)) + text)
        for blob in blobs:
            channel.sendall(blob)
    except OSError as error:
        raise ChannelClosedError(str(error)) from None


def receive_frame(channel: socket.socket) -> Tuple[Header, List[bytes]]:
    """The next frame.

    Raises:
        ChannelClosedError: If the other end closed, also in the middle of a frame.
        socket.timeout: If the channel has a timeout and nothing came within it.
    """
    (length,) = _LENGTH.unpack(_receive_exactly(channel, _LENGTH.size))
    header = json.loads(_receive_exactly(channel, length).decode())
    blobs = [_receive_exactly(channel, size) for size in header.pop("blob_sizes")]
    return header, blobs


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
