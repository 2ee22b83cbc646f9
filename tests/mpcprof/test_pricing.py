"""Laws of the latency formula."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.network import LOOPBACK, NETWORKS, Network
from mpcprof.pricing import Calibration, price_s

WAN = NETWORKS["wan"]

seconds = st.floats(0, 1e3)
hops = st.floats(0, 1e5)
wire_bytes = st.floats(0, 1e12)
rtts_s = st.floats(0, 10, allow_subnormal=False)
bandwidths = st.floats(1e3, 1e12) | st.just(math.inf)
per_hop_s = st.floats(-1e-2, 1e-2)
per_byte_s = st.floats(-1e-7, 1e-7)

networks = st.builds(Network, bandwidth_bytes_per_s=bandwidths, rtt_s=rtts_s)
costs = st.fixed_dictionaries(
    {"exposed_s": seconds, "hidden_s": seconds, "hops": hops, "wire_bytes": wire_bytes}
)
calibrations = st.builds(
    Calibration, loopback_s_per_hop=per_hop_s, loopback_s_per_byte=per_byte_s
)


@given(
    network=networks,
    cost=costs,
    more=st.floats(0, 1e6),
    name=st.sampled_from(["exposed_s", "hidden_s", "hops", "wire_bytes"]),
)
def test_more_of_anything_is_never_cheaper(network, cost, more, name):
    larger = {**cost, name: cost[name] + more}

    assert price_s(network, **larger) >= price_s(network, **cost)


@given(cost=costs, bandwidth=bandwidths, pair=st.tuples(rtts_s, rtts_s).map(sorted))
def test_a_longer_round_trip_is_never_cheaper(cost, bandwidth, pair):
    near, far = (
        Network(bandwidth_bytes_per_s=bandwidth, rtt_s=rtt_s) for rtt_s in pair
    )

    assert price_s(far, **cost) >= price_s(near, **cost)


@given(cost=costs, rtt_s=rtts_s, pair=st.tuples(bandwidths, bandwidths).map(sorted))
def test_a_narrower_line_is_never_cheaper(cost, rtt_s, pair):
    narrow, wide = (Network(bandwidth_bytes_per_s=rate, rtt_s=rtt_s) for rate in pair)

    assert price_s(narrow, **cost) >= price_s(wide, **cost)


@given(cost=costs)
def test_on_loopback_compute_is_all_there_is_hidden_or_not(cost):
    price = price_s(LOOPBACK, **cost)

    assert price == cost["exposed_s"] + cost["hidden_s"]


@given(network=networks, cost=costs)
def test_a_price_is_between_compute_and_the_sum_of_all_parts(network, cost):
    network_s = (
        cost["hops"] * network.rtt_s / 2
        + cost["wire_bytes"] / network.bandwidth_bytes_per_s
    )

    price = price_s(network, **cost)

    assert price >= cost["exposed_s"] + max(network_s, cost["hidden_s"]) * (1 - 1e-12)
    assert price <= (cost["exposed_s"] + network_s + cost["hidden_s"]) * (1 + 1e-12)


def test_compute_that_fits_behind_the_messages_costs_nothing():
    cost = {"exposed_s": 1.0, "hops": 10, "wire_bytes": 44e6}  # 0.2 s and 1 s

    assert price_s(WAN, **cost) == pytest.approx(2.2)
    assert price_s(WAN, **cost, hidden_s=1.1) == pytest.approx(2.2)
    assert price_s(WAN, **cost, hidden_s=1.3) == pytest.approx(2.3)


@given(
    calibration=calibrations, loopback_s=seconds, hidden_s=seconds, n=hops, b=wire_bytes
)
def test_compute_is_never_negative(calibration, loopback_s, hidden_s, n, b):
    compute_s = calibration.exposed_s(
        loopback_s, hidden_s=hidden_s, hops=n, wire_bytes=b
    )

    assert compute_s >= 0


@given(
    calibration=calibrations, compute_s=seconds, hidden_s=seconds, n=hops, b=wire_bytes
)
def test_compute_comes_back_from_the_loopback_time_that_it_makes(
    calibration, compute_s, hidden_s, n, b
):
    link_s = n * calibration.loopback_s_per_hop + b * calibration.loopback_s_per_byte
    loopback_s = compute_s + hidden_s + link_s

    found_s = calibration.exposed_s(loopback_s, hidden_s=hidden_s, hops=n, wire_bytes=b)

    assert found_s == pytest.approx(compute_s, abs=1e-9)
