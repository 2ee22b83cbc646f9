"""One party: connects to its peers, holds its shares, runs what it is told.

Usage: `python party BACKEND CHANNEL_FD`, where BACKEND is the module of its SPU build.
Commands come as frames over that socket; standard output and error are a file that both
ends can read, since SPU prints its profile there. The process ends with the controller:
by the closed channel, and by the kernel.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from statistics import median
from typing import Any, Dict, List, Tuple

import numpy as np
from framing import ChannelClosedError, Frame, Header, receive_frame, send_frame

_LOG_FD = 1
_PR_SET_PDEATHSIG = 1
_BURST_MESSAGE_BYTES = 10 * 32768  # above, SPU 0.3.1b0 pauses within a message,
_BURST_MESSAGES = 9  # and above 10 between messages, for an answer
_BURST_PACE = 0.75  # of a message's time on the line, between two of a burst
_FLUSH_PAUSE_S = 0.2  # short beside a stream of seconds
_STAMP_BYTES = 40  # a time and a blank are shorter
_TENSORS_LENGTH = struct.Struct("<Q")  # of the header of a safetensors file
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class Party:
    """One method per command. `backend` speaks to the SPU build."""

    def __init__(self, backend: Any) -> None:  # Any: builds differ in their classes
        self.backend = backend
        self._round_trips_s: Dict[int, float] = {}  # the shortest seen, by peer
        self._is_streaming = threading.Event()

    def _start(self, header: Header) -> None:
        """Wait for the common start: a time of the one clock, or a sign of rank 0.

        Parties of one machine have one monotonic clock, and a common start needs no
        message over the emulated link. Parties of several hosts have none: rank 0 asks
        each peer how long an answer takes, and has it begin when its own wait is over.
        """
        self._is_streaming.clear()
        if "start_at_s" in header:
            _wait_until(header["start_at_s"])
            return
        link = self.backend.link
        link.all_gather("ready")
        if header["rank"]:
            link.recv(0)
            link.send_async(0, "here")
            wait_s = float(link.recv(0))
            _wait_until(time.monotonic() + wait_s)
            return
        peers = range(1, header["n_parties"])
        for peer in peers:
            begin_s = time.monotonic()
            link.send_async(peer, "where?")
            link.recv(peer)
            trip_s = time.monotonic() - begin_s
            self._round_trips_s[peer] = min(self._round_trips_s.get(peer, 60.0), trip_s)
        longest_s = max(self._round_trips_s.values()) / 2
        begin_s = time.monotonic()
        for peer in peers:
            own_s = longest_s - self._round_trips_s[peer] / 2
            link.send_async(peer, f"{own_s:.9f}")
        _wait_until(begin_s + longest_s)

    def hello(self, header: Header, _: List[bytes]) -> Frame:
        """Answer nothing: a sign that the process has imported SPU and listens."""
        return {}, []

    def connect(self, header: Header, blobs: List[bytes]) -> Frame:
        """Open the link to every peer; answer the wall seconds of link and runtime."""
        start_s = time.perf_counter()
        self.backend.connect(header)
        if header.get("tls"):
            peers = [r for r in range(len(header["addresses"])) if r != header["rank"]]
            _flush(self.backend.link.spawn(), peers, self._is_streaming)
        connected_s = time.perf_counter()
        if "runtime_config" in header:
            self.configure(header, blobs)
        ready_s = time.perf_counter()
        versions = self.backend.versions()
        return {
            "connect_s": connected_s - start_s,
            "runtime_s": ready_s - connected_s,
            "versions": versions,
            "log": _drain_log(),
        }, []

    def configure(self, header: Header, _: List[bytes]) -> Frame:
        """Start the virtual machine on a link that is open; answer its wall seconds."""
        start_s = time.perf_counter()
        self.backend.start_runtime(header)
        return {"runtime_s": time.perf_counter() - start_s}, []

    def tell(self, header: Header, blobs: List[bytes]) -> Frame:
        """Send the only blob to each rank of `receivers`."""
        for rank in header["receivers"]:
            self.backend.link.send_async(rank, blobs[0])
        return {}, []

    def hear(self, header: Header, _: List[bytes]) -> Frame:
        """Answer the next message of each rank of `senders`."""
        return {}, [_bytes(self.backend.link.recv(r)) for r in header["senders"]]

    def compile(self, header: Header, blobs: List[bytes]) -> Frame:
        """Compile the program in the only blob to an executable."""
        _drain_log()
        try:
            return {}, [self.backend.compile(header, blobs[0])]
        except RuntimeError as error:
            log = _drain_log()
            whole = "\n".join(filter(None, (_reason(log), str(error), log)))
            raise RuntimeError(whole) from error

    def split(self, header: Header, blobs: List[bytes]) -> Frame:
        """Share the arrays in the blobs; answer all of rank 0, then of rank 1 ..."""
        answer, blobs_by_rank = self.backend.split(header, _arrays(header, blobs))
        return answer, [blob for own in blobs_by_rank for blob in own]

    def join(self, header: Header, blobs: List[bytes]) -> Frame:
        """Join the shares in the blobs, equally many for each rank, to an array."""
        n_own = len(blobs) // header["n_parties"]
        by_rank = [blobs[i : i + n_own] for i in range(0, len(blobs), n_own)]
        array = np.asarray(self.backend.join(header, by_rank), np.float64)
        return {"shape": list(array.shape)}, [array.tobytes()]

    def load(self, header: Header, blobs: List[bytes]) -> Frame:
        """Take an executable and this party's shares of its inputs."""
        self.backend.load(header, blobs)
        return {}, []

    def hold(self, header: Header, blobs: List[bytes]) -> Frame:
        """Take this party's shares of what `owner` reads from its own file, or blobs.

        The owner alone knows the file, shares what is in it, and sends each peer that
        peer's shares over the link. The answer has the payload bytes and the times.
        """
        self._start(header)
        begin_s = time.monotonic()
        arrays = None
        if header["rank"] == header["owner"]:
            arrays = _arrays(header, blobs) if blobs else _read_owned(header)
        n_sent = self.backend.give(header, arrays)
        end_s = time.monotonic()
        return {"begin_s": begin_s, "end_s": end_s, "bytes_sent": n_sent}, []

    def reveal(self, header: Header, _: List[bytes]) -> Frame:
        """Give `receiver` this party's shares of the output of a case.

        The receiver alone joins them and answers with the array; several outputs are
        one vector, one after another.
        """
        self._start(header)
        begin_s = time.monotonic()
        joined, n_sent = self.backend.collect(header)
        answer: Header = {"begin_s": begin_s, "bytes_sent": n_sent}
        if header["rank"] != header["receiver"]:
            return dict(answer, end_s=time.monotonic()), []
        array = np.asarray(joined, np.float64)
        answer.update(end_s=time.monotonic(), shape=list(array.shape))
        return answer, [array.tobytes()]

    def unload(self, header: Header, _: List[bytes]) -> Frame:
        """Forget a case: its shares, its outputs, its executable."""
        self.backend.unload(header["case"])
        return {}, []

    def run(self, header: Header, _: List[bytes]) -> Frame:
        """Run a loaded case once, from the common start on."""
        _drain_log()
        self._start(header)
        begin_s = time.monotonic()
        busy_s = time.process_time()
        told = self.backend.run(header["case"]) or {}
        end_s = time.monotonic()
        busy_s = time.process_time() - busy_s
        answer = {"begin_s": begin_s, "end_s": end_s, "busy_s": busy_s, **told}
        return dict(answer, log=_drain_log()), []

    def count(self, header: Header, _: List[bytes]) -> Frame:
        """Run a loaded case as `run` does, with messages that say how deep they are."""
        _drain_log()
        _wait_until(header["start_at_s"])
        begin_s = time.monotonic()
        weights = (header["delay_s"], header["seconds_per_byte"])
        counted = self.backend.count(header["case"], *weights)
        answer = {"begin_s": begin_s, "end_s": time.monotonic(), "busy_s": 0.0}
        return dict(answer, counted=counted, log=_drain_log()), []

    def fetch(self, header: Header, _: List[bytes]) -> Frame:
        """Answer this party's shares of the outputs of a case."""
        answer: Frame = self.backend.fetch(header["case"])
        return answer

    def exchange(self, header: Header, _: List[bytes]) -> Frame:
        """Time exchanges, in each of which every party sends to every other.

        Between parties in step an exchange is one hop, as in a protocol's round.
        """
        exchanges_s = []
        self._start(header)
        for _exchange in range(header["n_exchanges"]):
            begin_s = time.monotonic()
            self.backend.link.all_gather("x")
            exchanges_s.append(time.monotonic() - begin_s)
        return {"exchanges_s": exchanges_s}, []

    def stream(self, header: Header, _: List[bytes]) -> Frame:
        """Send messages to `receivers` and take as many of `peers`; answer rates."""
        self._start(header)
        self._is_streaming.set()
        stream = _stream_in_threads if self.backend.WAITS_ALONE else _stream_in_turns
        rates = stream(self.backend.link, header)
        return {"goodput_bytes_per_s_by_peer": rates}, []


