"""A grid of cases through the engine into a profile that is valid at every moment."""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from mpcprof.deployment import Deployment
from mpcprof.engine.calibration import ASK_FOR_LESS, calibrate, trim_link
from mpcprof.engine.emulation.backends import choose_emulation, make_emulation
from mpcprof.engine.installation import get_runtime
from mpcprof.engine.measure import (
    Case,
    CaseFailedError,
    CaseNotCompiledError,
    Plan,
    Timing,
    measure,
)
from mpcprof.engine.recording import Context, to_record
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError
from mpcprof.network import LOOPBACK, NETWORKS, Network
from mpcprof.pricing import Calibration
from mpcprof.profile.columns import Emulation, Mode
from mpcprof.profile.io import ProfileWriter
from mpcprof.profile.record import Profile, Record, RecordKey
from mpcprof.progress import Progress
from mpcprof.provenance import commit, host_description, now_utc, versions_text
from mpcprof.units import format_bandwidth, format_duration

_BLOCK_CASES = 6  # interleaved; what a killed sweep loses at most
_STOCK_FACTOR = 4  # times enough_s where calls refill a stock, to see several refills
_CALIBRATED = Deployment(protocol="semi2k")


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """What to measure and how; see `mpcprof sweep --help`.

    Attributes:
        cases: In the order in which they are measured.
        case_limit_s: Leave out a case whose calls together would take longer.
        base_port: First port for parties and relay; 0 for free ones.
    """

    deployment: Deployment
    network: Network
    mode: Mode
    emulation: str
    cases: tuple[Case, ...]
    repeats: int
    enough_s: float
    warmups: int
    seed: int
    case_limit_s: float
    base_port: int

    def key_of(self, case: Case) -> RecordKey:
        """Under which a case stands in the profile."""
        return RecordKey(
            workload=case.workload.name,
            dims=case.dims,
            network=self.network,
            mode=self.mode,
        )

    def plan(self) -> Plan:
        """Calls of each case; priced ones need no emulated network to wait for."""
        is_emulated = self.mode == "emulated"
        keeps_stock = self.deployment.keeps_stock
        enough_s = self.enough_s * (_STOCK_FACTOR if keeps_stock else 1)
        needs_counting = not (self.deployment.is_counted_by_spu or is_emulated)
        return Plan(
            networks=(LOOPBACK, self.network) if is_emulated else (LOOPBACK,),
            counted_on=(self.network,) if needs_counting else (),
            n_counts=self.repeats if keeps_stock else 1,  # there calls differ
            repeats=self.repeats,
            enough_s=enough_s if is_emulated else 0.0,
            in_series=keeps_stock,
            warmups=self.warmups,
            seed=self.seed,
            case_limit_s=self.case_limit_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A case that has no record, and why.

    Attributes:
        has_failed: It could not be measured; else it would have taken too long, or the
            build has no such operation.
    """

    case: Case
    reason: str
    has_failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What a sweep did.

    Attributes:
        profile: All that is on file now.
        n_measured: Cases measured by this call.
        n_resumed: Cases that were on file before.
        left_out: Cases that failed or would have taken too long.
        setup_s: Calibration, starting parties, checking the link.
        measuring_s: All the rest, until the last record was on file.
        timed_s: Of that, the calls themselves, first ones and warm-ups included.
    """

    profile: Profile
    n_measured: int
    n_resumed: int
    left_out: tuple[LeftOut, ...]
    setup_s: float
    measuring_s: float
    timed_s: float

    @property
    def has_failed(self) -> bool:
        """Whether a case failed, or none of those asked for is on file."""
        if any(one.has_failed for one in self.left_out):
            return True
        return bool(self.left_out) and not self.n_measured + self.n_resumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one interleaved block brought, or the set-up before the blocks."""

    records: tuple[Record, ...] = ()
    setup_s: float = 0.0
    timed_s: float = 0.0


def sweep(
    config: SweepConfig,
    path: str | os.PathLike[str],
    progress: Progress,
    *,
    is_fresh: bool = False,
    calibration: Calibration | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SweepResult:
    """Measure every case that is not on file yet.

    Args:
        calibration: Of this host, where it is known.

    Raises:
        ProfileError: If the file cannot be continued or written.
        EngineError: If parties or network fail; what was finished is on file.
    """
    get_runtime(config.deployment.build)
    with ProfileWriter(path, config.deployment, fresh=is_fresh) as writer:
        cases = config.cases
        missing = [c for c in cases if config.key_of(c) not in writer.profile]
        n_resumed = len(cases) - len(missing)
        left_out: list[LeftOut] = []
        _begin(config, len(missing), n_resumed, progress)
        known = calibration or known_calibration(writer.profile, config.network)
        begin_s, setup_s, timed_s = clock(), 0.0, 0.0
        blocks = _measure_all(config, missing, progress, left_out, known, clock)
        with closing(blocks):  # no party outlives an error of the writer
            for block in blocks:
                setup_s += block.setup_s
                timed_s += block.timed_s
                if block.records:
                    writer.append(block.records)
        return SweepResult(
            profile=writer.profile,
            n_measured=len(missing) - len(left_out),
            n_resumed=n_resumed,
            left_out=tuple(left_out),
            setup_s=setup_s,
            measuring_s=clock() - begin_s - setup_s,
            timed_s=timed_s,
        )


def measure_once(config: SweepConfig, progress: Progress) -> tuple[Record, ...]:
    """Records of every case of the grid, on no file.

    Raises:
        EngineError: If a case cannot be measured.
    """
    left_out: list[LeftOut] = []
    cases = config.cases
    _begin(config, len(cases), 0, progress)
    records: list[Record] = []
    for block in _measure_all(config, cases, progress, left_out):
        records += block.records
    if left_out:
        raise EngineError(f"{left_out[0].case}: {left_out[0].reason}")
    return tuple(records)


def _begin(
    config: SweepConfig, n_missing: int, n_resumed: int, progress: Progress
) -> None:
    progress.say(f"{n_missing} cases to measure, {n_resumed} on file already")
    progress.begin(n_missing * config.plan().n_calls)


def _measure_all(
    config: SweepConfig,
    cases: Sequence[Case],
    progress: Progress,
    left_out: list[LeftOut],
    calibration: Calibration | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Block, None, None]:
    """Records block by block; after a case that fails the parties start anew."""
    emulation = choose_emulation(config.emulation)
    waiting = list(cases)
    begin_s = clock()
    if waiting and not calibration and config.deployment != _CALIBRATED:
        with _open_session(_CALIBRATED, emulation, config.base_port) as session:
            calibration = calibrate_host(config, session)
    while waiting:
        with _open_session(config.deployment, emulation, config.base_port) as session:
            calibration = calibration or calibrate_host(config, session)
            _trim(config, session, progress)
            context = _context(config, emulation, session, calibration)
            yield Block(setup_s=clock() - begin_s)
            for block in _measure_blocks(config, session, waiting, progress, left_out):
                yield Block(
                    records=tuple(
                        to_record(timing, context, created_at=now_utc())
                        for timing in block
                    ),
                    timed_s=sum(timing.total_s for timing in block),
                )
        begin_s = clock()


def _measure_blocks(
    config: SweepConfig,
    session: Session,
    waiting: list[Case],
    progress: Progress,
    left_out: list[LeftOut],
) -> Iterator[list[Timing]]:
    """Take cases off `waiting` until none is left, or one failed."""
    plan = config.plan()

    def leave_out(case: Case, reason: str, *, has_failed: bool = False) -> None:
        waiting.remove(case)
        left_out.append(LeftOut(case=case, reason=reason, has_failed=has_failed))
        progress.say(f"left out: {case}: {reason}")
        progress.advance(plan.n_calls)

    def count(case: Case) -> None:
        progress.describe(str(case))
        progress.advance()

    while waiting:
        block = waiting[:_BLOCK_CASES]
        try:
            timings, too_long = measure(session, block, plan, on_call=count)
        except CaseFailedError as error:
            is_possible = not isinstance(error, CaseNotCompiledError)
            leave_out(error.case, error.reason, has_failed=is_possible)
            return
        yield timings
        for long in too_long:
            leave_out(long.case, long.reason)
        for timing in timings:
            waiting.remove(timing.case)
        for case in _larger(waiting, [long.case for long in too_long]):
            leave_out(case, "a smaller case of it is beyond the limit already")


def known_calibration(profile: Profile, network: Network) -> Calibration | None:
    """That of the records on file from this host, so that one profile has one."""
    host = host_description()
    for record in profile:
        if (record.host, record.network) == (host, network):
            return Calibration(
                loopback_s_per_hop=record.loopback_s_per_hop,
                loopback_s_per_byte=record.loopback_s_per_byte,
            )
    return None


def calibrate_host(config: SweepConfig, session: Session) -> Calibration:
    """The two constants of this host's loopback link.

    Measured with two parties of semi2k, whatever the sweep's protocol: there SPU counts
    the hops. A sweep that waits on no network is calibrated against the wan.
    """
    is_priced = config.mode == "priced"
    network = NETWORKS["wan"] if is_priced else config.network
    trim_link(session, network, advice="" if is_priced else _advice(config))
    return calibrate(session, network, seed=config.seed)


@contextmanager
def _open_session(
    deployment: Deployment, emulation: Emulation, base_port: int
) -> Iterator[Session]:
    with Session(deployment, make_emulation(emulation, base_port)) as session:
        yield session


def _trim(config: SweepConfig, session: Session, progress: Progress) -> None:
    if config.mode == "emulated" or config.plan().counted_on:
        advice = _advice(config)
        check = trim_link(session, config.network, advice=advice)
        progress.say(
            f"link: asked for {check.network}, parties see "
            f"{format_duration(check.rtt_s, digits=4)} round trip, "
            f"{format_bandwidth(check.goodput_bytes_per_s, digits=3)} each way at once"
        )


def _advice(config: SweepConfig) -> str:
    """What else may be done where parties do not see the network of a sweep."""
    if config.mode == "priced":
        return ", or count the hops, which are the same, on a slower --network"
    if config.deployment.is_counted_by_spu:
        return f"{ASK_FOR_LESS}, or measure with --mode priced"
    return ASK_FOR_LESS  # priced, hops would be counted on the very same link


def _context(
    config: SweepConfig,
    emulation: Emulation,
    session: Session,
    calibration: Calibration,
) -> Context:
    return Context(
        deployment=config.deployment,
        network=config.network,
        mode=config.mode,
        emulation=emulation,
        calibration=calibration,
        setup=session.setup,
        seed=config.seed,
        host=host_description(),
        versions=versions_text(dict(session.setup.versions)),
        commit=commit(),
    )


def _larger(cases: Sequence[Case], than: Sequence[Case]) -> list[Case]:
    """Cases that are at least as large in every dimension as one of `than`."""
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
