"""The recipes are the published ones; numbers that are none are refused."""

from typing import Any

import pytest

from mpcprof.errors import UsageError
from mpcvit.train.recipe import RECIPES, Distillation, get_recipe

NOT_FINITE = (float("inf"), float("nan"))


def test_mixing_ends_after_175_epochs_of_cifar10_and_of_nothing_else():
    ends = {name: one.augmentation.mixing_epochs for name, one in RECIPES.items()}

    assert ends.pop("cifar10") == 175
    assert {*ends.values()} == {None}
    assert get_recipe("a/folder") == RECIPES["cifar10"]


def test_fewer_epochs_do_not_move_the_end_of_mixing():
    short = get_recipe("cifar10").with_changes(epochs=60)

    assert short.augmentation.mixing_epochs == 175


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        ("cifar10", (0.8, 0)),
        ("cifar100", (0.8, 0)),
        ("tiny-imagenet", (0.8, 0)),
        ("quick", (0.0, 4)),
    ],
)
def test_the_papers_recipes_crop_by_area_and_the_quick_one_by_pixels(name, crop):
    given = RECIPES[name].augmentation

    assert (given.crop_scale, given.crop_padding) == crop


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize(
    "name", ["learning_rate", "min_learning_rate", "weight_decay", "clip_norm"]
)
def test_a_recipe_with_a_number_that_is_not_finite_is_refused(name, value):
    changes: dict[str, Any] = {name: value}

    with pytest.raises(UsageError, match=rf"{name}={value}.*finite"):
        get_recipe("digits").with_changes(**changes)


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("name", ["chi", "beta", "gamma", "temperature"])
def test_a_weight_or_temperature_that_is_not_finite_is_refused(name, value):
    with pytest.raises(UsageError, match=rf"{name}={value}.*all finite"):
        Distillation(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("name", ["gradual_norm", "gradual_activation", "frozen_norm"])
def test_what_is_no_share_of_the_epochs_is_refused(name, value):
    with pytest.raises(UsageError, match=rf"{name}={value}: expected a share"):
        get_recipe("digits").with_changes(**{name: value})


@pytest.mark.parametrize("changes", [{"range_penalty": -1.0}, {"range_bound": 0.0}])
def test_a_penalty_that_is_none_is_refused(changes):
    (name, value), *_ = changes.items()

    with pytest.raises(
        UsageError, match=f"{name}={value}: expected (0 or more|above 0)"
    ):
        get_recipe("digits").with_changes(**changes)
