"""Tests of the TUN back-end: real TCP between namespaces, really measured."""

import ctypes
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from mpcprof.engine.emulation import tun as tun_process
from mpcprof.engine.emulation.backends import probe_backends
from mpcprof.engine.emulation.tun import (
    Line,
    TunEmulation,
    is_acknowledgement,
    payload_bytes,
)
from mpcprof.errors import PartyDiedError
from mpcprof.network import LOOPBACK, Network
from tests import ROOT
from tests.processes import still_running
from tests.wan_party import (
    goodput_bytes_per_s,
    namespace_of,
    running,
    users_of,
    wait_until_unused,
)

pytestmark = pytest.mark.link

WAN = Network(bandwidth_bytes_per_s=44e6, rtt_s=0.040)
_WARM_UP_BYTES = 16 << 20
_PIECE_BYTES = 45 * 1448  # what segmentation offload makes one packet of
_ACK, _SYN_ACK, _FIN_ACK = 0x10, 0x12, 0x11
_PR_GET_PDEATHSIG = 2

needs_tun = pytest.mark.usefixtures("tun")

# a controller with a party that dies with it, as the engine's do
CONTROLLER = """
import ctypes, json, subprocess, time
from mpcprof.engine.emulation.tun import TunEmulation

emulation = TunEmulation()
emulation.start(2)
party = subprocess.Popen(
    [*emulation.command_prefix(0), "sleep", "60"],
    preexec_fn=lambda: ctypes.CDLL(None).prctl(1, 9),
)
pids = [emulation.watched()[0].pid, party.pid]
print(json.dumps([pids, emulation.command_prefix(1)]), flush=True)
time.sleep(60)
"""

# parties that talk, and what they may do: run by a user without privileges
CONVERSATION = """
import json
from mpcprof.engine.emulation.backends import probe_backends
from mpcprof.engine.emulation.tun import TunEmulation
from mpcprof.network import LOOPBACK, Network
from tests.wan_party import running

reason = {status.name: status.reason for status in probe_backends()}["tun"]
prefix, rtt_s = (), 0.0
if not reason:
    emulation = TunEmulation()
    with running(emulation, 2) as parties:
        emulation.set_network(Network(bandwidth_bytes_per_s=44e6, rtt_s=0.040))
        prefix, rtt_s = emulation.command_prefix(0), parties.rtt_s()
print(json.dumps([reason, prefix, rtt_s]))
"""
# user id 0 stays, so that it can read what this test can; mapping it takes setfcap
UNPRIVILEGED = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]


@pytest.fixture(scope="module")
def tun() -> None:
    """Skip where there is none; asked when a test runs, not when it is collected."""
    reason = {status.name: status.reason for status in probe_backends()}["tun"]
    if reason:
        pytest.skip(reason)


def packet(n_bytes: int, flags: int = _ACK, protocol: int = 6) -> bytes:
    """A packet with virtio-net header, IP without options, TCP with time stamps."""
    ip = struct.pack("!BBHHHBBH8x", 0x45, 0, 52 + n_bytes, 0, 0, 64, protocol, 0)
    tcp = struct.pack("!HHIIBBHHH12x", 1, 2, 3, 4, 8 << 4, flags, 0, 0, 0)
    return bytes(10) + ip + tcp + bytes(n_bytes)


def send_pieces(line: Line, now_s: float, n_pieces: int) -> None:
    """Put full pieces on the line, all at once."""
    for _ in range(n_pieces):
        line.send(now_s, packet(_PIECE_BYTES))


def arrivals(
    line: Line, stalls: Sequence[tuple[float, float]] = ()
) -> list[tuple[float, int]]:
    """Take off a line what is on it: (when, bytes until then) of each packet.

    In a stall, from one time to another, nothing is taken; then all that is due.
    """
    taken, n_bytes = [], 0
    while (now_s := line.due_s) < math.inf:
        now_s = max([now_s, *(end_s for begin_s, end_s in stalls if begin_s <= now_s)])
        while line.due_s <= now_s:
            n_bytes += payload_bytes(line.receive())
            now_s += 1e-5  # a write takes time
            taken.append((now_s, n_bytes))
    return taken


