"""Laws that hold for every primitive, and for the registry."""

import re
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.dims import Dims
from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.profile.columns import Kind
from mpcprof.workloads.registry import (
    Workload,
    WorkloadKind,
    all_workloads,
    get_workload,
    register,
)
from mpcprof.workloads.tolerance import Tolerance

PRIMITIVES = all_workloads("primitive")
each_primitive = pytest.mark.parametrize("workload", PRIMITIVES, ids=lambda w: w.name)

# semi2k, 64 bits, SPU 0.9.5, N = 5, D = 3: bytes one party sends per entry, and hops
EXPECTED_COST = {
    "exp": (100, 17),
    "gelu_exact": (749, 64),
    "gelu_tanh": (396, 45),
    "less": (56, 7),
    "local": (0, 0),
    "matmul": ((8 * (5 * 3 + 3 * 3) + 4 * 5 * 3) / (5 * 3), 2),
    "max": (72 * (5 - 1) / 5, 8 * 3),  # ceil(log2 5) = 3 levels
    "mul": (16 + 4, 2),
    "reciprocal": (505, 36),
    "relu": (56 + 16, 8),
    "rsqrt": (429, 26),
    "select": (16, 1),
    "sigmoid": (605, 53),
    "square": (16 + 4, 2),
    "sum": (0, 0),
    "tanh": (324, 36),
    "truncation": (4, 1),
}


def make_dims(workload: Workload, **sizes: int) -> Dims:
    return Dims(**{name: sizes.get(name, 3) for name in workload.dim_names})


def test_the_primitives_are_those_that_were_asked_for():
    assert {workload.name for workload in PRIMITIVES} == set(EXPECTED_COST)


def test_records_and_workloads_know_the_same_kinds():
    assert get_args(Kind) == get_args(WorkloadKind)


@each_primitive
@settings(max_examples=15, deadline=None)  # the first call of a shape compiles
@given(data=st.data())
def test_function_agrees_with_its_reference_over_its_domain(workload, data):
    sizes = st.integers(1, 3)
    dims = Dims(**{name: data.draw(sizes, name) for name in workload.dim_names})
    inputs = workload.make_inputs(
        dims, np.random.default_rng(data.draw(st.integers(0, 9)))
    )
    for drawn, (low, high) in zip(inputs, workload.domain, strict=True):
        if drawn.dtype == np.float32:
            low32, high32 = np.nextafter(
                np.float32([low, high]), np.float32([high, low])
            )
            any_value = st.floats(float(low32), float(high32), width=32)
            drawn.flat[drawn.size // 2] = data.draw(any_value)

    result = workload.function(*inputs)

    np.testing.assert_allclose(
        result, workload.reference(*inputs), rtol=1e-4, atol=1e-6
    )


@each_primitive
def test_reference_is_float64_of_the_shape_of_the_output(workload):
    inputs = workload.make_inputs(make_dims(workload), np.random.default_rng(0))

    reference = workload.reference(*inputs)

    assert reference.dtype == np.float64
    assert reference.shape == workload.function(*inputs).shape


@each_primitive
def test_inputs_lie_in_the_domain_reach_its_ends_and_encode_exactly(workload):
    dims = make_dims(workload, n_tokens=17)

    inputs = workload.make_inputs(dims, np.random.default_rng(1))

    assert tuple(drawn.shape for drawn in inputs) == workload.input_shapes(dims)
    for drawn, (low, high) in zip(inputs, workload.domain, strict=True):
        assert drawn.min() == np.float32(low)
        assert drawn.max() == np.float32(high)
        inside = drawn.flat[1:-1].astype(np.float64) * 2**18
        assert (inside == np.round(inside)).all()


def test_inputs_of_a_signed_domain_have_both_signs_even_when_small():
    x, _ = get_workload("matmul").make_inputs(
        Dims(n_tokens=1, width=2, hidden=1), np.random.default_rng(0)
    )

    assert x.tolist() == [[-1.0, 1.0]]


def test_inputs_of_a_narrow_domain_still_differ():
    narrow = replace(get_workload("exp"), domain=((0.0, 2.0**-9),))

    (x,) = narrow.make_inputs(Dims(n_heads=1, n_tokens=9), np.random.default_rng(0))

    assert len(np.unique(x)) > 40


def test_the_same_seed_gives_the_same_inputs():
    workload, dims = get_workload("select"), Dims(n_heads=2, n_tokens=4)

    first = workload.make_inputs(dims, np.random.default_rng(7))
    second = workload.make_inputs(dims, np.random.default_rng(7))

    assert [x.tobytes() for x in first] == [x.tobytes() for x in second]


@pytest.mark.parametrize(
    ("name", "dims", "shapes"),
    [
        ("exp", Dims(n_heads=4, n_tokens=65), ((4, 65, 65),)),
        ("select", Dims(n_heads=1, n_tokens=2), ((1, 2, 2),) * 3),
        ("gelu_tanh", Dims(n_tokens=65, hidden=512), ((65, 512),)),
        ("rsqrt", Dims(n_tokens=65), ((65, 1),)),
        ("matmul", Dims(n_tokens=65, width=256, hidden=512), ((65, 256), (256, 512))),
    ],
)
def test_input_shapes_follow_the_dimensions(name, dims, shapes):
    assert get_workload(name).input_shapes(dims) == shapes


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        (Dims(n_heads=4), "exp: n_tokens=0: expected at least 1"),
        (
            Dims(n_heads=4, n_tokens=65, hidden=8),
            "exp: hidden=8: it has no such dimension, only n_heads, n_tokens",
        ),
    ],
)
def test_sizes_that_a_workload_lacks_or_has_no_use_for_are_refused(dims, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        get_workload("exp").input_shapes(dims)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"no workload 'recprocal'; .*reciprocal"
    ):
        get_workload("recprocal")


