"""Tests of `mpcprof.engine.emulation.netem`; a token bucket stands in for netem."""

import contextlib
import errno
import math
import os
import signal
import subprocess

import pytest

from mpcprof.engine.emulation.backends import probe_backends
from mpcprof.engine.emulation.namespaces import line_header
from mpcprof.engine.emulation.netem import (
    NetemEmulation,
    Qdisc,
    Veth,
    netem_message,
    plan_qdisc,
    plan_veths,
    shape,
)
from mpcprof.errors import BackendUnavailableError, LinkError, PartyDiedError
from mpcprof.network import LOOPBACK, NETWORKS, Network
from tests.wan_party import namespace_of, running, wait_until_unused

pytestmark = pytest.mark.link

WAN = NETWORKS["wan"]
TIME_STAMPED_SEGMENT, ITS_FRAME = 1448, 1514

NETEM_IS_MISSING = "this kernel has no netem qdisc (sch_netem)"
needs_netem = pytest.mark.usefixtures("netem")
needs_veth = pytest.mark.usefixtures("veth")


@pytest.fixture(scope="module")
def netem_reason() -> str:
    """Return why there is no netem; asked in a test, not when it is collected."""
    return {status.name: status.reason for status in probe_backends()}["netem"]


@pytest.fixture
def netem(netem_reason: str) -> None:
    if netem_reason:
        pytest.skip(netem_reason)


@pytest.fixture
def veth(netem_reason: str) -> None:
    """Skip where even pairs are missing: netem itself comes last in its probe."""
    if netem_reason not in ("", NETEM_IS_MISSING):
        pytest.skip(netem_reason)


@pytest.mark.parametrize(("n_parties", "n_pairs"), [(2, 1), (3, 3), (4, 6)])
def test_every_two_parties_have_one_pair(n_parties: int, n_pairs: int) -> None:
    veths = plan_veths(n_parties)

    assert len({frozenset((veth.rank, veth.peer)) for veth in veths}) == n_pairs
    assert all(veth.rank != veth.peer for veth in veths)


def test_both_ends_of_a_pair_have_addresses_of_their_own() -> None:
    ends = [end for veth in plan_veths(4) for end in (veth, veth.other_end)]

    assert len({end.mac for end in ends}) == len(ends) == 12
    assert len({(end.rank, end.device) for end in ends}) == len(ends)
    assert all(end.other_end.other_end == end for end in ends)
    assert Veth(rank=0, peer=2).device == "to2"


def test_each_end_delays_by_one_way_and_lets_the_payload_through_at_the_rate() -> None:
    qdisc = plan_qdisc(WAN.one_way_s, WAN.bandwidth_bytes_per_s)

    goodput = qdisc.rate_bytes_per_s * TIME_STAMPED_SEGMENT / ITS_FRAME
    assert qdisc.delay_us == 20_000
    assert goodput == pytest.approx(44e6, abs=1)


def test_the_queue_holds_the_delay_bandwidth_product_and_more() -> None:
    wan = plan_qdisc(0.020, 44e6)
    far = plan_qdisc(1.020, 44e6)

    assert wan.limit_packets * TIME_STAMPED_SEGMENT >= 0.020 * 44e6 + 60e6
    assert (far.limit_packets - wan.limit_packets) * TIME_STAMPED_SEGMENT == (
        pytest.approx(44e6, rel=1e-4)
    )


def test_loopback_is_no_delay_and_no_limit() -> None:
    header = line_header(LOOPBACK)

    qdisc = plan_qdisc(header["one_way_s"], header["bandwidth_bytes_per_s"])

    assert qdisc.delay_us == 0
    assert qdisc.rate_bytes_per_s == 0


def test_a_rate_that_netem_cannot_be_told_is_refused() -> None:
    with pytest.raises(LinkError, match="bandwidth_bytes_per_s=5000000000: netem"):
        plan_qdisc(0.0, 5e9)


