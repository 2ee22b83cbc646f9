"""From the raw calls of a case to its record."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from mpcprof.deployment import Deployment
from mpcprof.engine.calibration import hidden_s
from mpcprof.engine.calls import Call, Setup
from mpcprof.engine.emulation.clock import Counters, Path
from mpcprof.engine.measure import Timing
from mpcprof.engine.spulog import SpuRun
from mpcprof.errors import EngineError
from mpcprof.network import LOOPBACK, Network
from mpcprof.pricing import Calibration, price_s
from mpcprof.profile.columns import Emulation, HopsBasis, Mode
from mpcprof.profile.record import Record

_SYNCHRONOUS_PROTOCOLS = ("cheetah",)  # their oblivious transfers wait for each send
_LESS_THAN_A_REFILL_BYTES = 80_000  # of transfers, which is 266 kB; of triples 1.1 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What all records of one session have in common."""

    deployment: Deployment
    network: Network
    mode: Mode
    emulation: Emulation
    calibration: Calibration
    setup: Setup
    seed: int
    host: str
    versions: str
    commit: str


def to_record(timing: Timing, context: Context, *, created_at: str) -> Record:
    """Make the record of a case; if priced, its latencies are loopback calls priced.

    Where calls differ, bytes, messages and hops are those of the median call.

    Raises:
        EngineError: If hops cannot be told on this back-end.
    """
    loopbacks = timing.on(LOOPBACK)
    is_priced = context.mode == "priced"
    repeats = loopbacks if is_priced else timing.on(context.network)
    quick = loopbacks or repeats  # between hosts there is no loopback
    paths = _Paths(timing, context)
    hidden = _hidden_s(quick, context.deployment)
    build = context.deployment.build

    def compute_s(loopback: Call) -> float:
        own = paths.of(loopback)
        if not loopbacks:
            waited = {"hops": own.hops, "wire_bytes": own.n_bytes}
            link_s = price_s(context.network, exposed_s=0.0, **waited)
            return max(loopback.latency_s - link_s, 0.0)
        return context.calibration.exposed_s(
            loopback.latency_s, hidden_s=hidden, hops=own.hops, wire_bytes=own.n_bytes
        )

    def priced_s(loopback: Call) -> float:
        own = paths.of(loopback)
        return price_s(
            context.network,
            exposed_s=compute_s(loopback),
            hidden_s=hidden,
            hops=own.hops,
            wire_bytes=own.n_bytes,
        )

    latencies_s = [priced_s(c) if is_priced else c.latency_s for c in repeats]
    told: Sequence[Call] = timing.on(context.network) or loopbacks
    told = told if _has_bytes(told) else _shown_on(timing, context)[1]
    typical = told[-1]
    if paths.differ and _has_bytes(repeats):
        told, typical = repeats, repeats[_median_index(latencies_s)]
    runs = typical.runs
    path = paths.of(typical)
    return Record(
        workload=timing.case.workload.name,
        kind=timing.case.workload.kind,
        dims=timing.case.dims,
        network=context.network,
        mode=context.mode,
        emulation="none" if is_priced else context.emulation,
        latencies_s=tuple(latencies_s),
        warmups_s=tuple(call.latency_s for call in timing.warmups),
        loopbacks_s=tuple(call.latency_s for call in loopbacks),
        compute_s=context.deployment.typical_call([*map(compute_s, quick)]),
        hidden_s=hidden,
        busy_s_by_rank=tuple(
            median(ranks)
            for ranks in zip(*(c.busy_s_by_rank for c in quick), strict=True)
        ),
        loopback_s_per_hop=context.calibration.loopback_s_per_hop,
        loopback_s_per_byte=context.calibration.loopback_s_per_byte,
        compile_s=timing.lowered.compile_s,
        first_call_s=timing.first_call.latency_s,
        setup_s=context.setup.setup_s,
        setup_bytes=context.setup.setup_bytes,
        bytes_sent_by_rank=tuple(run.bytes_sent or 0 for run in runs),
        bytes_received_by_rank=tuple(run.bytes_received or 0 for run in runs),
        send_actions_by_rank=tuple(run.send_actions or 0 for run in runs),
        recv_actions_by_rank=tuple(run.recv_actions or 0 for run in runs),
        total_bytes_sent_by_repeat=tuple(map(_bytes_of, told)),
        wire_bytes=path.n_bytes,
        carried_bytes=_carried_bytes(timing.on(context.network) or loopbacks),
        hops=path.hops,
        hops_basis=paths.basis,
        drivers_s=tuple(c.driver_s for c in repeats if build.has_drivers),
        hops_by_repeat=tuple(paths.of(c).hops for c in repeats if paths.differ),
        max_abs_error=timing.max_abs_error,
        operations=runs[0].operations,
        seed=context.seed,
        host=context.host,
        versions=context.versions,
        commit=context.commit,
        created_at=created_at,
    )