def test_only_the_payload_of_tcp_is_counted() -> None:
    assert payload_bytes(packet(1448)) == 1448
    assert payload_bytes(packet(0)) == 0
    assert payload_bytes(packet(0, protocol=17)) == 32


def test_only_a_bare_acknowledgement_is_one() -> None:
    assert is_acknowledgement(packet(0))
    assert not is_acknowledgement(packet(1))
    assert not is_acknowledgement(packet(0, flags=_SYN_ACK))
    assert not is_acknowledgement(packet(0, flags=_FIN_ACK))
    assert not is_acknowledgement(packet(0, protocol=17))


def test_a_packet_waits_for_the_line_and_then_for_the_distance() -> None:
    line = Line()
    line.set(0.0, one_way_s=0.02, seconds_per_byte=1e-6)

    line.send(1.0, packet(1000))
    line.send(1.0, packet(1000))

    assert line.due_s == pytest.approx(1.021)
    line.receive()
    assert line.due_s == pytest.approx(1.022)
    line.receive()
    assert line.due_s == math.inf


def test_a_new_network_sends_what_is_under_way_anew_and_in_order() -> None:
    line = Line()
    line.set(0.0, one_way_s=10.0, seconds_per_byte=1.0)
    sent = [packet(100), packet(200)]
    for each in sent:
        line.send(0.0, each)

    line.set(1.0, one_way_s=0.0, seconds_per_byte=0.0)

    assert line.due_s == 1.0
    assert [line.receive(), line.receive()] == sent


def test_a_full_queue_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun_process, "QUEUE_BYTES", 2500)
    line = Line()
    line.set(0.0, one_way_s=1.0, seconds_per_byte=0.0)

    for _ in range(3):
        line.send(0.0, packet(1000))
    line.receive()
    line.send(0.0, packet(1000))

    assert line.n_dropped == 1


@pytest.mark.parametrize(
    "stalls",
    [
        pytest.param([], id="none"),
        pytest.param([(0.29, 0.33)], id="where slow start ends"),
        pytest.param([(0.97, 1.01)], id="at the end"),
        pytest.param([(0.29, 0.33), (0.5, 0.6), (0.97, 1.01)], id="often"),
    ],
)
@pytest.mark.parametrize("rate_bytes_per_s", [42e6, 44e6, 46e6])
def test_goodput_is_the_rate_of_the_line_however_late_the_relay_is(
    rate_bytes_per_s: float, stalls: list[tuple[float, float]]
) -> None:
    line = Line()
    line.set(0.0, one_way_s=0.0, seconds_per_byte=1 / rate_bytes_per_s)
    send_pieces(line, 0.0, 750)
    all_s = 750 * _PIECE_BYTES / rate_bytes_per_s

    seen = arrivals(line, [(begin * all_s, end * all_s) for begin, end in stalls])

    assert goodput_bytes_per_s(seen) == pytest.approx(rate_bytes_per_s, rel=1e-4)


def test_goodput_is_lower_where_a_line_had_nothing_to_carry() -> None:
    line = Line()
    line.set(0.0, one_way_s=0.0, seconds_per_byte=1 / 44e6)
    send_pieces(line, 0.0, 450)
    send_pieces(line, 450 * _PIECE_BYTES / 44e6 + 0.1, 300)

    goodput = goodput_bytes_per_s(arrivals(line))

    assert goodput < 0.9 * 44e6


def test_goodput_needs_three_arrivals() -> None:
    assert goodput_bytes_per_s([]) == 0.0
    assert goodput_bytes_per_s([(0.0, 70), (1.0, 100)]) == 0.0
    assert goodput_bytes_per_s([(0.0, 50), (1.0, 60), (5.0, 100)]) == 10.0


@needs_tun
@pytest.mark.parametrize("n_parties", [2, 3])
def test_the_wan_has_its_rtt_and_its_goodput_each_way_at_once(n_parties: int) -> None:
    emulation = TunEmulation()
    with running(emulation, n_parties) as parties:
        emulation.set_network(WAN)
        rtt_s = parties.rtt_s()
        parties.goodputs(_WARM_UP_BYTES)

        goodputs = parties.goodputs(48 << 20)

        assert rtt_s == pytest.approx(WAN.rtt_s, rel=0.05)
        assert len(goodputs) == n_parties * (n_parties - 1)
        assert min(goodputs) >= 0.9 * WAN.bandwidth_bytes_per_s
        assert max(goodputs) <= 1.03 * WAN.bandwidth_bytes_per_s
        assert emulation.n_dropped() == 0


