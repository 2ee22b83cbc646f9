"""SPU 0.3.1b0 in an environment of its own: real parties through the same program."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mpcprof.builds import NOT_OPTIONS, PAPER_BUILD
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.installation import (
    find_python,
    find_runtime,
    install_runtime,
    installation_problem,
    mpcprof_home,
)
from mpcprof.engine.measure import Case, CaseFailedError, MeasureConfig, measure
from mpcprof.engine.recording import find_critical_path, hops_basis
from mpcprof.engine.session import Session
from mpcprof.errors import BackendUnavailableError
from mpcprof.network import LOOPBACK, Network
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.preset import ModelPreset
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import get_workload
from mpcprof.workloads.tolerance import Tolerance
from mpcprof.workloads.user import load_user_function
from tests.processes import still_running

pytestmark = pytest.mark.spu

NETWORK = Network(bandwidth_bytes_per_s=44e6, rtt_s=0.010)
PLAN = MeasureConfig(networks=(LOOPBACK, NETWORK), repeats=1, warmups=0)
RELU_BYTES, RELU_HOPS = 232, 9  # less-than 208 and 7, to arithmetic 8 and 1, product
WINDOW_BYTES = 10 * 32768

FUNCTIONS = """
import jax.numpy as jnp
def exp(x): return jnp.exp(x)
def fft(x): return jnp.fft.fft(x).real
"""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """Home of a build: installed here, or for these tests, or why there is none."""
    if not installation_problem(PAPER_BUILD.environment):
        yield mpcprof_home()
        return
    try:
        python = find_python(PAPER_BUILD.environment)
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("mpcprof-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPCPROF_HOME", str(folder))
        patch.setenv("PIP_NO_COMPILE", "1")  # of thousands of modules few are used
        install_runtime(PAPER_BUILD.environment, lambda step: None, python)
        yield folder


def session_of(protocol):
    deployment = make_deployment(protocol, runtime=PAPER_BUILD.name)
    return Session(deployment, RelayEmulation())


@pytest.fixture(scope="module")
def semi2k(home):
    with session_of("semi2k") as session:
        yield session


def timing_of(session, workload, **sizes):
    """Calls on loopback and on the network; the result is checked in each."""
    case = Case(workload=workload, dims=Dims(**sizes))
    (timing,), _ = measure(session, [case], PLAN)
    return timing


def counts_of(timing):
    """Hops, and bytes that each rank sent."""
    call = timing.on(NETWORK)[-1]
    lines = call.counters.lines
    hops = {line.n_messages + 2 * line.n_waits for line in lines}
    n_bytes = {run.bytes_sent for run in call.runs}
    assert {run.bytes_received for run in call.runs} == n_bytes
    assert len(hops) == len(n_bytes) == 1  # all messages are exchanges
    return hops.pop(), n_bytes.pop()


def max_hops(n):
    """A comparison and a selection per level, one level more for the initial value."""
    return RELU_HOPS * ((n - 1).bit_length() + 1)


TOKENS, HEADS = 5, 2
ENTRIES = HEADS * TOKENS**2
SIZES = {"n_heads": HEADS, "n_tokens": TOKENS}
CLOSED_FORMS = {
    "exp": (SIZES, 8, 128 * ENTRIES),  # eight squarings, truncation is local
    "mul": (SIZES, 1, 16 * ENTRIES),
    "truncation": (SIZES, 0, 0),
    "select": (SIZES, 1, 16 * ENTRIES),
    "relu": (SIZES, RELU_HOPS, RELU_BYTES * ENTRIES),
    "max": (SIZES, max_hops(TOKENS), RELU_BYTES * ENTRIES),
    "matmul": ({"n_tokens": 5, "width": 3, "hidden": 4}, 1, 8 * (5 * 3 + 3 * 4)),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_hops_and_bytes_are_those_of_the_closed_form(semi2k, name):
    sizes, hops, n_bytes = CLOSED_FORMS[name]

    timing = timing_of(semi2k, get_workload(name), **sizes)

    assert counts_of(timing) == (hops, n_bytes)


@pytest.mark.parametrize(
    ("n_entries", "n_waits"),
    [(WINDOW_BYTES // 16, 0), (WINDOW_BYTES // 16 + 1, 1), (WINDOW_BYTES // 8 + 1, 2)],
)
def test_a_message_beyond_a_window_waits_a_round_trip(semi2k, n_entries, n_waits):
    workload = get_workload("mul")
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(-1, 1, n_entries).astype(np.float32) for _ in range(2)]
    semi2k.set_network(LOOPBACK)
    semi2k.load("case", semi2k.lower("case", workload.function, inputs), inputs)
    loopback_s = min(semi2k.run("case").latency_s for _ in range(2))
    semi2k.set_network(Network(bandwidth_bytes_per_s=44e6, rtt_s=0.1))

    calls = [semi2k.run("case") for _ in range(2)]  # a busy machine makes one longer
    semi2k.set_network(LOOPBACK)
    semi2k.unload("case")

    for call in calls:
        assert {line.n_waits for line in call.counters.lines} == {n_waits}
        assert call.counters.lower.hops == 1 + 2 * n_waits
    quickest_s = min(call.latency_s for call in calls)
    assert quickest_s >= 0.05 * (1 + 2 * n_waits)
    assert quickest_s - loopback_s < 0.05 * (3 + 2 * n_waits)


def test_what_parties_do_for_a_message_does_not_slow_the_rate_that_they_see(semi2k):
    n_bytes = 8 * WINDOW_BYTES  # a burst behind its first message

    semi2k.set_network(Network(bandwidth_bytes_per_s=20e6, rtt_s=0.010))
    rates = [
        semi2k.goodput_bytes_per_s(message_bytes=n_bytes, n_messages=1)
        for _ in range(3)  # other programs may take the processor for one
    ]
    semi2k.set_network(LOOPBACK)

    assert max(min(rate.values()) for rate in rates) == pytest.approx(20e6, rel=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "attn.softmax",
        "attn.softmax_by_entry",
        "attn.relu_softmax",
        "attn.scale",
        "mlp.gelu_tanh",
        "gelu_tanh",
    ],
)
def test_a_block_computes_what_its_reference_does(semi2k, name):
    sizes = dict.fromkeys(get_workload(name).dim_names, 3)

    timing = timing_of(semi2k, get_workload(name), **sizes)

    hops, n_bytes = counts_of(timing)
    assert hops > 0
    assert n_bytes > 0


@pytest.mark.parametrize("heads", ["serial", "batched"])
def test_a_whole_vision_transformer_computes_what_its_reference_does(semi2k, heads):
    tiny = ModelPreset(
        name="tiny",
        n_layers=1,
        n_heads=2,
        width=8,
        mlp_ratio=2,
        image_size=4,
        patch=2,
        n_channels=1,
        n_classes=3,
    )
    architecture = Architecture(
        model=tiny,
        heads=heads,
        attention=((("softmax",), ("relu_softmax",)),),
        activation=(("gelu_tanh",),),
    )

    timing = timing_of(semi2k, model_workload(architecture), n_batch=1)

    assert counts_of(timing)[1] > 100_000
    assert timing.max_abs_error < 1e-2


def test_hops_are_measured_and_not_said_to_be_counted_by_spu(semi2k):
    timing = timing_of(semi2k, get_workload("mul"), **SIZES)

    class Context:
        deployment, network, emulation = semi2k.deployment, NETWORK, "relay"

    path = find_critical_path(timing, Context)

    assert (path.hops, path.n_bytes) == (1, 16 * ENTRIES)
    assert hops_basis(semi2k.deployment) == "measured"


@pytest.mark.parametrize("protocol", ["cheetah", "aby3"])
def test_other_protocols_of_the_build_reveal_the_right_result(protocol):
    with session_of(protocol) as session:
        timing = timing_of(session, get_workload("relu"), n_heads=1, n_tokens=3)

    counters = timing.on(NETWORK)[-1].counters
    assert counters.lower.hops > 0
    assert sum(line.payload_bytes for line in counters.lines) > 0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: get_workload("gelu_exact"), "chlo.erf; write GeLU with tanh"),
        (
            lambda folder: load_user_function(f"{folder}/functions.py:fft", ((2, 4),)),
            "'mhlo.fft'",
        ),
    ],
)
def test_what_the_build_cannot_compile_is_one_line_and_the_session_goes_on(
    semi2k, tmp_path, make, reason
):
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    workload = make(tmp_path)
    sizes = dict.fromkeys(workload.dim_names, 2)

    with pytest.raises(CaseFailedError, match="does not compile for spu-0") as caught:
        timing_of(semi2k, workload, **sizes)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert counts_of(timing_of(semi2k, get_workload("mul"), **SIZES))[0] == 1


def test_text_that_ends_the_compiler_is_an_error_and_the_session_goes_on(
    semi2k, monkeypatch
):
    monkeypatch.setattr("mpcprof.engine.lowering.to_mhlo", lambda module: "nonsense")

    with pytest.raises(CaseFailedError, match="does not compile for spu-0") as caught:
        timing_of(semi2k, get_workload("mul"), **SIZES)
    monkeypatch.undo()

    assert "\n" not in str(caught.value)
    assert counts_of(timing_of(semi2k, get_workload("mul"), **SIZES))[0] == 1


_PRINT_OPTIONS = """
import json
from spu.spu_pb2 import RuntimeConfig
fields = RuntimeConfig.DESCRIPTOR.fields
enums = {f.name: f.enum_type and [v.name for v in f.enum_type.values] for f in fields}
print(json.dumps(enums))
"""


def test_the_option_table_is_that_of_the_build(home):
    python = find_runtime(PAPER_BUILD).python
    printed = subprocess.check_output([python, "-c", _PRINT_OPTIONS], text=True)

    enums = json.loads(printed)

    table = PAPER_BUILD.runtime_options
    assert {*enums} - {*NOT_OPTIONS} == {*table}
    for name, default in table.items():
        assert enums[name] == ([*default] if isinstance(default, tuple) else None)


def test_an_option_reaches_the_parties_which_are_gone_after_close():
    options = ["fxp_exp_iters=5"]
    deployment = make_deployment("semi2k", runtime=PAPER_BUILD.name, options=options)
    workload = replace(get_workload("exp"), tolerance=Tolerance(atol=1.0))

    with Session(deployment, RelayEmulation()) as session:
        pids = [*session.party_pids()]
        timing = timing_of(session, workload, **SIZES)

    assert counts_of(timing) == (5, 5 * 16 * ENTRIES)
    assert len(pids) == 2
    assert still_running(pids) == []


def test_profile_measures_a_function_of_ones_own(home, tmp_path):
    # slow enough for the tolerance of the link check on a busy machine of two cores
    network = "10MBps,40ms"
    (tmp_path / "functions.py").write_text(FUNCTIONS)

    done = subprocess.run(
        [
            *(sys.executable, "-m", "mpcprof", "profile", "functions.py:exp"),
            *("--input", "2x5x5", "--runtime", PAPER_BUILD.name, "--repeats", "1"),
            *("--network", network, "--json"),
        ],
        cwd=tmp_path,
        env={**os.environ, "MPCPROF_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["deployment"]["runtime"] == PAPER_BUILD.name
    assert (report["hops"], report["hops_basis"]) == (8, "measured")
    assert report["bytes_sent"] == 128 * 50
    assert report["latency_s"] > 8 * 0.020
