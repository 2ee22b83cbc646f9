"""Two or three processes that measure the links between them, for tests of back-ends.

Run as a program it is one party: it answers pings and swallows bulk data on its own
address, and pings or floods all peers at once when told so on its standard input.
"""

import contextlib
import json
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import ROOT

if TYPE_CHECKING:  # a party starts faster without it
    from mpcprof.engine.emulation.backends import Emulation

_HEADER = struct.Struct("!q")  # bytes that follow; 0 is a ping
_ANSWER = struct.Struct("!d")  # bytes per second at which they came
_SKIPPED = 0.3  # of the bytes: slow start is not the rate of the line
_COMPARED = 200  # arrivals at either end, at most: each of one with each of the other
_CHUNK = bytes(1 << 18)


class Parties:
    """Parties in the namespaces of an emulation, connected with each other."""

    def __init__(self, emulation: "Emulation", n_parties: int) -> None:
        self._processes = [
            subprocess.Popen(
                [
                    *emulation.command_prefix(rank),
                    *(sys.executable, "-m", __name__, emulation.listen_address(rank)),
                    *(
                        emulation.peer_address(rank, peer)
                        for peer in range(n_parties)
                        if peer != rank
                    ),
                ],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(n_parties)
        ]
        self._read_all()
        self._tell_all("connect", 0)

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.pid for process in self._processes]

    def rtt_s(self, n_pings: int = 40) -> float:
        """The quickest round trip of each ordered pair; of those the median.

        A machine makes pings late, an idle one too while it wakes up, and never early;
        an emulation that is wrong makes all wrong. Over 20 ms, the slowest of 25
        readings was 21.15 ms with 15 pings a pair, 20.84 ms with 40.
        """
        answers = [self._tell(process, "ping", n_pings) for process in self._processes]
        quickest = [
            min(answer[begin : begin + n_pings])
            for answer in answers
            for begin in range(0, len(answer), n_pings)
        ]
        return float(statistics.median(quickest))

    def goodputs(self, n_bytes: int) -> list[float]:
        """Bytes per second of every ordered pair, all of them at the same time."""
        return [v for answer in self._tell_all("bulk", n_bytes) for v in answer]

    def start_bulk(self, n_bytes: int) -> None:
        """Begin to flood; `finish` waits for the end."""
        for process in self._processes:
            self._send(process, "bulk", n_bytes)

    def finish(self) -> None:
        """Wait for what `start_bulk` began."""
        self._read_all()

    def _tell_all(self, command: str, number: int) -> list[Any]:
        for process in self._processes:
            self._send(process, command, number)
        return self._read_all()

    def _tell(self, process: "subprocess.Popen[str]", command: str, number: int) -> Any:
        self._send(process, command, number)
        return self._read(process)

    def _send(
        self, process: "subprocess.Popen[str]", command: str, number: int
    ) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps([command, number]) + "\n")
        process.stdin.flush()

    def _read(self, process: "subprocess.Popen[str]") -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "a party died"
        return json.loads(line)

    def _read_all(self) -> list[Any]:
        return [self._read(process) for process in self._processes]

    def close(self) -> None:
        """End the parties."""
        for process in self._processes:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def running(emulation: "Emulation", n_parties: int) -> Iterator[Parties]:
    """The emulation started, with parties in it; everything ended afterwards."""
    with contextlib.closing(emulation):
        emulation.start(n_parties)
        with contextlib.closing(Parties(emulation, n_parties)) as parties:
            yield parties


def namespace_of(prefix: tuple[str, ...]) -> int:
    """Inode of the network namespace that a command prefix leads into."""
    (path,) = [w.removeprefix("--net=") for w in prefix if w.startswith("--net=")]
    return Path(path).stat().st_ino


def users_of(inodes: set[int]) -> list[str]:
    """Everything that keeps one of these network namespaces alive."""
    names = {f"net:[{inode}]" for inode in inodes}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for link in [process / "ns/net", *(process / "fd").iterdir()]:
                with contextlib.suppress(OSError):
                    if str(link.readlink()) in names:
                        found.append(str(link))
    mounts = Path("/proc/self/mountinfo").read_text()
    return found + [name for name in names if name in mounts]


def wait_until_unused(inodes: set[int], timeout_s: float = 30.0) -> list[str]:
    """What still uses the namespaces after the time is out; hopefully nothing."""
    deadline_s = time.monotonic() + timeout_s
    while (users := users_of(inodes)) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return users


# --- what follows runs in a party ---


def goodput_bytes_per_s(arrivals: list[tuple[float, int]]) -> float:
    """Return the rate of the line, from what came over it: (when, bytes until then).

    An arrival may be late, since processes wait for a processor, but never early. From
    a late one the line looks too fast, and up to a late one too slow: so take the
    lowest rate from any of the first third, and the highest of these up to any of the
    last. Slow start does not count. 0 if fewer than three arrivals are left.
    """
    n_bytes = arrivals[-1][1] if arrivals else 0
    steady = [arrival for arrival in arrivals if arrival[1] >= _SKIPPED * n_bytes]
    third = len(steady) // 3
    step = third // _COMPARED + 1
    begins, ends = steady[:third:step], steady[len(steady) - third :: step]
    return max(
        (
            min((end - begin) / (end_s - begin_s) for begin_s, begin in begins)
            for end_s, end in ends
        ),
        default=0.0,
    )


def _receive(connection: socket.socket, n_bytes: int) -> bytes:
    data = connection.recv(n_bytes, socket.MSG_WAITALL)
    if len(data) < n_bytes:
        raise EOFError
    return data


def _serve(connection: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    with contextlib.suppress(EOFError, OSError):
        while True:
            (n_bytes,) = _HEADER.unpack(_receive(connection, _HEADER.size))
            n_received, arrivals = 0, []
            while n_received < n_bytes:
                n_received += connection.recv_into(buffer)
                arrivals.append((time.perf_counter(), n_received))
            connection.sendall(_ANSWER.pack(goodput_bytes_per_s(arrivals)))


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _flood(connection: socket.socket, n_bytes: int) -> float:
    n_chunks = n_bytes // len(_CHUNK)
    connection.sendall(_HEADER.pack(n_chunks * len(_CHUNK)))
    for _ in range(n_chunks):
        connection.sendall(_CHUNK)
    return float(_ANSWER.unpack(_receive(connection, _ANSWER.size))[0])


def _ping(connection: socket.socket) -> float:
    begin_s = time.perf_counter()
    _flood(connection, 0)
    return time.perf_counter() - begin_s


def _connect(address: str) -> socket.socket:
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def main() -> None:
    """`wan_party.py LISTEN PEER...`: one JSON answer per JSON command."""
    host, port = sys.argv[1].split(":")
    listener = socket.create_server((host, int(port)))
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    connections: list[socket.socket] = []
    print("[]", flush=True)  # noqa: T201 - ready
    with ThreadPoolExecutor() as pool:
        for line in sys.stdin:
            command, number = json.loads(line)
            answer: list[float] = []
            if command == "connect":
                connections = [_connect(address) for address in sys.argv[2:]]
            elif command == "ping":
                answer = [_ping(c) for c in connections for _ in range(number)]
            else:
                sizes = [number] * len(connections)
                answer = list(pool.map(_flood, connections, sizes))
            print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
