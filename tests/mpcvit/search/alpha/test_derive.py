"""From alpha and beta to architectures: by ratio, threshold and budget."""

import functools
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import OptimizeResult, milp

from baselines import at_random, by_layer, evenly, uniform_baselines
from candidates import describe
from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Heads
from mpcprof.nn.preset import MODELS
from mpcprof.terms import Term
from mpcprof.units import parse_duration_s
from mpcvit.search.alpha.budget import choose_within
from mpcvit.search.alpha.cost import SearchCost
from mpcvit.search.alpha.derive import by_mu, by_threshold, derive_by_budget, family
from mpcvit.search.alpha.result import SearchResult, _parse
from mpcvit.search.alpha.space import SearchSpace
from mpcvit.search.family import write_family

shares = st.floats(0, 1, width=32)
HEADS: tuple[Heads, ...] = ("serial", "batched")


def make_term(latency_s: float, fixed_s: float, per_unit_s: float) -> Term:
    return Term(
        kind="attention",
        layer=0,
        variant="",
        n_units=1,
        latency_s=latency_s,
        fixed_s=fixed_s,
        per_unit_s=per_unit_s,
        bytes_sent=0.0,
        hops=0.0,
        basis="measured",
    )


def make_cost(**overrides: object) -> SearchCost:
    """A model of two layers, two heads and three tokens."""
    alone = make_term(1.0, 0.7, 0.3)
    cheap = make_term(0.2, 0.15, 0.05)
    values: dict[str, object] = {
        "form": "additive",
        "n_layers": 2,
        "n_heads": 2,
        "n_tokens": 3,
        "rest_s": 5.0,
        "accurate": alone,
        "cheap": cheap,
        "accurate_row": make_term(0.33, 0.64, 0.12),
        "cheap_row": make_term(0.06, 0.11, 0.03),
        "gelu": make_term(0.3, 0.6, 0.1),
        "linear": make_term(0.06, 0.12, 0.02),
        "mlp_s": 0.2,
        "fused_mlp_s": 0.1,
    }
    return SearchCost(**(values | overrides))  # type: ignore[arg-type]


def value_of(alpha: np.ndarray, mask: np.ndarray) -> float:
    return float((alpha * mask).sum() / (alpha.size / len(alpha)))


def masks(shape: tuple[int, ...]) -> "list[np.ndarray]":
    n = int(np.prod(shape))
    return [
        np.array(bits, dtype=float).reshape(shape)
        for bits in itertools.product((0, 1), repeat=n)
    ]


def best_by_trying(cost, alpha, beta, budget_s):
    best = -1.0
    for a in masks(alpha.shape):
        for b in [None] if beta is None else masks(beta.shape):
            if cost.latency_s(a, b) <= budget_s + 1e-9:
                value = value_of(alpha, a)
                best = max(best, value + (0 if b is None else value_of(beta, b)))
    return best


SHAPES = [
    ((2,), None),
    ((2, 2), None),
    ((2, 2), (2,)),
    ((2, 2), (2, 3)),
    ((2, 2, 3), None),
]


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize(("alpha_shape", "beta_shape"), SHAPES, ids=str)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_a_budget_buys_what_trying_everything_finds(
    alpha_shape, beta_shape, heads, data
):
    alpha = data.draw(hnp.arrays(np.float64, alpha_shape, elements=shares))
    beta = None
    if beta_shape is not None:
        beta = data.draw(hnp.arrays(np.float64, beta_shape, elements=shares))
    cost = make_cost().for_heads(heads)
    least_s = choose_within(cost, alpha * 0, beta if beta is None else beta * 0, 1e3)
    budget_s = least_s.latency_s + data.draw(st.floats(0, 6))

    choice = choose_within(cost, alpha, beta, budget_s)

    value = value_of(alpha, choice.alpha)
    if beta is not None:
        value += value_of(beta, choice.beta)
    assert choice.latency_s <= budget_s + 1e-9
    assert value == pytest.approx(best_by_trying(cost, alpha, beta, budget_s), abs=1e-5)


