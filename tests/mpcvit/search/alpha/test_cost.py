"""Expected seconds of relaxed choices: exact where hard, and with a gradient."""

import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.plan import LayerPlan, Plan, choose_planner, write_plan
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import read_profile
from mpcprof.terms import Terms, compute_terms
from mpcvit.search.alpha.cost import HEADS_OF_FORM, CostForm, SearchCost
from mpcvit.search.alpha.space import SearchSpace, choose
from tests import PROFILES
from tests.architectures import sum_of_terms_s
from tests.committed import committed_model

WAN = NETWORKS["wan"]
DIGITS = MODELS["digits"]
FORMS: tuple[CostForm, ...] = ("additive", "grouped")
SPACES = [
    SearchSpace(granularity=granularity, activation=activation)
    for granularity, activation in itertools.product(
        ("layer", "head", "row"), ("none", "layer", "token")
    )
]


@functools.cache
def cost_of(space: SearchSpace, form: CostForm, model: str = "digits") -> SearchCost:
    return SearchCost.from_model(committed_model(), MODELS[model], space, WAN, form)


@pytest.mark.parametrize("name", ["semi2k-spu0.3.1b0", "cheetah-spu0.3.1b0"])
def test_a_search_needs_no_more_than_its_choices(name):
    profile = PROFILES / f"{name}.parquet"
    model = fit_cost_model(read_profile(profile))

    cost = SearchCost.from_model(model, DIGITS, SearchSpace(), WAN, "additive")

    every = np.ones((3, 4))
    assert 0 < float(cost.latency_s(0 * every)) < float(cost.latency_s(every))


@pytest.mark.parametrize("form", FORMS)
def test_a_planned_search_costs_what_the_planned_network_is_priced_at(form, tmp_path):
    layers = (LayerPlan(activation="relu"), LayerPlan(n_together=2), LayerPlan())
    write_plan(tmp_path / "plan.json", Plan(layers=layers, heads=HEADS_OF_FORM[form]))
    deployment = committed_model().deployment
    planner = choose_planner(str(tmp_path / "plan.json"), DIGITS, deployment=deployment)
    architecture = uniform_architecture(DIGITS, attention="relu_softmax")

    cost = SearchCost.from_model(
        committed_model(), DIGITS, SearchSpace(), WAN, form, planner=planner
    )

    steps = trace_model(architecture, 1, planner(architecture))
    priced_s = committed_model().predict(steps, WAN).latency_s
    assert cost.latency_s(np.ones((3, 4))) == pytest.approx(priced_s, rel=1e-9)
    assert priced_s < cost_of(SearchSpace(), form).latency_s(np.ones((3, 4)))


@functools.cache
def digits_terms() -> Terms:
    return compute_terms(committed_model(), DIGITS, WAN, has_rows=True)


def draw_mask(data: st.DataObject, shape: tuple[int, ...]) -> np.ndarray:
    """Of any mixture, layers of one choice among them."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    share = data.draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    mask = np.random.default_rng(seed).random(shape) < share
    mask[data.draw(st.integers(0, shape[0] - 1))] = data.draw(st.booleans())
    return mask


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "space", SPACES, ids=lambda s: f"{s.granularity}-{s.activation}"
)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_hard_choice_costs_what_its_architecture_is_priced_at(space, form, data):
    alpha = draw_mask(data, space.alpha_shape(DIGITS))
    shape = space.beta_shape(DIGITS)
    beta = None if shape is None else draw_mask(data, shape)
    architecture = choose(space, DIGITS, alpha, beta, HEADS_OF_FORM[form])

    latency_s = cost_of(space, form).latency_s(
        alpha.astype(float), None if beta is None else beta.astype(float)
    )

    priced_s = sum_of_terms_s(
        digits_terms(), architecture, committed_model().per_call_s
    )
    assert latency_s == pytest.approx(priced_s, rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "space", SPACES, ids=lambda s: f"{s.granularity}-{s.activation}"
)
def test_torch_and_numpy_agree_between_the_choices(space, form):
    random = np.random.default_rng(0)
    alpha = random.random(space.alpha_shape(DIGITS))
    shape = space.beta_shape(DIGITS)
    beta = None if shape is None else random.random(shape)
    cost = cost_of(space, form)

    by_numpy = cost.latency_s(alpha, beta)
    by_torch = cost.latency_s(
        torch.tensor(alpha), None if beta is None else torch.tensor(beta)
    )

    assert float(by_torch) == pytest.approx(float(by_numpy), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_the_gradient_of_the_additive_cost_is_the_entries_of_the_table(value):
    space = SearchSpace()
    alpha = torch.full((3, 4), value, dtype=torch.float64, requires_grad=True)

    cost_of(space, "additive").attention_s(alpha).backward()

    entries = torch.tensor(
        [
            digits_terms().get("attention", layer, space.accurate).latency_s
            - digits_terms().get("attention", layer, space.cheap).latency_s
            for layer in range(3)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(alpha.grad, entries[:, None].expand(3, 4))


def test_the_gradient_of_beta_at_the_start_is_the_entry_of_a_token():
    beta = torch.ones(3, 17, dtype=torch.float64, requires_grad=True)
    cost = cost_of(SearchSpace(activation="token"), "additive")

    cost.activation_s(beta).backward()

    gelu = digits_terms().get("activation", 0, "gelu_tanh").latency_s
    linear = cost.linear.fixed_s / 17 + cost.linear.per_unit_s
    fusing = (cost.mlp_s - cost.fused_mlp_s) / 17
    expected = torch.full_like(beta, gelu - linear + fusing)
    torch.testing.assert_close(beta.grad, expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("granularity", ["layer", "head", "row"])
def test_every_alpha_is_pressed_down_where_the_search_begins(granularity, form):
    space = SearchSpace(granularity=granularity)
    alpha = torch.ones(space.alpha_shape(DIGITS), requires_grad=True)

    cost_of(space, form).attention_s(alpha).backward()

    assert alpha.grad is not None
    assert bool((alpha.grad > 0).all())


def test_grouped_heads_cost_their_fixed_seconds_once_a_layer():
    cost = cost_of(SearchSpace(), "grouped")
    one, two = np.zeros((3, 4)), np.zeros((3, 4))
    one[0, 0] = two[0, :2] = 1.0

    extra_s = cost.attention_s(two) - cost.attention_s(one)

    assert extra_s == pytest.approx(cost.accurate.per_unit_s - cost.cheap.per_unit_s)


def test_heads_one_by_one_and_batched_are_two_forms_of_one_cost():
    serial, batched = (cost_of(SearchSpace(), form) for form in FORMS)

    assert (serial.for_heads("batched"), batched.for_heads("serial")) == (
        batched,
        serial,
    )


@pytest.mark.parametrize("space", SPACES[:2], ids=str)
def test_costs_survive_json(space):
    cost = cost_of(space, "grouped")
    alpha = np.random.default_rng(0).random(space.alpha_shape(DIGITS))

    again = SearchCost.from_json(cost.to_json())

    assert again.to_json() == cost.to_json()
    assert again.latency_s(alpha) == cost.latency_s(alpha)


def test_an_unknown_form_is_named():
    with pytest.raises(UsageError, match="'max': expected additive or grouped"):
        SearchCost.from_model(committed_model(), DIGITS, SearchSpace(), WAN, "max")
