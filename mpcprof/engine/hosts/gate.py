"""The gate before a party that speaks TLS: it lets nothing else in.

SPU's server (brpc) detects TLS by the first bytes of a connection, and takes a plain
one as well, without a certificate: whoever reaches the port could slip in messages. So
the party listens on loopback, and the gate, which has no key and reads nothing further,
passes on what begins as a handshake of TLS.

Usage: `python -m mpcprof.engine.hosts.gate CHANNEL_FD`, driven by frames.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from mpcprof.engine.child import Child, die_with_parent, python_child, run_first
from mpcprof.engine.emulation.relay import free_ports
from mpcprof.engine.party.framing import ChannelClosedError, receive_frame, send_frame
from mpcprof.errors import UsageError

_LOOPBACK: Final = "127.0.0.1"
_HELLO_BYTES: Final = 6
_HELLO_S: Final = 10.0  # for the first bytes to come
_HOLD_S: Final = 10.0  # for the party to listen
_POLL_S: Final = 0.02
_BLOCK_BYTES: Final = 1 << 16


class Gate:
    """A gate process; ends with this one.

    Args:
        listen: Host and port that peers dial.

    Raises:
        UsageError: If the port is in use.
    """

    def __init__(self, listen: tuple[str, int]) -> None:
        (self._inner_port,) = free_ports(1)
        self._child = python_child("gate", __name__)
        header = {"listen": list(listen), "inner_port": self._inner_port}
        answer = self._child.ask(header)
        if "refused" in answer:
            self.close()
            host, port = listen
            raise UsageError(
                f"cannot listen at {host}:{port}: {answer['refused']}; end what "
                "listens there, or change `listen` in the party file"
            )

    @property
    def inner_address(self) -> str:
        """Where the party behind it listens."""
        return f"{_LOOPBACK}:{self._inner_port}"

    @property
    def watched(self) -> Child:
        """The process, whose end is the end of the link."""
        return self._child

    def close(self) -> None:
        """End the process."""
        self._child.close()


# --- what follows runs in the process ---


def is_hello(begin: bytes) -> bool:
    """Tell whether a connection begins with a TLS handshake, as brpc tells it."""
    return len(begin) >= _HELLO_BYTES and begin[:2] == b"\x16\x03" and begin[5] == 1


def _serve(server: socket.socket, inner_port: int) -> None:
    while True:
        try:
            outer, _ = server.accept()
        except OSError:  # who dialled is gone already, or too many hold a connection
            time.sleep(_POLL_S)
            continue
        _in_thread(partial(_let_in, outer, inner_port))


def _dial_inner(port: int) -> socket.socket:
    """Dial the party, which may start yet; raise as `socket` does if it does not.

    Who dials is not refused meanwhile: brpc would try again only after 3 s.
    """
    deadline_s = time.monotonic() + _HOLD_S
    while True:
        try:
            return socket.create_connection((_LOOPBACK, port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(_POLL_S)


def _let_in(outer: socket.socket, inner_port: int) -> None:
    outer.settimeout(_HELLO_S)
    with contextlib.suppress(OSError):
        begin = outer.recv(_HELLO_BYTES, socket.MSG_PEEK | socket.MSG_WAITALL)
        if is_hello(begin):
            inner = _dial_inner(inner_port)
            for end in (outer, inner):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _in_thread(lambda: _pass_on(inner, outer))
            _pass_on(outer, inner)
    outer.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Move bytes inside the kernel until one end closes; then close both ways."""
    read, write = os.pipe()
    with contextlib.suppress(OSError):
        while moved := os.splice(source.fileno(), write, _BLOCK_BYTES):
            while moved:
                moved -= os.splice(read, target.fileno(), moved)
    os.close(read)
    os.close(write)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def main() -> None:
    """Pass on connections until the channel closes."""
    die_with_parent()
    run_first()
    channel = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(ChannelClosedError):
        header, _ = receive_frame(channel)
        host, port = header["listen"]
        server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, port))
            server.listen()
        except OSError as error:
            send_frame(channel, {"refused": error.strerror or str(error)})
            return
        _in_thread(lambda: _serve(server, header["inner_port"]))
        send_frame(channel, {})
        receive_frame(channel)  # nothing follows


if __name__ == "__main__":
    main()