def test_rows_of_nearly_equal_worth_are_bought_at_once():
    """Tens of thousands of choices that differ in nothing else are not tried."""
    result = make_result()
    alpha = 0.87 + 0.001 * np.random.default_rng(0).random((2, 4, 17))

    choice = choose_within(result.cost, alpha, None, 14.0)

    assert choice.gap == 0
    for head in range(4):
        for layer in range(2):
            own = choice.alpha[layer, head]
            least_kept = alpha[layer, head][own].min(initial=1)
            assert (alpha[layer, head][~own] <= least_kept).all()


@pytest.mark.parametrize(
    ("shape", "spread", "limit_s"),
    # to the optimum in a second; within the gap at once, to the optimum in minutes
    [((7, 4, 65), 0.001, 20.0), ((9, 12, 257), 1.0, 1.0)],
    ids=str,
)
def test_rows_of_the_papers_models_use_their_budget_to_the_last_row(
    shape, spread, limit_s, monkeypatch
):
    monkeypatch.setattr("mpcvit.search.alpha.budget._TIME_LIMIT_S", limit_s)
    n_layers, n_heads, n_tokens = shape
    cost = make_cost(n_layers=n_layers, n_heads=n_heads, n_tokens=n_tokens)
    alpha = 0.87 - spread * 0.8 * np.random.default_rng(0).random(shape)
    least_s, most_s = (float(cost.latency_s(0 * alpha + share)) for share in (0, 1))
    budget_s = least_s + 0.53 * (most_s - least_s)

    choice = choose_within(cost, alpha, None, budget_s)

    row_s = cost.accurate_row.per_unit_s - cost.cheap_row.per_unit_s
    assert budget_s - row_s <= choice.latency_s <= budget_s + 1e-9
    assert 0 <= choice.gap <= 1e-3


def stop_at_the_limit(monkeypatch: pytest.MonkeyPatch, bound: float) -> None:
    """Let the solver say that its time is over, and what it has proven by then."""

    def stopped(*given: object, **options: object) -> OptimizeResult:
        solved = milp(*given, **options)
        return OptimizeResult(
            **(solved | {"status": 1, "mip_dual_bound": bound * solved.fun})
        )

    monkeypatch.setattr("mpcvit.search.alpha.budget.milp", stopped)


def test_a_solver_stopped_at_its_limit_leaves_a_choice_and_a_gap(monkeypatch):
    stop_at_the_limit(monkeypatch, bound=1.25)

    cost = make_cost(form="grouped")
    one_head = np.array([[1.0, 0.0], [0.0, 0.0]])
    budget_s = float(cost.latency_s(one_head))

    choice = choose_within(cost, np.ones((2, 2)), None, budget_s)

    assert choice.alpha.sum() == 1
    assert choice.gap == pytest.approx(0.2)


def test_a_solver_that_fails_is_quoted(monkeypatch):
    def failing(*_args: object, **_options: object) -> OptimizeResult:
        return OptimizeResult(x=None, status=4, success=False, message="no memory")

    monkeypatch.setattr("mpcvit.search.alpha.budget.milp", failing)

    with pytest.raises(UsageError, match="it says 'no memory'"):
        choose_within(make_cost(form="grouped"), np.ones((2, 2)), None, 1e3)


def test_a_choice_cut_short_says_by_how_much_wherever_it_is_shown(
    monkeypatch, tmp_path
):
    result = make_result("token")
    budget_s = float(result.cost.latency_s(result.alpha, result.beta))
    stop_at_the_limit(monkeypatch, bound=1.01)

    members = family(result, budgets_s=(budget_s,))

    (one,) = members
    assert 0 < one.gap < 1
    assert one.predicted_s > 0.9 * budget_s
    assert "% short of the best" in one.line()
    assert "% short of the best" in describe(one, result)
    written = json.loads(write_family(members, tmp_path, None).to_json())
    assert written["architectures"][0]["gap"] == one.gap