def test_gelu_alone_asks_which_one():
    with pytest.raises(UnknownNameError, match="did you mean gelu_exact, gelu_tanh"):
        get_workload("gelu")


def test_a_name_cannot_be_taken_twice():
    with pytest.raises(UsageError, match="'exp' is registered already"):
        register(replace(get_workload("tanh"), name="exp"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "operator"}, "kind 'operator'; known: primitive, block"),
        ({"dim_names": ("n_token",)}, "no dimension 'n_token'; did you mean n_tokens"),
        ({"domain": ((1.0, 1.0),)}, "expected two finite numbers, low < high"),
        ({"domain": ((0.0, float("inf")),)}, "expected two finite numbers"),
        ({"dtypes": ("bool", "bool")}, "2 dtypes for 1 inputs"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        replace(get_workload("exp"), **change)


def test_a_tolerance_is_a_number_of_at_least_0():
    with pytest.raises(UsageError, match="atol=nan: expected a number of at least 0"):
        Tolerance(atol=float("nan"))


@pytest.mark.spu
@each_primitive
def test_spu_gives_the_reference_for_the_bytes_and_hops_of_the_name(workload, capfd):
    from spu import libspu
    from spu.utils.simulation import Simulator, sim_jax

    dims = make_dims(workload, n_heads=2, n_tokens=5)
    inputs = workload.make_inputs(dims, np.random.default_rng(0))
    config = libspu.RuntimeConfig(
        protocol=libspu.ProtocolKind.SEMI2K,
        field=libspu.FieldType.FM64,
        fxp_fraction_bits=18,
    )
    config.enable_pphlo_profile = True

    revealed = sim_jax(Simulator(2, config), workload.function)(*inputs)

    reference = workload.reference(*inputs)
    errors = np.abs(np.asarray(revealed, np.float64) - reference)
    assert np.all(errors <= workload.tolerance.allowed(reference, fraction_bits=18))
    log = "".join(capfd.readouterr())
    sent = re.search(r"total send bytes (\d+), .*send actions (\d+)", log)
    assert sent is not None
    n_entries = reference.size if workload.name == "matmul" else inputs[0].size
    bytes_per_entry, hops = EXPECTED_COST[workload.name]
    assert int(sent[1]) == bytes_per_entry * n_entries
    assert int(sent[2]) == hops
