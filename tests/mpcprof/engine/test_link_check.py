"""The emulated link is measured, trimmed, and refused when it is not what was asked."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.engine.calibration import (
    TOLERANCE,
    LinkCheck,
    calibration_network,
    check_link,
    link_check_s,
    trim_link,
)
from mpcprof.errors import LinkError
from mpcprof.network import NETWORKS, Network, parse_network
from mpcprof.progress import SILENT, Silent
from mpcprof.sweep.cases import _trim, calibrate_host
from mpcprof.sweep.config import make_config

WAN = NETWORKS["wan"]
SLOW = parse_network("10Mbps,40ms")


class ScriptedSession:
    """Parties on a link whose messages come late, and whose rate is a given share.

    Args:
        late_s: Of each round trip in turn, the last one for ever.
        shares: Goodput over bandwidth, per measurement, likewise.
    """

    def __init__(self, late_s=(0.0,), shares=(1.0,), n_parties=2):
        self.n_parties = n_parties
        self.late_s = 0.0
        self.network = None
        self.n_checks = 0
        self.waited_s = 0.0
        self._late_s = forever(late_s)
        self._shares = forever(shares)
        self._delay_s = 0.0

    def set_network(self, network):
        self.network = network
        self._delay_s = max(network.rtt_s - self.late_s, 0.0)
        self.n_checks += 1
        self._trip_s = self._delay_s + next(self._late_s)

    def exchange_s(self, n_exchanges):
        assert n_exchanges > 1
        self.waited_s += n_exchanges * self._trip_s / 2
        return self._trip_s / 2

    def goodput_bytes_per_s(self, *, message_bytes, n_messages):
        assert message_bytes >= 40_000  # or framing would look like a low rate
        assert n_messages > 1
        self.waited_s += message_bytes * n_messages / self.network.bandwidth_bytes_per_s
        rate = self.network.bandwidth_bytes_per_s * next(self._shares)
        pairs = itertools.permutations(range(self.n_parties), 2)
        return dict.fromkeys(pairs, rate)


def make_sweep_config(protocol, mode):
    return make_config(
        protocol=protocol,
        network=Network(bandwidth_bytes_per_s=44e6, rtt_s=0.001),
        mode=mode,
        emulation="auto",
        repeats=1,
        warmups=None,
        seed=0,
        base_port=0,
        cases=(),
    )


def forever(values):
    return itertools.chain(values, itertools.repeat(values[-1]))


@given(late_s=st.floats(1e-6, 0.02))
def test_a_link_that_is_late_is_trimmed_to_what_was_asked_for(late_s):
    session = ScriptedSession([late_s])

    seen = trim_link(session, WAN)

    assert seen.is_good
    assert seen.rtt_s == pytest.approx(WAN.rtt_s)
    assert session.late_s == pytest.approx(late_s)


@pytest.mark.parametrize(
    ("text", "most_s"),
    [("wan", 5), ("10Mbps,40ms", 5), ("1Mbps,40ms", 6), ("44MBps,600ms", 10)],
)
def test_a_slow_network_is_checked_within_seconds(text, most_s):
    session = ScriptedSession([0.001])
    network = parse_network(text)

    trim_link(session, network)

    assert session.waited_s <= most_s
    assert session.waited_s == pytest.approx(link_check_s(network), rel=0.05)


def test_a_link_check_that_takes_long_is_announced():
    said = []
    network = parse_network("10kbps,40ms")
    config = make_config(protocol="semi2k", cases=(), network=network)

    class Listening(Silent):
        def say(self, line):
            said.append(line)

    _trim(config, ScriptedSession([0.001]), Listening())

    assert said[0] == "link: checking 1.25kBps,40ms takes 260 s or more"


@pytest.mark.parametrize(
    ("text", "calibrated_on"),
    [
        ("wan", "wan"),
        ("lan", "lan"),
        ("20MBps,40ms", "20MBps,40ms"),
        ("10Mbps,40ms", "11MBps,40ms"),
        ("44MBps,600ms", "wan"),
        ("1Mbps,1ms", "11MBps,1ms"),
        ("1GBps,600ms", "1GBps,40ms"),
        ("loopback", "loopback"),
    ],
)
def test_a_host_is_calibrated_on_a_network_that_takes_seconds(text, calibrated_on):
    found = calibration_network(parse_network(text))

    assert found == parse_network(calibrated_on)


@given(early_s=st.floats(1e-6, 0.02))
def test_a_link_that_is_early_is_trimmed_as_well(early_s):
    session = ScriptedSession([-early_s])

    assert trim_link(session, WAN).rtt_s == pytest.approx(WAN.rtt_s)


def test_a_link_that_is_right_at_once_is_accepted():
    session = ScriptedSession([0.0])

    assert trim_link(session, WAN).is_good


def test_trimming_begins_anew_for_each_network():
    session = ScriptedSession([0.001])
    session.late_s = 0.5

    trim_link(session, WAN)

    assert session.late_s == pytest.approx(0.001)


def test_one_disturbed_measurement_does_not_end_the_trimming():
    session = ScriptedSession([0.001, 0.008, 0.001], shares=[1.0, 0.5, 1.0])

    seen = trim_link(session, WAN)

    assert seen.is_good
    assert session.late_s == pytest.approx(0.001)


@pytest.mark.parametrize("share", [1 - 1.1 * TOLERANCE, 1 + 1.1 * TOLERANCE, 0.5])
def test_a_rate_that_stays_off_is_refused_with_what_was_seen(share):
    session = ScriptedSession([0.001], shares=[share])

    with pytest.raises(
        LinkError, match=rf"asked for 44MBps,40ms.* {44 * share:.1f} MB/s.*3%"
    ):
        trim_link(session, WAN)

    assert session.n_checks > 1


def test_a_round_trip_that_cannot_be_trimmed_is_refused_with_what_was_seen():
    network = Network(bandwidth_bytes_per_s=44e6, rtt_s=0.001)
    session = ScriptedSession([0.005])  # nothing is left to shorten

    with pytest.raises(LinkError, match=r"parties see 5\.00 ms.*a slower network$"):
        trim_link(session, network)


@pytest.mark.parametrize(
    ("protocol", "mode", "advice"),
    [
        ("semi2k", "emulated", "ask for a slower network, or measure with --mode pr"),
        ("aby3", "emulated", "free the processor, or ask for a slower network$"),
        ("aby3", "priced", "the hops, which are the same, on a slower --network$"),
    ],
)
def test_the_advice_is_none_that_was_followed_already(protocol, mode, advice):
    session = ScriptedSession([0.005])
    config = make_sweep_config(protocol, mode)

    with pytest.raises(LinkError, match=advice):
        _trim(config, session, SILENT)


def test_a_priced_sweep_whose_calibration_fails_is_not_told_to_change_its_network():
    session = ScriptedSession([0.0], shares=[0.5])

    with pytest.raises(LinkError, match=r"asked for 44MBps.*; free the processor$"):
        calibrate_host(make_sweep_config("aby3", "priced"), session)


def test_who_asked_for_a_slow_network_is_not_told_to_ask_for_a_slower_one():
    session = ScriptedSession([0.0], shares=[0.5])
    slow = replace(make_sweep_config("aby3", "emulated"), network=SLOW)

    with pytest.raises(LinkError, match=r"asked for 11MBps,40ms.*; free the proc\w+$"):
        calibrate_host(slow, session)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_tolerance_is_on_both_sides_of_both_quantities(sign):
    inside, outside = 1 + sign * 0.9 * TOLERANCE, 1 + sign * 1.1 * TOLERANCE

    def is_good(rtt_share, rate_share):
        return LinkCheck(
            network=WAN,
            rtt_s=WAN.rtt_s * rtt_share,
            goodput_bytes_per_s=WAN.bandwidth_bytes_per_s * rate_share,
        ).is_good

    assert is_good(inside, inside)
    assert not is_good(outside, inside)
    assert not is_good(inside, outside)


def test_what_is_not_asked_for_cannot_be_wrong():
    no_delay = Network(bandwidth_bytes_per_s=44e6, rtt_s=0.0)
    no_limit = Network(bandwidth_bytes_per_s=float("inf"), rtt_s=0.040)

    first = LinkCheck(network=no_delay, rtt_s=0.001, goodput_bytes_per_s=44e6)
    second = LinkCheck(network=no_limit, rtt_s=0.040, goodput_bytes_per_s=1e9)

    assert first.is_good
    assert second.is_good


def test_the_slowest_direction_counts():
    class Uneven(ScriptedSession):
        def goodput_bytes_per_s(self, **stream):
            return {**super().goodput_bytes_per_s(**stream), (2, 0): 30e6}

    seen = check_link(Uneven(n_parties=3), WAN)

    assert seen.goodput_bytes_per_s == 30e6
