"""The emulation of SPU's fixed point: its own laws, then SPU's parties beside it."""

import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.errors import UsageError
from mpcprof.nn.algebra import Algebra
from mpcprof.nn.approximation import InverseBounds, bounded_inverse
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.folding import fold_weights
from mpcprof.nn.norm import layernorm
from mpcprof.nn.plan import rewrites_only
from mpcprof.nn.preset import MODELS
from mpcprof.nn.transformer import input_shape, vit, weight_shapes
from mpcprof.spu_options import expected_failures
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.models import model_workload
from mpcprof.zoo.systems import get_system
from mpcvit.models.algebra import TorchAlgebra
from mpcvit.models.layers import to_patches
from mpcvit.models.vit import VisionTransformer
from mpcvit.secure.fixed_point import FixedPointAlgebra, emulate_network
from mpcvit.secure.spu_functions import FunctionOptions
from mpcvit.secure.truncation_bound import TruncationBound
from tests.architectures import OWN_SIZES
from tests.mpcvit.secure.test_agreement import make_architecture
from tests.random_programs import DRAWS, RandomProgram, draw_program

LOG = logging.getLogger(__name__)
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


@pytest.mark.parametrize(
    ("function", "x", "what"),
    [
        (FixedPointAlgebra.reciprocal, 0.0, "division"),
        (FixedPointAlgebra.reciprocal, -(2.0**18), "division"),
        (FixedPointAlgebra.rsqrt, -1.0, "rsqrt"),
        (FixedPointAlgebra.rsqrt, 2.0**17, "rsqrt"),
        (FixedPointAlgebra.exp, -513.0, "exp"),
    ],
)
def test_a_number_at_which_a_function_of_spu_ends_is_counted(function, x, what):
    ops = FixedPointAlgebra()

    result = function(ops, ops.encode(np.array([x, 1.0])))

    assert ops.failures == Counter({("", what): 1})
    assert what == "exp" or result[0].abs() <= STEP


def test_a_local_truncation_is_lower_and_now_and_then_off_by_a_part_of_the_ring():
    ops = FixedPointAlgebra.of(
        make_deployment("semi2k", options=["trunc_allow_msb_error=true"])
    )
    x = ops.encode(np.full(200_000, 2.0**8))

    errors = ops.square(x) - 2.0**16

    n_lost = ops.failures["", "lost wrap"]
    assert n_lost == pytest.approx(200_000 * 2.0**-12, abs=25)  # 3.5 deviations
    assert (errors < -STEP).sum() == (errors < 1 - 2.0**28).sum() == n_lost
    assert ops.square(ops.encode(grid(-1, 1, 100))).max() <= 1


@pytest.mark.parametrize(
    ("field_bits", "fraction_bits", "seen"), [(64, 14, 2.0**-4), (128, 26, 2.0**-44)]
)
def test_a_local_truncation_fails_as_seldom_as_stated_however_seldom(
    field_bits, fraction_bits, seen, monkeypatch
):
    n = 50_000
    deployment = make_deployment(
        "semi2k",
        field_bits=field_bits,
        fraction_bits=fraction_bits,
        options=["trunc_allow_msb_error=true"],
    )
    ops = FixedPointAlgebra.of(deployment)

    def draw_lowest(like):  # as one of 2**32 does
        return torch.full(like.shape, -(2**31), dtype=torch.int32)

    monkeypatch.setattr(ops, "_draw_words", draw_lowest)
    ops.square(ops.encode(np.ones(n)))

    n_lost = ops.failures["", "lost wrap"]
    assert n_lost == pytest.approx(n * seen, abs=200)  # 3.7 deviations
    stated = expected_failures(deployment, 1.0, n)
    assert stated == n * seen / 2**32
    assert ops.expected_failures == pytest.approx(stated, rel=1e-3)


PRIME = ("fxp_exp_mode=EXP_PRIME", "experimental_exp_prime_offset=13")


