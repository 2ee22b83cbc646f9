"""Blocks and whole models under JAX against their float64 references."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.dims import Dims
from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.catalogue import BLOCKS
from mpcprof.nn.norm import NORMS
from mpcprof.nn.preset import MODELS
from mpcprof.nn.rows import SPARSEMAX_STEPS, sparsemax_rows
from mpcprof.nn.transformer import embed, weight_shapes
from mpcprof.sweep.grid import choose_workloads
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.reference import sparsemax_rows64
from mpcprof.workloads.registry import all_workloads, get_workload
from tests.architectures import TINY, architectures, make_architecture

each_block = pytest.mark.parametrize(
    "workload", all_workloads("block"), ids=lambda w: w.name
)
SIZES = {"n_heads": 2, "n_tokens": 65, "head_dim": 16, "width": 64, "hidden": 128}
FORMULAS = {
    "attn.scale_plain": "attn.scale",
    "attn.softmax_by_entry": "attn.softmax",
    "attn.softmax_puma": "attn.softmax",
    "attn.softmax_bumblebee": "attn.softmax",
    "attn.softmax_nimbus": "attn.softmax",
    "attn.2quad_secformer": "attn.2quad_shifted",
    "attn.relu_softmax_by_entry": "attn.relu_softmax",
    "attn.relu_softmax_mpcvit": "attn.relu_softmax",
    **{
        f"mlp.{name}": f"mlp.{activation.approximates}"
        for name, activation in ACTIVATIONS.items()
        if activation.approximates
    },
}  # a block to the one that it computes, or nearly so


def make_dims(workload, **overrides: int) -> Dims:
    sizes = SIZES | overrides
    return Dims(**{name: sizes[name] for name in workload.dim_names})


def draw_inputs(workload, dims: Dims, seed: int = 0):
    return workload.make_inputs(dims, np.random.default_rng(seed))


def assert_jax_gives_the_reference(
    workload, dims: Dims, *, seed: int = 0, atol: float = 1e-4
) -> None:
    inputs = draw_inputs(workload, dims, seed)

    result = jax.jit(workload.function)(*inputs)

    reference = workload.reference(*inputs)
    assert reference.dtype == np.float64
    assert reference.shape == result.shape
    np.testing.assert_allclose(result, reference, rtol=1e-4, atol=atol)


@each_block
def test_outputs_of_the_domain_stay_where_fixed_point_is_valid(workload):
    dims = make_dims(workload, n_tokens=257, width=256, hidden=512)

    reference = workload.reference(*draw_inputs(workload, dims))

    assert np.abs(reference).max() < 50
    assert np.std(reference) > 5 * workload.tolerance.atol


def other_formulas(workload):
    own = FORMULAS.get(workload.name, workload.name)
    for other in all_workloads("block"):
        has_same_inputs = (
            other.dim_names == workload.dim_names
            and other.shapes(make_dims(other)) == workload.shapes(make_dims(workload))
            and other.name.split(".")[0] == workload.name.split(".")[0]
        )
        if has_same_inputs and FORMULAS.get(other.name, other.name) != own:
            yield other


@pytest.mark.parametrize("n_tokens", [17, 257])
@each_block
def test_no_tolerance_would_let_another_formula_pass(workload, n_tokens):
    inputs = draw_inputs(workload, make_dims(workload, n_tokens=n_tokens))
    reference = workload.reference(*inputs)
    tolerance = workload.tolerance.allowed(reference, fraction_bits=18)

    for other in other_formulas(workload):
        error = np.abs(other.reference(*inputs) - reference)

        assert (error / tolerance).max() > 5, other.name


def test_every_block_is_registered_as_one():
    assert {w.name for w in all_workloads("block")} == {*BLOCKS}


def test_a_sweep_still_takes_the_primitives_unless_told():
    assert {w.kind for w in choose_workloads("")} == {"primitive"}
    assert [w.name for w in choose_workloads("layernorm")] == ["layernorm"]


def test_an_embedding_without_a_patch_is_refused():
    with pytest.raises(UsageError, match="n_tokens=1: expected at least 2"):
        get_workload("patch_embedding").input_shapes(
            Dims(n_tokens=1, width=2, hidden=2)
        )


# (tokens, deviation of the scores) to the most by which weights of a row sum over 1
EXCESS = {
    (5, 1.0): 1e-4,
    (17, 1 / 3): 2e-3,
    (65, 1 / 3): 5e-3,
    (257, 0.1): 0.03,
    (257, 1 / 3): 0.03,  # two steps fewer would leave 0.8
    (257, 1.0): 2e-3,
    (257, 3.0): 2e-4,  # the domain of the workload
}


@pytest.mark.parametrize(("n_tokens", "deviation"), EXCESS)
def test_six_newton_steps_of_sparsemax_leave_so_much_too_much(n_tokens, deviation):
    assert SPARSEMAX_STEPS == 6, "other steps, other numbers"
    drawn = np.random.default_rng(0).normal(0, deviation, (500, n_tokens))
    scores = drawn.astype(np.float32)

    weights = np.asarray(jax.jit(partial(sparsemax_rows, JaxAlgebra()))(scores))

    exact = sparsemax_rows64(scores.astype(np.float64))
    assert np.allclose(exact.sum(axis=1), 1)
    assert (weights > exact - 1e-4).all(), "Newton comes from below and stays there"
    assert (weights - exact).sum(axis=1).max() < EXCESS[n_tokens, deviation]


@settings(max_examples=5)
@given(architecture=architectures(replace(TINY, n_layers=1)), seed=st.integers(0, 9))
def test_any_layer_agrees_with_its_reference(architecture, seed):
    names = {name for head in architecture.attention[0] for name in head}
    atol = 3e-2 if "sparsemax" in names else 1e-4

    assert_jax_gives_the_reference(
        model_workload(architecture), Dims(n_batch=2), seed=seed, atol=atol
    )


def test_batched_heads_give_what_serial_ones_do():
    serial, batched = (
        model_workload(make_architecture(heads=heads))
        for heads in ("serial", "batched")
    )
    inputs = draw_inputs(serial, Dims(n_batch=2))

    outputs = [np.asarray(jax.jit(w.function)(*inputs)) for w in (serial, batched)]

    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)


def test_an_image_gives_the_same_alone_and_in_a_batch():
    workload = model_workload(make_architecture(heads="batched"))
    patches, *weights = draw_inputs(workload, Dims(n_batch=3))

    together = workload.reference(patches, *weights)

    alone = [workload.reference(image[None], *weights)[0] for image in patches]
    np.testing.assert_allclose(together, alone)
    assert np.std(together, axis=0).min() > 0.01


@pytest.mark.parametrize("attention", ["softmax", "square", "scale"])
def test_a_random_network_keeps_its_logits_near_1(attention):
    workload = model_workload(
        uniform_architecture(MODELS["digits"], attention=attention)
    )

    logits = workload.reference(*draw_inputs(workload, Dims(n_batch=2)))

    assert 0.5 < np.std(logits) < 2


@pytest.mark.parametrize(
    "model",
    [MODELS["digits"], replace(MODELS["bert-base"], n_embeddings=4, width=192)],
    ids=lambda model: model.name,
)
def test_tokens_of_a_random_network_are_where_its_norm_is_stated(model):
    norm = "layernorm_secformer"
    architecture = uniform_architecture(model, attention="scale", norm=norm)
    inputs, *weights = draw_inputs(model_workload(architecture), Dims(n_batch=2))

    named = dict(zip(weight_shapes(architecture), weights, strict=True))
    variances = np.var(embed(JaxAlgebra(), inputs, named), axis=-1)

    accuracy = NORMS[norm].accuracy
    assert accuracy.low < variances.min() < variances.max() < accuracy.high


def test_no_model_tolerance_would_let_another_attention_pass():
    names = ("softmax", "relu_softmax", "scale", "2quad")
    workloads = [
        model_workload(uniform_architecture(MODELS["digits"], attention=name))
        for name in names
    ]
    inputs = draw_inputs(workloads[0], Dims(n_batch=2))

    logits = [workload.reference(*inputs) for workload in workloads]

    for i, workload in enumerate(workloads):
        for other in [*logits[:i], *logits[i + 1 :]]:
            assert np.abs(other - logits[i]).max() > 5 * workload.tolerance.atol


def test_the_name_of_a_model_is_the_same_on_every_day():
    architecture = uniform_architecture(MODELS["cifar"], attention="softmax")

    assert model_workload(architecture).name == "vit.cifar.07188f7d"


def test_other_heads_make_another_name():
    names = {
        model_workload(make_architecture(**change)).name
        for change in (
            {},
            {"heads": "batched"},
            {"attention": ((("scale",),) * 3,) * 2},
            {"activation": (("relu",),) * 2},
        )
    }

    assert len(names) == 4
    assert all(name.startswith("vit.tiny.") for name in names)


def test_a_model_is_not_registered():
    workload = model_workload(make_architecture())

    with pytest.raises(UnknownNameError, match="no workload"):
        get_workload(workload.name)


def test_a_model_has_no_dimension_but_its_batch():
    workload = model_workload(make_architecture())

    with pytest.raises(UsageError, match="n_tokens=5: it has no such dimension"):
        workload.input_shapes(Dims(n_batch=1, n_tokens=5))
    with pytest.raises(UsageError, match="n_batch=0"):
        workload.input_shapes(Dims())
