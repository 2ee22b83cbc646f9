"""Times a block of cases on live parties, with repeats interleaved over the cases."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.engine.calls import Call
from mpcprof.engine.lowering import Lowered
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError, LinkError, MpcprofError, PartyDiedError
from mpcprof.network import LOOPBACK, Network
from mpcprof.workloads.registry import Workload, WorkloadKind
from mpcprof.workloads.tolerance import (
    Tolerance,
    describe_fault,
    describe_undefined,
    tighten,
)

_CASE = "case"
FIRST_CASE = f"{_CASE}0"  # name of the first case of a block in the parties
_MOST_REPEATS = 8  # times the repeats asked for
_FEW_STEPS = 2**12  # with fewer, what a product or an inverse needs may be rounded off


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A workload at given sizes."""

    workload: Workload
    dims: Dims

    def __str__(self) -> str:
        if self.workload.kind == "function":  # whose name holds its shapes
            return self.workload.name
        return f"{self.workload.name} [{self.dims}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureConfig:
    """How often each case is called, and where.

    Attributes:
        networks: Networks to emulate in turn, in every round of repeats.
        counted_on: Networks for more calls, which count the critical path.
        n_counts: Number of calls on each of these.
        repeats: Least number of timed calls on each network.
        enough_s: Seconds that the calls of a case on a network take together; short
            cases, on which noise weighs most, get up to eight times the repeats.
        in_series: Whether all calls of a case on a network come one after another, not
            in turn with other cases: each then pays for the stock that it uses up.
        warmups: Number of untimed calls after the first, cold one.
        slow_s: Seconds from which a call is slow, and the only one on its network. If
            it is the first one, in which caches then weigh little, none follows on
            loopback.
        seed: Seed of the inputs.
        case_limit_s: Seconds that all calls of a case may take, or it is left out.
        is_split: Whether a case is timed scope by scope too, after its own calls.
    """

    networks: tuple[Network, ...]
    counted_on: tuple[Network, ...] = ()
    n_counts: int = 1
    repeats: int
    enough_s: float = 0.0
    in_series: bool = False
    warmups: int = 1
    slow_s: float = float("inf")
    seed: int = 0
    case_limit_s: float = float("inf")
    is_split: bool = False

    @property
    def n_calls(self) -> int:
        """Least number of calls of one case, the first one included."""
        timed = self.repeats * len(self.networks)
        counts = self.n_counts * len(self.counted_on)
        return 1 + self.warmups + counts + timed

    @property
    def most_repeats(self) -> int:
        """Largest number of timed calls on each network."""
        return self.repeats * _MOST_REPEATS


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Raw calls of one case.

    Attributes:
        first_call: The cold call, on loopback like the warm-ups; of a slow case it is
            among the timed ones too.
        calls: Timed calls by network, in the order of the rounds.
        max_abs_error: Largest error of all calls, against the float64 reference.
        parts: Its parts by scope, each a program of its own; see `engine.scopes`.
    """

    case: Case
    lowered: Lowered
    first_call: Call
    warmups: tuple[Call, ...]
    calls: tuple[tuple[Network, tuple[Call, ...]], ...]
    max_abs_error: float
    parts: tuple["Timing", ...] = ()

    @property
    def total_s(self) -> float:
        """Seconds in calls, the first one and the warm-ups included."""
        calls = [call for _, calls in self.calls for call in calls]
        own = [call for call in calls if call is not self.first_call]
        every = (self.first_call, *self.warmups, *own)
        return sum(call.latency_s for call in every)

    @property
    def networks(self) -> tuple[Network, ...]:
        """Networks on which calls were made."""
        return tuple(network for network, _ in self.calls)

    def on(self, network: Network) -> tuple[Call, ...]:
        """Return the timed calls on a network; none if the config has none there."""
        return dict(self.calls).get(network, ())


class CaseFailedError(EngineError):
    """One case cannot be measured; the others may."""

    def __init__(self, case: Case, reason: str) -> None:
        super().__init__(f"{case}: {reason}")
        self.case = case
        self.reason = reason


class CaseNotCompiledError(CaseFailedError):
    """The build has no such operation: no call failed, and none can be made."""


class CaseTooLongError(CaseFailedError):
    """A case would take longer than the limit of the config."""


class LoadedCase:
    """A case loaded on the parties, and its calls so far."""

    def __init__(
        self, session: Session, case: Case, name: str, config: MeasureConfig
    ) -> None:
        self.case = case
        self._session = session
        self._name = name
        self._config = config
        inputs, self._expected = inputs_and_result(case, config.seed)
        self._inputs = inputs
        self._max_abs_error = 0.0
        self._warmups: list[Call] = []
        networks = (*config.networks, *config.counted_on)
        self._calls: dict[Network, list[Call]] = {n: [] for n in networks}
        with _blame(case, CaseNotCompiledError):
            self._lowered = session.lower(name, case.workload.function, inputs)
        with _blame(case):
            session.load(name, self._lowered, inputs)

    def warm_up(self, on_call: Callable[[Case], None]) -> None:
        """Make the untimed calls; refuse a case whose calls would take too long."""
        for _ in range(1 + self._config.warmups):
            self._warmups.append(self._call())
            self._check_limit(self._warmups[-1].latency_s)
            on_call(self.case)
            if self.is_slow:
                break

    def _check_limit(self, latency_s: float) -> None:
        if latency_s * self.least_calls > self._config.case_limit_s:
            raise CaseTooLongError(
                self.case,
                f"a call takes {latency_s:.1f} s on loopback, {self.least_calls} of "
                f"them more than the limit of {self._config.case_limit_s:g} s",
            )

    @property
    def is_slow(self) -> bool:
        """Whether the first call took so long that it is the one on loopback."""
        return self._warmups[0].latency_s >= self._config.slow_s

    @property
    def least_calls(self) -> int:
        """Least number of calls, the first one included."""
        return len(self._config.networks) if self.is_slow else self._config.n_calls

    @property
    def n_calls(self) -> int:
        """Number of calls so far."""
        return len(self._warmups) + sum(map(len, self._calls.values()))

    def has_enough(self, network: Network) -> bool:
        """Tell whether the case needs no more calls on a network."""
        calls = self._calls[network]
        if self.is_slow:
            return bool(calls) or (network.is_loopback and not self._was_cold)
        if any(call.latency_s >= self._config.slow_s for call in calls):
            return True
        is_counted = network in self._config.counted_on
        if len(calls) < (self._config.n_counts if is_counted else self._config.repeats):
            return False
        if is_counted or len(calls) >= self._config.most_repeats:
            return True
        return sum(call.latency_s for call in calls) >= self._config.enough_s

    @property
    def _was_cold(self) -> bool:
        """Whether a first call took longer than one on a network: it made a stock."""
        first_s = self._warmups[0].latency_s
        return any(
            call.latency_s < first_s for calls in self._calls.values() for call in calls
        )

    def repeat(self, network: Network) -> None:
        """Make a timed call on the network that the session emulates, or a count."""
        is_count = self._session.deployment.is_counted_by_messages
        is_count &= network in self._config.counted_on
        self._calls[network].append(self._call(network if is_count else None))

    def _call(self, counted_on: Network | None = None) -> Call:
        session = self._session
        with _blame(self.case):
            if counted_on:
                call = session.count(self._name, counted_on)
            else:
                call = session.run(self._name)
            revealed = self._session.fetch(self._name)
        if revealed.shape != self._expected.shape:
            raise CaseFailedError(
                self.case,
                f"the revealed result has shape {revealed.shape}, expected "
                f"{self._expected.shape}",
            )
        self._check(revealed)
        errors = np.abs(revealed - self._expected)
        self._max_abs_error = max(self._max_abs_error, float(np.max(errors)))
        return call

    def _check(self, revealed: NDArray[np.float64]) -> None:
        """Refuse a result of which a part is further off than promised."""
        workload = self.case.workload
        if not workload.pieces:
            promise = (workload.name, workload.kind, workload.tolerance)
            self._judge("", *promise, revealed, self._expected)
        begin = 0
        for piece in workload.pieces:
            own = slice(begin, begin + piece.n_entries)
            kind: WorkloadKind
            kind = "function" if workload.kind == "function" else "primitive"
            promise = (piece.name, kind, piece.tolerance)
            self._judge(
                f"{piece.name} is ", *promise, revealed[own], self._expected[own]
            )
            begin = own.stop

    def _judge(
        self,
        part: str,
        name: str,
        kind: WorkloadKind,
        tolerance: Tolerance,
        revealed: NDArray[np.float64],
        expected: NDArray[np.float64],
    ) -> None:
        """Refuse what is further off than the workload promises for this build."""
        deployment = self._session.deployment
        build = deployment.build
        allowed = tolerance.allowed(expected, deployment.fraction_bits)
        allowed *= build.slack_of(name, kind)
        if kind == "function":
            allowed = tighten(revealed, expected, allowed, deployment.fraction_bits)
        is_wrong = ~(np.abs(revealed - expected) <= allowed)  # nan is no good either
        if np.mean(is_wrong) > build.stray_share_of(kind):
            fault = describe_fault(revealed, expected, allowed, self._inputs)
            raise CaseFailedError(
                self.case,
                f"the revealed result is wrong: {part}{fault}; its latency is not "
                f"recorded; {_advice(deployment, name, kind, expected, tolerance)}",
            )

    def unload(self) -> None:
        """Make the parties forget the case."""
        self._session.unload(self._name)

    def finish(self) -> Timing:
        """Unload the case and hand over its calls."""
        self.unload()
        if LOOPBACK in self._calls and not self._calls[LOOPBACK]:
            self._calls[LOOPBACK] = self._warmups[:1]
        return Timing(
            case=self.case,
            lowered=self._lowered,
            first_call=self._warmups[0],
            warmups=tuple(self._warmups[1:]),
            calls=tuple((n, tuple(calls)) for n, calls in self._calls.items()),
            max_abs_error=self._max_abs_error,
        )


def measure(
    session: Session,
    cases: Sequence[Case],
    config: MeasureConfig,
    *,
    on_call: Callable[[Case], None] = lambda case: None,
) -> tuple[list[Timing], list[CaseTooLongError]]:
    """Time every case on every network; each output is revealed and checked.

    Round by round, on every network every case is called once, so that a slow minute
    of the machine falls on all of them alike; or, where the config says so, one case
    after another. Cases beyond its limit are dropped after the call that shows
    it, and returned as errors.

    Raises:
        CaseFailedError: If a case has no inputs, does not compile, fails to run, or is
            wrong.
        PartyDiedError: If a party or the emulated network is gone; in a call, it names
            the case.
    """
    session.set_network(LOOPBACK)
    loaded = []
    too_long = []
    for index, case in enumerate(cases):
        one = LoadedCase(session, case, f"{_CASE}{index}", config)
        try:
            one.warm_up(on_call)
            loaded.append(one)
        except CaseTooLongError as error:
            too_long.append(error)
            one.unload()
    at = LOOPBACK
    for network, one in _schedule(loaded, config):
        if one.has_enough(network):
            continue
        waited_for = network
        if session.deployment.is_counted_by_messages and network in config.counted_on:
            waited_for = LOOPBACK
        if waited_for != at:
            session.set_network(waited_for)
            at = waited_for
        one.repeat(network)
        if one.n_calls <= config.n_calls:
            on_call(one.case)
    for one in loaded:  # calls that a slow case did without
        for _ in range(config.n_calls - one.n_calls):
            on_call(one.case)
    return [one.finish() for one in loaded], too_long


def _schedule(
    loaded: Sequence[LoadedCase], config: MeasureConfig
) -> Iterator[tuple[Network, LoadedCase]]:
    """Yield whose turn it is, and where; a case that has enough is passed over."""
    rounds = range(config.most_repeats)
    for network, one, _ in itertools.product(
        config.counted_on, loaded, range(config.n_counts)
    ):
        yield network, one
    if config.in_series:
        for one in loaded:
            for network, _ in itertools.product(config.networks, rounds):
                yield network, one
            if one.is_slow:  # then its first call may have made a stock
                yield LOOPBACK, one
    else:
        for _, network, one in itertools.product(rounds, config.networks, loaded):
            yield network, one


def _advice(
    deployment: Deployment,
    name: str,
    kind: WorkloadKind,
    expected: NDArray[np.float64],
    tolerance: Tolerance,
) -> str:
    """Return what usually helps against a wrong result."""
    build = deployment.build
    again = f"{build.name} is wrong at random: run the same command again; "
    if defect := build.defect_of(name):
        return f"{build.name} has it wrong: {defect}; use another runtime"
    wider = 2 * deployment.field_bits
    has_wider = wider in build.program_rings
    bits = f"--field-bits {wider}" if has_wider else "other --fraction-bits"
    own = ", a narrower --domain, or another formula; --tolerance allows more"
    if tolerance == Tolerance():  # where they depend on rounded numbers
        own = ", another --seed or --domain: integers and truth values have to be exact"
    return (
        f"{again if build.stray_share else ''}{_ring(deployment, expected)}"
        f"what usually helps: {bits}{own if kind == 'function' else ''}"
    )


def _ring(deployment: Deployment, expected: NDArray[np.float64]) -> str:
    """Return what the ring cannot hold, if outputs of that size come near to it."""
    step = 2.0**-deployment.fraction_bits
    largest = float(np.max(np.abs(expected)))
    most = 2.0 ** (deployment.field_bits - 1) * step**2
    if largest > most:
        return f"products beyond {most:.3g} wrap around in this ring; "
    if largest < _FEW_STEPS * step:
        return f"the fixed point has steps of {step:.3g}; "
    return ""


def inputs_and_result(
    case: Case, seed: int
) -> tuple[tuple[NDArray[Any], ...], NDArray[np.float64]]:  # Any: see make_inputs
    """Return the inputs of a case and its result in float64.

    Raises:
        CaseFailedError: If they cannot be made, or the result is not finite.
    """
    try:
        inputs = case.workload.make_inputs(case.dims, np.random.default_rng(seed))
        with np.errstate(all="ignore"):  # what is not finite is refused below
            expected = case.workload.reference(*inputs)
    except (MpcprofError, ValueError, MemoryError, RuntimeError) as error:
        reason = str(error).strip() or type(error).__name__
        raise CaseFailedError(case, reason.splitlines()[0]) from error
    if not np.all(np.isfinite(expected)):
        fault = describe_undefined(expected, inputs)
        raise CaseFailedError(case, f"{fault}; choose another --domain")
    return inputs, expected


@contextlib.contextmanager
def _blame(
    case: Case, error_of_case: type[CaseFailedError] = CaseFailedError
) -> Iterator[None]:
    """Name the case; the death of a party may still have another reason than it."""
    try:
        yield
    except PartyDiedError as error:
        raise PartyDiedError(f"{case}: {error}") from error
    except LinkError:
        raise
    except EngineError as error:
        raise error_of_case(case, str(error)) from error
