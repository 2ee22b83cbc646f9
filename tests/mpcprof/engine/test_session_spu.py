"""Real SPU parties through the relay: right results, exact counts, no remains."""

import os
import re
import signal
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.calibration import trim_link
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session, cpus_of_party, priming_inputs
from mpcprof.errors import EngineError, NoAnswerError, PartyDiedError
from mpcprof.network import LOOPBACK, NETWORKS, Network, parse_network
from mpcprof.workloads.registry import get_workload
from tests.processes import still_running

WAN = NETWORKS["wan"]
EXP = get_workload("exp")
EXP_DIMS = Dims(n_heads=4, n_tokens=17)
N_ENTRIES = 4 * 17 * 17
# semi2k, 64 bits, SPU 0.9.5; test_primitives holds the same for every primitive
EXP_BYTES_PER_ENTRY = 100
EXP_HOPS = 17


@contextmanager
def session_of(protocol):
    deployment = make_deployment(protocol)
    with Session(deployment, RelayEmulation()) as session:
        yield session


def load(session, workload, dims):
    """Put a case on the parties, as `case`; its inputs."""
    inputs = workload.make_inputs(dims, np.random.default_rng(0))
    session.load("case", session.lower("case", workload.function, inputs), inputs)
    return inputs


def largest_excess(workload, inputs, revealed):
    """By how much the worst entry is further off than the workload allows."""
    expected = workload.reference(*inputs)
    assert revealed.shape == expected.shape
    allowed = workload.tolerance.allowed(expected, fraction_bits=18)
    return float(np.max(np.abs(revealed - expected) - allowed))


def pids_of(session):
    return [*session.party_pids(), *(c.pid for c in session.emulation.watched())]


@pytest.fixture
def exp_inputs(semi2k):
    semi2k.set_network(LOOPBACK)
    yield load(semi2k, EXP, EXP_DIMS)
    semi2k.set_network(LOOPBACK)
    semi2k.unload("case")


@pytest.mark.spu
@pytest.mark.parametrize("network", [LOOPBACK, WAN], ids=str)
def test_the_revealed_result_is_that_of_the_reference(semi2k, exp_inputs, network):
    semi2k.set_network(network)

    semi2k.run("case")
    revealed = semi2k.fetch("case")

    assert largest_excess(EXP, exp_inputs, revealed) <= 0


@pytest.mark.spu
@pytest.mark.parametrize("network", [LOOPBACK, WAN], ids=str)
def test_bytes_and_messages_are_exactly_those_of_the_formula(
    semi2k, exp_inputs, network
):
    semi2k.set_network(network)

    call = semi2k.run("case")

    assert len(call.runs) == 2
    for run in call.runs:
        assert run.bytes_sent == EXP_BYTES_PER_ENTRY * N_ENTRIES
        assert run.bytes_received == EXP_BYTES_PER_ENTRY * N_ENTRIES
        assert run.send_actions == EXP_HOPS


@pytest.mark.spu
@pytest.mark.link
def test_the_relay_sees_as_many_hops_as_spu_counts_messages(semi2k, exp_inputs):
    semi2k.set_network(WAN)
    semi2k.run("case")  # on this network, connections are warm from now on

    counters = semi2k.run("case").counters

    payload_bytes = EXP_BYTES_PER_ENTRY * N_ENTRIES
    assert counters.lower.hops == EXP_HOPS
    assert payload_bytes <= counters.lower.n_bytes < 1.1 * payload_bytes
    assert counters.upper.hops >= counters.lower.hops
    assert counters.carried_bytes >= 2 * payload_bytes


@pytest.mark.spu
@pytest.mark.link
def test_every_hop_waits_for_the_emulated_delay(semi2k, exp_inputs):
    latencies_s = {}
    for network in (LOOPBACK, WAN):
        semi2k.set_network(network)
        latencies_s[network] = min(semi2k.run("case").latency_s for _ in range(3))

    waited_s = latencies_s[WAN] - latencies_s[LOOPBACK]

    assert waited_s >= 0.95 * EXP_HOPS * WAN.one_way_s


@pytest.mark.spu
@pytest.mark.link
def test_an_exchange_takes_half_the_emulated_round_trip(semi2k):
    semi2k.set_network(WAN)

    exchange_s = semi2k.exchange_s(10)
    semi2k.set_network(LOOPBACK)

    assert WAN.one_way_s <= exchange_s < 2 * WAN.one_way_s