def _bytes(message: Any) -> bytes:
    return message.encode() if isinstance(message, str) else bytes(message)


def _arrays(header: Header, blobs: List[bytes]) -> List[Any]:
    return [
        np.frombuffer(blob, kind["dtype"]).reshape(kind["shape"]).copy()
        for kind, blob in zip(header["arrays"], blobs)
    ]


def _read_owned(header: Dict[str, Any]) -> List[Any]:
    """Read float32 arrays: one .npy, or `entries` of a safetensors file.

    Raises:
        ValueError: If an array is missing or has another shape than `shapes` says.
    """
    path = header["path"]
    if header["entries"]:
        arrays = _read_safetensors(path, header["entries"])
    else:
        arrays = [np.load(path, allow_pickle=False)]
    for array, shape in zip(arrays, header["shapes"]):
        if list(array.shape) != shape:
            raise ValueError(f"{path} has {list(array.shape)}: expected {shape}")
    return [np.ascontiguousarray(array, np.float32) for array in arrays]


def _read_safetensors(path: str, names: List[str]) -> List[Any]:
    with open(path, "rb") as file:  # noqa: PTH123 - the same call on every Python
        (length,) = _TENSORS_LENGTH.unpack(file.read(_TENSORS_LENGTH.size))
        known = json.loads(file.read(length).decode())
        start = _TENSORS_LENGTH.size + length
        return [_read_entry(file, start, name, known) for name in names]


