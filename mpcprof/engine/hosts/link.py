"""The link between hosts as the parties see it, for `predict --network link.json`."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from mpcprof.engine.calibration import LinkCheck, check_link, message_bytes
from mpcprof.engine.session import Session
from mpcprof.errors import LinkError
from mpcprof.files import replace_file
from mpcprof.network import Network
from mpcprof.units import format_bandwidth, format_duration

Pair = tuple[int, int]

_N_EXCHANGES: Final = 40
_N_MESSAGES: Final = 8
_FIRST_BYTES: Final = 200_000  # of messages that only show how large others have to be
_N_TRIES: Final = 4
_DIGITS: Final = 3  # of a network as it is named: what a link repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLink:
    """What lies between the parties of several hosts.

    Attributes:
        rtt_s: Twice the median exchange of an empty message between all parties.
        alone_bytes_per_s: Goodput by (sender, receiver) while nothing else is sent.
        at_once_bytes_per_s: Goodput while all send to all, as in a protocol's round.
    """

    rtt_s: float
    alone_bytes_per_s: dict[Pair, float]
    at_once_bytes_per_s: dict[Pair, float]

    @property
    def network(self) -> Network:
        """The network that prices: a round waits for the slowest way, all busy."""
        slowest = min(
            *self.at_once_bytes_per_s.values(), *self.alone_bytes_per_s.values()
        )
        return Network(
            bandwidth_bytes_per_s=_rounded(slowest), rtt_s=_rounded(self.rtt_s)
        )

    @property
    def pace_under_load(self) -> float:
        """Smallest share of its goodput that a way keeps while all are busy."""
        shares = (
            self.at_once_bytes_per_s[pair] / alone
            for pair, alone in self.alone_bytes_per_s.items()
        )
        return min(1.0, *shares)

    def to_json(self) -> str:
        """Return a document that `--network FILE.json` takes."""
        network = self.network
        ways = [
            {
                "sender": sender,
                "receiver": receiver,
                "alone_bytes_per_s": alone,
                "at_once_bytes_per_s": self.at_once_bytes_per_s[sender, receiver],
            }
            for (sender, receiver), alone in sorted(self.alone_bytes_per_s.items())
        ]
        return json.dumps(
            {
                "bandwidth_bytes_per_s": network.bandwidth_bytes_per_s,
                "rtt_s": network.rtt_s,
                "measured_rtt_s": self.rtt_s,
                "pace_under_load": self.pace_under_load,
                "ways": ways,
            }
        )

    def lines(self) -> list[str]:
        """Return what was seen, for people."""
        return [
            f"round trip {format_duration(self.rtt_s, digits=4)}",
            *(
                f"party {pair[0]} to {pair[1]}: {_rate(alone)} alone, "
                f"{_rate(self.at_once_bytes_per_s[pair])} while all are busy"
                for pair, alone in sorted(self.alone_bytes_per_s.items())
            ),
            f"under load a way keeps at least {self.pace_under_load:.0%} of its pace",
            f"as a network: {self.network}",
        ]


def _rate(bytes_per_s: float) -> str:
    return format_bandwidth(bytes_per_s, digits=_DIGITS)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def measure_link(session: Session, n_rounds: int = 1) -> MeasuredLink:
    """Measure the round trip, each way alone, and all ways at once.

    Args:
        n_rounds: How often; medians are kept.
    """
    rounds = [_measure_once(session) for _ in range(n_rounds)]
    pairs = rounds[0].alone_bytes_per_s
    return MeasuredLink(
        rtt_s=median(one.rtt_s for one in rounds),
        alone_bytes_per_s={
            pair: median(one.alone_bytes_per_s[pair] for one in rounds)
            for pair in pairs
        },
        at_once_bytes_per_s={
            pair: median(one.at_once_bytes_per_s[pair] for one in rounds)
            for pair in pairs
        },
    )


def _measure_once(session: Session) -> MeasuredLink:
    ranks = range(session.n_parties)
    pairs = [(a, b) for a in ranks for b in ranks if a != b]
    rtt_s = 2 * session.exchange_s(_N_EXCHANGES)
    rough = session.goodput_bytes_per_s(
        message_bytes=_FIRST_BYTES, n_messages=_N_MESSAGES
    )
    alone = {  # with messages that fit the way: short ones arrive in bursts
        pair: session.goodput_bytes_per_s(
            message_bytes=message_bytes(rough[pair]),
            n_messages=_N_MESSAGES,
            pairs=(pair,),
        )[pair]
        for pair in pairs
    }
    fitting = message_bytes(min(rough.values()))
    at_once = session.goodput_bytes_per_s(message_bytes=fitting, n_messages=_N_MESSAGES)
    return MeasuredLink(
        rtt_s=rtt_s, alone_bytes_per_s=alone, at_once_bytes_per_s=at_once
    )


def check_real_link(session: Session, network: Network) -> LinkCheck:
    """Return what the parties see of a real link, which is to be `network`.

    Raises:
        LinkError: If round trip or goodput is more than 3 % off in all of four tries.
    """
    for _ in range(_N_TRIES):
        seen = check_link(session, network)
        if seen.is_good:
            return seen
    raise LinkError(
        f"asked for {network}, the parties see "
        f"{format_duration(seen.rtt_s, digits=4)} round trip, "
        f"{_rate(seen.goodput_bytes_per_s)} each way; measure the link with `mpcprof "
        "link --parties PARTY.toml --output link.json`, then --network link.json"
    )


def write_link(path: Path, link: MeasuredLink) -> None:
    """Write the document of `to_json` to a file.

    Raises:
        FileError: If it cannot be written.
    """
    replace_file(path, link.to_json())