@pytest.mark.spu
@pytest.mark.link
@pytest.mark.parametrize("rate_bytes_per_s", [44e6, 1e6])
def test_goodput_is_the_emulated_rate_in_both_directions(semi2k, rate_bytes_per_s):
    semi2k.set_network(Network(bandwidth_bytes_per_s=rate_bytes_per_s, rtt_s=0.040))

    # a receiver that wakes late sees its first message late and so too high a rate,
    # one that loses its processor too low a one: the middle of three
    tries = [
        semi2k.goodput_bytes_per_s(
            message_bytes=int(0.1 * rate_bytes_per_s), n_messages=12
        )
        for _ in range(3)
    ]
    semi2k.set_network(LOOPBACK)

    assert all({*rates} == {(0, 1), (1, 0)} for rates in tries)
    slowest = median(min(rates.values()) for rates in tries)
    assert slowest == pytest.approx(rate_bytes_per_s, rel=0.1)


@pytest.mark.spu
@pytest.mark.link
def test_a_slow_network_is_what_was_asked_for(semi2k):
    seen = trim_link(semi2k, parse_network("1Mbps,40ms"))
    semi2k.late_s = 0.0
    semi2k.set_network(LOOPBACK)

    assert seen.is_good


@pytest.mark.spu
def test_setup_is_recorded_apart(semi2k):
    assert semi2k.setup.start_s > 0
    assert semi2k.setup.setup_s > 0
    assert dict(semi2k.setup.versions)["spu"].startswith("0.9.5")


@pytest.mark.spu
def test_what_a_party_cannot_do_is_an_error_of_one_line():
    with (
        pytest.raises(EngineError, match=r"^party [01]: .*never loaded") as caught,
        session_of("semi2k") as session,
    ):
        session.run("never loaded")

    assert "\n" not in str(caught.value)


@pytest.mark.spu
def test_what_spu_refuses_when_it_runs_is_one_line_and_its_stack_a_log(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path))

    def double_until_ten(x):
        return lax.while_loop(lambda c: c.sum() < 10, lambda c: c * 2, x)

    inputs = [np.ones(4, np.float32)]
    with session_of("semi2k") as session:
        session.load("loop", session.lower("loop", double_until_ten, inputs), inputs)
        with pytest.raises(EngineError) as caught:
            session.run("loop")

    said = re.fullmatch(
        r"party [01]: While with secret condition is not supported; loop .* "
        r"\(all of it: (\S+\.log)\)",
        str(caught.value),
    )
    assert Path(said[1]).parent == tmp_path / "logs"
    assert "spu::kernel::hlo::While" in Path(said[1]).read_text()


UNSUPPORTED = {
    "eigh": lambda x: jnp.linalg.eigh(x)[0],  # unknown to the interpreter
    "branch": lambda x: x if x[0, 0] > 0 else -x,  # JAX's message has many lines
}


@pytest.mark.spu
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_function_that_spu_cannot_compile_is_an_error_of_one_line(semi2k, name):
    inputs = [np.eye(4, dtype=np.float32)]

    with pytest.raises(
        EngineError, match=f"^{name} does not compile for SPU: ."
    ) as seen:
        semi2k.lower(name, UNSUPPORTED[name], inputs)

    assert "\n" not in str(seen.value)


@pytest.mark.spu
def test_a_function_at_which_the_compiler_aborts_is_an_error_and_the_session_goes_on(
    semi2k, tmp_path, monkeypatch
):
    inputs = [np.eye(4, dtype=np.float32)]

    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path))

    with pytest.raises(
        EngineError,
        match=r"^fft does not compile for SPU: compiler ended at it: failed to "
        r"legalize operation 'stablehlo.fft'; SPU has no .* \(all of it: \S+\.log\)$",
    ):
        semi2k.lower("fft", lambda x: jnp.fft.fft(x).real, inputs)

    assert semi2k.lower("twice", lambda x: x + x, inputs).code


@pytest.mark.spu
def test_a_killed_party_is_reported_and_everything_is_gone_after_close():
    with session_of("aby3") as session:
        pids = pids_of(session)
        load(session, EXP, EXP_DIMS)
        os.kill(session.party_pids()[1], signal.SIGKILL)

        with pytest.raises(PartyDiedError, match="party 1 was killed by signal 9"):
            session.run("case")

    assert len(pids) == 4
    assert still_running(pids) == []


