"""Laws of the blocks: one function, priced on shapes and run under JAX alike."""

import functools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.dims import DIM_NAMES, Dims
from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.catalogue import BLOCKS, block_shapes, trace_block, trace_model
from mpcprof.nn.mlp import by_token, fused_mlp, mlp
from mpcprof.nn.preset import MODELS
from mpcprof.nn.steps import (
    PRIMITIVES,
    Bare,
    CountingAlgebra,
    Step,
    broadcast_shape,
    without_local,
)
from mpcprof.nn.transformer import input_shape, vit, weight_shapes
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import all_workloads, get_workload
from tests.architectures import CHEAP, OWN_SIZES, TINY, architectures, make_architecture

BANNED = ("scatter", "gather", "while", "scan", "sort", "dynamic", "conv", "cond")

each_block = pytest.mark.parametrize("name", BLOCKS)
sizes = st.integers(2, 6)


def draw_dims(data: st.DataObject, name: str) -> Dims:
    return Dims(**{dim: data.draw(sizes, dim) for dim in BLOCKS[name].dim_names})


def abstract(shapes) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]


def count_model(architecture: Architecture, n_batch: int) -> tuple[int, ...]:
    weights = {name: Bare(shape) for name, shape in weight_shapes(architecture).items()}
    patches = Bare(input_shape(architecture, n_batch))
    return vit(CountingAlgebra(), architecture, patches, weights).shape


def bag(steps) -> Counter[tuple[str, tuple[int, ...]]]:
    return Counter((step.operation, step.size) for step in without_local(steps))


def operations(jaxpr) -> Iterator[str]:
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.core.jaxprs_in_params(equation.params):
            yield from operations(inner)


def banned_operations(function, shapes) -> set[str]:
    jaxpr = jax.make_jaxpr(function)(*abstract(shapes)).jaxpr
    return {
        name
        for name in operations(jaxpr)
        for word in BANNED
        if word in name.split("[")[0]
    }


@each_block
@settings(max_examples=5)
@given(data=st.data())
def test_counting_and_jax_agree_on_the_shape_of_a_block(name, data):
    dims = draw_dims(data, name)
    shapes, function = block_shapes(name, dims), BLOCKS[name].function

    counted = function(CountingAlgebra(), *map(Bare, shapes))

    traced = jax.eval_shape(
        functools.partial(function, JaxAlgebra()), *abstract(shapes)
    )
    assert counted.shape == traced.shape


@settings(max_examples=10)
@given(architecture=architectures(), n_batch=st.integers(1, 3))
def test_counting_and_jax_agree_on_the_shape_of_a_model(architecture, n_batch):
    workload = model_workload(architecture)
    shapes = workload.input_shapes(Dims(n_batch=n_batch))

    traced = jax.eval_shape(workload.function, *abstract(shapes))

    assert count_model(architecture, n_batch) == traced.shape == (n_batch, 3)


@pytest.mark.parametrize("model", OWN_SIZES.values(), ids=OWN_SIZES)
def test_counting_and_jax_agree_on_a_model_of_its_own_sizes(model):
    architecture = uniform_architecture(model, attention="softmax")
    workload = model_workload(architecture)
    shapes = workload.input_shapes(Dims(n_batch=2))

    traced = jax.eval_shape(workload.function, *abstract(shapes))

    assert count_model(architecture, 2) == traced.shape == (2, 3)


@pytest.mark.parametrize("architecture", CHEAP.values(), ids=CHEAP)
def test_counting_and_jax_agree_on_mixers_norms_and_stems(architecture):
    workload = model_workload(architecture)
    shapes = workload.input_shapes(Dims(n_batch=2))

    traced = jax.eval_shape(workload.function, *abstract(shapes))

    assert count_model(architecture, 2) == traced.shape == (2, 3)
    assert not banned_operations(workload.function, shapes)


@each_block
def test_a_block_has_no_operation_that_spu_makes_a_loop_of(name):
    dims = Dims(**dict.fromkeys(BLOCKS[name].dim_names, 6))

    found = banned_operations(
        functools.partial(BLOCKS[name].function, JaxAlgebra()), block_shapes(name, dims)
    )

    assert not found


def test_the_search_for_loops_would_find_one():
    def scatters(x):
        return jax.jit(lambda y: y.at[y.argmax()].set(1.0))(x)

    assert "scatter" in banned_operations(scatters, [(3,)])