@pytest.mark.parametrize(
    ("field_bits", "options", "error"),
    [
        (64, ["fxp_exp_mode=EXP_PADE"], 1e-4),
        (128, PRIME, 5e-7),
        (128, [*PRIME, "experimental_exp_prime_disable_lower_bound=true"], 5e-7),
    ],
)
def test_other_forms_of_exp_have_the_error_that_they_have_on_parties(
    field_bits, options, error
):
    """Error from docs/spu-options.md; beside parties two runs differ as much."""
    deployment = make_deployment("semi2k", field_bits=field_bits, options=options)
    ops = FixedPointAlgebra.of(deployment)
    x = ops.encode(np.linspace(-11.7, 0, 1000))

    errors = ops.exp(x) - torch.exp(x)

    assert 0 < errors.abs().max() < error
    assert not ops.failures


def test_an_exponential_by_shares_is_garbage_below_its_end_unless_it_is_cut():
    cut = FunctionOptions(exp_mode="EXP_PRIME", prime_offset=13)
    x = torch.tensor([-12.0, -11.0], dtype=torch.float64)

    results = []
    for functions in (cut, replace(cut, is_prime_cut=False)):
        ops = FixedPointAlgebra(26, 128, functions=functions)
        results.append((ops.exp(x).isnan().tolist(), ops.failures["", "exp"]))

    assert results == [([False, False], 0), ([True, False], 1)]


def test_a_bound_follows_one_form_of_exp():
    with pytest.raises(UsageError, match="EXP_PADE: expected EXP_TAYLOR"):
        TruncationBound(functions=FunctionOptions(exp_mode="EXP_PADE"))


def test_a_deployment_says_how_its_functions_compute():
    options = ["fxp_exp_iters=5", "enable_lower_accuracy_rsqrt=true"]
    deployment = make_deployment("cheetah", field_bits=128, options=options)

    ops = FixedPointAlgebra.of(deployment)

    assert (ops.fraction_bits, ops.field_bits) == (26, 128)
    assert ops.functions == FunctionOptions(exp_steps=5, has_coarse_rsqrt=True)


@pytest.mark.parametrize(
    "deployment",
    [make_deployment("semi2k", runtime="spu-0.3.1b0"), make_deployment("securenn")],
    ids=str,
)
def test_a_deployment_that_computes_otherwise_is_refused(deployment):
    with pytest.raises(UsageError, match="expected"):
        FixedPointAlgebra.of(deployment)


def test_values_outside_of_a_stated_range_are_counted():
    ops = FixedPointAlgebra()

    with ops.part("norm"):
        ops.expect_within(ops.encode(np.array([0.1, 0.5, 3.0])), 0.2, 2.0)

    assert ops.failures == Counter({("norm", "out of range"): 2})
    assert ops.n_overflows == 0


def test_a_rounding_that_is_not_known_is_refused():
    with pytest.raises(UsageError, match="rounding 'up': expected random, nearest"):
        FixedPointAlgebra(rounding="up")


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


@torch.no_grad()
def test_secformers_logits_survive_what_cheetahs_truncations_take():
    sizes = replace(MODELS["digits"], n_layers=1)
    architecture = get_system("secformer").build(sizes, "batched")
    workload = model_workload(architecture)
    for seed in range(4):
        patches, *weights = workload.make_inputs(
            Dims(n_batch=1), np.random.default_rng(seed)
        )
        named = dict(zip(weight_shapes(architecture), weights, strict=True))

        (logits,) = emulate_network(
            make_deployment("cheetah"),
            architecture,
            None,
            named,
            torch.from_numpy(patches).double(),
            failures=Counter(),
            seed=seed,
        )

        errors = np.abs(logits - workload.reference(patches, *weights))
        assert errors.max() < workload.tolerance.atol / 2


