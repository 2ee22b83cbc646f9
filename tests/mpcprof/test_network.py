import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.network import LOOPBACK, NETWORKS, Network, parse_network

BANDWIDTHS = st.floats(min_value=1.0, max_value=1e15) | st.just(math.inf)
RTTS = st.floats(min_value=0.0, max_value=1e3, allow_subnormal=False)


@given(BANDWIDTHS, RTTS)
def test_a_network_reads_back_what_it_shows(bandwidth, rtt):
    network = Network(bandwidth_bytes_per_s=bandwidth, rtt_s=rtt)

    assert parse_network(str(network)) == network


def test_the_presets_are_those_of_the_paper():
    assert str(parse_network("wan")) == "44MBps,40ms"
    assert str(parse_network("lan")) == "384MBps,300us"
    assert NETWORKS["wan"].one_way_s == 0.020


def test_bits_and_spaces_are_accepted():
    assert parse_network("352Mbps, 40ms") == NETWORKS["wan"]


def test_loopback_is_the_network_on_which_nothing_is_emulated():
    assert parse_network("loopback") == LOOPBACK
    assert LOOPBACK.is_loopback
    assert not parse_network("unlimited,40ms").is_loopback


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan])
def test_a_bandwidth_that_moves_nothing_is_refused(bandwidth):
    with pytest.raises(UsageError, match="expected more than 0, such as 44MBps"):
        Network(bandwidth_bytes_per_s=bandwidth, rtt_s=0.0)


@pytest.mark.parametrize("rtt", [-0.001, math.inf, math.nan])
def test_an_impossible_round_trip_is_refused(rtt):
    with pytest.raises(UsageError, match="at least 0, such as 40ms"):
        Network(bandwidth_bytes_per_s=1e6, rtt_s=rtt)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wam", "no network 'wam'; did you mean wan"),
        ("44MBps", "such as 44MBps,40ms"),
        ("44MBps,40ms,1", "such as 44MBps,40ms"),
        ("44MBps,40", "'40' has no unit"),
        ("44,40ms", "'44' has no unit"),
        ("0MBps,40ms", "expected more than 0"),
        ("", "no network ''"),
    ],
)
def test_a_text_that_is_no_network_says_what_is(text, message):
    with pytest.raises(UsageError) as caught:
        parse_network(text)

    assert message in str(caught.value)


def test_an_unknown_preset_is_a_lookup_error_too():
    with pytest.raises(UnknownNameError):
        parse_network("man")
