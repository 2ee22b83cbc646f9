"""A folded network is the same function, and takes fewer steps."""

from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest
import torch

from mpcprof.dims import Dims
from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.approximation import InverseBounds, SoftmaxBounds, choose_inverse
from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.attention import ATTENTIONS, SOFTMAXES
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.folding import fold_weights
from mpcprof.nn.plan import LayerPlan, Plan, rewrites_only
from mpcprof.nn.preset import MODELS
from mpcprof.nn.steps import without_local
from mpcprof.nn.transformer import input_shape, vit, weight_shapes
from mpcprof.workloads.models import model_workload, weight_domains
from mpcvit.models.algebra import TorchAlgebra
from tests.architectures import CHEAP, OWN_SIZES, TINY, make_architecture

MIXED = make_architecture()


def logits_of(
    architecture: Architecture,
    plan: Plan | None,
    weights: dict[str, np.ndarray],
    patches: np.ndarray,
) -> np.ndarray:
    given = {name: torch.tensor(weight) for name, weight in weights.items()}
    ops = TorchAlgebra()
    return vit(ops, architecture, torch.tensor(patches), given, plan).numpy()


def assert_the_same_function(
    architecture: Architecture, plan: Plan, atol: float = 1e-9
) -> None:
    rng = np.random.default_rng(0)
    shapes = weight_shapes(architecture)
    weights = {
        name: rng.uniform(*domain, shapes[name])
        for name, domain in weight_domains(architecture).items()
    }
    patches = rng.uniform(-1, 1, input_shape(architecture, 2))

    folded = fold_weights(architecture, plan, weights)

    assert {name: w.shape for name, w in folded.items()} == weight_shapes(
        architecture, plan
    )
    expected = logits_of(architecture, None, weights, patches)
    assert expected.std() > 0.01
    found = logits_of(architecture, plan, folded, patches)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "name", ["biases, wide heads", "norms between", "embedded, mean", "BERT"]
)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_any_attention_folded_is_the_same_function(name: str, attention: str) -> None:
    architecture = uniform_architecture(OWN_SIZES[name], attention=attention)

    assert_the_same_function(architecture, rewrites_only(architecture, 2))