@pytest.mark.parametrize("heads", ["serial", "batched"])
@pytest.mark.parametrize("n_batch", [1, 2])
def test_a_mixed_model_has_only_static_slices(heads, n_batch):
    workload = model_workload(make_architecture(heads=heads))

    found = banned_operations(
        workload.function, workload.input_shapes(Dims(n_batch=n_batch))
    )

    assert not found


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("activation", ["gelu_tanh", "identity_relu"])
def test_the_steps_of_a_model_are_those_of_its_blocks(attention, activation):
    architecture = uniform_architecture(
        TINY, attention=attention, activation=activation
    )
    n_tokens, width = TINY.n_tokens, TINY.width
    token = Dims(n_tokens=n_tokens, width=width)
    wide = Dims(n_tokens=n_tokens, width=width, hidden=TINY.hidden)
    one_head = Dims(n_heads=1, n_tokens=n_tokens, head_dim=TINY.head_dim)
    is_fused = activation == "identity_relu"
    layer = [
        *trace_block("layernorm", token) * 2,
        Step("matmul", (1, n_tokens, width, 3 * width)),
        *trace_block(f"attn.{attention}", one_head) * TINY.n_heads,
        Step("matmul", (1, n_tokens, width, width)),
        *trace_block(
            "mlp.fused_relu" if is_fused else f"mlp.{activation}",
            token if is_fused else wide,
        ),
    ]
    ends = [
        *trace_block("patch_embedding", replace(wide, hidden=TINY.patch_dim)),
        *trace_block("head", replace(wide, hidden=TINY.n_classes)),
    ]

    steps = trace_model(architecture)

    assert bag(steps) == bag(ends + layer * TINY.n_layers)


def test_the_parts_of_a_model_say_where_each_step_belongs():
    parts = {step.part for step in without_local(trace_model(make_architecture()))}

    assert {part.split("/")[0] for part in parts} == {
        "embedding",
        "layer 1",
        "layer 2",
        "head",
    }
    assert {part for part in parts if part.startswith("layer 2/attention")} == {
        f"layer 2/attention/{name}"
        for name in (
            "qkv",
            "scale",
            "softmax",
            "linformer",
            "2quad",
            "xnorm",
            "projection",
        )
    }


@settings(max_examples=20)
@given(architecture=architectures())
def test_twice_the_images_are_twice_the_entries_in_as_many_steps(architecture):
    one, two = (trace_model(architecture, n_batch) for n_batch in (1, 2))

    assert [(s.operation, s.part) for s in one] == [(s.operation, s.part) for s in two]
    assert [2 * math.prod(s.size) for s in one] == [math.prod(s.size) for s in two]


@pytest.mark.parametrize("name", ["attn.softmax", "attn.relu_softmax"])
def test_by_entry_only_the_reciprocals_are_more(name):
    dims = Dims(n_heads=2, n_tokens=5, head_dim=3)

    by_row, by_entry = (trace_block(n, dims) for n in (name, f"{name}_by_entry"))

    expected = [
        s._replace(size=(2 * 5 * 5,)) if s.operation == "reciprocal" else s
        for s in by_row
    ]
    assert by_row != by_entry == tuple(expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_heads_together_do_the_same_work_in_fewer_steps(attention):
    serial, batched = (
        uniform_architecture(MODELS["cifar"], attention=attention, heads=heads)
        for heads in ("serial", "batched")
    )

    def work(architecture: Architecture) -> Counter[str]:
        entries: Counter[str] = Counter()
        for step in without_local(trace_model(architecture)):
            entries[step.operation] += math.prod(step.size)
        return entries

    assert work(serial) == work(batched)
    assert len(trace_model(batched)) < len(trace_model(serial))


def test_a_whole_model_on_shapes_is_as_large_as_its_paper_says():
    steps = trace_model(uniform_architecture(MODELS["cifar"], attention="softmax"))

    n_max = sum(math.prod(step.size) for step in steps if step.operation == "max")
    n_gelu = sum(math.prod(s.size) for s in steps if s.operation == "gelu_tanh")
    assert n_max == 7 * 4 * 65 * 65
    assert n_gelu == 7 * 65 * 512


@pytest.mark.parametrize("activation", ["identity", "identity_relu"])
def test_a_fused_mlp_is_the_linearised_one_with_w1_w2(activation):
    rng = np.random.default_rng(0)
    x, w1, b1, w2, b2 = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((2, 5, 4), (4, 8), (8,), (8, 4), (4,))
    )

    unfused = mlp(JaxAlgebra(), x, w1, b1, w2, b2, [activation])
    fused = fused_mlp(JaxAlgebra(), x, w1 @ w2, b1 @ w2 + b2, [activation])

    np.testing.assert_allclose(unfused, fused, atol=1e-4)
    assert (np.asarray(fused) < 0).any() == (activation == "identity")


