"""What a sweep is asked to measure, checked once before anything starts."""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcprof.deployment import Deployment, make_deployment
from mpcprof.engine.emulation.backends import check_carries, choose_emulation
from mpcprof.engine.hosts.party_file import PartyFile, read_party_file
from mpcprof.engine.hosts.station import check_same_build
from mpcprof.engine.measure import Case, MeasureConfig
from mpcprof.engine.traced import check_traceable
from mpcprof.errors import UsageError
from mpcprof.network import LOOPBACK, NETWORKS, Network
from mpcprof.profile.columns import LARGEST_COUNT, Emulation, Mode
from mpcprof.profile.record import RecordKey
from mpcprof.shard import Shard
from mpcprof.sweep.estimate import call_s

# with a delay the relay sees which messages wait; they are few, so it can be short
SEEN_ON = Network(bandwidth_bytes_per_s=math.inf, rtt_s=0.010)
_STOCK_FACTOR = 4  # times enough_s where calls refill a stock, to see several refills


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """What to measure and how; see `mpcprof sweep --help`.

    Attributes:
        cases: Cases in the order in which they are measured.
        mode: Whether parties really wait for the network, or loopback calls are priced.
        emulation: Back-end that emulates the network.
        repeats: Timed calls of each case, at least.
        enough_s: Seconds that the calls of a short case take together: noise weighs
            most on short ones, so they are called more often.
        warmups: Untimed calls after the first, cold one.
        slow_s: Seconds from which a call is the only one on its network, where calls
            take milliseconds to minutes.
        seed: Seed of the inputs.
        case_limit_s: Seconds of the calls of a case beyond which it is left out.
        base_port: First port for parties and relay; 0 for free ones.
        is_traced: Whether calls keep their messages, for a trace.
        parties: This host's party, of several hosts; None for parties of this machine.
        is_network_seen: Whether `network` is to be what these parties see.

    Raises:
        UsageError: If the seed is none of a record.
    """

    deployment: Deployment
    cases: tuple[Case, ...]
    network: Network = NETWORKS["wan"]
    mode: Mode = "emulated"
    emulation: str = "auto"
    repeats: int = 3
    enough_s: float = 1.0
    warmups: int = 1
    slow_s: float = math.inf
    seed: int = 0
    case_limit_s: float = math.inf
    base_port: int = 0
    is_traced: bool = False
    parties: PartyFile | None = None
    is_network_seen: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= LARGEST_COUNT:
            raise UsageError(
                f"seed {self.seed}: expected a whole number from 0 to {LARGEST_COUNT}"
            )

    def key_of(self, case: Case) -> RecordKey:
        """Return the key of a case in the profile."""
        return RecordKey(
            workload=case.workload.name,
            dims=case.dims,
            network=self.network,
            mode=self.mode,
        )

    @property
    def recorded_emulation(self) -> Emulation:
        """The back-end of the network that records name."""
        if self.mode == "priced":
            return "none"
        return "hosts" if self.parties else choose_emulation(self.emulation)

    def plan(self) -> MeasureConfig:
        """Return the calls of each case; priced ones wait for no emulated network.

        But for one call, where only the relay tells hops: of other protocols, and of
        functions that nobody has seen, whose messages may not wait for each other.
        Where messages tell hops themselves, that call waits for no network either.
        """
        if self.parties:
            return self._plan_of_hosts()
        is_emulated = self.mode == "emulated"
        is_waited_for = is_emulated and not self.network.is_loopback
        keeps_stock = self.deployment.keeps_stock
        enough_s = self.enough_s * (_STOCK_FACTOR if keeps_stock else 1)
        needs_counting = not (self.deployment.is_counted_by_spu or is_emulated)
        has_own = any(case.workload.kind == "function" for case in self.cases)
        is_unseen = has_own and not (is_emulated and self.network.one_way_s)
        shows = needs_counting and self.network.one_way_s
        counting = self.network if shows else SEEN_ON
        return MeasureConfig(
            networks=(
                (LOOPBACK, self.network)
                if is_emulated and self.network != LOOPBACK
                else (LOOPBACK,)
            ),
            counted_on=(counting,) if needs_counting or is_unseen else (),
            n_counts=self.repeats if keeps_stock else 1,  # there calls differ
            repeats=self.repeats,
            enough_s=enough_s if is_emulated else 0.0,
            in_series=keeps_stock,
            warmups=self.warmups,
            slow_s=self.slow_s if is_waited_for and keeps_stock else math.inf,
            seed=self.seed,
            case_limit_s=self.case_limit_s,
            is_split=has_own,
        )

    def _plan_of_hosts(self) -> MeasureConfig:
        """Return the calls of each case between hosts, where there is no loopback."""
        return MeasureConfig(
            networks=(self.network,),
            repeats=self.repeats,
            enough_s=self.enough_s,
            warmups=self.warmups,
            seed=self.seed,
            case_limit_s=self.case_limit_s,
        )