@pytest.mark.spu
def test_three_parties_reveal_the_result_and_their_bytes_add_up_alike_in_every_call(
    aby3,
):
    square = get_workload("square")

    inputs = load(aby3, square, EXP_DIMS)
    calls, excesses = [], []
    for _ in range(3):
        calls.append(aby3.run("case"))
        excesses.append(largest_excess(square, inputs, aby3.fetch("case")))
    aby3.unload("case")

    total_bytes = {sum(run.bytes_sent for run in call.runs) for call in calls}
    assert all(len(call.runs) == 3 for call in calls)
    assert max(excesses) <= 0
    assert len(total_bytes) == 1
    assert total_bytes.pop() > 0


@pytest.mark.parametrize("n_parties", [2, 3])
@pytest.mark.parametrize("n_cpus", [1, 2, 3, 8])
def test_parties_have_no_processor_in_common(n_parties, n_cpus):
    cpus = {*range(10, 10 + n_cpus)}

    shares = [cpus_of_party(rank, n_parties, cpus) for rank in range(n_parties)]

    assert frozenset().union(*shares) <= cpus
    assert sum(map(len, shares)) == len(frozenset().union(*shares))
    assert {len(share) for share in shares} == {n_cpus // n_parties}


class HangingSession(Session):
    """Its party 1 stops before the first `n_hangs` first programs."""

    def __init__(self, n_hangs, limit_s):
        super().__init__(make_deployment("semi2k"), RelayEmulation())
        self._build = replace(self._build, first_call_limit_s=limit_s)
        self.n_hangs = n_hangs
        self.started = []

    def run(self, case, **limits):
        if pids_of(self) not in self.started:
            self.started.append(pids_of(self))
            if len(self.started) <= self.n_hangs:
                os.kill(self.party_pids()[1], signal.SIGSTOP)
        return super().run(case, **limits)


@pytest.mark.parametrize(
    ("protocol", "n_processors", "sizes"),
    [
        ("semi2k", 8, [64]),
        ("cheetah", 1, [64]),
        ("cheetah", 2, [64, 2 * 2048]),
        ("cheetah", 64, [64, 4 * 2048]),
    ],
)
def test_a_session_prepares_the_threads_of_cheetah(protocol, n_processors, sizes):
    inputs = priming_inputs(make_deployment(protocol), n_processors)

    assert [x.size for x in inputs] == sizes


@pytest.mark.spu
def test_parties_that_hang_in_their_first_program_are_started_again():
    with HangingSession(n_hangs=1, limit_s=4.0) as session:
        first, second = session.started[0], session.started[-1]
        assert session.setup.n_starts == len(session.started) > 1
        assert still_running(first) == []
        assert pids_of(session) == second

        inputs = load(session, EXP, EXP_DIMS)
        session.run("case")
        revealed = session.fetch("case")

    assert largest_excess(EXP, inputs, revealed) <= 0
    assert still_running(second) == []


@pytest.mark.spu
def test_parties_that_hang_every_time_are_an_error_and_leave_nothing_behind(
    monkeypatch,
):
    monkeypatch.setattr("mpcprof.engine.session._N_STARTS", 2)
    session = HangingSession(n_hangs=99, limit_s=0.5)

    with pytest.raises(NoAnswerError, match=r"first program, 2 times for 0\.5 s"):
        session.__enter__()

    assert len(session.started) == 2
    assert still_running([pid for pids in session.started for pid in pids]) == []


class Closing:
    """A child or a network that notes its end, and may fail in it."""

    def __init__(self, ended, name, error=None):
        self._ended, self._name, self._error = ended, name, error

    def close(self):
        self._ended.append(self._name)
        if self._error:
            raise self._error


def test_one_that_cannot_be_closed_leaves_none_of_the_others_open():
    ended = []
    session = Session(make_deployment("semi2k"), Closing(ended, "network"))
    broken = Closing(ended, "party 0", OSError("its log is gone"))
    session._parties = [broken, Closing(ended, "party 1")]
    session._compiler = Closing(ended, "compiler")

    with pytest.raises(OSError, match="its log is gone"):
        session.close()

    assert ended == ["party 0", "party 1", "compiler", "network"]


@pytest.mark.spu
def test_shares_made_with_an_owner_are_refused_where_the_option_is_off(monkeypatch):
    made = [[b"Priv2k<FM64,0>", b""]] * 2
    # of its own: the party that did not answer first is out of step from then on
    with Session(make_deployment("semi2k"), RelayEmulation()) as session:
        monkeypatch.setattr(session._shares, "split", lambda arrays: (made, [1]))

        with pytest.raises(EngineError, match=r"shares of case-in0 .* with an owner"):
            load(session, EXP, EXP_DIMS)