def test_embedded_tokens_of_any_usual_size_stay_where_spu_finds_an_inverse_root():
    """768 (20)^2, a sum of squares, is beyond the 2**17 at which it is 0."""
    small = replace(OWN_SIZES["embedded"], n_layers=1, n_heads=1, own_head_dim=8)
    model = replace(small, width=768, mlp_ratio=1 / 96)
    encoder = uniform_architecture(model, attention="scale", activation="identity")
    plan = rewrites_only(encoder)
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 0.02, shape)
        for name, shape in weight_shapes(encoder).items()
    }
    tokens = torch.from_numpy(rng.normal(0, 20, input_shape(encoder, 1)))
    ops = FixedPointAlgebra()
    folded = fold_weights(encoder, plan, weights)

    found = vit(
        ops,
        encoder,
        ops.encode(tokens),
        {name: ops.encode(weight) for name, weight in folded.items()},
        plan,
    )

    exact = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    expected = vit(TorchAlgebra(), encoder, tokens, exact)
    assert not ops.failures
    assert (found - expected).abs().max() < 0.02 * expected.std()


# no two alike: equal columns of a product with a public matrix are rounded alike
FACTORS = np.random.default_rng(3).uniform(-1, 1, (40, 60)).tolist()
# Results are below 64, where the parties' float32 still has 18 fraction bits.
FUNCTIONS = {
    "mul": lambda ops, x, y: ops.mul(x, y),
    "matmul": lambda ops, x, y: ops.matmul(ops.cut(x, 1, 0, 2), ops.cut(y, 0, 0, 2)),
    "scale": lambda ops, x, y: ops.scale(x, 0.3),
    "halve": lambda ops, x, y: ops.scale(x, 0.5),
    "double": lambda ops, x, y: ops.scale(x, 2.0),
    "combine": lambda ops, x, y: ops.combine(x, FACTORS),
    "gate": lambda ops, x, y: ops.gate(x, y),
    "relu": lambda ops, x, y: ops.relu(x),
    "row_max": lambda ops, x, y: ops.row_max(x),
    "exp": lambda ops, x, y: ops.exp(ops.shift(x, -5.0)),
    "reciprocal": lambda ops, x, y: ops.reciprocal(ops.shift(y, 0.2)),
    "divide": lambda ops, x, y: ops.divide(x, ops.shift(y, 0.2)),
    "rsqrt": lambda ops, x, y: ops.rsqrt(ops.shift(y, 0.2)),
    "gelu_tanh": lambda ops, x, y: ops.gelu_tanh(x),
    "gelu_exact": lambda ops, x, y: ops.gelu_exact(x),
}


def run_parties(session, case, function, inputs):
    session.load(case, session.lower(case, function, inputs), inputs)
    session.run(case)
    result = session.fetch(case)
    session.unload(case)
    return result


@pytest.mark.spu
def test_parties_differ_from_the_emulation_as_two_emulations_differ(semi2k):
    inputs = [grid(-5, 5, (50, 40), 1), grid(0, 5, (50, 40), 2)]

    spu = run_parties(
        semi2k,
        "emulated",
        lambda *xs: [f(JAX, *xs) for f in FUNCTIONS.values()],
        inputs,
    )

    one, other = (FixedPointAlgebra(seed=seed) for seed in (1, 2))
    secrets = [one.encode(x) for x in inputs]
    for name, function in FUNCTIONS.items():
        first, second = (
            function(ops, *secrets).numpy().ravel() for ops in (one, other)
        )
        ours, spu = spu[: first.size], spu[first.size :]
        # of the logarithms: few entries of an exponential are far off
        seen, expected = (np.log1p(np.abs(x - first) / STEP) for x in (ours, second))
        chance = np.sqrt((seen.var() + expected.var()) / first.size)
        assert abs(seen.mean() - expected.mean()) <= 5 * chance, name


def test_no_emulation_of_a_random_program_leaves_the_bound():
    n_finite = n_entries = 0
    for seed in range(30):
        program = draw_program(seed)
        bound = run_bound(program)

        runs = [run_emulation(program, own) for own in range(5)]

        assert all(((run - bound.value).abs() <= bound.radius).all() for run in runs)
        n_finite += int(bound.radius.isfinite().sum())
        n_entries += bound.radius.numel()
    assert n_finite > 0.95 * n_entries  # an infinite one would hold of anything


