"""What a party of MP-SPDZ logs with `-v`: megabytes, rounds and seconds.

A run ends with `Data sent = ...`; the seconds and, with `-v`, a line for each way of
communicating stand before it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_REAL: Final = r"([0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)"
_WAY: Final = re.compile(
    rf"^([A-Z][\w /-]*) {_REAL} MB in ([0-9]+) rounds, taking {_REAL} seconds"
)
_TIME: Final = re.compile(rf"^Time = {_REAL} seconds")
_SENT: Final = re.compile(rf"^Data sent = {_REAL} MB in ~([0-9]+) rounds(.*)$")
_THREADS: Final = re.compile(r"^[0-9]+ threads spent a total of ")
_MB: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class SpdzRun:
    """One execution, as one party of MP-SPDZ logged it.

    Source: `PlayerBase` of `Networking/Player.cpp` and `print_comm` of
    `Processor/BaseMachine.cpp` of MP-SPDZ.

    Attributes:
        bytes_sent: Bytes that this party sent.
        rounds: Actions on the network: a message sent counts, and one received.
        sending_rounds: Actions that only send, and wait for nobody; None without `-v`.
        total_s: Seconds of the whole run.
        blocked_s: Seconds inside communication, added over threads; None without `-v`.
        has_threads: Whether several threads ran, whose rounds and seconds add up.
    """

    bytes_sent: float
    rounds: int
    sending_rounds: int | None
    total_s: float
    blocked_s: float | None
    has_threads: bool


def read_spdz_log(lines: Iterable[str]) -> tuple[SpdzRun, ...]:
    """Return the runs in a log of MP-SPDZ, in their order; none if it has none."""
    runs, seen = [], _Seen()
    for line in lines:
        if run := seen.take(line.strip()):
            runs.append(run)
            seen = _Seen()
    return tuple(runs)


class _Seen:
    """What was read of a run whose end has not come."""

    def __init__(self) -> None:
        self.ways: list[tuple[str, int, float]] = []  # name, rounds, seconds
        self.total_s: float | None = None
        self.has_threads = False

    def take(self, line: str) -> SpdzRun | None:
        """Take a line; return the run that it ends."""
        self.has_threads |= bool(_THREADS.match(line))
        if way := _WAY.match(line):
            if "transmission" not in way[1]:  # detail of a way that is there as well
                self.ways.append((way[1], int(way[3]), float(way[4])))
        elif time := _TIME.match(line):
            self.total_s = float(time[1])
        elif sent := _SENT.match(line):
            return self._end(float(sent[1]), int(sent[2]), sent[3])
        return None

    def _end(self, megabytes: float, rounds: int, remark: str) -> SpdzRun | None:
        if self.total_s is None:
            return None
        sending = sum(n for name, n, _ in self.ways if _only_sends(name))
        blocked_s = sum(s for *_, s in self.ways)
        return SpdzRun(
            bytes_sent=megabytes * _MB,
            rounds=rounds,
            sending_rounds=sending if self.ways else None,
            total_s=self.total_s,
            blocked_s=blocked_s if self.ways else None,
            has_threads=self.has_threads
            or "multi-threading" in remark
            or blocked_s > self.total_s,
        )


def _only_sends(way: str) -> bool:
    return way.startswith("Sending") and "receiving" not in way
