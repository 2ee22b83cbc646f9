"""Costs that somebody else reported, priced on other networks.

    T = compute + hops x RTT/2 + bytes / bandwidth

A **hop** is one one-way message that had to wait for another one; all parties sending
at once is one hop. A **round**, in papers and logs, is one step of a protocol, after
which parties need what the others sent. Where all send at once, a round is one hop;
where an answer follows a request it is two. `docs/cost-model.md` says what the rounds
of which framework are.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from mpcprof.engine.spdzlog import SpdzRun, read_spdz_log
from mpcprof.engine.spulog import SpuRun, read_spu_log
from mpcprof.errors import LogError, UsageError
from mpcprof.network import Network
from mpcprof.pricing import price_s
from mpcprof.units import format_bytes, format_duration, format_hops

_SPU_ACTIONS = "SPU's send actions taken for hops, which they are in semi2k only"
_THREADS = (
    "several threads ran, whose rounds the log adds up: hops and seconds are upper "
    "bounds"
)
_NO_WAYS = (
    "messages sent count as rounds besides those waited for: hops are an upper bound; "
    "a log with -v tells them apart"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedCosts:
    """What one run costs, by somebody's numbers.

    Attributes:
        name: Name of the run.
        bytes_sent: Bytes that one party sends.
        hops: One-way messages on the critical path.
        compute_s: Seconds left on a network that costs nothing.
        is_half_duplex: Whether both directions share the bandwidth, so that bytes are
            paid twice.
        notes: Reasons for caution.

    Raises:
        UsageError: If a number is below 0 or not finite.
    """

    name: str
    bytes_sent: float
    hops: float
    compute_s: float
    is_half_duplex: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("bytes_sent", "hops", "compute_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:  # refuses NaN too
                raise UsageError(
                    f"{self.name}: {name}={value:g}: expected a finite number from 0 on"
                )

    @property
    def wire_bytes(self) -> float:
        """Bytes that the bandwidth is paid for."""
        return self.bytes_sent * (2 if self.is_half_duplex else 1)

    def on(self, network: Network) -> "RepricedSeconds":
        """Return the seconds on a network, and what they are made of."""
        transfer_s = self.wire_bytes / network.bandwidth_bytes_per_s
        latency_s = price_s(
            network,
            exposed_s=self.compute_s,
            hops=self.hops,
            wire_bytes=self.wire_bytes,
        )
        return RepricedSeconds(
            network=str(network),
            latency_s=latency_s,
            compute_s=self.compute_s,
            hops_s=self.hops * network.one_way_s,
            transfer_s=transfer_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RepricedSeconds:
    """Seconds of a run on one network: compute, hops and bytes."""

    network: str
    latency_s: float
    compute_s: float
    hops_s: float
    transfer_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Elapsed:
    """What tells the compute of a run that was reported.

    Attributes:
        compute_s: Seconds left on a network that costs nothing; None if not reported.
        latency_s: Seconds of the whole run; None if not reported, or if a log has them.
        network: Network on which these were measured.
    """

    compute_s: float | None = None
    latency_s: float | None = None
    network: Network | None = None

    def __post_init__(self) -> None:
        if self.compute_s is not None and (self.network or self.latency_s is not None):
            raise UsageError(
                "--compute is what no network changes; leave it out, or --seconds and "
                "--measured-on, from which it follows"
            )
        if self.latency_s is not None and self.network is None:
            raise UsageError(
                f"--seconds {format_duration(self.latency_s)}: on which network? "
                "add --measured-on 10Gbps,0.2ms, or give --compute instead"
            )

    def compute_of(
        self, name: str, bytes_: float, hops: float, total_s: float | None
    ) -> float | None:
        """Return the compute of a run of so many bytes and hops; None if unknown.

        Raises:
            UsageError: If its bytes and hops alone take longer than it did.
        """
        latency_s = self.latency_s if self.latency_s is not None else total_s
        if self.compute_s is not None or self.network is None or latency_s is None:
            return self.compute_s
        network_s = price_s(self.network, exposed_s=0.0, hops=hops, wire_bytes=bytes_)
        if network_s > latency_s:
            raise UsageError(
                f"{name}: {format_hops(hops)} hops and "
                f"{format_bytes(bytes_, digits=3)} alone take "
                f"{format_duration(network_s, digits=3)} on {self.network}, more than "
                f"the {format_duration(latency_s, digits=3)} of the whole run; "
                "expected the network it ran on, and hops that waited for each other"
            )
        return latency_s - network_s


def count_hops(
    hops: float | None, rounds: float | None, hops_per_round: float | None
) -> float:
    """Return hops, given as such or as rounds; by default a round is one hop.

    Raises:
        UsageError: If there is neither, or both.
    """
    if (hops is None) == (rounds is None):
        raise UsageError("expected either --hops or --rounds, such as --rounds 1128")
    if hops is not None and hops_per_round is not None:
        raise UsageError(f"--hops-per-round {hops_per_round:g} is of --rounds")
    per_round = 1.0 if hops_per_round is None else hops_per_round
    return hops if hops is not None else (rounds or 0.0) * per_round


def make_reported(
    *,
    bytes_sent: float,
    hops: float,
    elapsed: Elapsed,
    is_half_duplex: bool = False,
    name: str = "reported",
    total_s: float | None = None,
    notes: tuple[str, ...] = (),
) -> ReportedCosts:
    """Return reported costs, their compute as given or as left of the seconds measured.

    Args:
        total_s: Seconds of the whole run, for `elapsed` that has none.

    Raises:
        UsageError: If compute is neither given nor left of measured seconds.
    """
    paid = bytes_sent * (2 if is_half_duplex else 1)
    compute_s = elapsed.compute_of(name, paid, hops, total_s)
    if compute_s is None:
        raise UsageError(
            f"{name}: nothing says its compute; expected --compute 1.07s (0s for the "
            "network alone), or --measured-on with the network that it ran on"
            + (" and --seconds" if total_s is None else "")
        )
    return ReportedCosts(
        name=name,
        bytes_sent=bytes_sent,
        hops=hops,
        compute_s=compute_s,
        is_half_duplex=is_half_duplex,
        notes=notes,
    )


def read_reported(
    path: Path, elapsed: Elapsed, *, is_half_duplex: bool = False
) -> tuple[ReportedCosts, ...]:
    """Return the runs in a log of MP-SPDZ or of SPU.

    Raises:
        LogError: If there is none.
        UsageError: If the file cannot be read, or the compute of a run is unknown.
    """
    try:
        with path.open("rb") as stream:
            found = _read_log(stream)
    except OSError as error:
        raise UsageError(
            f"{str(path)!r}: {error.strerror or error}; expected a log of MP-SPDZ or "
            "SPU"
        ) from None
    except LogError as error:
        raise LogError(
            f"{path}: no run of MP-SPDZ ('Time = ...', 'Data sent = ...'), and {error}"
        ) from None
    return tuple(
        _from_spdz(f"run {n}", run, elapsed, is_half_duplex)
        if isinstance(run, SpdzRun)
        else _from_spu(f"run {n} ({run.name})", run, elapsed, is_half_duplex)
        for n, run in enumerate(found, start=1)
    )


def _read_log(stream: BinaryIO) -> Sequence[SpdzRun | SpuRun]:
    lines = stream.read().decode("utf-8", "replace").splitlines()
    if runs := read_spdz_log(lines):
        return runs
    stream.seek(0)
    return read_spu_log(stream)


def _from_spdz(
    name: str, run: SpdzRun, elapsed: Elapsed, is_half_duplex: bool
) -> ReportedCosts:
    """Return the costs of a run of MP-SPDZ: every round that waits is a hop."""
    notes = (_THREADS,) * run.has_threads
    if run.sending_rounds is None:
        notes += (_NO_WAYS,)
    if elapsed == Elapsed() and run.blocked_s is not None and not run.has_threads:
        elapsed = Elapsed(compute_s=max(run.total_s - run.blocked_s, 0.0))
    return make_reported(
        name=name,
        bytes_sent=run.bytes_sent,
        hops=run.rounds - (run.sending_rounds or 0),
        elapsed=elapsed,
        total_s=run.total_s,
        is_half_duplex=is_half_duplex,
        notes=notes,
    )


def _from_spu(
    name: str, run: SpuRun, elapsed: Elapsed, is_half_duplex: bool
) -> ReportedCosts:
    if run.bytes_sent is None or run.send_actions is None:
        raise LogError(f"{name}: this build of SPU logs no bytes and send actions")
    return make_reported(
        name=name,
        bytes_sent=run.bytes_sent,
        hops=run.send_actions,
        elapsed=elapsed,
        total_s=run.total_s,
        is_half_duplex=is_half_duplex,
        notes=(_SPU_ACTIONS, *((run.problem,) if run.problem else ())),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RepricedReport:
    """Runs that somebody reported, on several networks."""

    costs: tuple[ReportedCosts, ...]
    networks: tuple[Network, ...]

    def to_json(self) -> str:
        """Return the document of `price --json`."""
        rows = [
            {
                **asdict(costs),
                "wire_bytes": costs.wire_bytes,
                "networks": [asdict(costs.on(network)) for network in self.networks],
            }
            for costs in self.costs
        ]
        return json.dumps({"runs": rows})

    def lines(self) -> list[str]:
        """Return a line per run, and one per network."""
        return [line for costs in self.costs for line in self._lines(costs)]

    def _lines(self, costs: ReportedCosts) -> list[str]:
        twice = ", both directions on one link" * costs.is_half_duplex
        lines = [
            f"{costs.name}: {format_bytes(costs.bytes_sent, digits=4)} sent by a party"
            f"{twice}, {format_hops(costs.hops)} hops, compute "
            f"{format_duration(costs.compute_s, digits=3)}"
        ]
        for one in map(costs.on, self.networks):
            parts = (one.compute_s, one.hops_s, one.transfer_s)
            compute, hops, transfer = (format_duration(s, digits=3) for s in parts)
            lines.append(
                f"{one.network}: {format_duration(one.latency_s, digits=4)} = "
                f"{compute} compute + {hops} hops + {transfer} bytes"
            )
        return lines + [f"note: {note}" for note in costs.notes]
