"""What a record says of the paths that the relay saw."""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.calls import Call, Setup
from mpcprof.engine.emulation.clock import Counters, Path
from mpcprof.engine.measure import Case, Timing
from mpcprof.engine.recording import (
    Context,
    calls_differ,
    find_critical_path,
    to_record,
    waiting_share,
)
from mpcprof.engine.spulog import SpuRun
from mpcprof.network import LOOPBACK, NETWORKS, Network
from mpcprof.pricing import Calibration
from mpcprof.profile.parts import parts_of
from mpcprof.profile.record import Record
from mpcprof.workloads.registry import get_workload
from tests.factories import make_operation

WAN = NETWORKS["wan"]
BRIEF = Network(bandwidth_bytes_per_s=float("inf"), rtt_s=0.01)


def path_of(*counted: Counters):
    """The critical path of an aby3 case, one call for each."""
    calls = [SimpleNamespace(counters=counters) for counters in counted]
    context = SimpleNamespace(
        deployment=make_deployment("aby3"), network=WAN, emulation="relay"
    )
    timing = SimpleNamespace(on=lambda _: calls, networks=(WAN,))
    return find_critical_path(timing, context)


def counters(longest: Path, deepest: Path) -> Counters:
    return Counters(
        lower=longest, upper=longest, deepest=deepest, carried_bytes=0, lines=()
    )


def test_a_longest_path_of_fewer_hops_is_told_as_the_most_hops_in_the_same_time():
    longest, deepest = Path(24, 26_000_000), Path(26, 23_000_000)

    path = path_of(counters(longest, deepest))

    longest_s = 24 * WAN.one_way_s + 26e6 / WAN.bandwidth_bytes_per_s
    told_s = path.hops * WAN.one_way_s + path.n_bytes / WAN.bandwidth_bytes_per_s
    assert path.hops == 26
    assert told_s == pytest.approx(longest_s, rel=1e-12)
    assert deepest.n_bytes <= path.n_bytes < longest.n_bytes


def test_most_hops_that_take_longer_than_the_longest_path_leave_no_bytes():
    path = path_of(counters(Path(24, 1_000), Path(26, 10)))

    assert (path.hops, path.n_bytes) == (26, 0)


def test_a_longest_path_that_is_also_the_deepest_keeps_its_bytes_on_average():
    path = path_of(*[counters(Path(26, n), Path(26, n)) for n in (10, 30, 35)])

    assert (path.hops, path.n_bytes) == (26, 25)


def test_a_call_that_saw_a_hop_too_many_by_chance_does_not_count():
    seen = [counters(Path(n, 10), Path(n, 10)) for n in (3, 3, 4, 3)]

    assert path_of(*seen).hops == 3


def test_hops_that_differ_by_the_roles_of_the_parties_are_averaged():
    seen = [counters(Path(n, 10), Path(n, 10)) for n in (50, 51, 51)]

    assert path_of(*seen).hops == pytest.approx(152 / 3)


def call(
    latency_s: float, messages: int, *, deepest: int = 0, n_bytes=1_000, kernels=1
) -> Call:
    """One call of two parties; `deepest` hops were seen by the relay, if any."""
    path = Path(deepest, 3_000)
    run = SpuRun(
        name="main",
        total_s=latency_s,
        input_s=0.0,
        execution_s=latency_s,
        output_s=0.0,
        bytes_sent=n_bytes,
        bytes_received=n_bytes,
        send_actions=messages,
        recv_actions=messages,
        operations=(make_operation(count=kernels),),
    )
    return Call(
        latency_s=latency_s,
        busy_s_by_rank=(0.0, 0.0),
        runs=(run, run),
        counters=counters(path, path) if deepest else None,
    )


def record_of(
    calls: dict[Network, list[Call]], mode="emulated", protocol="semi2k", network=WAN
) -> Record:
    timing = Timing(
        case=Case(workload=get_workload("exp"), dims=Dims(n_heads=1, n_tokens=4)),
        lowered=SimpleNamespace(compile_s=0.1),
        first_call=calls[LOOPBACK][0],
        warmups=(),
        calls=tuple((network, tuple(of)) for network, of in calls.items()),
        max_abs_error=0.0,
    )
    setup = Setup(n_starts=1, start_s=1.0, setup_s=0.1, setup_bytes=9, versions=())
    context = Context(
        deployment=make_deployment(protocol),
        network=network,
        mode=mode,
        emulation="relay",
        calibration=Calibration(loopback_s_per_hop=0.0, loopback_s_per_byte=0.0),
        setup=setup,
        seed=0,
        host="here",
        versions="{}",
        commit="0",
    )
    return to_record(timing, context, created_at="2026-01-31T12:00:00+00:00")


def test_messages_that_do_not_wait_for_each_other_are_no_hops():
    calls = [call(8.2, 495, deepest=n) for n in (400, 398)]

    record = record_of({LOOPBACK: [call(0.2, 495)], WAN: calls})

    assert (record.hops, record.hops_basis, record.send_actions) == (
        398,
        "measured",
        495,
    )
    assert parts_of(record, record.latency_s).problem == ""


