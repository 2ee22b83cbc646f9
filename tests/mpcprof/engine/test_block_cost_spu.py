"""What real parties count against what the cost model says, to the byte and the hop."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.dims import Dims
from mpcprof.network import NETWORKS
from mpcprof.nn.approximation import (
    InverseBounds,
    SoftmaxBounds,
    bounded_inverse,
    choose_inverse,
    goldschmidt_inverse,
)
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.folding import fold_weights
from mpcprof.nn.plan import LayerPlan, rewrites_only
from mpcprof.nn.preset import MODELS
from mpcprof.nn.rewrite import grouped
from mpcprof.nn.transformer import weight_shapes
from mpcprof.profile.io import read_profile
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.reference import vit64
from tests import PROFILES
from tests.architectures import CHEAP, OWN_SIZES, TINY, make_architecture
from tests.checked_call import run_checked

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
    inputs = workload.make_inputs(dims, np.random.default_rng(0))
    return run_checked(session, workload, inputs)


NORM = choose_inverse(0.1, 20.0, -0.5, 1e-3)
SCORES = SoftmaxBounds(
    low=-5.0, high=5.0, n_squarings=3, total=choose_inverse(0.2, 99.0, -1.0, 1e-3)
)
KNOWN = LayerPlan(norm1=NORM, norm2=NORM, softmax=SCORES, n_together=6)
SOFTMAX = uniform_architecture(TINY, attention="softmax", activation="quad")
EMBEDDED = uniform_architecture(OWN_SIZES["embedded, mean"], attention="relu_softmax")
BETWEEN = uniform_architecture(
    OWN_SIZES["norms between"], attention="relu_softmax_mpcvit", activation="quad"
)
BERT = uniform_architecture(
    replace(OWN_SIZES["BERT, one-hot"], n_layers=1, width=36),
    attention="softmax",
    activation="quad",
    heads="batched",
)
_TOKEN_MIX = uniform_architecture(
    MODELS["digits"], attention="token_mix", activation="quad_linear", norm="batchnorm"
)
PLANNED = {
    "token mixing and squares": (_TOKEN_MIX, {}),
    **{name: (CHEAP[name], {}) for name in ("convolutions", "stem of tokens", "cnn")},
    "mixed": (make_architecture(), {}),
    "embedded": (EMBEDDED, {}),
    "norms between": (BETWEEN, {}),
    "BERT": (BERT, {}),
    # without SPU's own exp, max, reciprocal and rsqrt
    "on known ranges": (SOFTMAX, {"layers": (KNOWN,) * 2, "last_norm": NORM}),
}


@pytest.mark.spu
@pytest.mark.parametrize(("architecture", "changes"), PLANNED.values(), ids=PLANNED)
def test_a_planned_model_is_the_plain_one_and_costs_what_is_predicted(
    architecture, changes, semi2k, model_of
):
    plan = replace(rewrites_only(architecture, 2), **changes)
    patches, *weights = model_workload(architecture).make_inputs(
        Dims(n_batch=2), np.random.default_rng(0)
    )
    named = dict(zip(weight_shapes(architecture), weights, strict=True))
    folded = fold_weights(architecture, plan, named).values()
    inputs = [patches, *(weight.astype(np.float32) for weight in folded)]
    function = model_workload(architecture, plan).function
    semi2k.load("case", semi2k.lower("case", function, inputs), inputs)

    call = semi2k.run("case")
    revealed = semi2k.fetch("case")
    semi2k.unload("case")

    expected = vit64(architecture, patches, named)
    assert expected.std() > 0.05
    np.testing.assert_allclose(revealed, expected, rtol=0, atol=2e-2)
    predicted = model_of("semi2k").predict(
        trace_model(architecture, 2, plan), NETWORKS["wan"]
    )
    counted = call.runs[0]
    assert counted.bytes_sent == predicted.bytes_sent
    assert counted.send_actions == predicted.hops


# (power, largest / smallest, degree, Newton steps) to the largest relative error. The
# last bit of a truncation is random: every bound is above the largest of 150 calls
INVERSES = {
    (-1.0, 1.5, 256, 0): 1e-4,  # far more exact than fixed point: no bits are lost
    (-1.0, 100.0, 64, 0): 2e-3,
    (-1.0, 1000.0, 128, 1): 5e-4,
    (-0.5, 1.5, 256, 0): 1.2e-4,  # 0.95e-4 in the median call, once 1.004e-4
    (-0.5, 20.0, 16, 1): 2e-4,
    (-0.5, 300.0, 64, 0): 2e-3,
}


@pytest.mark.spu
def test_inverses_of_parties_are_as_exact_as_18_fraction_bits_allow(semi2k):
    bounds = [
        InverseBounds(low=r**-0.5 / 1.01, high=r**0.5 * 1.01, degree=d, n_steps=n)
        for _, r, d, n in INVERSES
    ]
    inputs = [np.geomspace(r**-0.5, r**0.5, 65, dtype="f") for _, r, _, _ in INVERSES]

    def invert(*rows):
        inverses = [
            bounded_inverse(JaxAlgebra(), x, own, power)
            for x, own, (power, *_) in zip(rows, bounds, INVERSES, strict=True)
        ]
        own = goldschmidt_inverse(JaxAlgebra(), rows[1], -1.0, 6.0, 10)
        return jnp.stack([*inverses, own])

    semi2k.load("case", semi2k.lower("case", invert, inputs), inputs)
    semi2k.run("case")
    revealed = semi2k.fetch("case")
    semi2k.unload("case")

    expected = [x**power for x, (power, *_) in zip(inputs, INVERSES, strict=True)]
    relative = revealed / np.stack([*expected, 1 / inputs[1]]) - 1
    assert np.all(np.abs(relative).max(axis=1) < [*INVERSES.values(), 1e-3])


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
def test_xnorm_is_right_where_tokens_resemble_each_other(semi2k):
    """A sum over 65 tokens has rows too long for SPU's rsqrt; a mean has not."""
    model = replace(MODELS["cifar"], n_layers=1)
    architecture = uniform_architecture(model, attention="xnorm")

    run(semi2k, model_workload(architecture), Dims(n_batch=1))
