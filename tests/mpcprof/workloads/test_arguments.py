"""Inputs as people have them: named, typed, in dicts and dataclasses, in files."""

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mpcprof
from mpcprof.dims import Dims
from mpcprof.engine.measure import (
    Case,
    CaseFailedError,
    MeasureConfig,
    inputs_and_result,
    measure,
)
from mpcprof.errors import UsageError
from mpcprof.network import LOOPBACK
from mpcprof.sweep import function as function_module
from mpcprof.workloads.arguments import read_arguments, take_arguments
from mpcprof.workloads.user import load_user_function, make_user_workload

WEIGHTS = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)


@dataclass
class Dense:
    """A plain dataclass, of which JAX knows nothing."""

    w: jax.Array
    b: jax.Array


class Pair(NamedTuple):
    """Two outputs."""

    twice: jax.Array
    n_positive: jax.Array


def dense(x, params: Dense):
    return x @ params.w + params.b


def two_layers(x, params):
    for layer in params["layers"]:
        x = x @ layer["w"]
    return x


def choose(x, mask, *, labels):
    return {
        "kept": jnp.where(mask, x, 0.0) * 2,
        "squares": labels * labels + 1,
        "both": mask & (x > 0),
    }


@jax.jit
def jitted(x):
    return Pair(x * 2, jnp.sum(x > 0))


def captures(x):
    return jax.jit(lambda x: x @ WEIGHTS)(x) + 1.0


def scaled(x, factor):
    return x * factor


def inputs_of(workload):
    return workload.make_inputs(Dims(), np.random.default_rng(0))


def make(function, *inputs, **asked):
    return make_user_workload(function, inputs, name="f", **asked)


def test_names_and_types_are_read_and_shown():
    workload = make(choose, "4x4", "mask=4x4:bool", "labels=3:int32")

    assert workload.name == "f(4x4, mask=4x4:bool, labels=3:int32)"
    assert [x.dtype for x in inputs_of(workload)] == [np.float32, np.bool_, np.int32]


@pytest.mark.parametrize("inputs", [((4, 4), (4,)), ("4x4", "4"), ("4x4", "factor=4")])
def test_shapes_stay_what_they_were(inputs):
    workload = make(scaled, *inputs)

    assert workload.input_shapes(Dims()) == ((4, 4), (4,))
    assert workload.domain == ((-1.0, 1.0),) * 2


@pytest.mark.parametrize(
    ("dtype", "seen"),
    [
        *((name, "float32") for name in ("float16", "bfloat16", "float64")),
        *(("int64", "int32"), ("uint8", "uint8"), ("int", "int32")),
    ],
)
def test_a_type_that_spu_has_not_is_the_next_one(dtype, seen):
    assert make(scaled, "4", f"factor=4:{dtype}").dtypes == ("float32", seen)


def test_an_input_may_be_a_scalar():
    workload = make(scaled, "4", "scalar")

    x, factor = inputs_of(workload)

    assert workload.name == "f(4, scalar)"
    np.testing.assert_allclose(workload.function(x, factor), x * factor)


def test_dotted_names_make_what_the_annotation_says():
    workload = make(dense, "2x4", "params.w=4x4", "params.b=4")

    x, w, b = inputs_of(workload)

    np.testing.assert_allclose(workload.reference(x, w, b), x @ w + b, rtol=1e-5)


def test_dotted_names_with_numbers_make_a_list():
    workload = make(two_layers, "2x4", "params.layers.0.w=4x3", "params.layers.1.w=3x5")

    assert workload.reference(*inputs_of(workload)).shape == (2, 5)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_file_gives_the_arrays_and_their_values(tmp_path, suffix):
    arrays = {"w": WEIGHTS, "b": np.arange(4, dtype=np.float16)}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file(arrays, path)

    workload = make(dense, "2x4", f"params={path}")

    x, *held = inputs_of(workload)
    assert {array.dtype for array in held} == {np.dtype(np.float32)}
    np.testing.assert_allclose(
        workload.reference(x, *held), x @ WEIGHTS + np.arange(4), rtol=1e-5
    )


