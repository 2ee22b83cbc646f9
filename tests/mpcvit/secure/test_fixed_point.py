"""The emulation of SPU's fixed point: its own laws, then SPU's parties beside it."""

from collections import Counter

import numpy as np
import pytest
import torch

from mpcprof.errors import UsageError
from mpcprof.nn.algebra import Algebra
from mpcprof.nn.transformer import vit
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcvit.models.layers import to_patches
from mpcvit.models.vit import VisionTransformer
from mpcvit.secure.fixed_point import FixedPointAlgebra
from mpcvit.secure.spu_functions import FunctionOptions
from tests.mpcvit.secure.test_agreement import make_architecture

STEP = 2.0**-18
JAX = JaxAlgebra()


def grid(low, high, shape, seed=0):
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return (np.trunc(values / STEP) * STEP).astype(np.float32)


def test_it_has_every_operation_of_the_algebra():
    named = {name for name in vars(Algebra) if not name.startswith("_")}

    assert {name for name in named if not hasattr(FixedPointAlgebra, name)} == set()


def test_numbers_are_rounded_towards_zero_when_they_are_shared():
    ops = FixedPointAlgebra(fraction_bits=2)

    encoded = ops.encode(np.array([0.7, -0.7, 0.25]))

    assert ops.decode(encoded).tolist() == [0.5, -0.5, 0.25]


def test_a_truncation_is_fair_and_off_by_less_than_one_step():
    ops = FixedPointAlgebra()
    x, y = (ops.encode(grid(-4, 4, 40_000, seed)) for seed in (1, 2))

    errors = (ops.mul(x, y) - x * y) / STEP

    assert errors.abs().max() < 1
    assert errors.mean().abs() < 0.02
    assert errors.std() == pytest.approx(6**-0.5, rel=0.02)  # of two uniform parts


def test_twice_a_number_is_one_step_too_large():
    ops = FixedPointAlgebra()
    x = ops.encode(grid(-4, 4, 100))

    assert ((ops.scale(x, 2.0) - 2 * x) / STEP).unique().tolist() == [1.0]


@pytest.mark.parametrize(
    ("rounding", "low", "high"), [("nearest", -0.5, 0.5), ("down", -1, 0)]
)
def test_a_rounding_that_is_not_random_gives_the_same_each_time(rounding, low, high):
    x, y = (torch.from_numpy(grid(-4, 4, 1000, seed)).double() for seed in (1, 2))

    first, second = (
        FixedPointAlgebra(seed=seed, rounding=rounding).mul(x, y) for seed in (1, 2)
    )

    errors = (first - x * y) / STEP
    assert torch.equal(first, second)
    assert low <= errors.min() <= errors.max() <= high


def test_the_same_seed_draws_the_same_truncations():
    x = torch.from_numpy(grid(-4, 4, 1000)).double()

    results = [FixedPointAlgebra(seed=seed).square(x) for seed in (3, 3, 4)]

    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_product_that_leaves_the_ring_wraps_and_is_counted_where_it_happens():
    ops = FixedPointAlgebra()
    x = ops.encode(np.array([2.0**15, 1.0]))

    with ops.part("layer 1"), ops.part("mlp"):
        squared = ops.square(x)

    assert squared.tolist() == [pytest.approx(0, abs=STEP), pytest.approx(1, abs=STEP)]
    assert ops.failures == Counter({("layer 1/mlp", "overflow"): 1})
    assert ops.n_overflows == 1


def test_values_outside_of_a_stated_range_are_counted():
    ops = FixedPointAlgebra()

    with ops.part("norm"):
        ops.expect_within(ops.encode(np.array([0.1, 0.5, 3.0])), 0.2, 2.0)

    assert ops.failures == Counter({("norm", "out of range"): 2})
    assert ops.n_overflows == 0


@pytest.mark.parametrize("options", [{"protocol": "securenn"}, {"rounding": "up"}])
def test_what_is_not_known_is_refused(options):
    with pytest.raises(UsageError, match="expected"):
        FixedPointAlgebra(**options)


def test_fewer_squarings_make_a_worse_exponential():
    x = torch.linspace(-4, 0, 50, dtype=torch.float64)

    errors = [
        (FixedPointAlgebra(functions=FunctionOptions(exp_steps=n)).exp(x) - x.exp())
        .abs()
        .max()
        for n in (4, 8)
    ]

    assert errors[0] > 8 * errors[1] > 0


@torch.no_grad()
def test_a_whole_network_comes_out_as_in_torch_up_to_spus_error():
    torch.manual_seed(1)
    network = VisionTransformer(make_architecture(4, "batched")).eval()
    images = torch.rand(3, 1, 4, 4)
    ops = FixedPointAlgebra()
    weights = {name: ops.encode(w) for name, w in network.weights().items()}

    logits = vit(ops, network.architecture, ops.encode(to_patches(images, 2)), weights)

    assert (logits - network(images)).abs().max() < 5e-3
    assert not ops.failures


# Results are below 64, where the parties' float32 still has 18 fraction bits.
FUNCTIONS = {
    "mul": (lambda ops, x, y: ops.mul(x, y), 1),
    "matmul": (
        lambda ops, x, y: ops.matmul(ops.cut(x, 1, 0, 2), ops.cut(y, 0, 0, 2)),
        1,
    ),
    "scale": (lambda ops, x, y: ops.scale(x, 0.3), 1),
    "halve": (lambda ops, x, y: ops.scale(x, 0.5), 1),
    "double": (lambda ops, x, y: ops.scale(x, 2.0), 0),
    "combine": (lambda ops, x, y: ops.combine(x, [[0.3, 1.0, 0.5]] * 40), 1),
    "gate": (lambda ops, x, y: ops.gate(x, y), 0),
    "relu": (lambda ops, x, y: ops.relu(x), 0),
    "row_max": (lambda ops, x, y: ops.row_max(x), 0),
    # half a step of 2**-18 before 8 squarings are 2**8 steps behind them
    "exp": (lambda ops, x, y: ops.exp(ops.shift(x, -5.0)), 2**10),
    "reciprocal": (lambda ops, x, y: ops.reciprocal(ops.shift(y, 0.2)), 64),
    "divide": (lambda ops, x, y: ops.divide(x, ops.shift(y, 0.2)), 256),
    "rsqrt": (lambda ops, x, y: ops.rsqrt(ops.shift(y, 0.2)), 256),
    "gelu_tanh": (lambda ops, x, y: ops.gelu_tanh(x), 16),
    "gelu_exact": (lambda ops, x, y: ops.gelu_exact(x), 16),
}


def run_parties(session, case, function, inputs):
    session.load(case, session.lower(case, function, inputs), inputs)
    session.run(case)
    result = session.fetch(case)
    session.unload(case)
    return result


@pytest.mark.spu
def test_parties_and_emulation_differ_by_their_truncations(semi2k):
    inputs = [grid(-5, 5, (50, 40), 1), grid(0, 5, (50, 40), 2)]
    functions = [function for function, _ in FUNCTIONS.values()]
    ops = FixedPointAlgebra()

    spu = run_parties(
        semi2k, "emulated", lambda *xs: [f(JAX, *xs) for f in functions], inputs
    )

    secrets = [ops.encode(x) for x in inputs]
    emulated = [function(ops, *secrets).numpy() for function in functions]
    ends = np.cumsum([part.size for part in emulated])[:-1]
    for (name, (_, n_steps)), ours, theirs in zip(
        FUNCTIONS.items(), emulated, np.split(spu, ends), strict=True
    ):
        errors = np.abs(ours.ravel() - theirs) / STEP
        assert errors.max() <= n_steps, name
