"""Laws of every activation. The MLP block of each is tested on SPU as every block."""

from functools import partial

import jax
import numpy as np
import pytest

from mpcprof.nn.activation import ACTIVATIONS, get_activation
from mpcprof.nn.steps import Bare, CountingAlgebra, Step, without_local
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.reference import ACTIVATIONS64, activation64

# what is paid for, in the order of the steps, and for how many entries a value
OPERATIONS = {
    "gelu_exact": [("gelu_exact", 1)],
    "gelu_tanh": [("gelu_tanh", 1)],
    "gelu_spline": [("relu", 4), ("square", 2), ("truncation", 1)],
    "gelu_clip4": [("relu", 2), ("square", 1), ("square", 1), ("truncation", 1)],
    "gelu_abs4": [("relu", 3), ("square", 1), ("mul", 2), ("truncation", 1)],
    "gelu_within_4": [
        *(("square", 1), ("truncation", 1)),
        *(("mul", 1), ("mul", 2), ("truncation", 1)),
    ],
    "gelu_within_8": [
        *(("square", 1), ("truncation", 1)),
        *(("mul", 1), ("mul", 2), ("mul", 4), ("truncation", 1)),
    ],
    "gelu_puma": [
        *(("mul", 1), ("mul", 2), ("mul", 1)),
        *(("truncation", 3), ("relu", 3)),
    ],
    "gelu_bumblebee": [*(("mul", 1), ("mul", 2)), *(("truncation", 3), ("relu", 3))],
    "gelu_secformer": [
        *(("mul", 1), ("mul", 1), ("mul", 2)),
        *(("truncation", 2), ("relu", 2)),
    ],
    "gelu_quick": [*(("truncation", 1), ("exp", 1)), *(("reciprocal", 1), ("mul", 1))],
    "gelu_nimbus": [("mul", 1), ("truncation", 2), ("relu", 2)],
    "relu": [("relu", 1)],
    "quad": [("mul", 1), ("truncation", 1)],
    "quad_linear": [("mul", 1), ("truncation", 1)],
    "identity": [],
    "identity_relu": [],
}
ERRING = [name for name, own in ACTIVATIONS.items() if own.approximates or own.replaces]

each_activation = pytest.mark.parametrize("name", ACTIVATIONS)


@each_activation
def test_an_activation_works_on_each_hidden_value_by_these_operations(name):
    ops = CountingAlgebra()

    activated = get_activation(name).function(ops, Bare((2, 5, 3)))

    assert activated.shape == (2, 5, 3)
    assert without_local(ops.steps) == [
        Step(operation, (n_entries * 30,)) for operation, n_entries in OPERATIONS[name]
    ]


@each_activation
def test_an_activation_under_jax_gives_its_reference(name):
    activation = get_activation(name)
    x = np.linspace(*activation.domain, 999, dtype=np.float32)[:, None]

    activated = jax.jit(partial(activation.function, JaxAlgebra()))(x)

    expected = activation64(name)(x.astype(np.float64))
    np.testing.assert_allclose(activated, expected, rtol=1e-4, atol=2e-5)


@each_activation
def test_a_reference_is_independent_or_held_against_what_it_approximates(name):
    approximated = get_activation(name).approximates

    assert name in ACTIVATIONS64 or approximated in ACTIVATIONS64


@pytest.mark.parametrize("name", ERRING)
def test_what_stands_for_gelu_errs_as_much_as_it_says_and_hardly_less(name):
    activation = get_activation(name)
    x = np.linspace(*activation.domain, 100_001)

    meant = activation64(activation.approximates or activation.replaces)
    error = activation64(name)(x) - meant(x)

    assert activation.max_error / 2 < np.abs(error).max() <= activation.max_error
