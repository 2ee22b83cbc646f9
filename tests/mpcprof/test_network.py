import contextlib
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


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("100mbit,80ms", "12.5MBps,80ms"),
        ("1Gbit,0.5ms", "125MBps,500us"),
        ("100Mb,40ms", "12.5MBps,40ms"),
        ("WAN", "44MBps,40ms"),
        ("40ms,44MBps", "44MBps,40ms"),
        ("44 MB/s 40 ms", "44MBps,40ms"),
        ("rtt 40ms rate 100mbit", "12.5MBps,40ms"),
        ("100mbit, rtt=40ms", "12.5MBps,40ms"),
        ("100 Mbit/s / 40 ms", "12.5MBps,40ms"),
        ("44MBps, 20ms one way", "44MBps,40ms"),
        ("20ms each way 44MBps each way", "44MBps,40ms"),
        ("44MBps up 44MBps down 40ms", "44MBps,40ms"),
        ("20ms up, 20ms down, 44MBps", "44MBps,40ms"),
        ("Unlimited 40ms", "unlimited,40ms"),
    ],
)
def test_a_network_is_read_as_people_write_it(text, network):
    assert str(parse_network(text)) == network


PRINTED = st.tuples(BANDWIDTHS, RTTS).map(
    lambda values: Network(bandwidth_bytes_per_s=values[0], rtt_s=values[1])
)


@given(PRINTED, st.sampled_from([", ", " ", ";", " / "]))
def test_the_order_of_rate_and_delay_does_not_matter(network, between):
    bandwidth, _, rtt = str(network).partition(",")

    if rtt:
        assert parse_network(f"{rtt}{between}{bandwidth}") == network


@given(st.text(alphabet="0123456789.eMGkbBitps/µms, upradelywn-", max_size=30))
def test_no_text_makes_the_network_fail_in_any_other_way(text):
    with contextlib.suppress(UsageError):
        parse_network(text)


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
        ("wan,80ms", "such as 44MBps,40ms"),
        ("100mbps,40ms", "may mean 100Mbps or 100MBps"),
        ("40mss,44MBps", "'40mss' has the unknown unit 'mss'; did you mean ms?"),
        ("44xBps,40ms", "unknown unit 'xBps'; did you mean"),
        ("100/20Mbps,40ms", "waits for the slower one; type 20Mbps,40ms"),
        ("100Mbps down, 20Mbps up, 40ms", "the slower one; type 20Mbps,40ms"),
        ("100Mbps up,40ms", "has the bandwidth of one direction; type 100Mbps,40ms"),
        ("20ms/30ms,1Gbit", "their sum, 50 ms, if each is one way"),
        ("20ms latency 1Gbit", "latency stands beside 1Gbit"),
        ("rtt 44MBps, 40ms", "rtt stands beside 44MBps"),
        ("rate 40ms, 44MBps", "rate stands beside 40ms"),
        ("44MBps, 40ms both ways", "40ms may be a round trip (40ms rtt) or one way"),
        ("44MBps,40m", "may mean 40min or 40ms"),
        ("rate 100mbit delay 20ms", "20ms may be a round trip (20ms rtt) or one way"),
    ],
)
def test_a_text_that_is_no_network_says_what_is(text, message):
    with pytest.raises(UsageError) as caught:
        parse_network(text)

    assert message in str(caught.value)


def test_an_unknown_preset_is_a_lookup_error_too():
    with pytest.raises(UnknownNameError):
        parse_network("man")
