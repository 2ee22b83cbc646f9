"""What torch adds to the algebra: it looks at values."""

import numpy as np
import pytest
import torch

from mpcprof.errors import RangeError
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcvit.models.algebra import OPS


def test_gates_and_combinations_are_those_of_jax():
    x = torch.linspace(-2, 2, 12).reshape(2, 2, 3)
    matrix = [[0.5], [0.25], [-1.5]]

    gated, combined = OPS.gate(x, x + 1), OPS.combine(x, matrix)

    jax_x = x.numpy()
    np.testing.assert_array_equal(gated, JaxAlgebra().gate(jax_x, jax_x + 1))
    np.testing.assert_allclose(combined, JaxAlgebra().combine(jax_x, matrix), rtol=1e-6)


def test_a_value_outside_its_range_is_named():
    x = torch.tensor([0.5, 3.25])

    assert OPS.expect_within(x, 0.5, 4.0) is x
    with pytest.raises(RangeError, match=r"values from 0.5 to 3.25: expected 1 to 3"):
        OPS.expect_within(x, 1.0, 3.0)
    with pytest.raises(RangeError, match="nan"):
        OPS.expect_within(torch.tensor([1.5, float("nan")]), 1.0, 3.0)
