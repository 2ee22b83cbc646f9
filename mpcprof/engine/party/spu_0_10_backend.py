"""SPU 0.10 as a party sees it: as 0.9.5, and messages that tell how deep they are."""

import struct
import threading
from typing import Any, Dict, List, Tuple

import spu
import spu.libspu as libspu
from message_paths import MessagePaths, Path
from spu_backend import Spu095Backend, make_runtime_config

_HEAD = struct.Struct("<4dI")  # two paths, and the length of the key behind
_RECEIVE_TIMEOUT_MS = 3_600_000


class _Channel(libspu.link.IChannel):
    """Messages to and from one peer, each with its chains in front, over a link."""

    def __init__(self, peer: int, carrier: Any, paths: MessagePaths) -> None:
        super().__init__()
        self._peer = peer
        self._carrier = carrier
        self._paths = paths
        self._inbox: Dict[str, Tuple[List[Path], bytes]] = {}
        self._came = threading.Condition()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        while True:
            message = self._carrier.recv(self._peer)
            *chains, n_key = _HEAD.unpack_from(message)
            begin = _HEAD.size + n_key
            key = message[_HEAD.size : begin].decode()
            with self._came:
                paths = [(chains[0], chains[1]), (chains[2], chains[3])]
                self._inbox[key] = (paths, message[begin:])
                self._came.notify_all()

    def Send(self, key: str, value: bytes) -> None:  # noqa: N802 - names of SPU's own
        """Send a message."""
        chains = [n for path in self._paths.send(self._peer, len(value)) for n in path]
        name = key.encode()
        head = _HEAD.pack(*chains, len(name))
        self._carrier.send_async(self._peer, b"".join([head, name, value]))

    SendAsync = SendAsyncThrottled = Send

    def Recv(self, key: str) -> bytes:  # noqa: N802
        """Wait for the message of that key."""
        with self._came:
            self._came.wait_for(lambda: key in self._inbox)
            paths, value = self._inbox.pop(key)
        self._paths.take(paths)
        return value

    def GetRecvTimeout(self) -> int:  # noqa: N802
        """Return milliseconds for which a message is waited for."""
        return _RECEIVE_TIMEOUT_MS

    def _do_nothing(self, *_: Any) -> None:
        """Leave to the link below what it does already."""

    SetRecvTimeout = SetThrottleWindowSize = SetChunkParallelSendSize = _do_nothing
    WaitLinkTaskFinish = Abort = TestSend = TestRecv = _do_nothing


class Spu010Backend(Spu095Backend):
    """One party's link and virtual machine, and a second one whose messages count."""

    def __init__(self) -> None:
        super().__init__()
        self._paths = MessagePaths()
        self._counting: Any = None
        self._channels: List[Any] = []  # SPU keeps no reference to them

    def start_runtime(self, header: Dict[str, Any]) -> None:
        """Make the virtual machine; protocols with keys exchange them here."""
        super().start_runtime(header)
        self._settings = header["runtime_config"]
        self._rank = header["rank"]

    def _start_counting(self) -> None:
        """Make the second virtual machine, on a link of its own over the same lines."""
        carrier = self.link.spawn()
        desc = self.LINK.Desc()
        peers = range(self.link.world_size)
        for peer in peers:
            desc.add_party(f"rank{peer}", f"rank{peer}")
        self._channels = [
            None if peer == self._rank else _Channel(peer, carrier, self._paths)
            for peer in peers
        ]
        link = self.LINK.create_with_channels(desc, self._rank, self._channels)
        self._counting = spu.Runtime(link, make_runtime_config(self._settings))

    def count(
        self, case: str, delay_s: float, seconds_per_byte: float
    ) -> Dict[str, Any]:
        """Run a case once; return its longest chains to here, and what was sent.

        Args:
            delay_s: Weight of a hop, where the longest chain is the slowest one.
            seconds_per_byte: Weight of a byte there.
        """
        if self._counting is None:
            self._start_counting()
        executable = self._executables[case]
        for name in executable.input_names:
            self._counting.set_var(name, self._runtime.get_var(name))
        self._paths.reset(delay_s, seconds_per_byte)
        self._counting.run(executable)
        deepest, heaviest = self._paths.reached
        for name in executable.output_names:
            self._runtime.set_var(name, self._counting.get_var(name))
        for name in [*executable.input_names, *executable.output_names]:
            self._counting.del_var(name)
        sent = [[peer, *counts] for peer, counts in self._paths.sent.items()]
        return {"deepest": deepest, "heaviest": heaviest, "sent": sent}


BACKEND = Spu010Backend
