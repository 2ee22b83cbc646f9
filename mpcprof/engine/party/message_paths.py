"""How deep the messages of a party are: a clock that needs no delay."""

import threading
from typing import Dict, List, Tuple

Path = Tuple[float, float]  # hops, bytes


class MessagePaths:
    """The longest chains of messages to this party: by hops, and by seconds.

    A logical clock in the manner of Lamport (1978), as `PathClock` of the relay is one,
    but inside of the parties: a message counts for what follows when a party takes it,
    so no delay is needed to tell causes from messages that happen to come earlier.
    Messages of one direction follow each other on its line.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset(0.0, 0.0)

    def reset(self, delay_s: float, seconds_per_byte: float) -> None:
        """Begin to count anew; a hop and a byte weigh so much."""
        self._weights = ((1.0, 0.0), (delay_s, seconds_per_byte))
        self.reached: List[Path] = [(0.0, 0.0), (0.0, 0.0)]
        self._lines: Dict[int, List[Path]] = {}
        self.sent: Dict[int, List[int]] = {}  # to each peer: messages, bytes

    def send(self, peer: int, n_bytes: int) -> List[Path]:
        """Return the chains that a message to a peer makes on arrival."""
        with self._lock:
            line = self._lines.get(peer, self.reached)
            begun = self._longer(self.reached, line)
            self._lines[peer] = [(hops, n + n_bytes) for hops, n in begun]
            counts = self.sent.setdefault(peer, [0, 0])
            counts[0] += 1
            counts[1] += n_bytes
            return [(hops + 1, n + n_bytes) for hops, n in begun]

    def take(self, paths: List[Path]) -> None:
        """Note that the party took a message that came by these chains."""
        with self._lock:
            self.reached = self._longer(self.reached, paths)

    def _longer(self, first: List[Path], second: List[Path]) -> List[Path]:
        return [
            max(one, other, key=lambda path: path[0] * hop + path[1] * byte)
            for one, other, (hop, byte) in zip(first, second, self._weights)
        ]
