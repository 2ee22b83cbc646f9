"""Laws of the text that SPU 0.3.1b0 reads; no SPU needed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import nn
from jaxlib.mlir import ir

from mpcprof.dims import Dims
from mpcprof.engine.lowering import to_mhlo, trace
from mpcprof.errors import EngineError
from mpcprof.workloads.registry import all_workloads

X = np.ones((2, 5, 4), np.float32)
_OPERATION = re.compile(r'^ *(?:%\S+(?:, %\S+)* = )?"([\w.]+)"\(', re.MULTILINE)
_LINE = re.compile(
    r'^ *(?:\^bb0\(.*\):|\}.*|(?:%\d+(?:, %\d+)* = )?"[\w.]+"\(.*\).*)$'
)  # nothing but generic operations, heads of blocks and ends of regions


def mhlo_of(function, *inputs):
    text, _ = trace(function, inputs, "mhlo")
    return text.decode()


def sort_rows(x):
    return jnp.sort(x, axis=-1)


FUNCTIONS = {
    "softmax": nn.softmax,
    "where": lambda x: jnp.where(x > 0, x, 0.0),
    "slice": lambda x: x[:, 1:3],
    "concatenate": lambda x: jnp.concatenate([x, x], 1),
    "sort": sort_rows,
    "argmax": lambda x: jnp.argmax(x, axis=-1),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y * x, x),
    "nested": lambda x: jax.jit(jnp.square)(x) + jax.jit(jnp.square)(x + 1),
    "product": lambda x: x @ jnp.swapaxes(x, 1, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_operation_is_in_generic_form_and_of_a_dialect_that_the_build_knows(name):
    text = mhlo_of(FUNCTIONS[name], X)

    assert all(_LINE.match(line) for line in text.splitlines())
    assert {n.split(".")[0] for n in _OPERATION.findall(text)} == {
        "mhlo",
        "func",
        "builtin",
    }
    assert "stablehlo" not in text
    assert "<{" not in text  # properties, which it does not know
    assert "array<" not in text


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_operation_is_lost(name):
    module = jax.jit(FUNCTIONS[name]).lower(X).compiler_ir("stablehlo")
    names = []

    def visit(operation):
        names.append(operation.name)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    found = _OPERATION.findall(to_mhlo(module))

    assert sorted(found) == sorted(n.replace("stablehlo.", "mhlo.") for n in names)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_value_has_two_origins_and_each_is_known_before_it_is_used(name):
    known = set()

    for line in mhlo_of(FUNCTIONS[name], X).splitlines():
        head, equals, _ = line.partition(' = "')
        is_block = line.strip().startswith("^bb0")
        new = set(re.findall(r"%\d+", head if equals or is_block else ""))
        assert set(re.findall(r"%\d+", line)) - new <= known
        assert not new & known
        known |= new


def test_axes_and_sizes_are_tensors():
    text = mhlo_of(lambda x: jnp.transpose(x, (0, 2, 1))[:, :2], X)

    assert "permutation = dense<[0, 2, 1]> : tensor<3xi64>" in text
    assert "limit_indices = dense<[2, 2, 5]> : tensor<3xi64>" in text


def test_a_scalar_is_broadcast_along_no_axis():
    text = mhlo_of(lambda x: x + 1, X)

    assert "broadcast_dimensions = dense<> : tensor<0xi64>" in text


def test_enumerations_are_those_of_mhlo():
    text = mhlo_of(lambda x: x > 0, X)

    assert "comparison_direction = #mhlo<comparison_direction GT>" in text


def test_an_input_that_is_not_used_keeps_its_place():
    text = mhlo_of(lambda x, y: y + 1, X, X)

    assert "function_type = (tensor<2x5x4xf32>, tensor<2x5x4xf32>) ->" in text


def test_the_number_of_outputs_is_told():
    assert trace(nn.relu, [X], "mhlo")[1] == 1
    assert trace(lambda x: (x, x + 1), [X], "mhlo")[1] == 2


def test_gelu_by_erf_is_refused_with_what_to_do():
    with pytest.raises(EngineError, match=r"no counterpart of chlo\.erf.*tanh") as seen:
        mhlo_of(lambda x: nn.gelu(x, approximate=False), X)

    assert "\n" not in str(seen.value)


def test_every_workload_but_those_with_erf_can_be_said_in_mhlo():
    refused = set()

    for workload in all_workloads():
        dims = Dims(**dict.fromkeys(workload.dim_names, 2))
        inputs = workload.make_inputs(dims, np.random.default_rng(0))
        try:
            mhlo_of(workload.function, *inputs)
        except EngineError:
            refused.add(workload.name)

    assert refused == {"gelu_exact", "mlp.gelu_exact"}


def test_a_jax_without_cpu_is_said_so_by_its_variable(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")

    with pytest.raises(EngineError, match="JAX_PLATFORMS=cuda: expected cpu"):
        trace(sort_rows, [X])
