"""Baselines: budgets between the extremes, random choices of equal cost, even ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines import draw_at_cost, evenly, spread_budgets_s
from mpcprof.errors import UsageError
from mpcvit.search.alpha.derive import derive_by_budget
from tests.studies import make_result


@pytest.mark.parametrize("form", ["additive", "grouped"])
@pytest.mark.parametrize("activation", ["none", "token"])
def test_random_choices_cost_the_same_and_all_differ(form, activation):
    result = make_result(form, activation)
    heads = "serial" if form == "additive" else "batched"
    budget_s = spread_budgets_s(result, 2, heads)[0]
    searched = derive_by_budget(result, budget_s, heads=heads)

    found = draw_at_cost(result, searched, n=4, tolerance=0.02, heads=heads)

    ratios = [one.predicted_s / searched.predicted_s for one in found]
    assert max(abs(ratio - 1) for ratio in ratios) <= 0.02
    accurate = {
        tuple(
            (sum(head == ("relu_softmax",) for head in heads), activation)
            for heads, activation in zip(
                one.architecture.attention, one.architecture.activation, strict=True
            )
        )
        for one in (searched, *found)
    }
    assert len(accurate) == 5
    assert [one.label for one in found] == [f"random-{n}" for n in (1, 2, 3, 4)]


def test_more_random_choices_than_there_are_is_said_so():
    result = make_result()
    quickest_s = float(result.cost.latency_s(0 * result.alpha))
    searched = derive_by_budget(result, quickest_s, heads="serial")

    with pytest.raises(
        UsageError, match=r"0 random choices within 1\.00% .*expected 2"
    ):
        draw_at_cost(result, searched, n=2, tolerance=0.01, heads="serial")


def test_an_even_choice_keeps_as_many_heads_in_every_layer():
    result = make_result()

    even = evenly(result, spread_budgets_s(result, 1, "serial")[0], heads="serial")

    accurate = [
        sum(head == ("relu_softmax",) for head in layer)
        for layer in even.architecture.attention
    ]
    assert accurate == [2, 2, 2]


def test_numbers_that_nothing_can_be_drawn_by_are_refused():
    result = make_result()
    searched = derive_by_budget(result, 20.0, heads="serial")

    with pytest.raises(UsageError, match="n_budgets=-1: expected at least 1"):
        spread_budgets_s(result, -1, "serial")
    with pytest.raises(UsageError, match="n_random=0: expected at least 1"):
        draw_at_cost(result, searched, n=0, tolerance=0.1, heads="serial")
    with pytest.raises(UsageError, match=r"tolerance=nan: expected a share"):
        draw_at_cost(result, searched, n=1, tolerance=float("nan"), heads="serial")


@given(st.integers(1, 6))
def test_budgets_lie_between_the_extremes_and_fall(n_budgets):
    result = make_result()
    most_s = float(result.cost.latency_s(0 * result.alpha + 1))
    least_s = float(result.cost.latency_s(0 * result.alpha))

    budgets_s = spread_budgets_s(result, n_budgets, "serial")

    assert [*budgets_s] == sorted({*budgets_s}, reverse=True)
    assert least_s < budgets_s[-1]
    assert budgets_s[0] < most_s
