"""The arithmetic of one direction of an emulated link: no clock, no socket."""

from threading import Lock


class Shaper:
    """Delay and serialisation of one direction: a FIFO of fixed rate and delay.

    A chunk of n bytes that comes at t leaves the sender's interface at
    `max(t, when the chunk before it left) + n / rate` and arrives `delay_s` later,
    as on a real line: each byte waits once for the line and once for the distance.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._free_at_s = 0.0
        self._delay_s = 0.0
        self._seconds_per_byte = 0.0

    @property
    def is_open(self) -> bool:
        """Whether nothing is emulated: chunks pass as fast as they can."""
        return self._delay_s == 0 and self._seconds_per_byte == 0

    def set(self, *, delay_s: float, seconds_per_byte: float) -> None:
        """Change the line; bytes that are on the way keep their arrival time."""
        with self._lock:
            self._delay_s = delay_s
            self._seconds_per_byte = seconds_per_byte
            self._free_at_s = 0.0

    def arrival_s(self, now_s: float, n_bytes: int) -> float:
        """When the last of `n_bytes` that come at `now_s` reaches the other end."""
        with self._lock:
            start_s = max(now_s, self._free_at_s)
            self._free_at_s = start_s + n_bytes * self._seconds_per_byte
            return self._free_at_s + self._delay_s
