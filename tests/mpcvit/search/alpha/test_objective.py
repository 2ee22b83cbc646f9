"""The loss of a search, and the multiplier that a target moves."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS
from mpcprof.nn.preset import MODELS
from mpcvit.data.dataset import load_dataset
from mpcvit.search.alpha.cost import SearchCost
from mpcvit.search.alpha.objective import (
    LAMBDA_PER_S,
    Penalty,
    SearchObjective,
    choose_penalty,
    parse_eta,
)
from mpcvit.search.alpha.space import SearchSpace
from mpcvit.search.alpha.supernet import Supernet
from mpcvit.train.recipe import get_recipe
from tests.committed import committed_model

MODEL = replace(MODELS["digits"], n_layers=1)
SPACE = SearchSpace(activation="token")
RECIPE = get_recipe("digits").with_changes(epochs=5)


@cache
def cost() -> SearchCost:
    return SearchCost.from_model(
        committed_model(), MODEL, SPACE, NETWORKS["wan"], form="additive"
    )


def make_objective(**penalty: object) -> SearchObjective:
    torch.manual_seed(0)
    return SearchObjective(
        Supernet(MODEL, SPACE),
        cost(),
        Penalty(**({"lambda_per_s": None} | penalty)),  # type: ignore[arg-type]
        load_dataset("digits", model=MODEL, limit=20),
        RECIPE,
        alpha_learning_rate=0.01,
        n_steps_per_epoch=10,
    )


def images_and_targets() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    targets = torch.nn.functional.one_hot(torch.arange(4), 10).float()
    return torch.randn(4, 1, 8, 8), targets


def test_the_loss_is_cross_entropy_and_the_seconds_by_their_multipliers():
    objective = make_objective(lambda_per_s=0.5, eta_per_s=0.25)
    supernet = objective.module.supernet

    losses = objective.losses(*images_and_targets())

    attention_s = 0.5 * cost().attention_s(supernet.alpha)
    activation_s = 0.25 * cost().activation_s(supernet.beta)
    torch.testing.assert_close(losses["attention"], attention_s)
    torch.testing.assert_close(losses["activation"], activation_s)
    parts = losses["ce"] + losses["attention"] + losses["activation"]
    torch.testing.assert_close(losses["total"], parts)


def test_alpha_and_beta_alone_are_free_of_weight_decay_and_at_their_own_rate():
    objective = make_objective(lambda_per_s=0.5)
    supernet = objective.module.supernet

    *weights, choices = objective.groups()

    assert choices.parameters == (supernet.alpha, supernet.beta)
    assert (choices.weight_decay, choices.learning_rate) == (0.0, 0.01)
    parameters = [p for group in (*weights, choices) for p in group.parameters]
    assert {*map(id, parameters)} == {*map(id, supernet.parameters())}
    assert len(parameters) == len([*supernet.parameters()])


def test_choices_are_projected_after_a_step():
    objective = make_objective(lambda_per_s=0.5)
    supernet = objective.module.supernet
    with torch.no_grad():
        supernet.alpha.fill_(1.5)
        supernet.beta.fill_(-0.5)

    objective.after_step()

    assert supernet.alpha.unique().tolist() == [1.0]
    assert supernet.beta.unique().tolist() == [0.0]


def uniform_s(share: float) -> float:
    alpha = torch.full(SPACE.alpha_shape(MODEL), share)
    return float(cost().latency_s(alpha, torch.full((1, MODEL.n_tokens), share)))


@pytest.mark.parametrize(("share", "is_growing"), [(1.0, True), (0.0, False)])
def test_lambda_grows_above_the_target_and_shrinks_below(share, is_growing):
    objective = make_objective(target_s=uniform_s(0.5))
    module = objective.module
    before = module.multipliers.clone()
    module.n_steps.fill_(40)  # of 50: the target is due
    with torch.no_grad():
        module.supernet.alpha.fill_(share)
        module.supernet.beta.fill_(share)

    objective.after_step()

    assert bool((module.multipliers > before).all()) is is_growing
    assert bool((module.multipliers < before).all()) is not is_growing


def test_a_given_lambda_stays():
    objective = make_objective(lambda_per_s=0.5)

    objective.after_step()

    assert objective.module.multipliers.tolist() == [0.5, 0.5]


def test_the_papers_eta_is_lambda_by_the_ratio_of_both_latencies():
    objective = make_objective(lambda_per_s=0.5, eta_per_s="paper")

    lambda_per_s, eta_per_s = objective.module.multipliers.tolist()

    ratio = cost().attention_layer_s / cost().gelu_layer_s
    assert lambda_per_s / eta_per_s == pytest.approx(ratio)


def test_metrics_are_of_the_relaxed_model_at_the_start_all_accurate():
    metrics = make_objective(lambda_per_s=0.5).metrics()

    assert metrics["expected_latency_s"] == pytest.approx(uniform_s(1.0))
    assert metrics["alpha_mean"] == metrics["beta_mean"] == 1.0
    parts_s = metrics["attention_s"] + metrics["activation_s"] + cost().rest_s
    assert parts_s == pytest.approx(metrics["expected_latency_s"])


def test_a_target_that_no_choice_meets_says_what_the_cheapest_costs():
    with pytest.raises(UsageError, match=r"target 1s: expected at least \d"):
        make_objective(target_s=1.0)


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        ({"lambda_per_s": 0.1, "target_s": 9.0}, "lambda and target: expected one"),
        ({"lambda_per_s": None}, "lambda and target: expected one"),
        ({"lambda_per_s": -1.0}, "lambda=-1.0, eta=None: expected loss per second"),
        ({"eta_per_s": float("nan")}, "eta=nan: expected loss per second"),
        ({"lambda_per_s": None, "target_s": -1.0}, r"target -1.0 s: expected above 0"),
        (
            {"lambda_per_s": None, "target_s": 9.0, "eta_per_s": 0.1},
            "eta=0.1 and a target of 9s: expected eta=paper or none",
        ),
    ],
)
def test_a_penalty_that_makes_no_sense_is_refused(penalty, message):
    with pytest.raises(UsageError, match=message):
        Penalty(**penalty)


def test_lambda_has_a_default_where_there_is_no_target():
    assert choose_penalty(None, None, None).lambda_per_s == LAMBDA_PER_S
    assert choose_penalty(None, None, 9.0).lambda_per_s is None


@pytest.mark.parametrize(("text", "eta"), [("paper", "paper"), ("0.01", 0.01)])
def test_eta_is_a_number_or_the_papers(text, eta):
    assert parse_eta(text) == eta


def test_another_eta_is_refused():
    with pytest.raises(UsageError, match="eta 'much': expected loss per second"):
        parse_eta("much")