def test_a_budget_that_is_met_to_the_last_bit_is_used():
    cost = make_cost()
    alpha = np.array([[0.9, 0.8], [0.1, 0.2]])
    two = np.array([[1.0, 1.0], [0.0, 0.0]])

    choice = choose_within(cost, alpha, None, float(cost.latency_s(two)))

    np.testing.assert_array_equal(choice.alpha, two == 1)


def test_batched_heads_of_a_layer_are_bought_together():
    alpha = np.array([[1.0, 0.5], [0.9, 0.45]])
    cost = make_cost(form="grouped")
    one_layer_s = float(cost.latency_s(np.array([[1.0, 1.0], [0.0, 0.0]])))

    choice = choose_within(cost, alpha, None, one_layer_s)

    assert choice.alpha.tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("heads", HEADS)
def test_a_budget_below_the_quickest_choice_says_how_much_that_is(heads):
    with pytest.raises(UsageError, match=r"budget 5s: expected at least 5") as raised:
        choose_within(make_cost().for_heads(heads), np.ones((2, 2)), None, 5.0)

    least = str(raised.value).partition("at least ")[2].partition(",")[0]
    least_s = parse_duration_s(least)
    choose_within(make_cost().for_heads(heads), np.ones((2, 2)), None, least_s)


@pytest.mark.parametrize(("mu", "n_kept"), [(0.1, 3), (0.3, 9), (0.5, 14), (0.7, 20)])
def test_mu_keeps_as_many_of_28_heads_as_in_the_paper(mu, n_kept):
    alpha = np.random.default_rng(0).random((7, 4))

    mask = by_mu(alpha, mu)

    assert mask.sum() == n_kept
    assert alpha[mask].min() >= alpha[~mask].max()


@given(mu=shares)
def test_equal_alphas_are_kept_from_the_first_on(mu):
    mask = by_mu(np.ones((2, 2, 3)), mu).ravel()

    assert mask.sum() >= mu * mask.size - 1e-9
    assert mask.tolist() == sorted(mask.tolist(), reverse=True)


def test_a_share_beyond_one_is_refused():
    with pytest.raises(UsageError, match=r"mu=1\.5: expected the share to keep"):
        by_mu(np.ones((2, 2)), 1.5)


def test_beta_at_the_threshold_is_linearised():
    mask = by_threshold(np.array([0.74, 0.75, 0.76]), 0.75)

    assert mask.tolist() == [False, False, True]


@pytest.mark.parametrize("changes", [{}, {"name": "own", "has_qkv_bias": True}])
def test_a_search_keeps_the_sizes_of_its_model(changes):
    made = make_result()
    own = replace(made, model=replace(made.model, **changes))

    read = _parse(json.loads(json.dumps(own.to_json())), {"alpha": own.alpha})

    assert read.model == own.model


@functools.cache
def make_result(activation: str = "none") -> SearchResult:
    space = SearchSpace(activation=activation)  # type: ignore[arg-type]
    model = replace(MODELS["digits"], n_layers=2)
    random = np.random.default_rng(1)
    shape = space.beta_shape(model)
    return SearchResult(
        model=model,
        space=space,
        dataset="digits",
        network="44MBps,40ms",
        profile="semi2k.parquet",
        records_digest="0",
        cost=make_cost(n_heads=4, n_tokens=17),
        target_s=None,
        alpha=random.random(space.alpha_shape(model)),
        beta=None if shape is None else random.random(shape),
        lambda_per_s=0.1,
        eta_per_s=0.1,
        expected_latency_s=8.0,
        accuracy=0.9,
        n_epochs=1,
        duration_s=1.0,
    )


