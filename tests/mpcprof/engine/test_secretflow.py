"""SecretFlow's SPU device beside SPU by itself; skipped where it is not installed."""

import json
import os
import subprocess

import numpy as np
import pytest
from safetensors.numpy import save_file

from mpcprof.builds import BARE_SECRETFLOW_BUILD, SECRETFLOW_BUILD
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine import calls
from mpcprof.engine.calls import Owned
from mpcprof.engine.emulation.relay import RelayEmulation, free_ports
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.installation import find_runtime
from mpcprof.engine.session import Session
from mpcprof.errors import UsageError
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.nn.transformer import weight_shapes
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import get_workload
from tests import ROOT
from tests.checked_call import run_checked

RUNTIME = find_runtime(SECRETFLOW_BUILD)
needs_secretflow = pytest.mark.skipif(bool(RUNTIME.problem), reason=RUNTIME.problem)
DIGITS = uniform_architecture(
    get_model("digits"), attention="relu_softmax", heads="batched"
)
CASES = (
    (get_workload("matmul"), Dims(n_tokens=5, width=6, hidden=7)),
    (get_workload("attn.softmax"), Dims(n_heads=2, n_tokens=5, head_dim=4)),
    (model_workload(DIGITS), Dims(n_batch=1)),
)


def counts_of(build, protocol):
    """Bytes and messages of all parties together, by workload; results are checked."""
    rng = np.random.default_rng(0)
    deployment = make_deployment(protocol, runtime=build.name)
    counts = []
    with Session(deployment, RelayEmulation()) as session:
        for case, dims in CASES if protocol == "semi2k" else CASES[:1]:
            call = run_checked(session, case, case.make_inputs(dims, rng))
            own = [(run.bytes_sent, run.send_actions) for run in call.runs]
            counts.append([sum(column) for column in zip(*own, strict=True)])
            assert (call.driver_s > 0) is build.has_drivers
    return counts


def test_what_drivers_take_is_apart_from_what_spu_takes(monkeypatch):
    monkeypatch.setattr(calls, "_read_run", lambda rank, reply: None)
    first = {
        "called_s": 1.0,
        "begin_s": 1.2,
        "end_s": 3.0,
        "busy_s": 0.5,
        "done_s": 3.1,
    }
    second = first | {"begin_s": 1.5, "end_s": 3.25, "done_s": 3.5}

    call = calls.to_call([(first, []), (second, [])], None)

    assert call.latency_s == pytest.approx(
        1.75
    )  # both can begin when the second one can
    assert call.driver_s == pytest.approx(0.75)


def test_the_environment_of_secretflow_holds_its_spu_by_itself_as_well():
    inside, bare = SECRETFLOW_BUILD, BARE_SECRETFLOW_BUILD

    assert inside.environment is bare.environment
    deployed = make_deployment("semi2k", runtime="secretflow")
    assert f"(SPU {bare.version})" in str(deployed)
    assert deployed.without_drivers == make_deployment("semi2k", runtime=bare.name)


def test_a_party_file_says_what_to_run_on_several_hosts_instead():
    addresses = ("127.0.0.1:9700", "127.0.0.1:9701")

    with pytest.raises(UsageError, match=r"drivers need .*secretflow_inference\.py"):
        PartyFile(rank=0, addresses=addresses, runtime="secretflow-1.14")


@needs_secretflow
@pytest.mark.spu
@pytest.mark.parametrize("protocol", ["semi2k", "aby3"])
def test_secretflow_sends_what_its_spu_sends_by_itself(protocol):
    inside = counts_of(SECRETFLOW_BUILD, protocol)

    assert inside == counts_of(BARE_SECRETFLOW_BUILD, protocol)
    assert min(map(min, inside)) > 0


@needs_secretflow
@pytest.mark.spu
def test_parties_hold_what_each_read_and_one_learns_the_result(tmp_path):
    rng = np.random.default_rng(0)
    x, weight = (rng.uniform(-1, 1, s).astype(np.float32) for s in ((3, 4), (4, 2)))
    np.save(tmp_path / "x.npy", x)
    save_file({"weight": weight, "bias": weight[0]}, tmp_path / "weights")
    image = Owned(rank=0, path=tmp_path / "x.npy", shapes=(x.shape,))
    held = Owned(
        rank=1,
        path=tmp_path / "weights",
        shapes=(weight.shape, weight[0].shape),
        entries=("weight", "bias"),
    )
    deployment = make_deployment("semi2k", runtime="secretflow")

    with Session(deployment, RelayEmulation()) as session:
        zeros = [np.zeros_like(one) for one in (x, weight, weight[0])]
        lowered = session.lower("held", lambda a, b, c: a @ b + c, zeros)
        session.load("held", lowered)
        sent = session.hold(lowered.input_names[1:], held).total_bytes_sent
        session.hold(lowered.input_names[:1], image)
        session.run("held")
        revealed, _ = session.reveal("held", 0)

    assert np.abs(revealed - (x @ weight + weight[0])).max() < 1e-3
    assert sent >= 8 * (weight.size + weight[0].size)


@needs_secretflow
@pytest.mark.spu
def test_the_example_classifies_an_image(tmp_path):
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in weight_shapes(DIGITS).items()
    }
    head = {
        "architecture": DIGITS.to_json(),
        "normalization": json.dumps({"mean": [0.3], "deviation": [0.4]}),
        "class_names": json.dumps([*"0123456789"]),
    }
    save_file(weights, tmp_path / "model.safetensors", head)
    port = min(free_ports(4))  # SPU listens on the next one
    addresses = [f"--alice=127.0.0.1:{port}", f"--bob=127.0.0.1:{port + 2}"]
    program = [RUNTIME.python, str(ROOT / "examples" / "secretflow_inference.py")]

    alice, bob = (
        subprocess.Popen(
            [*program, party, *addresses],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for party in ("alice", "bob")
    )
    printed, _ = alice.communicate(timeout=100)
    bob.communicate(timeout=100)

    assert "label " in printed
    assert (alice.returncode, bob.returncode) == (0, 0)