class _Paths:
    """The critical path of each call: one for all, unless calls differ."""

    def __init__(self, timing: Timing, context: Context) -> None:
        deployment = context.deployment
        _, counted = _shown_on(timing, context)
        self.differ = calls_differ(_every_call(timing), deployment)
        self._whose = counted[-1]
        is_one = self.differ and not deployment.keeps_stock
        self._path = find_critical_path(
            timing, context, [self._whose] if is_one else counted
        )
        self.basis = hops_basis(deployment)
        if self._path.hops < _exchanged(self._whose.runs).hops:
            self.basis = "measured"

    def of(self, call: Call) -> Path:
        """Return the path of a call; by its messages and bytes where calls differ."""
        if not (self.differ and _has_bytes([call])):
            return self._path
        messages = _messages_of(call) / (_messages_of(self._whose) or 1)
        n_bytes = _bytes_of(call) / (_bytes_of(self._whose) or 1)
        return Path(self._path.hops * messages, self._path.n_bytes * n_bytes)


def calls_differ(calls: Sequence[Call], deployment: Deployment) -> bool:
    """Tell whether calls of one program do not do the same, as where SPU selects.

    Then they call other kernels, or all parties together send other bytes. One rank
    sends other bytes in another role, and all send more where they refill a stock.
    """
    kernels = {_kernels(call) for call in calls}
    n_bytes = {_bytes_of(call) for call in calls if _has_bytes([call])}
    return len(kernels) > 1 or (len(n_bytes) > 1 and not deployment.keeps_stock)


def _every_call(timing: Timing) -> list[Call]:
    repeats = [call for _, calls in timing.calls for call in calls]
    return [timing.first_call, *timing.warmups, *repeats]


def _kernels(call: Call) -> frozenset[tuple[str, str, int]]:
    return frozenset((o.level, o.name, o.count) for o in call.runs[0].operations)


def _bytes_of(call: Call) -> int:
    return sum(run.bytes_sent or 0 for run in call.runs)


def _messages_of(call: Call) -> int:
    return sum(run.send_actions or 0 for run in call.runs)


def _has_bytes(calls: Sequence[Call]) -> bool:
    return all(run.bytes_sent is not None for call in calls for run in call.runs)