def test_a_single_array_and_layers_come_from_files_too(tmp_path):
    np.save(tmp_path / "x.npy", WEIGHTS)
    np.savez(tmp_path / "p.npz", **{f"layers/{i}/w": WEIGHTS for i in range(2)})

    workload = make(two_layers, f"{tmp_path}/x.npy", f"params={tmp_path}/p.npz")

    found = workload.reference(*inputs_of(workload))
    np.testing.assert_allclose(found, WEIGHTS @ WEIGHTS @ WEIGHTS, atol=1e-6)


def test_example_arguments_are_taken_apart_and_their_numbers_are_public():
    def mlp(params, x, power):
        return params["act"](x @ params["w"]) ** power

    params = {"w": jnp.asarray(WEIGHTS), "act": jax.nn.relu}
    example = (params, jax.ShapeDtypeStruct((2, 4), jnp.float32), 2)

    workload = make_user_workload(mlp, take_arguments(example, mlp), name="mlp")

    assert workload.name == "mlp(params.w=4x4, x=2x4)"
    w, x = inputs_of(workload)
    np.testing.assert_array_equal(w, WEIGHTS)
    expected = np.maximum(x @ WEIGHTS, 0) ** 2
    np.testing.assert_allclose(workload.reference(w, x), expected, atol=1e-6)


def test_a_workload_with_values_is_counted_and_found_like_any_other():
    inputs = take_arguments((np.ones((2, 2), np.float32),), jnp.sin)
    workload = make_user_workload(jnp.sin, inputs, name="own")

    assert Counter([workload, workload])[workload] == 2


@pytest.mark.parametrize(
    "example",
    [
        ((jnp.ones(4),), {"factor": jnp.ones(4)}),
        {"x": jnp.ones(4), "factor": jnp.ones(4)},
        (jnp.ones(4), np.float32(3)),
    ],
)
def test_example_arguments_come_in_order_and_by_name(example):
    assert len(take_arguments(example, scaled).inputs) == 2


def test_a_plain_dataclass_is_taken_apart():
    arguments = take_arguments((jnp.ones((2, 4)), Dense(WEIGHTS, np.ones(4))), dense)

    assert str(arguments) == "x=2x4, params.w=4x4, params.b=4"


@pytest.mark.parametrize(
    "asked",
    [
        {"inputs": (WEIGHTS, Dense(WEIGHTS, np.ones(4)))},
        {"inputs": {"x": WEIGHTS, "params": Dense(WEIGHTS, np.ones(4))}},
        {"shapes": [WEIGHTS, Dense(WEIGHTS, np.ones(4))]},
        {"shapes": [[4, 4], "params.w=4x4", "params.b=4"]},
    ],
)
def test_python_takes_trees_and_shapes_as_the_command_line_does(monkeypatch, asked):
    monkeypatch.setattr(
        function_module, "profile_function", lambda load, *_, **__: load
    )

    workload = mpcprof.measure_function(dense, **asked)

    assert workload.input_shapes(Dims()) == ((4, 4), (4, 4), (4,))


def test_a_shape_without_numbers_is_refused_from_python_too():
    with pytest.raises(UsageError, match=r"shape \(0, 4\): expected whole numbers"):
        make(scaled, (0, 4), (4,))


def test_a_function_that_fails_when_it_runs_is_one_line():
    def fail(x):
        def refuse(values):
            raise ValueError("not this\nand not that")

        return jax.pure_callback(refuse, jax.ShapeDtypeStruct((4,), x.dtype), x)

    with pytest.raises(CaseFailedError) as caught:
        inputs_and_result(Case(workload=make(fail, "4"), dims=Dims()), seed=0)

    assert "\n" not in str(caught.value)


