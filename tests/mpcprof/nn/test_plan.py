"""Plans: JSON both ways, and one clear line for what does not fit."""

import doctest
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mpcprof.nn.plan
from mpcprof.deployment import make_deployment
from mpcprof.errors import UsageError
from mpcprof.nn.approximation import InverseBounds, SoftmaxBounds
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.nn.plan import (
    LayerPlan,
    Plan,
    architecture_digest,
    plan_identity,
    read_plan,
    rewrites_only,
    write_plan,
)
from tests.architectures import OWN_SIZES, make_architecture

RANGE = InverseBounds(low=0.1, high=2.0, degree=4, n_steps=1)
SOFTMAX = SoftmaxBounds(low=-4.0, high=4.0, n_squarings=5, total=RANGE)
PLAN = Plan(
    layers=(LayerPlan(norm1=RANGE, softmax=SOFTMAX), LayerPlan(n_together=4)),
    last_norm=RANGE,
    stream_scale=0.25,
    model="tiny",
    architecture=architecture_digest(make_architecture()),
    checkpoint="ab" * 32,
    deployment=make_deployment("semi2k", options=["fxp_exp_iters=5"]),
    failure_rate=1e-6,
)


def test_the_examples_are_right() -> None:
    found = doctest.testmod(mpcprof.nn.plan, extraglobs={"mpcprof": mpcprof})

    assert found.failed == 0
    assert found.attempted


def test_a_plan_read_back_is_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"

    write_plan(path, PLAN)

    assert read_plan(path) == PLAN


def test_the_digest_of_a_plan_is_that_of_its_text(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.json", PLAN)

    assert plan_identity(str(tmp_path / "plan.json")) == PLAN.digest
    assert replace(PLAN, failure_rate=0.5).digest != PLAN.digest
    assert (plan_identity("rewrites"), plan_identity(None)) == ("rewrites", "")


def damage(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damage("laiers", value=1), "unknown key 'laiers'; did you mean layers"),
        (damage("layers", 0, "norm1", "hig", value=1), "unknown key 'hig'; did you me"),
        (damage("schema_version", value=2), "schema_version=2: expected 1"),
        (
            damage("layers", 0, "norm1", "low", value=3),
            "low=3.0 and high=2.0: expected",
        ),
        (damage("layers", 0, "softmax", "low", value=4), "low=4.0 and high=4.0: "),
        (
            damage("layers", 0, "norm1", "low", value=-1),
            "expected a range of numbers a",
        ),
        (damage("layers", 0, "norm1", "degree", value=0), "degree=0: expected a p"),
        (damage("layers", 1, "n_together", value=0), "n_together=0: expected at least"),
        (damage("layers", 1, "activation", value="gelo"), "layers[1]: no activation "),
        (damage("stream_scale", value=0), "stream_scale=0.0: expected a finite number"),
        (damage("failure_rate", value=7), "failure_rate=7.0: expected failures of an"),
        (
            damage("layers", 0, "norm1", "low", value=math.nan),
            "layers[0].norm1.low=nan: expected a finite number",
        ),
        (damage("is_folded", value=False), "is_folded=false: expected true, since ran"),
        (damage("deployment", "protocol", value="aby4"), "no protocol 'aby4'; did you"),
    ],
)
def test_what_does_not_fit_in_a_plan_is_one_line(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    values = json.loads(PLAN.to_json())
    change(values)

    with pytest.raises(UsageError) as error:
        Plan.from_json(json.dumps(values), "plan.json")

    assert message in str(error.value)
    assert str(error.value).startswith("plan.json: ")
    assert "\n" not in str(error.value)


def test_a_plan_says_where_low_values_are_damped_and_nothing_where_not() -> None:
    layer = LayerPlan(total=replace(RANGE, is_damped=True))
    plan = replace(PLAN, layers=(layer, LayerPlan()))

    assert Plan.from_json(plan.to_json()) == plan
    assert "is_damped" in plan.to_json()
    assert "is_damped" not in PLAN.to_json()  # whose digest is that of older versions


def test_a_range_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UsageError, match="high=inf: expected finite numbers"):
        replace(RANGE, high=float("inf"))


def test_a_file_that_is_no_plan_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"

    with pytest.raises(UsageError, match=r"cannot read plan '.*plan.json': No such f"):
        read_plan(path)
    path.write_text("[]")
    with pytest.raises(UsageError, match=r"cannot read plan '.*plan.json': .* object"):
        read_plan(path)


def test_a_plan_fits_its_network_alone_whichever_way_heads_run() -> None:
    architecture = make_architecture()
    other = replace(architecture, activation=(("relu",), ("relu",)))

    PLAN.check_fits(replace(architecture, heads="batched"))
    with pytest.raises(UsageError, match="the plan is for another architecture of mod"):
        PLAN.check_fits(other)
    with pytest.raises(UsageError, match="for model cifar of 2 layers: this is tiny"):
        replace(PLAN, model="cifar").check_fits(architecture)
    with pytest.raises(
        UsageError, match="of 1 layers: this is tiny of 2; make one for"
    ):
        Plan(layers=(LayerPlan(),)).check_fits(architecture)


def test_an_activation_replaces_those_that_are_not_linear() -> None:
    architecture = make_architecture()
    plan = Plan(layers=(LayerPlan(activation="relu"), LayerPlan()), heads="serial")

    applied = plan.apply(architecture)

    assert applied.activation == (
        ("relu", "identity_relu", "relu", "relu", "identity"),
        architecture.activation[1],
    )
    assert applied.heads == "serial"
    with pytest.raises(UsageError, match="'relu' in layer 2, whose MLP is linear"):
        Plan(layers=plan.layers[::-1]).check_fits(architecture)


def test_a_plan_that_computes_the_class_token_alone_needs_one() -> None:
    mean = uniform_architecture(OWN_SIZES["mean"], attention="scale")
    layers = (LayerPlan(),) * 2

    with pytest.raises(
        UsageError, match="is_pruned=true: expected false for model own"
    ):
        Plan(layers=layers, is_pruned=True).check_fits(mean)
    with pytest.raises(UsageError, match="is_pruned are of the folded network"):
        Plan(layers=layers, is_pruned=True, is_folded=False)


def test_rewrites_keep_the_sum_of_squares_within_what_spu_inverts():
    model = get_model("cifar")
    plan = rewrites_only(uniform_architecture(model, attention="scale"))

    largest_deviation = 300.0  # of a token; SPU's rsqrt is 0 from 2^17 on
    sum_of_squares = model.width * (plan.stream_scale * largest_deviation) ** 2

    assert sum_of_squares < 2**17
