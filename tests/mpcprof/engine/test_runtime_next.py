"""SPU 0.10, where it is installed: the numbers of 0.9.5, and hops without waiting."""

import json
import subprocess

import pytest

from mpcprof.builds import NEXT_BUILD
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.installation import find_runtime
from mpcprof.engine.measure import Case, inputs_and_result
from mpcprof.engine.session import Session
from mpcprof.network import NETWORKS, Network
from mpcprof.workloads.registry import get_workload

pytestmark = [
    pytest.mark.spu,
    pytest.mark.skipif(
        bool(find_runtime(NEXT_BUILD).problem),
        reason=f"`mpcprof runtime install {NEXT_BUILD.name}` was not run here",
    ),
]

SIZES = {"n_heads": 2, "n_tokens": 9, "head_dim": 8, "width": 8, "hidden": 8}
REDUCTIONS = {"mul": 0, "exp": 0, "max": 1, "rsqrt": 0, "attn.softmax": 2}
SEEN_ON = Network(bandwidth_bytes_per_s=44e6, rtt_s=0.010)


def load(session, name):
    workload = get_workload(name)
    dims = Dims(**{dim: SIZES[dim] for dim in workload.dim_names})
    inputs, _ = inputs_and_result(Case(workload=workload, dims=dims), seed=0)
    session.load(name, session.lower(name, workload.function, inputs), inputs)


@pytest.fixture(scope="module", params=["semi2k", "aby3"])
def pair(request):
    """Parties of 0.9.5 and of 0.10, on one protocol."""
    older = request.getfixturevalue(request.param)
    deployment = make_deployment(request.param, runtime=NEXT_BUILD.name)
    with Session(deployment, RelayEmulation()) as newer:
        yield older, newer


@pytest.mark.parametrize("name", REDUCTIONS)
def test_bytes_are_those_of_the_default_build_and_hops_need_no_relay(pair, name):
    older, newer = pair
    for session in pair:
        load(session, name)

    before = older.run(name)
    counted = newer.count(name, NETWORKS["wan"])
    after = newer.run(name)
    for session in pair:
        session.unload(name)

    # in aby3, 0.9.5 shares the number that a reduction starts from, 0.10 does not
    shared = 24 * REDUCTIONS[name] if newer.n_parties == 3 else 0
    assert counted.total_bytes == after.total_bytes == before.total_bytes - shared
    hops = counted.counters.deepest.hops
    sent = [run.send_actions for run in after.runs]
    if newer.n_parties == 2:  # all messages are exchanges
        assert {hops} == {*sent}
    else:  # roles change from call to call, and some wait for two others
        assert abs(hops - max(sent)) <= 0.15 * hops + 1
    lines = counted.counters.lines
    assert sum(line.payload_bytes for line in lines) == counted.total_bytes


def test_the_relay_sees_the_hops_that_messages_tell(pair):
    _, newer = pair
    load(newer, "exp")

    told = newer.count("exp", SEEN_ON).counters.deepest.hops
    newer.set_network(SEEN_ON)
    seen = newer.run("exp").counters.deepest.hops
    newer.set_network(Network(bandwidth_bytes_per_s=float("inf"), rtt_s=0.0))
    newer.unload("exp")

    assert told - 1 <= seen <= told + 4  # of which a busy machine makes more


_PRINT_OPTIONS = """
import json, spu.libspu as libspu
both = (libspu.RuntimeConfig(), libspu.CompilerOptions())
print(json.dumps([name for one in both for name in dir(one)]))
"""


def test_the_options_are_those_of_the_default_build():
    python = find_runtime(NEXT_BUILD).python

    printed = subprocess.check_output([python, "-c", _PRINT_OPTIONS], text=True)

    tables = {*NEXT_BUILD.runtime_options, *NEXT_BUILD.compiler_options}
    assert tables <= {*json.loads(printed)}