def test_domains_go_by_order_or_by_name():
    inputs = ("x=4", "factor=4:int8")

    assert make(scaled, *inputs).domain == ((-1, 1), (0, 9))
    assert make(scaled, *inputs, domain=((2, 3),)).domain == ((2, 3), (2, 3))
    by_name = make(scaled, *inputs, domain={"factor": (-9, -2), "": (5, 6)})
    assert by_name.domain == ((5, 6), (-9, -2))
    assert {*np.sign(inputs_of(by_name)[1])} == {-1}


def test_several_outputs_have_one_tolerance_each_and_integers_none():
    workload = make(choose, "4x4", "mask=4x4:bool", "labels=3:int32")

    found = workload.reference(*inputs_of(workload))

    assert [piece.name for piece in workload.pieces] == [
        "output both",
        "output kept",
        "output squares",
    ]
    assert [piece.tolerance.rtol for piece in workload.pieces] == [0, 0.02, 0]
    assert found.shape == (16 + 16 + 3,)


def test_integers_of_the_reference_go_round_where_those_of_the_program_do():
    workload = make(lambda i: i.sum(), "2:int32", domain=((2**30, 2**31 - 1),))

    assert workload.reference(np.int32([2**30, 2**30])) == -(2**31)


def test_captured_arrays_are_told_and_numbers_are_not():
    assert make(captures, "2x4").captured == (("float32", (4, 4)),)
    assert make(partial(scaled, factor=WEIGHTS), "4x4").captured == (
        ("float32", (4, 4)),
    )
    assert make(scaled, "4", "4").captured == ()