@pytest.mark.parametrize("model", [TINY, OWN_SIZES["BERT, one-hot"]], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_any_activation_folded_is_the_same_function(activation, model) -> None:
    architecture = uniform_architecture(
        model, attention="softmax", activation=activation
    )

    assert_the_same_function(architecture, rewrites_only(architecture, 2))


@pytest.mark.parametrize("architecture", CHEAP.values(), ids=CHEAP)
def test_mixers_norms_and_stems_folded_are_the_same_function(architecture) -> None:
    assert_the_same_function(architecture, rewrites_only(architecture, 2))


def multiplied(plan: Plan) -> Plan:
    layer = LayerPlan(norm1_multiple=3, norm2_multiple=6)
    return replace(plan, layers=(layer,) * len(plan.layers), last_norm_multiple=5)


REWRITES = rewrites_only(MIXED, 2)
PLANS = {
    "all": REWRITES,
    "heads one by one": replace(REWRITES, heads="serial"),
    "another scale, not pruned": replace(REWRITES, stream_scale=3.0, is_pruned=False),
    "multiples before norms": multiplied(REWRITES),
    "not folded": Plan(layers=REWRITES.layers, is_folded=False),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_mixed_heads_rows_and_tokens_are_the_same_function(plan: Plan) -> None:
    assert_the_same_function(MIXED, plan)


def test_weights_of_a_plan_that_does_not_fold_stay_as_they_are() -> None:
    weights = {"head.bias": np.ones(3)}

    assert fold_weights(MIXED, PLANS["not folded"], weights) == weights


NORM = choose_inverse(0.05, 40.0, -0.5, 1e-4)
TOTAL = InverseBounds(low=2.0**-11, high=40.0, degree=256, n_steps=3)
SCORES = SoftmaxBounds(
    low=-4.0, high=4.0, n_squarings=3, total=choose_inverse(0.3, 100.0, -1.0, 1e-3)
)
BOUNDED = LayerPlan(
    norm1=NORM, norm2=NORM, norm1_multiple=2, softmax=SCORES, total=TOTAL, n_together=3
)


# an epsilon of 1e-5 is below the range
@pytest.mark.parametrize(
    "attention", [*SOFTMAXES, "relu_softmax", "relu_softmax_by_entry", "mixed"]
)
def test_on_its_ranges_a_bounded_network_is_nearly_the_same_function(
    attention: str,
) -> None:
    mixed = ("softmax", "relu_softmax", "scale", "softmax", "relu_softmax")
    names = mixed if attention == "mixed" else (attention,)
    architecture = Architecture(
        model=TINY,
        attention=(((names,) * 2 + (("softmax",),)),) * 2,
        activation=(("gelu_tanh",), ("quad",)),
    )
    plan = replace(
        rewrites_only(architecture),
        layers=(BOUNDED,) * 2,
        last_norm=NORM,
        is_pruned=False,
    )

    assert_the_same_function(architecture, plan, atol=2e-3)


def operations(architecture: Architecture, plan: Plan | None) -> Counter[str]:
    steps = without_local(trace_model(architecture, 1, plan))
    return Counter(step.operation for step in steps)


def test_folding_leaves_no_truncation_and_one_product_for_all_heads() -> None:
    architecture = uniform_architecture(
        MODELS["cifar"], attention="scale", activation="quad", heads="batched"
    )

    before = operations(architecture, None)
    after = operations(architecture, rewrites_only(architecture))

    n_norms = 15
    assert before == Counter(
        truncation=2 * n_norms + 7 + 7,  # mean, 1/D; 1 / (N sqrt K); 0.125
        square=n_norms,
        rsqrt=n_norms,
        mul=2 * n_norms + 7,  # the deviation, gamma; x (x + 2)
        sum=2 * n_norms,
        matmul=2 + 7 * 6,
    )
    assert after == Counter(
        square=n_norms + 7, rsqrt=n_norms, mul=n_norms, sum=n_norms, matmul=2 + 7 * 6
    )
    sizes = [
        step.size for step in trace_model(architecture, 1, rewrites_only(architecture))
    ]
    assert max(size[0] for size in sizes if len(size) == 4) == 1


@pytest.mark.parametrize("attention", ["softmax", "relu_softmax_by_entry", "2quad"])
def test_rows_are_divided_behind_the_product_with_narrower_values(
    attention: str,
) -> None:
    architecture = uniform_architecture(MODELS["tiny-imagenet"], attention=attention)

    sizes = {
        step.operation: step.size
        for step in trace_model(architecture, 1, rewrites_only(architecture))
        if step.part == f"layer 1/attention/{attention}"
    }

    assert sizes["mul"] == (12 * 257 * 16,)
    assert sizes["reciprocal"] == (12 * 257,)


def test_the_last_layer_computes_the_class_token_alone() -> None:
    architecture = uniform_architecture(MODELS["cifar"], attention="softmax")

    last = [
        step
        for step in trace_model(architecture, 1, rewrites_only(architecture))
        if step.part.startswith("layer 7")
    ]

    sizes = {step.operation: step.size for step in last}
    assert sizes["exp"] == (4 * 65,)
    assert sizes["gelu_tanh"] == (512,)


def test_a_workload_of_a_plan_has_a_name_and_a_reference_of_its_own() -> None:
    small = replace(TINY, n_layers=1, n_heads=1, width=4)
    architecture = uniform_architecture(small, attention="scale", activation="relu")
    plan = rewrites_only(architecture)
    plain, planned = (model_workload(architecture, own) for own in (None, plan))
    rng = np.random.default_rng(0)
    shapes = planned.shapes(Dims(n_batch=1))
    inputs = [rng.uniform(-0.5, 0.5, shape).astype(np.float32) for shape in shapes]

    found = planned.reference(*inputs)

    assert planned.name != plain.name
    assert found.dtype == np.float64
    narrow = jax.jit(planned.function)(*inputs)
    np.testing.assert_allclose(narrow, found, rtol=1e-4, atol=1e-5)