def _read_entry(file: Any, start: int, name: str, known: Dict[str, Any]) -> Any:
    if name not in known or known[name]["dtype"] not in _DTYPES:
        kinds = ", ".join(_DTYPES)
        raise ValueError(f"{file.name} has no entry {name} of {kinds}")
    begin, end = known[name]["data_offsets"]
    file.seek(start + begin)
    values = np.frombuffer(file.read(end - begin), _DTYPES[known[name]["dtype"]])
    return values.reshape(known[name]["shape"])


def _stream_in_threads(link: Any, header: Header) -> Dict[str, float]:
    """Return rates by peer, over the messages after the first, by their arrivals."""
    n_messages, message = header["n_messages"], "x" * header["message_bytes"]
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

    threads = [
        threading.Thread(target=act, args=(peer,))
        for act, peers in ((receive, header["peers"]), (send, header["receivers"]))
        for peer in peers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        str(peer): (n_messages - 1) * len(message) / (last_s - first_s)
        for peer, (first_s, last_s) in arrivals.items()
    }


def _flush(link: Any, peers: List[int], is_streaming: threading.Event) -> None:
    """Send a byte to each peer now and then while messages stream over TLS.

    Where a socket is full, brpc may keep the end of a message in its TLS buffer until
    something else goes over the same connection, so that a stream one way never ends
    (mended by pull request 3105 of brpc, which is later than SPU 0.9.5). SPU's counters
    include what this link sends: nothing goes over it while a program runs.
    """

    def send() -> None:
        with contextlib.suppress(RuntimeError):  # the link is no more
            while is_streaming.wait():
                time.sleep(_FLUSH_PAUSE_S)
                for peer in peers if is_streaming.is_set() else ():
                    link.send_async(peer, "x")

    def take(peer: int) -> None:
        with contextlib.suppress(RuntimeError):
            while True:
                link.recv(peer)

    threading.Thread(target=send, daemon=True).start()
    for peer in peers:
        threading.Thread(target=take, args=(peer,), daemon=True).start()