@needs_tun
def test_a_new_network_takes_effect_while_connections_stay_open() -> None:
    emulation = TunEmulation()
    with running(emulation, 2) as parties:
        emulation.set_network(Network(bandwidth_bytes_per_s=math.inf, rtt_s=0.020))
        assert parties.rtt_s() == pytest.approx(0.020, rel=0.05)

        emulation.set_network(Network(bandwidth_bytes_per_s=11e6, rtt_s=0.010))
        assert parties.rtt_s() == pytest.approx(0.010, rel=0.10)
        parties.goodputs(2 << 20)
        for goodput in parties.goodputs(8 << 20):
            assert goodput == pytest.approx(11e6, rel=0.10)

        emulation.set_network(LOOPBACK)
        assert parties.rtt_s() < 0.003
        assert min(parties.goodputs(64 << 20)) > 88e6


@needs_tun
def test_what_waits_on_a_slow_line_does_not_keep_a_fast_one_waiting() -> None:
    emulation = TunEmulation()
    with running(emulation, 2) as parties:
        emulation.set_network(Network(bandwidth_bytes_per_s=1e6, rtt_s=0.010))
        parties.start_bulk(20 << 20)  # 21 s at this rate
        time.sleep(0.5)
        begin_s = time.perf_counter()

        emulation.set_network(LOOPBACK)
        parties.finish()

        assert time.perf_counter() - begin_s < 5.0


@needs_tun
def test_the_party_keeps_its_process_its_descriptors_and_its_death_signal() -> None:
    emulation = TunEmulation()
    emulation.start(2)
    ours, theirs = os.pipe()
    program = (
        "import ctypes, os; s = ctypes.c_int(); "
        f"ctypes.CDLL(None).prctl({_PR_GET_PDEATHSIG}, ctypes.byref(s)); "
        f"os.write({theirs}, f'{{os.getpid()}} {{s.value}}'.encode())"
    )

    party = subprocess.Popen(
        [*emulation.command_prefix(1), sys.executable, "-c", program],
        pass_fds=(theirs,),
        preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL),
    )
    party.wait()
    said = os.read(ours, 100).decode()
    os.close(ours)
    os.close(theirs)
    emulation.close()

    assert said == f"{party.pid} {int(signal.SIGKILL)}"


@needs_tun
def test_closing_leaves_no_namespace_behind() -> None:
    emulation = TunEmulation()
    with running(emulation, 2):
        inodes = {namespace_of(emulation.command_prefix(rank)) for rank in range(2)}
        assert users_of(inodes)

    assert wait_until_unused(inodes) == []


@needs_tun
def test_killing_the_relay_is_noticed_and_leaves_nothing_behind() -> None:
    emulation = TunEmulation()
    with running(emulation, 2):
        inodes = {namespace_of(emulation.command_prefix(rank)) for rank in range(2)}

        os.kill(emulation.watched()[0].pid, signal.SIGKILL)

        with pytest.raises(
            PartyDiedError, match="tun emulation was killed by signal 9"
        ):
            emulation.set_network(WAN)

    assert wait_until_unused(inodes) == []


@needs_tun
def test_killing_the_controller_leaves_no_process_and_no_namespace() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLER], stdout=subprocess.PIPE, cwd=ROOT
    ) as controller:
        assert controller.stdout is not None
        pids, prefix = json.loads(controller.stdout.readline())
        inode = namespace_of(prefix)

        controller.kill()

    assert wait_until_unused({inode}) == []
    assert still_running(pids) == []


@needs_tun
def test_a_user_without_privileges_gets_a_user_namespace_around_it() -> None:
    drop = UNPRIVILEGED if os.geteuid() == 0 and shutil.which("setpriv") else []

    done = subprocess.run(
        [*drop, sys.executable, "-c", CONVERSATION],
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
    )

    reason, prefix, rtt_s = json.loads(done.stdout)
    if reason:
        pytest.skip(reason)
    assert any(word.startswith("--user=") for word in prefix) or not drop
    assert rtt_s == pytest.approx(0.040, rel=0.25)  # it may not be scheduled first
