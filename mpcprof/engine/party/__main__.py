"""One party: connects to its peers, holds its shares, runs what it is told.

Usage: `python party CHANNEL_FD`. Commands come as frames over that socket; standard
output and error are a file that both ends can read, since SPU prints its profile there.
The process ends with the controller: by the closed channel, and by the kernel.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Tuple

from framing import ChannelClosedError, Header, receive_frame, send_frame

_LOG_FD = 1
_PR_SET_PDEATHSIG = 1

Reply = Tuple[Header, List[bytes]]
Handler = Callable[[Header, List[bytes]], Reply]


class Party:
    """What one party holds between commands. `backend` speaks to the SPU build."""

    def __init__(self, backend: Any) -> None:  # Any: builds differ in their classes
        self.backend = backend

    def hello(self, header: Header, _: List[bytes]) -> Reply:
        """Nothing but a sign that the process has imported SPU and listens."""
        return {}, []

    def connect(self, header: Header, _: List[bytes]) -> Reply:
        """Open the link to every peer; wall seconds of link and runtime."""
        start_s = time.perf_counter()
        self.backend.connect(header)
        connected_s = time.perf_counter()
        self.backend.start_runtime(header)
        ready_s = time.perf_counter()
        versions = self.backend.versions()
        return {
            "connect_s": connected_s - start_s,
            "runtime_s": ready_s - connected_s,
            "versions": versions,
            "log": _drain_log(),
        }, []

    def compile(self, header: Header, blobs: List[bytes]) -> Reply:
        """The executable of the program in the only blob."""
        return {}, [self.backend.compile(header, blobs[0])]

    def load(self, header: Header, blobs: List[bytes]) -> Reply:
        """Take an executable and this party's shares of its inputs."""
        self.backend.load(header, blobs)
        return {}, []

    def unload(self, header: Header, _: List[bytes]) -> Reply:
        """Forget a case: its shares, its outputs, its executable."""
        self.backend.unload(header["case"])
        return {}, []

    def run(self, header: Header, _: List[bytes]) -> Reply:
        """Run a loaded case once, beginning at the monotonic time `start_at_s`.

        All parties live on one machine, so the monotonic clock is common to them and
        a common start needs no message over the emulated link.
        """
        _drain_log()
        _wait_until(header["start_at_s"])
        begin_s = time.monotonic()
        busy_s = time.process_time()
        self.backend.run(header["case"])
        end_s = time.monotonic()
        busy_s = time.process_time() - busy_s
        answer = {"begin_s": begin_s, "end_s": end_s, "busy_s": busy_s}
        return dict(answer, log=_drain_log()), []

    def fetch(self, header: Header, _: List[bytes]) -> Reply:
        """This party's shares of the outputs of a case."""
        answer, blobs = self.backend.fetch(header["case"])
        return answer, blobs

    def exchange(self, header: Header, _: List[bytes]) -> Reply:
        """Seconds of exchanges, in each of which every party sends to every other.

        Between parties in step an exchange is one hop, as in a protocol's round.
        """
        exchanges_s = []
        _wait_until(header["start_at_s"])
        for _exchange in range(header["n_exchanges"]):
            begin_s = time.monotonic()
            self.backend.link.all_gather("x")
            exchanges_s.append(time.monotonic() - begin_s)
        return {"exchanges_s": exchanges_s}, []

    def stream(self, header: Header, _: List[bytes]) -> Reply:
        """Send messages to each of `peers` while receiving as many from each.

        The rate of a peer is that of all its messages but the first, from when that one
        had come until the last one had.
        """
        link, message = self.backend.link, "x" * header["message_bytes"]
        n_messages = header["n_messages"]
        arrivals: Dict[int, Tuple[float, float]] = {}

        def receive(peer: int) -> None:
            times = []
            for _message in range(n_messages):
                link.recv(peer)
                times.append(time.monotonic())
            arrivals[peer] = (times[0], times[-1])

        def send(peer: int) -> None:
            for _message in range(n_messages):
                link.send_async(peer, message)

        _wait_until(header["start_at_s"])
        threads = [
            threading.Thread(target=act, args=(peer,))
            for peer in header["peers"]
            for act in (receive, send)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rates = {
            str(peer): (n_messages - 1) * len(message) / (last_s - first_s)
            for peer, (first_s, last_s) in arrivals.items()
        }
        return {"goodput_bytes_per_s_by_peer": rates}, []


def _wait_until(at_s: float) -> None:
    while True:
        left_s = at_s - time.monotonic()
        if left_s <= 0:
            return
        if left_s > 0.001:
            time.sleep(left_s - 0.0005)


def _drain_log() -> str:
    """What was printed since the last call; the file is appended to by this process."""
    end = os.fstat(_LOG_FD).st_size
    text = os.pread(_LOG_FD, end - _drain_log.offset, _drain_log.offset)  # type: ignore[attr-defined]
    _drain_log.offset = end  # type: ignore[attr-defined]
    return text.decode("utf-8", "replace")


_drain_log.offset = 0  # type: ignore[attr-defined]


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(channel: socket.socket, party: Party) -> None:
    """Answer commands until the channel closes; an exception is an answer too."""
    handlers: Dict[str, Handler] = {
        name: getattr(party, name)
        for name in (
            "hello",
            "compile",
            "connect",
            "load",
            "unload",
            "run",
            "fetch",
            "exchange",
            "stream",
        )
    }
    while True:
        header, blobs = receive_frame(channel)
        try:
            answer, out = handlers[header["command"]](header, blobs)
        except Exception as error:
            answer, out = {"error": f"{type(error).__name__}: {error}"}, []
        send_frame(channel, answer, out)


def main() -> None:
    """Serve the channel named on the command line, then end at once."""
    _die_with_parent()
    channel = socket.socket(fileno=int(sys.argv[1]))
    from spu_backend import SpuBackend

    with contextlib.suppress(ChannelClosedError):
        serve(channel, Party(SpuBackend()))
    # SPU's threads may hang at a normal exit; nothing is left to save
    os._exit(0)


main()
