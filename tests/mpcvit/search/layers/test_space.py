"""Spaces of layers: their choices, their seconds, and networks drawn from them."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import get_model
from mpcvit.search.layers.cost import Pricer
from mpcvit.search.layers.finalists import Finals
from mpcvit.search.layers.sampling import Sampler
from mpcvit.search.layers.space import (
    FACTORS,
    SPACES,
    LayerChoice,
    LayerSpace,
    Sizes,
    get_layer_space,
    make_architecture,
)
from mpcvit.train.config import RunConfig
from tests.committed import committed_model
from tests.training_runs import tiny_recipe

DIGITS = replace(get_model("digits"), pooling="mean")
SPACE = LayerSpace(
    name="small",
    mixing=("softmax", "scale", "token_mix", "none"),
    norm=("batchnorm", "layernorm"),
    activation=("relu", "quad_linear", "identity"),
    mlp_ratio=(0, 1, 2),
    models=(Sizes(pooling="mean"),),
)
FREE = SPACES["free"](get_model("digits"))


@pytest.fixture(scope="module")
def pricer():
    return Pricer(cost_model=committed_model(), network=NETWORKS["wan"])


@pytest.fixture(scope="module")
def sampler(pricer):
    return Sampler(SPACE, DIGITS, pricer)


def test_layers_that_are_the_same_network_are_one_choice():
    choices = SPACE.choices

    without_mlp = [one for one in choices if not one.mlp_ratio]
    fused = [one for one in choices if one.activation == "identity"]
    assert {one.activation for one in without_mlp} == {"relu"}
    assert {one.mlp_ratio for one in fused} == {1}
    assert sum(one.is_left_out for one in choices) == 1
    # 2 norms x 4 mixings x (no MLP, 2 x 2 ratios, fused), less one of nothing twice
    assert len(choices) == 2 * 4 * (1 + 4 + 1) - 1


def test_networks_that_differ_in_a_norm_that_stands_nowhere_are_equal():
    def made(norm):
        shift = LayerChoice(mixing="shift", norm=norm, activation="relu", mlp_ratio=0)
        last = shift._replace(mixing="token_mix", norm="layernorm")
        return make_architecture(DIGITS, [shift, last])

    assert made("layernorm") == made("batchnorm")
    assert made("layernorm").norm == ("none", "layernorm")


def test_shares_of_choices_are_the_products_of_their_options_added_up():
    random = np.random.default_rng(0)
    shares = [random.dirichlet(np.ones(len(one)), size=3) for one in SPACE.options]

    joint = SPACE.joint(*shares)

    np.testing.assert_allclose(joint.sum(-1), 1.0)
    mixing, norm, _, ratio = shares
    none, without = SPACE.mixing.index("none"), SPACE.mlp_ratio.index(0)
    left_out = next(i for i, one in enumerate(SPACE.choices) if one.is_left_out)
    expected = mixing[:, none] * norm.sum(-1) * ratio[:, without]
    np.testing.assert_allclose(joint[:, left_out], expected)


def test_a_space_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "mine.json"
    by_head = replace(SPACE, mixing=("none", ("softmax", "scale", "scale", "scale")))
    path.write_text(json.dumps(by_head.to_json()))

    assert get_layer_space(str(path), DIGITS) == by_head
    assert get_layer_space("free", get_model("digits")) == FREE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mixing": ["sofmax"]}, "no mixing 'sofmax'; did you mean softmax"),
        ({"mixing": [["scale", "sofmax"]]}, "no mixing 'sofmax'; did you mean"),
        ({"norm": []}, "norm has no option"),
        ({"activation": ["relu", "relu"]}, "'relu' twice"),
        ({"activation": ["identity_relu"]}, "has a ReLU behind the MLP"),
        ({"mlp_ratio": [-1]}, "mlp_ratio=-1: expected 0 or more"),
        ({"mixing": ["none"], "mlp_ratio": [0]}, "every layer of it is left out"),
        ({"depth": [3]}, "unknown key 'depth'"),
        ({"models": []}, "models has no option"),
        ({"models": [{"depth": 3}]}, "unknown key 'depth'"),
    ],
)
def test_what_is_wrong_with_a_space_is_one_clear_line(changes, said, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**SPACE.to_json(), **changes}))

    with pytest.raises(UsageError, match=said) as caught:
        get_layer_space(str(path), DIGITS)

    assert "\n" not in str(caught.value)


def test_a_grid_mixer_with_a_class_token_is_refused_before_the_search():
    space = replace(FREE, models=(Sizes(pooling="class_token"),))

    with pytest.raises(UsageError, match="square grid"):
        space.sized(DIGITS)


def test_a_model_whose_norms_stand_in_the_stream_is_refused_before_the_search():
    space = replace(SPACE, norm=("layernorm",), mlp_ratio=(1,))

    with pytest.raises(UsageError, match=r"norm_order=.between.: a search over"):
        space.sized(replace(DIGITS, norm_order="between"))


@pytest.mark.parametrize("name", ["digits", "cifar-small", "cifar", "tiny-imagenet"])
def test_the_models_of_free_have_the_same_grid_of_tokens(name):
    model = get_model(name)

    plain, *others = SPACES["free"](model).sized(model)

    assert others
    assert {one.n_tokens for one in others} == {plain.n_tokens}


def test_heads_that_differ_are_priced_together_and_counted(pricer):
    by_head = tuple(("softmax",) * n + ("scale",) * (4 - n) for n in range(5))
    space = replace(SPACE, mixing=by_head, norm=("batchnorm",))

    seconds = pricer.layer_cost(DIGITS, space).mixing_s[:, 0]

    first, second, third = np.diff(seconds)[:3]
    assert first > 4 * second > 0  # what is fixed is paid with the first head
    assert second == pytest.approx(third, rel=0.01)
    with pytest.raises(UsageError, match="has 2 heads"):
        replace(SPACE, mixing=(("softmax", "scale"),)).sized(DIGITS)


@pytest.mark.parametrize("plan", [None, "rewrites"])
def test_the_seconds_of_a_network_are_those_of_its_layers_and_the_rest(pricer, plan):
    planned = replace(pricer, plan=plan)
    cost = planned.layer_cost(DIGITS, SPACE)
    layers = [
        LayerChoice("scale", "batchnorm", "quad_linear", 2),
        LayerChoice("none", "batchnorm", "relu", 0),
        LayerChoice("token_mix", "batchnorm", "identity", 1),
    ]
    layer_s = dict(zip(SPACE.choices, cost.layer_s(SPACE), strict=True))

    price_s = planned.price_s(make_architecture(DIGITS, layers))

    together_s = sum(layer_s[one] for one in layers) + cost.rest_s[0]
    assert price_s == pytest.approx(together_s, rel=1e-9)


def test_expected_seconds_of_certain_shares_are_those_of_the_network(pricer):
    cost = pricer.layer_cost(DIGITS, SPACE)
    layers = [LayerChoice("softmax", "batchnorm", "relu", 2)] * 2
    layers += [LayerChoice("scale", "batchnorm", "relu", 1)]
    shares = [
        torch.tensor([[float(one == own[place]) for one in options] for own in layers])
        for place, options in enumerate(SPACE.options)
    ]

    expected_s = cost.expected_s([one.double() for one in shares])

    price_s = pricer.price_s(make_architecture(DIGITS, layers))
    assert float(expected_s) == pytest.approx(price_s, rel=1e-6)


def test_drawn_networks_keep_the_budget_and_follow_the_seed(sampler):
    drawn = sampler.draw(1.5, 6, seed=3, tolerance=0.1)

    assert drawn == sampler.draw(1.5, 6, seed=3, tolerance=0.1)
    assert drawn != sampler.draw(1.5, 6, seed=4, tolerance=0.1)
    assert all(1.35 <= one.predicted_s <= 1.5 for one in drawn)
    assert len({one.architecture for one in drawn}) == 6


def test_a_variety_differs_in_two_layers_at_most_and_keeps_the_budget(sampler):
    (parent,) = sampler.draw(1.5, 1, seed=0, tolerance=0.1)

    varieties = [sampler.vary(parent, 1.5, seed=(seed,)) for seed in range(8)]

    for one in varieties:
        assert one.predicted_s <= 1.5
        pairs = zip(one.places, parent.places, strict=True)
        assert 1 <= sum(own != other for own, other in pairs) <= 2
    assert len({one.architecture for one in varieties}) > 1


def test_a_budget_below_every_network_says_what_the_quickest_costs(sampler):
    with pytest.raises(UsageError, match="the quickest costs about"):
        sampler.draw(0.01, 1, seed=0, tolerance=0.1)


def test_equal_shares_make_every_network_of_one_cost_equally_likely(pricer):
    options = {"norm": ("batchnorm",), "activation": ("relu",), "mlp_ratio": (1,)}
    space = replace(SPACE, mixing=("scale", "token_mix"), **options)
    layers = [LayerChoice(name, "batchnorm", "relu", 1) for name in space.mixing]
    price_s = pricer.price_s(make_architecture(DIGITS, [layers[0], *layers[1:] * 2]))

    sampler, random = Sampler(space, DIGITS, pricer), np.random.default_rng(0)
    drawn = sampler._drawn(1.001 * price_s, 400, random, 0.01)

    counts = Counter(one.architecture.attention for one in drawn)
    assert len(counts) == 3  # the one dear layer in each of the places
    assert counts.total() > 100
    assert max(counts.values()) < 1.5 * min(counts.values())


def test_a_network_that_several_choices_make_is_trained_once(sampler, tmp_path):
    left_out = next(n for n, one in enumerate(SPACE.choices) if one.is_left_out)

    class Drawing:
        def draw(self, budget_s, n, *, seed, tolerance=None):
            places = [left_out, 0, 0] if tolerance else [0, 0, left_out]
            return (sampler._make(0, np.array(places)),)

    run = RunConfig(dataset="digits", recipe=tiny_recipe(), output=tmp_path)
    finals = Finals(sampler=Drawing(), budgets_s=(1.0, 2.0), n_each=4, run=run)

    assert len(finals._draw(2)) == 1


def test_every_factor_has_a_field():
    assert [*itertools.chain(FACTORS)] == [*LayerChoice._fields]