def test_the_message_is_what_tc_sends() -> None:
    # strace of: tc qdisc add dev X root handle 1: netem delay 20ms limit 5000
    #   rate 368000000bit   (iproute2; length, type and flags, then from the device on)
    sent_by_tc = (
        "60000000 2400 0506 0000000000000000"
        "00000000 07000000 00000100 ffffffff 00000000"
        "0a00 0100 6e6574656d000000"
        "3000 0200 b4c40400 88130000 00000000 00000000 00000000 00000000"
        "1400 0600 80e7bd02 00000000 00000000 00000000"
    )
    qdisc = Qdisc(delay_us=20_000, rate_bytes_per_s=46_000_000, limit_packets=5000)

    message = netem_message(7, qdisc, command="add")
    message.encode()

    assert bytes(message.data) == bytes.fromhex(sent_by_tc)


class RefusingRoute:
    """A netlink socket on a kernel that answers with one error code."""

    def __init__(self, code: int) -> None:
        self.code = code

    def nlm_request_batch(self, messages: list[object]) -> None:
        error = OSError(self.code, os.strerror(self.code))
        error.code = self.code  # type: ignore[attr-defined]  # as pyroute2's has it
        raise error


def test_only_a_missing_qdisc_is_taken_for_one() -> None:
    qdisc = plan_qdisc(0.020, 44e6)

    with pytest.raises(BackendUnavailableError, match="no netem qdisc"):
        shape(RefusingRoute(errno.ENOENT), 1, "netem", qdisc, command="add")
    with pytest.raises(OSError, match="not permitted"):
        shape(RefusingRoute(errno.EPERM), 1, "netem", qdisc, command="add")


def test_starting_without_netem_says_what_the_probe_says(netem_reason: str) -> None:
    if not netem_reason:
        pytest.skip("netem is available")

    with pytest.raises(BackendUnavailableError) as caught:
        NetemEmulation().start(2)

    assert netem_reason in str(caught.value)


@needs_netem
@pytest.mark.parametrize("n_parties", [2, 3])
def test_the_wan_has_its_rtt_and_its_goodput_each_way_at_once(n_parties: int) -> None:
    emulation = NetemEmulation()
    with running(emulation, n_parties) as parties:
        emulation.set_network(WAN)
        assert parties.rtt_s() == pytest.approx(WAN.rtt_s, rel=0.05)

        parties.goodputs(16 << 20)
        for goodput in parties.goodputs(48 << 20):
            assert goodput == pytest.approx(44e6, rel=0.1)

        emulation.set_network(LOOPBACK)
        assert parties.rtt_s() < 0.003


@needs_veth
def test_three_parties_reach_each_other_at_the_rate_that_is_set() -> None:
    emulation = NetemEmulation(shaper="tbf")
    with running(emulation, 3) as parties:
        assert parties.rtt_s() < 0.003

        emulation.set_network(Network(bandwidth_bytes_per_s=20e6, rtt_s=0.0))
        parties.goodputs(4 << 20)
        for goodput in parties.goodputs(20 << 20):
            assert goodput == pytest.approx(20e6, rel=0.1)

        emulation.set_network(LOOPBACK)
        assert min(parties.goodputs(64 << 20)) > 60e6


@needs_veth
def test_a_party_sees_its_own_address_and_nothing_of_the_machine() -> None:
    with contextlib.closing(NetemEmulation(shaper="tbf")) as emulation:
        emulation.start(2)

        devices = subprocess.run(
            [*emulation.command_prefix(1), "cat", "/proc/net/dev"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[2:]

        assert {line.split(":")[0].strip() for line in devices} == {"lo", "to0"}
        assert emulation.listen_address(1) == emulation.peer_address(0, 1)


@needs_veth
def test_a_refused_network_leaves_the_one_before_and_the_emulation_alive() -> None:
    with contextlib.closing(NetemEmulation(shaper="tbf")) as emulation:
        emulation.start(2)

        with pytest.raises(LinkError, match="netem emulation: bandwidth"):
            emulation.set_network(Network(bandwidth_bytes_per_s=5e9, rtt_s=0.0))

        emulation.set_network(Network(bandwidth_bytes_per_s=math.inf, rtt_s=0.0))


@needs_veth
def test_killing_the_holder_is_noticed_and_leaves_nothing_behind() -> None:
    emulation = NetemEmulation(shaper="tbf")
    with running(emulation, 2):
        inodes = {namespace_of(emulation.command_prefix(rank)) for rank in range(2)}

        os.kill(emulation.watched()[0].pid, signal.SIGKILL)

        with pytest.raises(PartyDiedError, match="was killed by signal 9"):
            emulation.set_network(WAN)

    assert wait_until_unused(inodes) == []
