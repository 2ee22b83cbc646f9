"""What parties did in a real call, read off the messages that the relay carried.

A party computes from the arrival of a message until it sends the next one. It sends
while its bytes go on the line. It waits from there until the next message arrives, or
computes if it sends again before one does. Compute that goes on while a message travels
is therefore counted as waiting: the processor's seconds, beside it, show how much.
"""

from collections.abc import Sequence
from typing import Final

from mpcprof.engine.calls import Call
from mpcprof.engine.emulation.clock import CarriedMessage
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.trace.timeline import PartySlice, State, Timeline, join_slices

_RELAY_ONLY: Final = "a trace is read off the relay's messages; expected "


def check_traceable(mode: str, emulation: str, network: Network) -> None:
    """Refuse to trace what passes no relay.

    Args:
        emulation: Name of the back-end.

    Raises:
        UsageError: If no message can be seen.
    """
    if mode != "emulated":
        raise UsageError(f"--mode {mode}: {_RELAY_ONLY}--mode emulated with --trace")
    if emulation != "relay":
        raise UsageError(
            f"--emulation {emulation}: {_RELAY_ONLY}--emulation relay with --trace"
        )
    if network.is_loopback:
        raise UsageError(f"{_RELAY_ONLY}a --network with a round trip with --trace")


def call_timeline(call: Call, title: str, network: Network) -> Timeline:
    """Return the timeline of a call that was traced on a network."""
    begin_s = min(begin for begin, _ in call.spans_s)
    messages = call.counters.messages if call.counters else ()
    return Timeline(
        title=title,
        rows=tuple(
            _row(rank, span, messages, network.one_way_s, begin_s)
            for rank, span in enumerate(call.spans_s)
        ),
        is_predicted=False,
        busy_s=call.busy_s_by_rank,
    )


# of sending, so that no message is lost from the bytes: a busy relay may see the last
# one of a party after its end, or two at once
_LEAST_S: Final = 1e-6


def _row(
    rank: int,
    span: tuple[float, float],
    messages: Sequence[CarriedMessage],
    one_way_s: float,
    origin_s: float,
) -> tuple[PartySlice, ...]:
    """Return the slices of one party, from its own begin to its own end."""
    row = _Row(span, origin_s)
    sent = [(one.begin_s, one) for one in messages if one.sender == rank]
    arrived = [(one.arrival_s, one) for one in messages if one.receiver == rank]
    has_sent = False
    for time_s, one in sorted([*sent, *arrived], key=lambda event: event[0]):
        size = f"{one.n_bytes} bytes"
        if one.sender == rank:
            row.until(time_s, "computing")
            leaves_s = max(one.arrival_s - one_way_s, time_s)
            detail = f"to party {one.receiver}, {size}"
            row.until(leaves_s, "sending", detail, n_bytes=one.n_bytes)
            has_sent = True
        elif has_sent or not row.slices:
            row.until(time_s, "waiting", f"from party {one.sender}, {size}", hops=1.0)
            has_sent = False
    row.until(span[1], "computing")
    return join_slices(row.slices)


class _Row:
    """The slices of a party so far, each from the end of the one before."""

    def __init__(self, span: tuple[float, float], origin_s: float) -> None:
        self.slices: list[PartySlice] = []
        self._at_s, self._end_s = span
        self._origin_s = origin_s

    def until(
        self,
        time_s: float,
        state: State,
        detail: str = "",
        *,
        n_bytes: float = 0.0,
        hops: float = 0.0,
    ) -> None:
        """Add what the party does until then; what ended before has no slice."""
        least_s = self._at_s + (_LEAST_S if state == "sending" else 0.0)
        time_s = max(min(time_s, self._end_s), least_s)
        self.slices.append(
            PartySlice(
                state=state,
                begin_s=self._at_s - self._origin_s,
                end_s=time_s - self._origin_s,
                n_bytes=n_bytes,
                hops=hops,
                detail=detail,
            )
        )
        self._at_s = time_s
