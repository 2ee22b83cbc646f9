"""Whole messages over one TCP connection to each peer, for engines without a link."""

import socket
import struct
import time
from typing import Dict, List, Tuple, Union

_LENGTH = struct.Struct(">Q")
_CONNECT_S = 30.0
_RETRY_S = 0.05


class TcpLink:
    """Listens at this rank's own address and dials every lower rank."""

    def __init__(self, rank: int, addresses: List[str]) -> None:
        self._sockets: Dict[int, socket.socket] = {}
        with socket.create_server(split_address(addresses[rank])) as server:
            for peer in range(rank):
                self._add(peer, _dial(split_address(addresses[peer])))
                self._send(peer, bytes([rank]))
            for _ in range(rank + 1, len(addresses)):
                accepted, _ = server.accept()
                self._add(_read_rank(accepted), accepted)

    def _add(self, peer: int, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(None)
        self._sockets[peer] = connected

    def _send(self, peer: int, content: bytes) -> None:
        self._sockets[peer].sendall(_LENGTH.pack(len(content)) + content)

    def send_async(self, peer: int, message: Union[str, bytes]) -> None:
        """Send a message; return when the kernel has it."""
        self._send(peer, message.encode() if isinstance(message, str) else message)

    def recv(self, peer: int) -> bytes:
        """Wait for the next message of a peer."""
        (length,) = _LENGTH.unpack(self._receive(peer, _LENGTH.size))
        return self._receive(peer, length)

    def _receive(self, peer: int, n_bytes: int) -> bytes:
        content = bytearray(n_bytes)
        view, done = memoryview(content), 0
        while done < n_bytes:
            n_received = self._sockets[peer].recv_into(view[done:])
            if not n_received:
                raise ConnectionError(f"party {peer} closed the connection")
            done += n_received
        return bytes(content)

    def close(self) -> None:
        """Close every connection."""
        for connected in self._sockets.values():
            connected.close()

    def all_gather(self, message: str) -> List[bytes]:
        """Exchange a message with every peer: one hop."""
        for peer in self._sockets:
            self.send_async(peer, message)
        return [self.recv(peer) for peer in self._sockets]


def _read_rank(connected: socket.socket) -> int:
    """Return the rank that a peer tells in its first message."""
    return connected.recv(_LENGTH.size + 1, socket.MSG_WAITALL)[-1]


def split_address(address: str) -> Tuple[str, int]:
    """Return host and port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def _dial(address: Tuple[str, int]) -> socket.socket:
    deadline_s = time.monotonic() + _CONNECT_S
    while True:
        try:
            return socket.create_connection(address, timeout=_CONNECT_S)
        except OSError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(_RETRY_S)
