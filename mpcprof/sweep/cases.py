"""Cases on their way through the engine, block by block, in sessions of parties."""

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from mpcprof.deployment import Deployment
from mpcprof.engine.calibration import (
    ASK_FOR_LESS,
    calibrate,
    calibration_network,
    link_check_s,
    trim_link,
)
from mpcprof.engine.emulation.backends import choose_emulation, make_emulation
from mpcprof.engine.hosts.link import check_real_link, measure_link
from mpcprof.engine.hosts.session import HostedSession
from mpcprof.engine.measure import (
    Case,
    CaseFailedError,
    CaseNotCompiledError,
    MeasureConfig,
    Timing,
    measure,
)
from mpcprof.engine.recording import Context, to_record
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError
from mpcprof.network import NETWORKS, Network
from mpcprof.pricing import Calibration
from mpcprof.profile.record import Profile, Record
from mpcprof.progress import Progress
from mpcprof.provenance import commit, host_description, now_utc, versions_text
from mpcprof.sweep.config import SEEN_ON, SweepConfig
from mpcprof.sweep.estimate import measuring_s
from mpcprof.units import format_bandwidth, format_duration

BLOCK_CASES = 6  # interleaved; what a killed sweep loses at most
_N_COUNTED = 4  # calls whose hops differ; the middle two count
_LONG_CHECK_S = 15.0  # is said beforehand
_CALIBRATED = Deployment(protocol="semi2k")
_NO_LOOPBACK = Calibration(loopback_s_per_hop=0.0, loopback_s_per_byte=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A case that has no record, and why.

    Attributes:
        has_failed: Whether it could not be measured; otherwise it would have taken too
            long, or the build has no such operation.
    """

    case: Case
    reason: str
    has_failed: bool


class CaseRun:
    """Cases on their way through the engine."""

    def __init__(
        self,
        config: SweepConfig,
        cases: Sequence[Case],
        progress: Progress,
        calibration: Calibration | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        leaves_out: bool = True,
        on_timing: Callable[[Timing], None] = lambda timing: None,
    ) -> None:
        self._config = config
        self._waiting = list(cases)
        self._progress = progress
        self._calibration = calibration
        self._clock = clock
        self._leaves_out = leaves_out
        self._on_timing = on_timing
        self._plan = config.plan()
        self._counter: Session | None = None  # of hops, where hosts show none
        self._n_made = Counter[Case]()  # calls of each case in this block
        self._n_shown = Counter[Case]()
        self.left_out: list[LeftOut] = []
        self.setup_s = 0.0
        self.timed_s = 0.0
        self._n_asked = len(cases)
        n_resumed = len(config.cases) - len(cases)
        progress.say(
            f"{len(cases)} {'case' if len(cases) == 1 else 'cases'} to measure, "
            f"{n_resumed} on file already{self._about()}"
        )
        progress.begin(len(cases) * self._plan.n_calls)

    def _about(self) -> str:
        """Return how long the cases will take, for a protocol of long calls."""
        if not self._config.deployment.keeps_stock:
            return ""
        calls_s = measuring_s(self._waiting, self._plan)
        if not 0 < calls_s < math.inf:
            return ""
        shown = format_duration(calls_s, digits=2)
        return f"; about {shown} of calls on two free cores, after some 40 s of set-up"

    def blocks(self) -> Generator[tuple[Record, ...], None, None]:
        """Yield records block by block; after a case that fails parties start anew."""
        try:
            yield from self._blocks()
        finally:
            if self._counter:
                self._counter.close()

    def _blocks(self) -> Iterator[tuple[Record, ...]]:
        config = self._config
        begin_s = self._clock()
        if config.parties:
            self._calibration = _NO_LOOPBACK
        if self._waiting and not self._calibration and config.deployment != _CALIBRATED:
            with self._session(_CALIBRATED) as session:
                self._calibration = calibrate_host(config, session)
        while self._waiting:
            with self._session(config.deployment) as session:
                self._calibration = self._calibration or calibrate_host(config, session)
                config = self._config = _trim(config, session, self._progress)
                self._plan = config.plan()
                context = _context(config, session, self._calibration)
                self.setup_s += self._clock() - begin_s
                for block in self._measure(session):
                    self.timed_s += sum(timing.total_s for timing in block)
                    yield tuple(
                        to_record(one, context, created_at=now_utc())
                        for timing in block
                        for one in (timing, *timing.parts)
                    )
            begin_s = self._clock()

    @property
    def n_waiting(self) -> int:
        """Number of cases that are neither measured nor left out."""
        return len(self._waiting)

    def add(self, cases: Sequence[Case]) -> None:
        """Add cases; parties that `blocks` has at work measure them too."""
        self._waiting += cases
        self._n_asked += len(cases)

    def _session(self, deployment: Deployment) -> Session:
        if self._config.parties:
            return HostedSession(deployment, self._config.parties)
        emulation = choose_emulation(self._config.emulation)
        return Session(
            deployment,
            make_emulation(emulation, self._config.base_port),
            is_traced=self._config.is_traced,
        )

    def _measure(self, session: Session) -> Iterator[list[Timing]]:
        """Measure the cases that wait, until none is left or one failed."""
        while self._waiting:
            block = self._waiting[:BLOCK_CASES]
            self._n_made.clear()
            try:
                timings, too_long = measure(
                    session, block, self._plan, on_call=self._count
                )
            except CaseFailedError as error:
                is_possible = not isinstance(error, CaseNotCompiledError)
                self._leave_out(error.case, error.reason, has_failed=is_possible)
                return
            if self._config.parties:
                timings = self._with_hops(timings)
            measured = [self._split(session, timing) for timing in timings]
            for long in too_long:
                self._leave_out(long.case, long.reason)
            for timing in timings:
                self._on_timing(timing)
                self._waiting.remove(timing.case)
                self._say_measured(timing)
            for case in _larger(self._waiting, [long.case for long in too_long]):
                reason = "a smaller case of it is beyond the limit already"
                self._leave_out(case, reason)
            if measured:
                yield measured

    def _with_hops(self, timings: list[Timing]) -> list[Timing]:
        """Add calls by parties of this host alone, where only the wire tells hops."""
        if not timings or self._config.deployment.is_counted_by_spu:
            return timings
        if self._counter is None:
            counter = Session(self._config.deployment, make_emulation("relay"))
            self._counter = counter.__enter__()
        plan = MeasureConfig(
            networks=(SEEN_ON,), repeats=_N_COUNTED, warmups=0, seed=self._plan.seed
        )
        cases = [timing.case for timing in timings]
        counted, _ = measure(self._counter, cases, plan)
        return [
            replace(timing, calls=(*timing.calls, *one.calls))
            for timing, one in zip(timings, counted, strict=True)
        ]

    def _split(self, session: Session, timing: Timing) -> Timing:
        """Return a timing with those of its scopes, where the plan asks for them."""
        if not self._plan.is_split:
            return timing
        from mpcprof.engine.scopes import time_parts

        try:
            return replace(timing, parts=time_parts(session, timing, self._plan))
        except EngineError as error:
            self._progress.say(f"not split by scope: {error}")
            return timing

    def _count(self, case: Case) -> None:
        """Show a call, unless it was made before another case of its block failed."""
        self._progress.describe(str(case))
        self._n_made[case] += 1
        if self._n_made[case] > self._n_shown[case]:
            self._n_shown[case] += 1
            self._progress.advance()

    def _say_measured(self, timing: Timing) -> None:
        calls = timing.on(self._plan.networks[-1])
        seconds = median(call.latency_s for call in calls)
        n_done = self._n_asked - len(self._waiting) - len(self.left_out)
        self._progress.say(
            f"{timing.case}: {format_duration(seconds, digits=3)}, {n_done} of "
            f"{self._n_asked} cases measured"
        )

    def _leave_out(self, case: Case, reason: str, *, has_failed: bool = False) -> None:
        if not self._leaves_out:
            raise EngineError(f"{case}: {reason}")
        self._waiting.remove(case)
        self.left_out.append(LeftOut(case=case, reason=reason, has_failed=has_failed))
        self._progress.say(f"left out: {case}: {reason}")
        self._progress.advance(self._plan.n_calls - self._n_shown[case])


def known_calibrations(profile: Profile, network: Network) -> dict[str, Calibration]:
    """Return the stored calibration of each host by its description.

    A host keeps its own, so that a profile never mixes two of one host.
    """
    known: dict[str, Calibration] = {}
    for record in profile:
        if record.emulation == "hosts":  # which have no loopback
            continue
        if record.network == network and record.host not in known:
            known[record.host] = Calibration(
                loopback_s_per_hop=record.loopback_s_per_hop,
                loopback_s_per_byte=record.loopback_s_per_byte,
            )
    return known


def known_calibration(profile: Profile, network: Network) -> Calibration | None:
    """Return this host's stored calibration; None if there is none."""
    return known_calibrations(profile, network).get(host_description())


def calibrate_host(config: SweepConfig, session: Session) -> Calibration:
    """Return the two constants of this host's loopback link.

    They are measured with two parties of semi2k, whatever the sweep's protocol: there
    SPU counts the hops. A sweep that waits on no network is calibrated against the wan,
    one on a slower network as `calibration_network` says.
    """
    is_priced = config.mode == "priced"
    network = NETWORKS["wan"] if is_priced else config.network
    compared = calibration_network(network)
    is_asked = compared == config.network and not is_priced
    trim_link(session, compared, advice=_advice(config) if is_asked else "")
    is_rough = config.deployment.keeps_stock
    return calibrate(session, network, seed=config.seed, is_rough=is_rough)


def _trim(config: SweepConfig, session: Session, progress: Progress) -> SweepConfig:
    """Have the parties see the network; return the config with what hosts see."""
    if config.parties and config.is_network_seen:
        link = measure_link(session)
        progress.say(f"link: {'; '.join(link.lines())}")
        return replace(config, network=link.network)
    if config.parties:
        check_real_link(session, config.network)
        return config
    is_seen = config.network in config.plan().counted_on
    is_seen &= not config.deployment.is_counted_by_messages
    if config.mode == "emulated" or is_seen:
        if (check_s := link_check_s(config.network)) > _LONG_CHECK_S:
            duration = format_duration(check_s, digits=2)
            progress.say(f"link: checking {config.network} takes {duration} or more")
        check = trim_link(session, config.network, advice=_advice(config))
        progress.say(
            f"link: asked for {check.network}, parties see "
            f"{format_duration(check.rtt_s, digits=4)} round trip, "
            f"{format_bandwidth(check.goodput_bytes_per_s, digits=3)} each way at once"
        )
    return config


def _advice(config: SweepConfig) -> str:
    """Return what else may be done where parties do not see the network of a sweep."""
    if config.mode == "priced":
        return ", or count the hops, which are the same, on a slower --network"
    if config.deployment.is_counted_by_spu:
        return f"{ASK_FOR_LESS}, or measure with --mode priced"
    return ASK_FOR_LESS  # priced, hops would be counted on the very same link


def _context(
    config: SweepConfig, session: Session, calibration: Calibration
) -> Context:
    return Context(
        deployment=config.deployment,
        network=config.network,
        mode=config.mode,
        emulation=config.recorded_emulation,
        calibration=calibration,
        setup=session.setup,
        seed=config.seed,
        host=host_description(),
        versions=versions_text(dict(session.setup.versions)),
        commit=commit(),
    )


def _larger(cases: Sequence[Case], than: Sequence[Case]) -> list[Case]:
    """Return the cases that are as large in every dimension as one of `than`."""
    return [
        case
        for case in cases
        if any(
            case.workload is small.workload
            and all(
                size <= getattr(case.dims, name) for name, size in small.dims.items()
            )
            for small in than
        )
    ]
