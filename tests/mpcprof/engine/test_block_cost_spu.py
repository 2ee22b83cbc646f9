"""What real parties count against what the cost model says, to the byte and the hop."""

from dataclasses import replace

import numpy as np
import pytest

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.dims import Dims
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import MODELS, uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.catalogue import BLOCKS, trace_block, trace_model
from mpcprof.nn.plan import rewrites_only
from mpcprof.nn.rewrite import grouped
from mpcprof.profile.io import read_profile
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import get_workload
from tests import PROFILES
from tests.architectures import OWN_SIZES, make_architecture

# in no preset; LayerNorm and GeLU keep their accuracy from such widths on
SIZES = {"n_heads": 3, "n_tokens": 9, "head_dim": 6, "width": 36, "hidden": 70}


@pytest.fixture(scope="module")
def model_of():
    models = {
        name: fit_cost_model(read_profile(PROFILES / f"{name}.parquet"))
        for name in ("semi2k", "aby3")
    }
    return models.__getitem__


def run(session, workload, dims):
    """One call on loopback; the result is right, or the test ends here."""
    inputs = workload.make_inputs(dims, np.random.default_rng(0))
    session.load("case", session.lower("case", workload.function, inputs), inputs)
    try:
        call = session.run("case")
        revealed = session.fetch("case")
    finally:
        session.unload("case")
    expected = workload.reference(*inputs)
    allowed = workload.tolerance.allowed(expected, session.deployment.fraction_bits)
    assert np.all(np.abs(revealed - expected) <= allowed)
    return call


def dims_of(name):
    return Dims(**{dim: SIZES[dim] for dim in BLOCKS[name].dim_names})


@pytest.mark.spu
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_semi2k_sends_the_bytes_and_takes_the_hops_predicted(
    name, semi2k, model_of
):
    steps = trace_block(name, dims_of(name))

    call = run(semi2k, get_workload(name), dims_of(name))

    predicted = model_of("semi2k").predict(steps, NETWORKS["wan"])
    counted = call.runs[0]
    assert (counted.bytes_sent, counted.send_actions) == (
        predicted.bytes_sent,
        predicted.hops,
    )


@pytest.mark.spu
@pytest.mark.parametrize("name", BLOCKS)
def test_the_ranks_of_aby3_together_send_the_bytes_predicted_for_a_block(
    name, aby3, model_of
):
    steps = trace_block(name, dims_of(name))

    call = run(aby3, get_workload(name), dims_of(name))

    predicted = model_of("aby3").predict(steps, NETWORKS["wan"])
    assert sum(run.bytes_sent for run in call.runs) == predicted.total_bytes_sent


@pytest.mark.spu
@pytest.mark.parametrize("heads", ["serial", "batched"])
@pytest.mark.parametrize("n_batch", [1, 2])
def test_a_model_of_mixed_heads_rows_and_tokens_costs_what_is_predicted(
    heads, n_batch, semi2k, model_of
):
    architecture = make_architecture(heads=heads)
    steps = trace_model(architecture, n_batch)

    call = run(semi2k, model_workload(architecture), Dims(n_batch=n_batch))

    predicted = model_of("semi2k").predict(steps, NETWORKS["wan"])
    counted = call.runs[0]
    assert counted.bytes_sent == predicted.bytes_sent
    assert counted.send_actions == predicted.hops


@pytest.mark.spu
@pytest.mark.parametrize("name", [None, "embedded, mean"])
def test_a_rewritten_model_costs_what_is_predicted(name, semi2k, model_of):
    own = name and uniform_architecture(OWN_SIZES[name], attention="relu_softmax")
    architecture = own or make_architecture()
    plan = rewrites_only(architecture, 2)
    steps = trace_model(architecture, 2, plan)

    call = run(semi2k, model_workload(architecture, plan), Dims(n_batch=2))

    predicted = model_of("semi2k").predict(steps, NETWORKS["wan"])
    counted = call.runs[0]
    assert counted.bytes_sent == predicted.bytes_sent
    assert counted.send_actions == predicted.hops


@pytest.mark.spu
def test_four_heads_of_folded_scale_attention_take_four_hops(semi2k):
    def attend(q, k, v):
        ops = grouped(JaxAlgebra(), 4)
        return ATTENTIONS["scale"].function(ops, q, k, v, is_folded=True)

    draw = np.random.default_rng(0)
    inputs = [draw.uniform(-1, 1, (4, 65, 64)).astype(np.float32) for _ in range(3)]
    q, k, v = inputs
    semi2k.load("case", semi2k.lower("case", attend, inputs), inputs)

    call = semi2k.run("case")
    revealed = semi2k.fetch("case")
    semi2k.unload("case")

    assert call.runs[0].send_actions == 4
    expected = q @ (np.swapaxes(k, 1, 2) @ v)
    np.testing.assert_allclose(revealed, expected, rtol=0, atol=2e-3)


@pytest.mark.spu
@pytest.mark.parametrize("name", ["biases, wide heads", "embedded, mean"])
def test_a_model_of_a_users_own_sizes_costs_what_is_predicted(name, semi2k, model_of):
    model = replace(OWN_SIZES[name], n_layers=1, width=36)
    architecture = uniform_architecture(model, attention="scale", activation="relu")

    call = run(semi2k, model_workload(architecture), Dims(n_batch=2))

    predicted = model_of("semi2k").predict(
        trace_model(architecture, 2), NETWORKS["wan"]
    )
    counted = call.runs[0]
    assert counted.bytes_sent == predicted.bytes_sent
    assert counted.send_actions == predicted.hops


@pytest.mark.spu
def test_xnorm_is_right_where_tokens_resemble_each_other(semi2k):
    """A sum over 65 tokens has rows too long for SPU's rsqrt; a mean has not."""
    model = replace(MODELS["cifar"], n_layers=1)
    architecture = uniform_architecture(model, attention="xnorm")

    run(semi2k, model_workload(architecture), Dims(n_batch=1))