@settings(max_examples=20)
@given(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
def test_each_token_gets_its_own_function_and_keeps_its_place(names):
    factors = {"a": 1.0, "b": 10.0, "c": 100.0}
    x = np.arange(2 * len(names) * 3, dtype=np.float32).reshape(2, len(names), 3)

    found = by_token(JaxAlgebra(), x, names, lambda name, rows: rows * factors[name])

    expected = x * np.array([factors[name] for name in names])[:, None]
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=20)
@given(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
def test_equal_tokens_go_through_their_function_together(names):
    calls: list[tuple[str, int]] = []

    def note(name: str, rows: Bare) -> Bare:
        calls.append((name, rows.shape[1]))
        return rows

    found = by_token(CountingAlgebra(), Bare((1, len(names), 2)), names, note)

    assert found.shape == (1, len(names), 2)
    assert Counter(dict(calls)) == Counter(names)
    assert len(calls) == len({*names})


@pytest.mark.parametrize("name", PRIMITIVES)
def test_the_step_of_a_primitive_has_the_entries_of_its_workload(name):
    workload = get_workload(name)
    dims = Dims(**{dim: 3 + i for i, dim in enumerate(workload.dim_names)})

    (step,) = trace_block(name, dims)

    if name == "matmul":
        assert step.size == (1, 3, 4, 5)
    else:
        assert math.prod(step.size) == np.prod(workload.input_shapes(dims)[0])


def test_every_primitive_that_is_measured_has_its_step():
    assert {w.name for w in all_workloads("primitive")} == {*PRIMITIVES}


@given(name=st.sampled_from([*BLOCKS, *PRIMITIVES]), data=st.data())
def test_sizes_of_other_dimensions_are_refused(name, data):
    own = {*get_workload(name).dim_names}
    given_names = data.draw(st.sets(st.sampled_from(DIM_NAMES)))
    dims = Dims(**dict.fromkeys(given_names, 3))

    if given_names == own:
        assert trace_block(name, dims)
    else:
        with pytest.raises(UsageError, match=r"expected at least 1|no such dimension"):
            trace_block(name, dims)


@given(name=st.text(max_size=12).filter(lambda n: n not in {*BLOCKS, *PRIMITIVES}))
def test_a_block_that_is_not_there_is_an_unknown_name(name):
    with pytest.raises(UnknownNameError, match="no block"):
        trace_block(name, Dims(n_tokens=3))


def test_patches_alone_make_no_embedding():
    with pytest.raises(UsageError, match="n_tokens=1: expected at least 2"):
        trace_block("patch_embedding", Dims(n_tokens=1, width=2, hidden=2))


shapes_of_2 = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)


@given(x=shapes_of_2, y=shapes_of_2)
def test_shapes_broadcast_as_in_numpy(x, y):
    try:
        expected = np.broadcast_shapes(x, y)
    except ValueError:
        with pytest.raises(ValueError, match="do not broadcast"):
            broadcast_shape(x, y)
    else:
        assert broadcast_shape(x, y) == expected


@pytest.mark.parametrize(
    "impossible",
    [
        lambda ops: ops.matmul(Bare((2, 3)), Bare((4, 2))),
        lambda ops: ops.matmul(Bare((2, 3, 4)), Bare((3, 4, 2))),
        lambda ops: ops.mul(Bare((2, 3)), Bare((2, 2))),
        lambda ops: ops.reshape(Bare((2, 3)), (5,)),
        lambda ops: ops.divide(Bare((2, 3)), Bare((2, 2))),
        lambda ops: ops.cut(Bare((2, 3)), 1, 2, 4),
        lambda ops: ops.cut(Bare((2, 3)), 1, 2, 2),
        lambda ops: ops.join([Bare((2, 3)), Bare((3, 4))], 1),
    ],
)
def test_shapes_that_do_not_fit_are_refused(impossible):
    with pytest.raises(ValueError, match=r"shapes|product|fit|slice|joining"):
        impossible(CountingAlgebra())