def _median_index(latencies_s: Sequence[float]) -> int:
    """Return where the median is; of the middle two the smaller one."""
    order = sorted(range(len(latencies_s)), key=latencies_s.__getitem__)
    return order[(len(order) - 1) // 2]


def hops_basis(deployment: Deployment) -> HopsBasis:
    """Return where the hops of a record are from: SPU's counters or the wire."""
    return "counted" if deployment.is_counted_by_spu else "measured"


def find_critical_path(
    timing: Timing, context: Context, calls: Sequence[Call] | None = None
) -> Path:
    """Find the hops and the bytes that the latency formula prices, means over calls.

    semi2k: messages and bytes of a party, since each message is one of a simultaneous
    exchange; SPU counts them, or the relay where the build does not, with two hops for
    every round trip that a party pauses within a message. Where the relay saw fewer
    hops, some messages did not wait for the one before. Others: the deepest path that
    the relay saw, and bytes that make it take as long as the longest one. Where a
    protocol waits for its sends, which the wire does not show, the longest path lies
    between two bounds, and the slope of the latency over the delay says where. Both
    differ from call to call; means are taken, which add up over operations (of the
    middle half of the calls where a message that is late by chance looks like a hop).

    Args:
        calls: Calls to look at instead of all those on the network of the record.

    Raises:
        EngineError: If the back-end sees no messages and SPU's counters do not tell.
    """
    network, shown = _shown_on(timing, context)
    chosen = shown if calls is None else calls
    if context.deployment.is_exchanged:
        if context.deployment.is_counted_by_spu:
            whole = _exchanged(chosen[-1].runs)
            return Path(
                round(whole.hops * waiting_share(_every_call(timing))), whole.n_bytes
            )
        return _seen_exchanged(chosen)
    counted = [call.counters for call in chosen if call.counters]
    if not counted:
        raise EngineError(
            f"hops of {context.deployment.protocol} are counted at the relay; "
            f"use --emulation relay instead of {context.emulation}"
        )
    if context.deployment.protocol not in _SYNCHRONOUS_PROTOCOLS:
        return Path(
            _middle_mean([counters.deepest.hops for counters in counted]),
            _middle_mean([_beside_hops(c, network) for c in counted]),
        )
    wire_bytes = fmean(counters.lower.n_bytes for counters in counted)
    lower = fmean(counters.lower.hops for counters in counted)
    upper = fmean(counters.upper.hops for counters in counted)
    slope = _slope_hops(timing, context)
    hops = min(max(slope, lower), max(upper, lower))
    return Path(hops, wire_bytes)


def _shown_on(timing: Timing, context: Context) -> tuple[Network, Sequence[Call]]:
    """Return the network whose calls show the path, and these calls.

    It is that of the record, or the one on which hops were counted; loopback, which
    shows no path, if there is no other.
    """
    emulated = [network for network in timing.networks if not network.is_loopback]
    if context.emulation == "hosts":  # whose own link shows no message
        emulated = [n for n in emulated if timing.on(n)[0].counters] or emulated
    first = emulated[0] if emulated else LOOPBACK
    network = context.network if context.network in emulated else first
    return network, timing.on(network)


def waiting_share(calls: Iterable[Call]) -> float:
    """Return the share of a rank's messages in semi2k that wait for the one before.

    Messages that all wait make a path of as many hops, of which the relay never sees
    fewer: on a busy machine it sees more. So a path of fewer hops in any call shows
    that some do not wait, as those of SPU's permutations.
    """
    shares = [
        call.counters.deepest.hops / call.runs[0].send_actions
        for call in calls
        if call.counters and call.counters.deepest.hops and call.runs[0].send_actions
    ]
    return min([1.0, *shares])


def _middle_mean(values: Sequence[float]) -> float:
    """Return the mean of all but the lowest and the highest quarter, rounded down."""
    n_left_out = len(values) // 4
    return fmean(sorted(values)[n_left_out : len(values) - n_left_out])


def _beside_hops(counters: Counters, network: Network) -> float:
    """Return the bytes that, beside the most hops, take as long as the longest path.

    With long messages that path goes through fewer hops and more bytes; which one it
    is depends on the network, the most hops do not. 0 where the most hops alone take
    longer: on a fast network computing decides which path is the longest.
    """
    n_fewer = counters.deepest.hops - counters.lower.hops
    if not n_fewer or math.isinf(network.bandwidth_bytes_per_s):
        return counters.lower.n_bytes
    saved_s = n_fewer * network.one_way_s
    left = counters.lower.n_bytes - saved_s * network.bandwidth_bytes_per_s
    return max(left, 0.0)


def _exchanged(runs: Sequence[SpuRun]) -> Path:
    return Path(runs[0].send_actions or 0, max(run.bytes_sent or 0 for run in runs))


def _seen_exchanged(calls: Sequence[Call]) -> Path:
    counters = calls[-1].counters if calls else None
    if counters is None:
        raise EngineError("this build does not count its bytes, and no relay has")
    lines = counters.lines
    return Path(
        max(line.n_messages + 2 * line.n_waits for line in lines),
        max(line.payload_bytes for line in lines),
    )


def _slope_hops(timing: Timing, context: Context) -> float:
    """Return (emulated - loopback - bytes / bandwidth) / one way, a mean over calls.

    Calls are held against those on loopback that send as much: a refill of a stock in
    one of them is no hop. If there are none, against all.
    """
    network = context.network
    if not network.one_way_s:
        return math.inf
    quick = timing.on(LOOPBACK)
    shown = [call for call in timing.on(network) if call.counters]
    alike = [[one for one in quick if _sends_as_much(one, call)] for call in shown]
    if not any(alike):
        alike = [[*quick] for _ in shown]
    slower_s = [
        call.latency_s
        - fmean(one.latency_s for one in like)
        - call.counters.lower.n_bytes / network.bandwidth_bytes_per_s
        for call, like in zip(shown, alike, strict=True)
        if call.counters and like
    ]
    return fmean(slower_s) / network.one_way_s


def _sends_as_much(one: Call, other: Call) -> bool:
    """Tell whether two calls of a case refill as often: ciphertexts differ by less."""
    return abs(_bytes_of(one) - _bytes_of(other)) < _LESS_THAN_A_REFILL_BYTES


def _hidden_s(loopbacks: Sequence[Call], deployment: Deployment) -> float:
    if deployment.protocol == "semi2k" and deployment.beaver == "TrustedFirstParty":
        return hidden_s(loopbacks)
    return 0.0


def _carried_bytes(calls: Sequence[Call]) -> int:
    carried = [call.counters.carried_bytes for call in calls if call.counters]
    return int(median(carried)) if carried else 0
