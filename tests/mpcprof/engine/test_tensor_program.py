"""The trace that an engine without HLO is given: operations, constants, signs."""

import base64
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mpcprof.dims import Dims
from mpcprof.engine.tensor_program import OPERATIONS, to_tensor_program
from mpcprof.errors import EngineError
from mpcprof.workloads.registry import all_workloads

X = np.ones((2, 3), np.float32)


def traced(function, *inputs):
    program, n_outputs = to_tensor_program(function, inputs)
    return json.loads(program), n_outputs


def names_of(program):
    return [operation["name"] for operation in program["operations"]]


@pytest.mark.parametrize("workload", all_workloads(), ids=lambda one: one.name)
def test_every_workload_has_a_program_in_operations_that_are_known(workload):
    dims = Dims(**dict.fromkeys(workload.dim_names, 4))
    inputs = workload.make_inputs(dims, np.random.default_rng(0))

    program, n_outputs = traced(workload.function, *inputs)

    assert n_outputs == 1
    assert {*names_of(program)} <= {*OPERATIONS, "relu"}
    results = [operation["result"] for operation in program["operations"]]
    for operation in program["operations"]:
        for one in operation["operands"]:
            known = {*program["inputs"], *results[: results.index(operation["result"])]}
            assert isinstance(one, float) or one in known | {*program["constants"]}


def test_calls_within_calls_are_written_out_and_what_is_public_is_computed():
    def function(x):
        return jax.jit(lambda y: jnp.maximum(y, 0) * jnp.float32(2) * (1 + 2))(x)

    program, _ = traced(function, X)

    assert names_of(program) == ["relu", "mul", "mul"]
    assert [o["operands"][-1] for o in program["operations"][1:]] == [2.0, 3.0]


def test_a_softmax_of_jax_s_own_holds_no_infinity_and_divides_without_a_sign():
    program, _ = traced(lambda x: jax.nn.softmax(x, axis=-1), X)

    assert names_of(program)[0] == "reduce_max"
    assert "max" not in names_of(program)
    (division,) = (o for o in program["operations"] if o["name"] == "div")
    assert division["is_never_negative"] is True


def test_public_entries_that_differ_are_constants_of_their_own():
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)

    program, _ = traced(lambda x: x @ matrix, X)

    ((name, constant),) = program["constants"].items()
    assert program["operations"][0]["operands"] == [0, name]
    entries = np.frombuffer(base64.b64decode(constant["data"]))
    assert np.array_equal(entries.reshape(constant["shape"]), matrix)


@pytest.mark.parametrize(
    ("function", "is_never_negative"),
    [
        (lambda x: x / jnp.sum(jnp.exp(x), axis=-1, keepdims=True), True),
        (lambda x: x / (jnp.maximum(x, 0) + 1e-3), True),
        (lambda x: 1 / (x * x), True),
        (lambda x: 1 / x, False),
        (lambda x: 1 / (jnp.exp(x) - 1), False),
        (lambda x: 1 / (jnp.exp(x) + x), False),
        (lambda x: 1 / (-2.0 * jnp.exp(x)), False),
    ],
)
def test_a_divisor_that_cannot_be_negative_is_known_as_such(
    function, is_never_negative
):
    program, _ = traced(function, X)

    (division,) = (o for o in program["operations"] if o["name"] == "div")
    assert division["is_never_negative"] is is_never_negative


def test_an_operation_without_a_counterpart_is_named():
    with pytest.raises(EngineError, match="there is no counterpart of sort"):
        to_tensor_program(jnp.sort, [X])
