"""Laws of the approximations, and of the operations that they are made of."""

import jax.numpy as jnp
import numpy as np
import pytest

from mpcprof.nn.steps import Bare, CountingAlgebra, Step
from mpcprof.workloads.jax_algebra import JaxAlgebra


def test_a_gate_lets_through_what_is_above_0_at_the_price_of_a_relu():
    x, y = np.array([[-1.0, 0.0], [2.0, 1e-3]]), np.array([[5.0, 6.0], [7.0, -8.0]])
    counting = CountingAlgebra()

    gated = JaxAlgebra().gate(jnp.asarray(x), jnp.asarray(y))

    np.testing.assert_array_equal(gated, [[0.0, 0.0], [7.0, -8.0]])
    assert counting.gate(Bare((2, 2)), Bare((2, 2))) == Bare((2, 2))
    assert counting.steps == [Step("relu", (4,))]


def test_a_combination_is_a_product_at_the_price_of_truncating_its_result():
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    matrix = [[0.5, 0.25], [0.1, -0.3], [0.7, 1.5]]
    counting = CountingAlgebra()

    combined = JaxAlgebra().combine(jnp.asarray(x), matrix)

    np.testing.assert_allclose(combined, x @ np.array(matrix), rtol=1e-5, atol=1e-6)
    assert counting.combine(Bare(x.shape), matrix) == Bare((2, 5, 2))
    assert counting.steps == [Step("truncation", (20,))]


def test_shapes_that_do_not_fit_are_refused():
    ops = CountingAlgebra()

    with pytest.raises(ValueError, match="no gate"):
        ops.gate(Bare((2, 2)), Bare((2, 1)))
    with pytest.raises(ValueError, match="no combination"):
        ops.combine(Bare((2, 3)), [[1.0], [2.0]])
