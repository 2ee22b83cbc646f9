"""CrypTen, where it is installed: real parties, the references that SPU has."""

import json
import subprocess

import pytest

from mpcprof.builds import CRYPTEN
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.backends import probe_backends
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.emulation.tun import TunEmulation
from mpcprof.engine.installation import find_runtime
from mpcprof.engine.measure import Case, CaseFailedError, MeasureConfig, measure
from mpcprof.engine.session import Session
from mpcprof.engine.tensor_program import OPERATIONS
from mpcprof.errors import UsageError
from mpcprof.network import LOOPBACK, Network
from mpcprof.sweep.config import make_config
from mpcprof.workloads.registry import get_workload
from tests import ROOT

NEEDED = pytest.mark.skipif(
    bool(find_runtime(CRYPTEN).problem)
    or not all(b.is_available for b in probe_backends() if b.name == "tun"),
    reason="needs `mpcprof runtime install crypten` and the TUN emulation",
)
NETWORK = Network(bandwidth_bytes_per_s=44e6, rtt_s=0.040)
ENTRIES = 2 * 5 * 5
HOPS_PER_ROUND = 4


@pytest.fixture(scope="module")
def session():
    deployment = make_deployment("crypten", runtime="crypten")
    with Session(deployment, TunEmulation()) as session:
        yield session


def timing_of(session, name, networks=(LOOPBACK,), **sizes):
    workload = get_workload(name)
    usual = {"n_heads": 2, "n_tokens": 5, "head_dim": 4, "width": 32, "hidden": 4}
    known = {**usual, **sizes}
    dims = Dims(**{dim: known[dim] for dim in workload.dim_names})
    plan = MeasureConfig(networks=networks, repeats=1, warmups=0)
    (timing,), _ = measure(session, [Case(workload=workload, dims=dims)], plan)
    return timing


def counts_of(timing):
    (run, other) = timing.first_call.runs
    assert run.bytes_sent == other.bytes_received
    return run.send_actions / HOPS_PER_ROUND, run.bytes_sent


@NEEDED
@pytest.mark.spu
@pytest.mark.parametrize(
    ("name", "n_rounds", "n_bytes"),
    [
        ("mul", 1, 16 * ENTRIES),  # two openings in one round
        ("square", 1, 8 * ENTRIES),
        ("exp", 8, 8 * 8 * ENTRIES),
        ("truncation", 0, 0),
        ("sum", 0, 0),
        ("select", 1, 16 * ENTRIES),
    ],
)
def test_rounds_and_bytes_are_those_of_the_closed_form(
    session, name, n_rounds, n_bytes
):
    assert counts_of(timing_of(session, name)) == (n_rounds, n_bytes)


@NEEDED
@pytest.mark.spu
@pytest.mark.parametrize(
    "name", ["less", "max", "attn.softmax", "mlp.gelu_puma", "layernorm", "head"]
)
def test_a_workload_written_for_spu_has_the_right_result(session, name):
    timing = timing_of(session, name)

    assert timing.max_abs_error < 0.01
    run = timing.first_call.runs[0]
    assert sum(o.bytes_sent for o in run.operations) == run.bytes_sent > 0


@NEEDED
@pytest.mark.spu
def test_a_round_is_four_hops(session):
    timing = timing_of(session, "mul", (LOOPBACK, NETWORK))

    (call,) = timing.on(NETWORK)
    # 3 %: what a link may be off; a busy machine makes it longer, none shorter
    assert call.latency_s > 0.97 * HOPS_PER_ROUND * NETWORK.one_way_s


@NEEDED
@pytest.mark.spu
@pytest.mark.parametrize("name", ["gelu_exact", "reciprocal"])
def test_what_crypten_gets_wrong_has_no_price(session, name):
    with pytest.raises(CaseFailedError, match="the revealed result is wrong: off by"):
        timing_of(session, name)


@NEEDED
@pytest.mark.spu
def test_the_party_knows_every_operation_of_a_program():
    folder = ROOT / "mpcprof/engine/party"
    code = f"import sys, json; sys.path.insert(0, {str(folder)!r}); "
    code += "import crypten_backend; print(json.dumps([*crypten_backend.OPERATIONS]))"
    python = find_runtime(CRYPTEN).python

    printed = subprocess.check_output([python, "-c", code], text=True)

    assert {*json.loads(printed)} == {*OPERATIONS, "relu"}


def test_a_network_that_cannot_carry_its_messages_is_refused_and_auto_is_not_one():
    asked = {"cases": (), "protocol": "crypten", "runtime": "crypten"}

    assert make_config(**asked).emulation == "tun"
    with pytest.raises(UsageError, match=r"--emulation relay: .* tun or netem"):
        make_config(**asked, emulation="relay")


@NEEDED
def test_parties_do_not_start_behind_a_relay():
    parties = Session(make_deployment("crypten", runtime="crypten"), RelayEmulation())
    with pytest.raises(UsageError, match="expected tun or netem"):
        parties.__enter__()


def test_settings_of_functions_are_options_and_the_fraction_is_crypten_s_own():
    options = ["exp_iterations=6", "max_method=pairwise"]
    deployment = make_deployment("crypten", runtime="crypten", options=options)

    assert deployment.fraction_bits == 16
    assert dict(deployment.runtime_options) == {
        "exp_iterations": 6,
        "max_method": "pairwise",
    }
