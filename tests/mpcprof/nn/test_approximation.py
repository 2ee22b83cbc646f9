"""Laws of the approximations, and of the operations that they are made of."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import enable_x64

from mpcprof.errors import UsageError
from mpcprof.nn.approximation import (
    InverseBounds,
    SoftmaxBounds,
    bounded_inverse,
    bounded_softmax,
    choose_inverse,
    goldschmidt_error,
    goldschmidt_inverse,
    inverse_error,
)
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
    assert counting.steps == [Step("local", (20,)), Step("truncation", (20,))]


def test_shapes_that_do_not_fit_are_refused():
    ops = CountingAlgebra()

    with pytest.raises(ValueError, match="no gate"):
        ops.gate(Bare((2, 2)), Bare((2, 1)))
    with pytest.raises(ValueError, match="no combination"):
        ops.combine(Bare((2, 3)), [[1.0], [2.0]])


# of semi2k
HOPS = {
    "matmul": 2,
    "mul": 2,
    "square": 2,
    "truncation": 1,
    "relu": 8,
    "sum": 0,
    "local": 0,
}


def count_hops(function, *shapes) -> int:
    ops = CountingAlgebra()
    function(ops, *map(Bare, shapes))
    return sum(HOPS[step.operation] for step in ops.steps)


def in_float64(function, *inputs):
    with enable_x64():
        return np.asarray(jax.jit(partial(function, JaxAlgebra()))(*inputs))


# (largest / smallest, degree, Newton steps) and the hops of each power
INVERSES = {
    (1.5, 64, 0): (7, 14),
    (2.0, 4, 0): (5, 6),
    (20.0, 16, 0): (9, 10),
    (20.0, 4, 2): (13, 14),
    (300.0, 64, 0): (13, 14),
    (1000.0, 128, 1): (19, 20),
}


@pytest.mark.parametrize("power", [-1.0, -0.5])
@pytest.mark.parametrize(("ratio", "degree", "n_steps"), INVERSES)
def test_an_inverse_is_within_its_stated_error_and_hops(ratio, degree, n_steps, power):
    bounds = InverseBounds(low=0.3, high=0.3 * ratio, degree=degree, n_steps=n_steps)
    x = np.geomspace(bounds.low, bounds.high, 20_001)
    function = partial(bounded_inverse, bounds=bounds, power=power, factor=1.7)

    relative = in_float64(function, x) / (1.7 * x**power) - 1

    error = inverse_error(bounds, power)
    assert error / 4 - 1e-4 < np.abs(relative).max() < error * 1.01 + 1e-6
    expected = INVERSES[ratio, degree, n_steps][0 if power == -1.0 else 1]
    assert count_hops(function, (5, 1)) == expected


@pytest.mark.parametrize("power", [-1.0, -0.5])
@pytest.mark.parametrize(("ratio", "degree", "n_steps"), [*INVERSES][1:])
def test_values_below_the_range_of_a_damped_inverse_are_damped(
    ratio, degree, n_steps, power
):
    bounds = InverseBounds(
        low=0.3, high=0.3 * ratio, degree=degree, n_steps=n_steps, is_damped=True
    )
    x = np.geomspace(1e-6, bounds.low, 2_001)
    function = partial(bounded_inverse, bounds=bounds, power=power)

    shares = in_float64(function, x) / x**power

    error = inverse_error(bounds, power)
    assert 0 <= shares.min() < 0.01
    assert shares.max() < 1 + error
    assert (np.diff(shares) > -1e-9).all()  # the lower, the more
    assert (bounds.least, replace(bounds, is_damped=False).least) == (0, 0.3)


@settings(max_examples=10)
@given(
    low=st.floats(1e-3, 1e3),
    ratio=st.floats(1.1, 1000),
    max_error=st.sampled_from([1e-3, 1e-2]),
    power=st.sampled_from([-1.0, -0.5]),
)
def test_the_least_degree_that_is_enough_is_chosen(low, ratio, max_error, power):
    bounds = choose_inverse(low, low * ratio, power, max_error)

    assert inverse_error(bounds, power) <= max_error
    if bounds.degree > 2:
        fewer = replace(bounds, degree=bounds.degree // 2)
        assert inverse_error(fewer, power) > max_error


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low": 0.0}, r"low=0\.0: expected a range of numbers above 0"),
        ({"high": float("nan")}, r"low=0\.5 and high=nan: expected finite numbers"),
        ({"degree": 6}, "degree=6: expected a power of two from 2 to 256"),
        ({"n_steps": 4}, "n_steps=4: expected 0 to 3"),
    ],
)
def test_bounds_of_which_no_inverse_can_be_made_are_refused(wrong, message):
    right = {"low": 0.5, "high": 4.0, "degree": 8}

    with pytest.raises(UsageError, match=message):
        InverseBounds(**right | wrong)


def test_what_no_degree_reaches_is_refused():
    with pytest.raises(UsageError, match=r"no degree up to 256 comes within 0\.001"):
        choose_inverse(1e-6, 1.0, -1.0, 1e-3)


@pytest.mark.parametrize("power", [1.0, -2.0])
def test_another_power_is_refused(power):
    bounds = InverseBounds(low=1.0, high=2.0, degree=4)

    with pytest.raises(UsageError, match=r"expected -1 or -0\.5"):
        bounded_inverse(CountingAlgebra(), Bare((2, 1)), bounds, power)


def make_softmax(half_range: float, n_squarings: int, degree: int):
    """Queries, keys and values, bounds that just hold, and the exact result."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 65, 16))
    scores = q @ k.swapaxes(1, 2)
    scores *= half_range / np.abs(scores).max()
    q *= half_range / np.abs(q @ k.swapaxes(1, 2)).max()
    total = np.exp(scores).sum(axis=-1, keepdims=True)
    bounds = SoftmaxBounds(
        low=-half_range * 1.001,
        high=half_range * 1.001,
        n_squarings=n_squarings,
        total=InverseBounds(
            low=total.min() / 1.1, high=total.max() * 1.1, degree=degree
        ),
    )
    root = bounds.score_factor**0.5
    return (q * root, k * root, v), bounds, np.exp(scores) / total @ v


