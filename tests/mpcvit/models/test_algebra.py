"""What torch adds to the algebra: it looks at values."""

import numpy as np
import pytest
import torch

from mpcprof.errors import RangeError
from mpcprof.nn.approximation import InverseBounds, bounded_inverse, goldschmidt_inverse
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


def test_a_start_outside_of_goldschmidts_basin_raises_in_plain():
    total = torch.tensor([[900.0], [12_800.0]])  # the latter of 512 tokens

    with pytest.raises(RangeError, match=r"-2.56 to -0.18: expected -2 to 0"):
        goldschmidt_inverse(OPS, total, -1.0, 5000.0, 13)


def test_a_sum_outside_of_its_bounds_raises_in_plain():
    bounds = InverseBounds(low=1.0, high=65.0, degree=32)

    with pytest.raises(RangeError, match=r"values from 0.5 to 2: expected 1 to 65"):
        bounded_inverse(OPS, torch.tensor([[0.5], [2.0]]), bounds, -1.0)