def test_one_search_gives_a_family_whose_larger_members_cost_more():
    members = family(make_result(), mus=(0.25, 0.75), budgets_s=(8.0, 10.0))

    assert [one.label for one in members] == [
        *("mu-0.25", "mu-0.75"),
        *("budget-8s", "budget-10s"),
    ]
    assert [one.n_accurate for one in members[:2]] == [2, 6]
    assert members[0].predicted_s < members[1].predicted_s
    assert members[2].predicted_s <= 8.0 < members[3].predicted_s <= 10.0
    assert {one.architecture.heads for one in members} == {"serial"}


def test_sigma_decides_with_mu_which_tokens_keep_gelu():
    result = make_result("token")

    few, many = (
        family(result, mus=(0.5,), sigma=sigma, heads="batched")[0]
        for sigma in (0.9, 0.1)
    )

    assert few.n_gelu == (result.beta > 0.9).sum() < many.n_gelu
    assert few.architecture.heads == "batched"


@pytest.mark.parametrize(
    ("mus", "budgets_s", "message"),
    [
        ((), (), "nothing to derive: give --mu"),
        ((0.5, 0.5), (), r"mu-0\.5 asked for twice"),
    ],
)
def test_what_is_asked_for_must_make_sense(mus, budgets_s, message):
    with pytest.raises(UsageError, match=message):
        family(make_result(), mus=mus, budgets_s=budgets_s)


def test_a_family_does_not_fit_into_one_file(tmp_path):
    members = family(make_result(), mus=(0.5, 0.25))

    with pytest.raises(UsageError, match=r"2 architectures for .* expected a folder"):
        write_family(members, tmp_path, Path("one.json"))


@pytest.mark.parametrize("name", ["search.json", "config.json", "finalists.json"])
def test_an_architecture_does_not_take_the_place_of_its_search(name, tmp_path):
    members = family(make_result(), mus=(0.5,))

    with pytest.raises(UsageError, match="would write over the search"):
        write_family(members, tmp_path, tmp_path / name)

    assert not (tmp_path / name).exists()


def test_by_row_random_and_even_choices_buy_no_fewer_rows_than_the_searched_one():
    space, made = SearchSpace(granularity="row"), make_result()
    shape = space.alpha_shape(made.model)
    alpha = np.random.default_rng(0).random(shape)
    result = replace(made, space=space, alpha=alpha)
    half = np.zeros(shape)
    half[0, :, :] = half[1, 0, :3] = 1  # the last head has both
    budget_s = float(result.cost.latency_s(half))

    searched = derive_by_budget(result, budget_s, heads="serial")
    others = [at_random(result, budget_s, seed=n, heads="serial") for n in range(5)]
    others.append(evenly(result, budget_s, heads="serial"))

    assert min(one.n_accurate for one in others) >= searched.n_accurate > 60
    assert len({one.architecture for one in others}) == len(others)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("activation", ["none", "token"])
def test_random_choices_keep_the_budget_and_come_from_their_seed(activation, heads):
    result = make_result(activation)
    budget_s = float(result.cost.for_heads(heads).latency_s(result.alpha, result.beta))

    first, again, other = (
        at_random(result, budget_s, seed=seed, heads=heads) for seed in (0, 0, 1)
    )

    assert first == again
    assert first.architecture != other.architecture
    assert max(first.predicted_s, other.predicted_s) <= budget_s
    assert first.n_accurate + (first.n_gelu or 0) > 0


def test_the_choice_by_layer_keeps_the_best_layers_whole():
    result = make_result()
    best = int(result.alpha.mean(axis=1).argmax())

    chosen = by_layer(result, 10.0, heads="serial").architecture

    assert {*chosen.attention[best]} == {("relu_softmax",)}
    assert {*chosen.attention[1 - best]} == {("scale",)}


def test_uniform_baselines_have_one_attention_each():
    baselines = uniform_baselines(MODELS["digits"], heads="serial")

    for name, architecture in baselines.items():
        assert {head for layer in architecture.attention for head in layer} == {(name,)}