# (largest score, squarings, degree of the inverse): largest error, hops of one head
SOFTMAXES = {
    (6.0, 3, 128): (2e-3, 25),
    (6.0, 2, 128): (3e-2, 23),
    (4.0, 2, 8): (4e-3, 21),
    (2.0, 1, 4): (6e-3, 17),
}


@pytest.mark.parametrize(("half_range", "n_squarings", "degree"), SOFTMAXES)
def test_a_softmax_without_a_maximum_is_within_its_error_and_hops(
    half_range, n_squarings, degree
):
    inputs, bounds, expected = make_softmax(half_range, n_squarings, degree)
    function = partial(bounded_softmax, bounds=bounds)

    error = np.abs(in_float64(function, *inputs) - expected).max()

    most, hops = SOFTMAXES[half_range, n_squarings, degree]
    assert most / 20 < error < most
    stated = 2 * bounds.exp_error + inverse_error(bounds.total, -1.0)
    assert error < stated * np.abs(inputs[2]).max()
    assert count_hops(function, *((1, 65, 16),) * 3) == hops


@pytest.mark.parametrize(("n_halvings", "hops"), [(1, 38), (2, 43), (3, 50)])
def test_scores_too_far_apart_for_one_sum_are_halved(n_halvings, hops):
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 65, 16))
    q *= 14 / np.abs(q @ k.swapaxes(1, 2)).max()
    scores = q @ k.swapaxes(1, 2)
    roots = [np.exp(scores / 2**h).sum(axis=-1) for h in range(n_halvings, -1, -1)]
    squares = [of_all / of_half**2 for of_half, of_all in itertools.pairwise(roots)]
    # that a row is off by a fourth in all sums but the last cancels
    firsts = [roots[0], *squares]
    bounds = [
        choose_inverse(sums.min() / 2, sums.max() * 2, -1.0, 0.25) for sums in firsts
    ]
    last = choose_inverse(bounds[-1].low, bounds[-1].high, -1.0, 1e-3)
    own = SoftmaxBounds(
        low=-14.1,
        high=14.1,
        n_squarings=4 - n_halvings,
        total=bounds[0],
        halvings=(*bounds[1:-1], last),
    )
    root = own.score_factor**0.5
    function = partial(bounded_softmax, bounds=own)

    found = in_float64(function, q * root, k * root, v)

    weights = np.exp(scores) / roots[-1][..., None]
    stated = 2 * own.exp_error + inverse_error(last, -1.0)
    assert np.abs(found - weights @ v).max() < stated * np.abs(v).max() < 0.1
    assert count_hops(function, *((1, 65, 16),) * 3) == hops


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low": 3.0}, r"range of scores: low=3\.0 and high=2\.0"),
        ({"n_squarings": 9}, "n_squarings=9: expected 0 to 8"),
    ],
)
def test_bounds_of_which_no_softmax_can_be_made_are_refused(wrong, message):
    total = InverseBounds(low=1.0, high=65.0, degree=32)
    right = {"low": -2.0, "high": 2.0, "n_squarings": 2, "total": total}

    with pytest.raises(UsageError, match=message):
        SoftmaxBounds(**right | wrong)


# SecFormer's softmax: divisor 5000 and 13 steps; a range of its own for each power
@pytest.mark.parametrize(
    ("power", "low", "divisor", "n_steps", "error", "hops"),
    [
        (-1.0, 5.0, 5000.0, 13, 3e-4, 27),
        (-1.0, 25.0, 5000.0, 13, 1e-12, 27),
        (-0.5, 0.05, 1.0, 7, 1e-5, 27),
    ],
)
def test_goldschmidts_iteration_is_within_its_stated_error_and_hops(
    power, low, divisor, n_steps, error, hops
):
    x = np.linspace(low, 1.9 * divisor, 9999)[:, None]
    function = partial(
        goldschmidt_inverse,
        **{"power": power, "divisor": divisor, "n_steps": n_steps},
        factor=divisor**-power,
    )

    relative = in_float64(function, x) * (x / divisor) ** -power - 1

    stated = goldschmidt_error(low, 1.9 * divisor, power, divisor, n_steps)
    assert stated < error
    assert np.abs(relative).max() < stated * 1.01 + 1e-6
    assert count_hops(function, (5, 1)) == hops


def test_a_start_outside_of_goldschmidts_basin_is_refused():
    with pytest.raises(UsageError, match="expected a start above 0 and below 2, else"):
        goldschmidt_error(25.0, 12_800.0, -1.0, 5000.0, 13)