MODULE = """
import numpy as np
from functools import partial

class Layer:
    def __init__(self, width=4):
        self.w = np.eye(width, dtype=np.float32)
    def apply(self, x):
        return x @ self.w
    def __call__(self, x):
        return x * 2

class Sized:
    def __init__(self, width):
        self.width = width
    def apply(self, x):
        return x * self.width

def heads(x, n_heads):
    return x.reshape(n_heads, -1)

layer = Layer()
two_heads = partial(heads, n_heads=2)

def example():
    return (np.ones((2, 4)),)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The path of a user's file."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "layers.py").write_text(MODULE)
    return tmp_path / "layers.py"


@pytest.mark.parametrize(
    ("name", "has_captured"),
    [
        ("layer", False),
        ("layer.apply", True),
        ("Layer.apply", True),
        ("Layer", False),
        ("two_heads", False),
    ],
)
def test_methods_instances_classes_and_partials_are_functions(
    module, name, has_captured
):
    workload = load_user_function(f"{module}:{name}", ("2x4",))

    assert workload.name == f"layers:{name}(2x4)"
    assert bool(workload.captured) == has_captured


def test_a_maker_gives_the_inputs(module):
    workload = load_user_function(f"{module}:layer", maker="example")

    assert workload.name == "layers:layer(x=2x4)"
    assert inputs_of(workload)[0].tolist() == np.ones((2, 4)).tolist()


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        (
            "Sized.apply",
            {},
            "make an instance in the file and name that, such as layer",
        ),
        ("layer.apply_to", {}, "no function 'apply_to' there"),
        ("heads", {}, "takes (x, n_heads): 1 input shape(s) given, missing a required"),
        ("layer", {"maker": "exampl"}, "no function 'exampl' there; did you mean"),
        ("layer", {"maker": "heads"}, "--inputs heads: TypeError: heads() missing"),
    ],
)
def test_what_is_no_function_of_these_inputs_is_named(module, name, asked, message):
    inputs = () if asked else ("2x4",)

    with pytest.raises(UsageError, match=re.escape(message)):
        load_user_function(f"{module}:{name}", inputs, **asked)


def test_inputs_are_given_in_one_way(module):
    with pytest.raises(UsageError, match="--input and --inputs example; give one"):
        load_user_function(f"{module}:layer", ("2x4",), maker="example")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("0x4",), "'0' in '0x4': expected a whole number of at least 1"),
        (("x=4:int3",), "no type 'int3'; did you mean int32"),
        (("x=4", "x=4"), "input x is given twice"),
        (("x=4", "x.w=4"), "input x.w: x is given as an array already"),
        (("x=none.npz",), "cannot read 'none.npz': No such file"),
        (("weights.pt",), "input 'weights.pt': expected a shape such as 4x65x65"),
    ],
)
def test_what_is_typed_wrong_is_named(texts, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        read_arguments(texts, scaled)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((0, 3)), "input x has shape (0, 3): it holds no numbers"),
        (np.array([1j]), "input x holds complex128; expected floats, integers"),
        (np.array(["a"]), "input x holds <U1; expected floats"),
        (np.array([np.nan]), "input x holds nan, infinity or a number beyond"),
        (np.array([2**40]), "input x holds int64 beyond int32"),
        (object(), "input x is a object; expected arrays, and numbers or texts"),
    ],
)
def test_what_is_no_array_of_numbers_is_named(value, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        take_arguments((value, 3), scaled)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ({"y": (0, 1)}, "a domain of 'y'; known: x, factor"),
        (
            {"factor": (-3, 3)},
            "domain -3,3 is not one of uint8; expected whole numbers",
        ),
        (((0, 1), (0, 1), (0, 1)), "3 domains for 2 inputs"),
    ],
)
def test_a_domain_that_does_not_fit_is_named(domain, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        make(scaled, "x=4", "factor=4:uint8", domain=domain)


@pytest.mark.parametrize("suffix", ["npz", "npy", "safetensors"])
def test_a_file_that_is_none_is_one_line(tmp_path, suffix):
    path = tmp_path / f"broken.{suffix}"
    path.write_text("not a file of arrays\nat all")

    with pytest.raises(UsageError, match=r"cannot read '.*broken") as caught:
        read_arguments((f"x={path}",), scaled)

    assert "\n" not in str(caught.value)


def many(x, mask, label, factor):
    """All kinds of inputs, all kinds of outputs."""
    held = {"scaled": x * factor, "squares": label * label - 3, "same": mask}
    return held, Pair(x @ WEIGHTS, jnp.sum(mask & (x > 0))), jnp.argmax(x, -1)


@dataclass
class Checked:
    """A dataclass that looks at its arrays."""

    w: jax.Array

    def __post_init__(self):
        if self.w.ndim != 2 or self.w.size < 4 or self.w.dtype != "float32":
            raise ValueError(f"not a matrix: {self.w.shape}")


def multiply(x, p: Checked):
    return x @ p.w


def test_a_dataclass_may_check_its_arrays():
    workload = make(multiply, "3x4", "p.w=4x4")

    assert workload.input_shapes(Dims()) == ((3, 4), (4, 4))
    with pytest.raises(UsageError, match=r"not a matrix: \(4,\)"):
        make(multiply, "3x4", "p.w=4")


@pytest.mark.spu
def test_parties_take_and_reveal_all_of_it(semi2k):
    inputs = ("4x4", "mask=4x4:bool", "label=5:int32", "factor=scalar")
    workload = make(many, *inputs, domain={"label": (-(2**15), 2**15)})
    case = Case(workload=workload, dims=Dims())
    config = MeasureConfig(networks=(LOOPBACK,), repeats=1, warmups=0)

    [timing], _ = measure(semi2k, [case], config)

    assert 0 < timing.max_abs_error < 1e-3  # of the floats: no integer is off
    assert workload.captured == (("float32", (4, 4)),)


@pytest.mark.spu
def test_a_public_product_takes_fewer_bytes_than_a_secret_one(semi2k):
    config = MeasureConfig(networks=(LOOPBACK,), repeats=1, warmups=0)
    both = [make(captures, "4x4"), make(lambda x, w: x @ w + 1.0, "4x4", "4x4")]
    cases = [Case(workload=workload, dims=Dims()) for workload in both]

    timings, _ = measure(semi2k, cases, config)

    runs = [timing.on(LOOPBACK)[0].runs[0] for timing in timings]
    truncation, product = 4 * 16, 8 * (16 + 16)
    assert [run.bytes_sent for run in runs] == [truncation, truncation + product]
    assert [run.send_actions for run in runs] == [1, 2]
