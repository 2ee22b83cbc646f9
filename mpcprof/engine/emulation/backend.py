"""What every way of emulating a wide-area network offers to the engine."""

from dataclasses import dataclass
from typing import Protocol

from mpcprof.engine.child import Child
from mpcprof.engine.emulation.clock import Path
from mpcprof.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class LineCount:
    """What one party sent to another.

    Attributes:
        payload_bytes: As SPU counts them: without frames.
        n_waits: Round trips for which the sender paused within a message.
    """

    sender: int
    receiver: int
    n_messages: int
    payload_bytes: int
    n_waits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a back-end that sees the messages counted since it was reset.

    Attributes:
        lower: The critical path if no party ever waited for an acknowledgement.
        upper: The critical path if parties waited for every acknowledgement.
        deepest: The path of most hops, whatever its bytes, where `lower` is the one
            that takes longest.
        carried_bytes: Of all directions together, framing included.
        lines: Messages by sender and receiver; zeros on loopback, where nobody looks.
    """

    lower: Path
    upper: Path
    deepest: Path
    carried_bytes: int
    lines: tuple[LineCount, ...]


class Emulation(Protocol):
    """A network between the parties whose delay and rate can be set.

    Attributes:
        name: What a record says: relay, tun or netem.
    """

    name: str

    def start(self, n_parties: int) -> None:
        """Set up the links; called before the parties start, again after `close`."""

    def command_prefix(self, rank: int) -> tuple[str, ...]:
        """Words put before a party's command line (to enter its namespace)."""

    def listen_address(self, rank: int) -> str:
        """`host:port` on which party `rank` listens."""

    def peer_address(self, rank: int, peer: int) -> str:
        """`host:port` that `rank` dials to reach `peer`."""

    def set_network(self, network: Network) -> None:
        """Take this delay and rate from now on; LOOPBACK: as fast as it can."""

    def reset_counters(self) -> None:
        """Begin counting anew."""

    def counters(self) -> Counters | None:
        """What was counted; None if this back-end sees packets only."""

    def watched(self) -> tuple[Child, ...]:
        """Processes of its own whose end is the end of the link."""

    def close(self) -> None:
        """End everything that `start` began."""