BOUNDS = InverseBounds(low=0.5, high=8.0, degree=8, n_steps=1)
BLOCKS = {
    "softmax": (lambda ops, x: ATTENTIONS["softmax"].function(ops, x, x, x), -1),
    "scale": (lambda ops, x: ATTENTIONS["scale"].function(ops, x, x, x), -1),
    "layernorm": (lambda ops, x: layernorm(ops, x, x, x), -1),
    "inverse": (lambda ops, x: bounded_inverse(ops, x, BOUNDS, -1), 0.5),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_bound_of_a_block_holds_and_is_at_most_a_few_hundred_times_what_is_seen(name):
    function, low = BLOCKS[name]
    x = grid(low, 1.0, (1, 16, 16))

    bound = run_bound(RandomProgram([x], [lambda ops, arrays: function(ops, *arrays)]))
    ops = FixedPointAlgebra()
    used = (function(ops, ops.encode(x)) - bound.value).abs() / bound.radius

    assert used.max() <= 1
    assert used.median() > 1 / 300


def test_a_bound_takes_in_both_sides_of_a_comparison_that_truncations_decide():
    ops = TruncationBound()
    x, y = (ops.encode(torch.tensor([value])) for value in (2.0**-9, 5.0))

    almost_zero = ops.subtract(ops.square(x), ops.encode(torch.tensor([STEP])))

    assert ops.gate(almost_zero, y).radius.tolist() == [5.0]
    assert ops.gate(x, y).radius.tolist() == [0.0]


def test_a_bound_is_infinite_where_truncations_decide_by_what_to_divide():
    ops = TruncationBound()

    tiny, one = (
        ops.reciprocal(ops.square(ops.encode(torch.tensor([value]))))
        for value in (2.0**-9, 1.0)
    )

    assert tiny.radius.isinf().all()
    assert one.radius < 100 * STEP


def run_bound(program):
    ops = TruncationBound()
    return program(ops, *map(ops.encode, program.inputs))


def run_emulation(program, seed):
    ops = FixedPointAlgebra(seed=seed)
    return program(ops, *map(ops.encode, program.inputs))


@pytest.mark.spu
def test_parties_and_emulation_of_random_programs_differ_by_less_than_the_bound(semi2k):
    """How much of the bound is used is logged: `pytest -rP --log-level INFO`."""
    programs = [draw_program(seed) for seed in range(50)]

    def run_all(*inputs):
        pairs = zip(inputs[::2], inputs[1::2], strict=True)
        return [
            program(JAX, *pair) for program, pair in zip(programs, pairs, strict=True)
        ]

    spu = run_parties(
        semi2k, "programs", run_all, [x for program in programs for x in program.inputs]
    )

    used, finite = [], []
    for seed, program in enumerate(programs):
        bound, ours = run_bound(program), run_emulation(program, seed).numpy()
        theirs, spu = spu[: ours.size].reshape(ours.shape), spu[ours.size :]
        value, radius = bound.value.numpy(), bound.radius.numpy()
        finite += [*np.isfinite(radius).ravel()]
        radius = radius + np.abs(value) * 2.0**-24  # the parties' result is a float32
        assert (np.abs(theirs - value) <= radius).all(), program
        assert (np.abs(theirs - ours) <= 2 * radius).all(), program
        rounded = radius > STEP / 2
        used += [*(np.abs(theirs - ours)[rounded] / (2 * radius[rounded]))]
    assert {one.name for program in programs for one in program.operations} == {*DRAWS}
    LOG.info(
        "%d entries, %.1f %% with a finite bound: of those rounded, %.1f %% of the "
        "bound in the median, %.1f %% at most",
        *(len(finite), 100 * np.mean(finite)),
        *(100 * np.median(used), 100 * np.max(used)),
    )
    assert np.mean(finite) > 0.95  # an infinite one would hold of anything
    assert np.median(used) > 0.01
