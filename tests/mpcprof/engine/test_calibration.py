"""Laws of the calibration: constants that were put into probes come out again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.engine.calibration import Probe, calibrate, hidden_s, solve
from mpcprof.engine.calls import Call
from mpcprof.engine.spulog import SpuRun
from mpcprof.network import LOOPBACK, NETWORKS, Network, parse_network
from mpcprof.pricing import Calibration, price_s

# squarings of semi2k: 2 hops and 20 bytes an element each, as the shapes that calibrate
SHAPES = ((1, 300_000), (1, 1_000_000), (4, 20_000), (12, 1_000))

per_hop_s = st.floats(-1e-3, 1e-3)
per_byte_s = st.floats(-1e-8, 1e-8)
seconds = st.floats(0, 1)
networks = st.builds(
    Network, bandwidth_bytes_per_s=st.floats(1e6, 1e10), rtt_s=st.floats(1e-3, 0.5)
)


def make_probe(
    network: Network, calibration: Calibration, *, shape, compute_s, hidden
) -> Probe:
    """A case whose times follow from its costs without noise."""
    length, n_elements = shape
    cost = {"hops": 2 * length, "wire_bytes": 20 * length * n_elements}
    link_s = (
        cost["hops"] * calibration.loopback_s_per_hop
        + cost["wire_bytes"] * calibration.loopback_s_per_byte
    )
    return Probe(
        loopback_s=compute_s + hidden + link_s,
        hidden_s=hidden,
        emulated_s=price_s(network, exposed_s=compute_s, **cost),
        **cost,
    )


@given(
    network=networks,
    per_hop=per_hop_s,
    per_byte=per_byte_s,
    times_s=st.lists(st.tuples(seconds, seconds), min_size=4, max_size=4),
)
@settings(deadline=None)
def test_the_two_constants_come_back_exactly_whatever_the_cases_compute(
    network, per_hop, per_byte, times_s
):
    true = Calibration(loopback_s_per_hop=per_hop, loopback_s_per_byte=per_byte)
    probes = [
        make_probe(network, true, shape=shape, compute_s=compute_s, hidden=hidden)
        for shape, (compute_s, hidden) in zip(SHAPES, times_s, strict=True)
    ]

    found = solve(probes, network)

    assert found.loopback_s_per_hop == pytest.approx(per_hop, rel=1e-6, abs=1e-9)
    assert found.loopback_s_per_byte == pytest.approx(per_byte, rel=1e-6, abs=1e-14)


def test_what_is_calibrated_prices_the_cases_that_it_was_found_from():
    network = NETWORKS["wan"]
    true = Calibration(loopback_s_per_hop=-2e-4, loopback_s_per_byte=5e-10)
    probes = [
        make_probe(network, true, shape=shape, compute_s=0.01, hidden=0.002)
        for shape in SHAPES
    ]

    found = solve(probes, network)

    for probe in probes:
        cost = {"hops": probe.hops, "wire_bytes": probe.wire_bytes}
        compute_s = found.exposed_s(probe.loopback_s, hidden_s=probe.hidden_s, **cost)
        priced_s = price_s(network, exposed_s=compute_s, **cost)
        assert priced_s == pytest.approx(probe.emulated_s)


def make_call(*busy_s: float) -> Call:
    return Call(latency_s=1.0, busy_s_by_rank=busy_s, runs=(), counters=None)


@given(busy_s=seconds, more_s=seconds)
@settings(deadline=None)
def test_half_of_what_the_first_party_computes_more_is_hidden(busy_s, more_s):
    calls = [make_call(busy_s + more_s, busy_s)] * 3

    assert hidden_s(calls) == pytest.approx(more_s / 2, abs=1e-12)


@given(busy_s=seconds, more_s=seconds)
@settings(deadline=None)
def test_nothing_is_hidden_when_the_first_party_computes_less(busy_s, more_s):
    assert hidden_s([make_call(busy_s, busy_s + more_s)]) == 0


def test_one_disturbed_call_does_not_change_what_is_hidden():
    calls = [make_call(0.3, 0.1), make_call(9.0, 0.1), make_call(0.3, 0.1)]

    assert hidden_s(calls) == pytest.approx(0.1)


class ClockedSession:
    """Parties whose calls move a clock of their own."""

    def __init__(self, call_s):
        self.call_s = call_s
        self.now_s = 0.0
        self.networks = []

    def set_network(self, network):
        self.networks.append(network)

    def lower(self, case, function, inputs):
        return function

    def load(self, case, lowered, inputs):
        assert len(inputs) == 1

    def unload(self, case):
        pass

    def run(self, case):
        self.now_s += self.call_s
        run = SpuRun(
            name=case,
            total_s=1.0,
            input_s=0.0,
            execution_s=1.0,
            output_s=0.0,
            bytes_sent=1000 * (1 + int(case[-1]) % 3),
            send_actions=2 + int(case[-1]),
        )
        return Call(
            latency_s=1.0, busy_s_by_rank=(1.0, 1.0), runs=(run, run), counters=None
        )


@pytest.mark.parametrize(
    ("call_s", "text", "compared", "n_rounds"),
    [
        (0.01, "44MBps,40ms", "44MBps,40ms", 6),
        (0.3, "44MBps,40ms", "44MBps,40ms", 4),
        (10.0, "44MBps,40ms", "44MBps,40ms", 3),
        (0.01, "10Mbps,40ms", "11MBps,40ms", 6),
        (0.1, "10Mbps,40ms", "11MBps,40ms", 3),
    ],
)
def test_calibrating_ends_with_the_time_it_has_but_repeats_twice(
    call_s, text, compared, n_rounds
):
    session = ClockedSession(call_s)

    calibrate(session, parse_network(text), clock=lambda: session.now_s)

    assert session.networks == [LOOPBACK, parse_network(compared)] * n_rounds