def make_config(
    *,
    cases: tuple[Case, ...],
    network: Network | None = NETWORKS["wan"],
    mode: Mode = "emulated",
    emulation: str = "auto",
    repeats: int = 3,
    enough_s: float = 1.0,
    warmups: int | None = None,
    slow_s: float = math.inf,
    seed: int = 0,
    case_limit_s: float | None = None,
    base_port: int = 0,
    shard: Shard | None = None,
    is_traced: bool = False,
    parties: Path | None = None,
    **deployment: Any,  # see make_deployment, which checks each
) -> SweepConfig:
    """Return the config of what a person asks for, with the cases mixed.

    Args:
        warmups: By default 1, and 0 in a priced sweep, which is to be quick: there the
            first, cold call is the warm-up.
        shard: Part of the cases to measure; None for all.
        network: None for what the parties of several hosts see.
        parties: The party file of this host.

    Raises:
        UsageError: If a name is unknown or a combination impossible; it is named.
    """
    deployed = make_deployment(**deployment)
    party_file = read_parties(parties, deployed, mode=mode, emulation=emulation)
    if emulation == "auto":
        emulation = deployed.build.emulations[0]
    check_combination(deployed, emulation)
    if shard is not None:
        shard.check_size(len(cases), "cases")
        cases = shard.take(cases)
    if is_traced:
        if party_file or network is None:
            raise UsageError("--trace is of parties of one machine; not --parties")
        check_traceable(mode, choose_emulation(emulation), network)
    return SweepConfig(
        deployment=deployed,
        parties=party_file,
        is_network_seen=network is None,
        network=network or NETWORKS["wan"],
        mode=mode,
        emulation=emulation,
        cases=_ordered(cases, seed, case_limit_s, deployed),
        repeats=repeats,
        enough_s=enough_s,
        warmups=int(mode == "emulated") if warmups is None else warmups,
        slow_s=slow_s,
        seed=seed,
        case_limit_s=math.inf if case_limit_s is None else case_limit_s,
        base_port=base_port,
        is_traced=is_traced,
    )


def read_parties(
    path: Path | None,
    deployment: Deployment,
    *,
    mode: Mode = "emulated",
    emulation: str = "auto",
) -> PartyFile | None:
    """Read the party file of this host, if there are several hosts.

    Raises:
        UsageError: If it, or what else was asked for, does not go with several hosts.
    """
    if path is None:
        return None
    if mode == "priced" or emulation != "auto":
        raise UsageError(
            "--parties: the network between hosts is a real one; leave out --mode and "
            "--emulation"
        )
    if deployment.keeps_stock:
        raise UsageError(
            f"--parties: hops of {deployment.protocol} are told apart by loopback calls"
            ", of which hosts have none; measure it on one machine and predict with "
            "--network of `mpcprof link`"
        )
    party_file = read_party_file(path)
    check_same_build(party_file, deployment)
    return party_file


def check_combination(deployment: Deployment, emulation: str) -> None:
    """Refuse now what parties would refuse later, or have wrong.

    Raises:
        UsageError: If the deployment cannot be measured, or not on this back-end.
    """
    build = deployment.build
    if beaver_problem := dict(build.beaver_problems).get(deployment.beaver):
        raise UsageError(
            f"--beaver {deployment.beaver}: {beaver_problem}; "
            f"expected {build.beavers[0]}"
        )
    if deployment.field_bits not in build.program_rings:
        raise UsageError(
            f"--field-bits {deployment.field_bits}: {build.name} cannot put the "
            "integers of a compiled program into so small a ring; expected "
            f"{' or '.join(map(str, build.program_rings))}"
        )
    name = choose_emulation(emulation)
    check_carries(name, build)
    if name != "relay" and not deployment.is_counted_by_spu:
        raise UsageError(
            f"--emulation {name}: hops of {deployment.protocol} on "
            f"{deployment.runtime} are counted at the relay; expected relay"
        )


def _ordered(
    cases: tuple[Case, ...],
    seed: int,
    case_limit_s: float | None,
    deployment: Deployment,
) -> tuple[Case, ...]:
    """Return the cases mixed, so that no workload has a slow hour to itself.

    With a limit small cases come first: larger ones than a case that takes too long
    need not be tried. Where calls are in series they take milliseconds to minutes, and
    the longest come last.
    """
    mixed = list(cases)
    random.Random(seed).shuffle(mixed)
    if case_limit_s is not None:
        mixed.sort(key=lambda case: math.prod(n for _, n in case.dims.items()))
    elif deployment.keeps_stock:
        mixed.sort(key=call_s)
    return tuple(mixed)
