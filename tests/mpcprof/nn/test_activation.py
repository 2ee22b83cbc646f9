"""Laws of every activation. The MLP block of each is tested on SPU as every block."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.nn.activation import ACTIVATIONS, get_activation
from mpcprof.nn.steps import Bare, CountingAlgebra, Step
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.reference import ACTIVATIONS64, activation64

# what is paid for, in the order of the steps
OPERATIONS = {
    "gelu_exact": ["gelu_exact"],
    "gelu_tanh": ["gelu_tanh"],
    "relu": ["relu"],
    "quad": ["mul", "truncation"],
    "identity": [],
    "identity_relu": [],
}
APPROXIMATIONS = [name for name in ACTIVATIONS if ACTIVATIONS[name].approximates]

each_activation = pytest.mark.parametrize("name", ACTIVATIONS)
each_approximation = pytest.mark.parametrize("name", APPROXIMATIONS)


@each_activation
def test_an_activation_works_on_each_hidden_value_by_these_operations(name):
    ops = CountingAlgebra()

    activated = get_activation(name).function(ops, Bare((2, 5, 3)))

    assert activated.shape == (2, 5, 3)
    assert ops.steps == [Step(operation, (30,)) for operation in OPERATIONS[name]]


@each_activation
@given(hidden=st.floats(-8, 8, width=32))
def test_an_activation_under_jax_gives_its_reference(name, hidden):
    x = np.full((1, 1), hidden, np.float32)

    activated = get_activation(name).function(JaxAlgebra(), jax.numpy.asarray(x))

    expected = activation64(name)(x.astype(np.float64))
    np.testing.assert_allclose(activated, expected, rtol=1e-4, atol=1e-5)


@each_activation
def test_a_reference_is_independent_or_held_against_what_it_approximates(name):
    approximated = get_activation(name).approximates

    assert name in ACTIVATIONS64 or approximated in ACTIVATIONS64


@each_approximation
def test_an_approximation_errs_as_much_as_it_says_and_hardly_less(name):
    activation = get_activation(name)
    x = np.linspace(*activation.domain, 100_001)

    error = activation64(name)(x) - activation64(activation.approximates)(x)

    assert activation.max_error / 2 < np.abs(error).max() <= activation.max_error