@pytest.mark.parametrize("deepest", [17, 18, 0])
def test_a_message_that_came_late_on_a_busy_machine_is_no_hop(deepest):
    seen = call(0.4, 17, deepest=deepest)

    record = record_of({LOOPBACK: [call(0.1, 17)], WAN: [seen]})

    assert (record.hops, record.hops_basis) == (17, "counted")


def test_a_price_takes_the_hops_that_a_call_with_a_delay_showed():
    calls = {LOOPBACK: [call(0.3, 495)], BRIEF: [call(3.5, 495, deepest=398)]}

    record = record_of(calls, "priced")

    assert (record.hops, record.hops_basis) == (398, "measured")
    assert record.latency_s == pytest.approx(0.3 + 398 * 0.02, rel=1e-3)
    assert record.hops_by_repeat == ()


def test_a_record_of_loopback_has_the_hops_that_a_call_with_a_delay_showed():
    seen = call(0.2, 11, deepest=12)

    loopback = record_of(
        {LOOPBACK: [call(0.1, 11)], BRIEF: [seen]}, protocol="aby3", network=LOOPBACK
    )

    assert (loopback.hops, loopback.wire_bytes, loopback.latency_s) == (12, 3_000, 0.1)


def test_calls_that_differ_are_told_by_the_median_one_with_the_hops_of_each():
    waited = [
        call(0.02 * n, n, deepest=n, n_bytes=10 * n, kernels=n) for n in (84, 52, 60)
    ]

    record = record_of({LOOPBACK: [call(0.1, 92, n_bytes=920)], WAN: waited})

    assert (record.hops, record.bytes_sent, record.send_actions) == (60, 600, 60)
    assert record.hops_by_repeat == (84, 52, 60)
    assert record.total_bytes_sent_by_repeat == (1680, 1040, 1200)
    assert record.operations[0].count == 60


def test_each_call_that_differs_is_priced_by_its_own_hops():
    calls = [call(0.1, n, n_bytes=n, kernels=n) for n in (84, 52, 60)]

    record = record_of({LOOPBACK: calls}, "priced")

    hops_s = [latency_s - 0.1 for latency_s in record.latencies_s]
    assert hops_s == pytest.approx([84 * 0.02, 52 * 0.02, 60 * 0.02], rel=1e-3)
    assert (record.hops, record.latency_s) == (60, sorted(record.latencies_s)[1])


def test_other_kernels_tell_calls_apart_where_bytes_and_stocks_do_not():
    alike = [call(0.4, 40, deepest=21, n_bytes=n) for n in (3_000, 9_000)]
    other = [call(0.4, 40, deepest=21, kernels=n) for n in (1, 2)]

    stocked = record_of({LOOPBACK: alike, WAN: alike}, protocol="cheetah")
    selecting = record_of({LOOPBACK: other, WAN: other}, protocol="cheetah")

    assert not stocked.differs_by_call
    assert selecting.differs_by_call


def test_a_refill_in_one_call_on_the_network_is_not_taken_for_hops():
    seen = Counters(
        lower=Path(1, 0),
        upper=Path(60, 0),
        deepest=Path(1, 0),
        carried_bytes=0,
        lines=(),
    )
    quick = [call(0.50, 40, n_bytes=4_000) for _ in range(3)]
    slow = [
        replace(call(s, 40, n_bytes=n), counters=seen)
        for s, n in ((0.54, 4_000), (2.64, 137_000), (0.54, 4_900))
    ]

    record = record_of({LOOPBACK: quick, WAN: slow}, protocol="cheetah")
    apart = record_of({LOOPBACK: quick, WAN: slow[1:2]}, protocol="cheetah")

    assert record.hops == pytest.approx(2.0)
    assert apart.hops == 60  # no call to hold it against: within the bounds


def calls_of(session, function, n_entries, network, n_calls):
    inputs = [np.linspace(-1, 1, n_entries, dtype=np.float32)[::-1].copy()]
    session.load("case", session.lower("case", function, inputs), inputs)
    session.set_network(network)
    try:
        return [session.run("case") for _ in range(n_calls)]
    finally:
        session.set_network(LOOPBACK)
        session.unload("case")


@pytest.mark.spu
@pytest.mark.parametrize(
    ("function", "does_wait"), [(jnp.exp, True), (jnp.sort, False)]
)
def test_the_relay_tells_a_sort_whose_messages_do_not_all_wait(
    semi2k, function, does_wait
):
    calls = calls_of(semi2k, function, 8, BRIEF, 1)

    assert (waiting_share(calls) == 1.0) == does_wait
    assert waiting_share(calls) > 0.5


@pytest.mark.spu
@pytest.mark.parametrize("protocol", ["semi2k", "aby3"])
@pytest.mark.parametrize(
    ("function", "is_random"), [(jnp.exp, False), (jnp.median, True)]
)
def test_a_median_differs_from_call_to_call_and_roles_that_change_do_not(
    protocol, function, is_random, request
):
    session = request.getfixturevalue(protocol)

    calls = calls_of(session, function, 33, LOOPBACK, 6)

    assert calls_differ(calls, session.deployment) == is_random
