"""What this host's loopback link costs, found from cases that no profile holds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import jax.numpy as jnp
import numpy as np
from jax import Array, nn

from mpcprof.engine.calls import Call
from mpcprof.engine.session import Session
from mpcprof.errors import LinkError
from mpcprof.network import LOOPBACK, NETWORKS, Network
from mpcprof.pricing import Calibration

TOLERANCE = 0.03
ASK_FOR_LESS = ", or ask for a slower network"
_N_MESSAGES = 8
_MESSAGE_S = 0.15  # of the bandwidth; SPU sends messages of megabytes
_MIN_MESSAGE_BYTES = 40e3  # framing, about 150 bytes, weighs nothing beside it
_MAX_MESSAGE_BYTES = 6e6  # above SPU's window of 8 MiB arrivals bunch up
_EXCHANGES_S = 4.0  # that exchanges take together, if 6 to 60 of them do
_N_TRIES = 12  # other programs may take the processor for moments, some 40 s in all


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCheck:
    """What the parties saw of a network, all directions at the same time.

    Attributes:
        network: The network asked for.
        rtt_s: Twice the median exchange of an empty message between all parties: in an
            exchange each waits for the slowest of the others, as in a protocol's round.
        goodput_bytes_per_s: Rate of the slowest direction while all are busy.
    """

    network: Network
    rtt_s: float
    goodput_bytes_per_s: float

    @property
    def rtt_error(self) -> float:
        """Relative error of the round trip; 0 where none was asked for."""
        return self.rtt_s / self.network.rtt_s - 1 if self.network.rtt_s else 0.0

    @property
    def goodput_error(self) -> float:
        """Relative error of the goodput; 0 where the bandwidth is not limited."""
        share = self.goodput_bytes_per_s / self.network.bandwidth_bytes_per_s
        return share - 1 if share else 0.0

    @property
    def is_good(self) -> bool:
        """Whether both errors are within the tolerance."""
        return max(abs(self.rtt_error), abs(self.goodput_error)) <= TOLERANCE


def link_check_s(network: Network) -> float:
    """Return the seconds that trimming a link takes if it is right at once."""
    streamed_bytes = _N_MESSAGES * message_bytes(network.bandwidth_bytes_per_s)
    exchanged_s = 2 * _n_exchanges(network) * network.one_way_s
    return exchanged_s + streamed_bytes / network.bandwidth_bytes_per_s


def message_bytes(bandwidth_bytes_per_s: float) -> int:
    """Return the size of the messages by which a rate is measured."""
    fitting = bandwidth_bytes_per_s * _MESSAGE_S
    return int(min(max(fitting, _MIN_MESSAGE_BYTES), _MAX_MESSAGE_BYTES))


def _n_exchanges(network: Network) -> int:
    return int(min(max(_EXCHANGES_S / max(network.one_way_s, 1e-9), 6), 60))


def check_link(session: Session, network: Network) -> LinkCheck:
    """Measure the emulated `network` as the parties see it."""
    session.set_network(network)
    rtt_s = 2 * session.exchange_s(_n_exchanges(network))
    rates = session.goodput_bytes_per_s(
        message_bytes=message_bytes(network.bandwidth_bytes_per_s),
        n_messages=_N_MESSAGES,
    )
    return LinkCheck(
        network=network, rtt_s=rtt_s, goodput_bytes_per_s=min(rates.values())
    )


def trim_link(
    session: Session, network: Network, *, advice: str = ASK_FOR_LESS
) -> LinkCheck:
    """Make the parties see `network`; return what they see.

    A message is late by what the processes between the parties need to wake up; the
    session shortens the emulated delay by that from now on.

    Args:
        advice: What to do where it cannot be done, besides freeing the processor.

    Raises:
        LinkError: If round trip or goodput stays more than 3 % off.
    """
    session.late_s = 0.0
    session.set_network(network)
    session.late_s = 2 * session.exchange_s(_n_exchanges(network)) - network.rtt_s
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


_ROUNDS = (3, 6)  # least and most, the first one to warm up
_ENOUGH_S = 15.0  # of rounds; then the least are enough
_ROUGH_ENOUGH_S = 4.0  # where the constants weigh little ...
_ROUGH_SHARE = 0.25  # ... and of the elements


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A calibration case: elementwise, on inputs from -1 to 1."""

    function: Callable[[Array], Array]
    n_elements: int


def _squarings(length: int) -> Callable[[Array], Array]:
    def repeated_square(x: Array) -> Array:
        for _ in range(length):
            x = x * x
        return x

    return repeated_square