def _stream_in_turns(link: Any, header: Header) -> Dict[str, float]:
    """Return rates by peer: of the median burst, less what a message alone takes.

    For SPU 0.3.1b0, in which a waiting thread stops all others, and in which messages
    overtake each other: as many bytes go in bursts that its link sends without waiting
    for an answer, each after one message alone. Messages of a burst go off a little
    faster than the line takes them: it never waits for one, and what the parties do for
    a message goes on while others travel, as in a long stream. Sent at once they mix,
    and come together at the end.
    """
    peers, n_more = header["peers"], _BURST_MESSAGES - 1
    pause_s = _BURST_PACE * _BURST_MESSAGE_BYTES * header["seconds_per_byte"]
    n_bytes = header["n_messages"] * header["message_bytes"]
    burst_bytes = n_more * _BURST_MESSAGE_BYTES
    more_s: Dict[int, List[float]] = {peer: [] for peer in peers}
    for _burst in range(-(-n_bytes // burst_bytes)):
        one_s = _exchange_stamped(link, peers, 1, pause_s)
        all_s = _exchange_stamped(link, peers, 1 + n_more, pause_s)
        for peer in peers:
            more_s[peer].append(all_s[peer] - one_s[peer])
    return {str(peer): burst_bytes / median(each) for peer, each in more_s.items()}


def _exchange_stamped(
    link: Any, peers: List[int], n_messages: int, pause_s: float
) -> Dict[int, float]:
    """Return, by peer, seconds from its first send until its last message had come.

    All parties live on one machine, with one monotonic clock.
    """
    begin_s = time.monotonic()
    message = f"{begin_s:.6f} ".ljust(_BURST_MESSAGE_BYTES, "x")
    for n_sent in range(n_messages):
        time.sleep(max(begin_s + n_sent * pause_s - time.monotonic(), 0.0))
        for peer in peers:
            link.send_async(peer, message)
    spent_s = {}
    for _message in range(n_messages):
        for peer in peers:
            begun_s = float(link.recv(peer)[:_STAMP_BYTES].split()[0])
            spent_s[peer] = time.monotonic() - begun_s
    return spent_s


def _wait_until(at_s: float) -> None:
    while True:
        left_s = at_s - time.monotonic()
        if left_s <= 0:
            return
        if left_s > 0.001:
            time.sleep(left_s - 0.0005)


def _reason(log: str) -> str:
    """Return what the compiler printed about its failure; the exception may not say."""
    reasons = (line.partition(" error: ")[2] for line in log.splitlines())
    return next(filter(None, reasons), "")


def _drain_log() -> str:
    """Return what was printed since the last call; only this process appends."""
    end = os.fstat(_LOG_FD).st_size
    text = os.pread(_LOG_FD, end - _drain_log.offset, _drain_log.offset)  # type: ignore[attr-defined]
    _drain_log.offset = end  # type: ignore[attr-defined]
    return text.decode("utf-8", "replace")


_drain_log.offset = 0  # type: ignore[attr-defined]


def _die_with_parent() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # to a group: for the controller
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(channel: socket.socket, party: Party) -> None:
    """Answer commands until the channel closes; an exception is an answer too."""
    while True:
        header, blobs = receive_frame(channel)
        try:
            answer, out = getattr(party, header["command"])(header, blobs)
        except Exception as error:
            answer, out = {"error": f"{type(error).__name__}: {error}"}, []
        send_frame(channel, answer, out)


def main() -> None:
    """Serve the channel named on the command line, then end at once."""
    _die_with_parent()
    backend, channel_fd = sys.argv[1:]
    channel = socket.socket(fileno=int(channel_fd))
    party = Party(importlib.import_module(backend).BACKEND())
    with contextlib.suppress(ChannelClosedError):
        serve(channel, party)
    # SPU's threads may hang at a normal exit; nothing is left to save
    os._exit(0)


main()
