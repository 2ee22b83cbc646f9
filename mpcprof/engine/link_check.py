"""Is the emulated link what was asked for? Measured between parties before a sweep."""

from dataclasses import dataclass

from mpcprof.engine.session import Session
from mpcprof.errors import LinkError
from mpcprof.network import Network

TOLERANCE = 0.03
ASK_FOR_LESS = ", or ask for a slower network"
_N_MESSAGES = 8
_MESSAGE_S = 0.15  # of the bandwidth; SPU sends messages of megabytes
_MAX_MESSAGE_BYTES = 6e6  # above SPU's window of 8 MiB arrivals bunch up
_N_TRIES = 12  # other programs may take the processor for moments, some 40 s in all


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCheck:
    """What the parties saw of a network, all directions at the same time.

    Attributes:
        network: What was asked for.
        rtt_s: Twice the median exchange of an empty message between all parties: in an
            exchange each waits for the slowest of the others, as in a protocol's round.
        goodput_bytes_per_s: Slowest direction while all directions are busy.
    """

    network: Network
    rtt_s: float
    goodput_bytes_per_s: float

    @property
    def rtt_error(self) -> float:
        """Relative, 0 where no round trip was asked for."""
        return self.rtt_s / self.network.rtt_s - 1 if self.network.rtt_s else 0.0

    @property
    def goodput_error(self) -> float:
        """Relative to the bandwidth; 0 where that is not limited."""
        share = self.goodput_bytes_per_s / self.network.bandwidth_bytes_per_s
        return share - 1 if share else 0.0

    @property
    def is_good(self) -> bool:
        """Whether both are within the tolerance."""
        return max(abs(self.rtt_error), abs(self.goodput_error)) <= TOLERANCE


def check_link(session: Session, network: Network) -> LinkCheck:
    """Measure the emulated `network` as the parties see it."""
    session.set_network(network)
    rtt_s = 2 * session.exchange_s()
    message_bytes = min(network.bandwidth_bytes_per_s * _MESSAGE_S, _MAX_MESSAGE_BYTES)
    rates = session.goodput_bytes_per_s(
        message_bytes=int(message_bytes), n_messages=_N_MESSAGES
    )
    return LinkCheck(
        network=network, rtt_s=rtt_s, goodput_bytes_per_s=min(rates.values())
    )


def trim_link(
    session: Session, network: Network, *, advice: str = ASK_FOR_LESS
) -> LinkCheck:
    """Make the parties see `network`, and tell what they see.

    A message is late by what the processes between the parties need to wake up; the
    session shortens the emulated delay by that from now on.

    Args:
        advice: What to do where it cannot be done, besides freeing the processor.

    Raises:
        LinkError: If round trip or goodput stays more than 3 % off.
    """
    session.late_s = 0.0
    session.set_network(network)
    session.late_s = 2 * session.exchange_s() - network.rtt_s
    for _ in range(_N_TRIES):
        seen = check_link(session, network)
        if seen.is_good:
            return seen
        session.late_s += seen.rtt_s - network.rtt_s
    raise LinkError(
        f"asked for {network}, the parties see {seen.rtt_s * 1e3:.2f} ms round trip, "
        f"{seen.goodput_bytes_per_s / 1e6:.1f} MB/s each way ({_N_TRIES} tries, "
        f"tolerance {TOLERANCE:.0%}); free the processor{advice}"
    )