# few and many hops, few and many bytes; sizes that no preset has
_PROGRAMS = (
    Program(function=_squarings(1), n_elements=400_000),
    Program(function=_squarings(1), n_elements=100_000),
    Program(function=_squarings(1), n_elements=10_000),
    Program(function=_squarings(10), n_elements=1_000),
    Program(function=nn.relu, n_elements=3_000),
    Program(function=nn.relu, n_elements=30_000),
    Program(function=nn.relu, n_elements=100_000),
    Program(function=jnp.exp, n_elements=9_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A calibration case on both links."""

    loopback_s: float
    hidden_s: float
    emulated_s: float
    hops: int
    wire_bytes: int


def calibration_network(network: Network) -> Network:
    """Return the network that loopback is compared with: `network`, or a quicker one.

    The constants are those of the host. Below a quarter of the wan's rate, or above its
    round trip, calibrating would take minutes for what weighs less and less; the full
    rate would be more than a busy machine can emulate.
    """
    wan = NETWORKS["wan"]
    return Network(
        bandwidth_bytes_per_s=max(
            network.bandwidth_bytes_per_s, wan.bandwidth_bytes_per_s / 4
        ),
        rtt_s=min(network.rtt_s, wan.rtt_s),
    )


def calibrate(
    session: Session,
    network: Network,
    *,
    seed: int = 0,
    is_rough: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Calibration:
    """Measure the calibration cases and solve for the two constants of this host.

    Args:
        session: A semi2k session, because there SPU counts the hops.
        network: What the constants are for; see `calibration_network`.
        is_rough: Whether two repeats of a quarter of the elements will do, as they do
            for a network slower than the one that is calibrated on.
    """
    compared = calibration_network(network)
    is_rough = is_rough or compared != network
    enough_s = _ROUGH_ENOUGH_S if is_rough else _ENOUGH_S
    share = _ROUGH_SHARE if is_rough else 1
    rng = np.random.default_rng(seed)
    cases = [f"calibration{index}" for index in range(len(_PROGRAMS))]
    for case, program in zip(cases, _PROGRAMS, strict=True):
        n_elements = int(program.n_elements * share)
        inputs = [rng.uniform(-1, 1, n_elements).astype(np.float32)]
        session.load(case, session.lower(case, program.function, inputs), inputs)
    calls: dict[str, list[tuple[Call, Call]]] = {case: [] for case in cases}
    begin_s = clock()
    least, most = _ROUNDS
    for n_rounds in range(most):
        if n_rounds >= least and clock() - begin_s >= enough_s:
            break
        loopbacks = _run_all(session, cases, LOOPBACK)
        emulated = _run_all(session, cases, compared)
        for case, *pair in zip(cases, loopbacks, emulated, strict=True):
            calls[case].append((pair[0], pair[1]))
    for case in cases:
        session.unload(case)
    probes = [_probe(calls[case][1:]) for case in cases]
    return solve(probes, compared)


def solve(probes: Sequence[Probe], network: Network) -> Calibration:
    """Find the constants a and b that make loopback and emulated times agree.

    Least squares, relative to the emulated time, of the equation:
    loopback - hidden - (emulated - hops RTT/2 - bytes/bandwidth) = a hops + b bytes.
    """
    rows, excesses_s, weights = [], [], []
    for probe in probes:
        transfer_s = probe.wire_bytes / network.bandwidth_bytes_per_s
        net_s = probe.emulated_s - probe.hops * network.one_way_s - transfer_s
        rows.append((probe.hops, probe.wire_bytes))
        excesses_s.append(probe.loopback_s - probe.hidden_s - net_s)
        weights.append(1 / probe.emulated_s)
    scale = np.asarray(weights)
    solution, *_ = np.linalg.lstsq(
        np.asarray(rows) * scale[:, None], np.asarray(excesses_s) * scale, rcond=None
    )
    return Calibration(
        loopback_s_per_hop=float(solution[0]), loopback_s_per_byte=float(solution[1])
    )


def hidden_s(calls: Sequence[Call]) -> float:
    """Estimate the compute of semi2k's first party that a slow network hides.

    With beaver triples from the first party, it computes their correction before it
    opens its masked inputs, and one product more than its peer after it has the peer's.
    The correction goes on while the peer's message travels. In a matrix product both
    are one product of the same size, so half of what the first party computes more than
    the other. Elsewhere the difference goes with the bytes, and with them into the
    calibration of this host.
    """
    more_s = median(c.busy_s_by_rank[0] - c.busy_s_by_rank[1] for c in calls)
    return max(more_s, 0.0) / 2


def _run_all(session: Session, cases: Sequence[str], network: Network) -> list[Call]:
    session.set_network(network)
    return [session.run(case) for case in cases]


def _probe(pairs: Sequence[tuple[Call, Call]]) -> Probe:
    runs = pairs[0][1].runs  # not every build is counted on loopback
    return Probe(
        loopback_s=median(loopback.latency_s for loopback, _ in pairs),
        hidden_s=hidden_s([loopback for loopback, _ in pairs]),
        emulated_s=median(emulated.latency_s for _, emulated in pairs),
        hops=runs[0].send_actions or 0,
        wire_bytes=max(run.bytes_sent or 0 for run in runs),
    )
