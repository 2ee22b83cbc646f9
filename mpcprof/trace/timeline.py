"""A call as its parties lived it, second by second."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mpcprof.units import format_duration

State = Literal["computing", "sending", "waiting"]
STATES: Final[tuple[State, ...]] = ("computing", "sending", "waiting")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartySlice:
    """A time in which a party does one thing.

    Attributes:
        state: What it does.
        begin_s: Seconds since the call began.
        n_bytes: Bytes that it sends in this time.
        hops: Messages that it waits for in this time, one after another.
        path: What it is done for, from the outermost part on; empty if nobody knows.
        detail: The message that is sent or waited for; "" if nobody knows.
    """

    state: State
    begin_s: float
    end_s: float
    n_bytes: float = 0.0
    hops: float = 0.0
    path: tuple[str, ...] = ()
    detail: str = ""

    @property
    def duration_s(self) -> float:
        """Length of the slice."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The slices of each party, by rank, each without gaps and overlaps.

    Attributes:
        title: What ran, where.
        is_predicted: Whether nothing ran: the slices are those of the formula.
        busy_s: Processor seconds of each party; none if nothing ran.
    """

    title: str
    rows: tuple[tuple[PartySlice, ...], ...]
    is_predicted: bool
    busy_s: tuple[float, ...] = ()

    @property
    def latency_s(self) -> float:
        """Seconds until the last party is done."""
        return max((row[-1].end_s for row in self.rows if row), default=0.0)

    def seconds(self, rank: int, state: State) -> float:
        """Return the seconds that a party spends in a state."""
        return sum(one.duration_s for one in self.rows[rank] if one.state == state)

    def to_json(self) -> dict[str, object]:
        """Return the seconds of each party in each state, by rank."""
        return {
            "is_predicted": self.is_predicted,
            "parties": [
                {f"{state}_s": self.seconds(rank, state) for state in STATES}
                | ({"busy_s": self.busy_s[rank]} if self.busy_s else {})
                for rank in range(len(self.rows))
            ],
        }

    def lines(self) -> list[str]:
        """Return a line for each party: its seconds in each state."""
        lines = []
        for rank in range(len(self.rows)):
            parts = (
                f"{state} {format_duration(self.seconds(rank, state), digits=3)}"
                for state in STATES
            )
            busy = (
                f"; its processor was busy for "
                f"{format_duration(self.busy_s[rank], digits=3)}"
                if self.busy_s
                else ""
            )
            lines.append(f"party {rank}: {', '.join(parts)}{busy}")
        return [f"{'predicted' if self.is_predicted else 'traced'}:", *lines]


def join_slices(slices: Sequence[PartySlice]) -> tuple[PartySlice, ...]:
    """Return the slices that last, in their order."""
    return tuple(one for one in slices if one.duration_s > 0)
