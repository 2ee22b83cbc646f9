"""Laws of the way back from the cheapest alternatives."""

import pytest

from mpcvit.tune.ladder import Alternative, back_off, find_first, frontier, most_trials
from mpcvit.tune.ranges import Place

NORM, SOFTMAX = Place(layer=0, kind="norm1"), Place(layer=0, kind="scores")


def make(*pairs: tuple[float, float]) -> list[Alternative]:
    return [Alternative(value=None, latency_s=s, error=error) for s, error in pairs]


def test_an_alternative_that_costs_more_for_no_less_error_is_dropped():
    kept = frontier(make((3, 0), (1, 4), (2, 5), (2, 4), (2.5, 1)))

    assert [(one.latency_s, one.error) for one in kept] == [(1, 4), (2.5, 1), (3, 0)]


def test_an_alternative_without_a_finite_error_hides_no_other():
    kept = frontier(make((1, float("nan")), (1.5, float("inf")), (2, 1), (3, 0)))

    assert [one.latency_s for one in kept] == [2, 3]


def test_the_place_where_a_second_removes_most_error_gives_way_first():
    ladders = {
        NORM: make((1, 3), (2, 0)),  # 9 a second
        SOFTMAX: make((5, 8), (6, 4), (6.5, 0)),  # 48, then 32; at once 43
    }

    choices = back_off(ladders)

    errors = [tuple(one.error for one in choice.values()) for choice in choices]
    assert errors == [(3, 8), (3, 4), (3, 0), (0, 0)]


def test_a_step_of_little_worth_is_skipped_for_a_longer_one_of_more():
    choices = back_off({SOFTMAX: make((1, 8), (2, 7.9), (2.1, 0))})

    assert [choice[SOFTMAX].error for choice in choices] == [8, 0]


@pytest.mark.parametrize("n_least", range(20))
def test_bisection_finds_the_first_choice_that_holds(n_least):
    choices = back_off({NORM: make(*((i, 20 - i) for i in range(20)))})
    tried = []

    def holds(choice):
        tried.append(choice)
        return choice[NORM].latency_s >= n_least

    assert find_first(choices, holds) == n_least
    assert len(tried) <= most_trials(choices) == 7


def test_where_nothing_holds_nothing_is_found():
    choices = back_off({NORM: make((1, 3), (2, 0))})

    assert find_first(choices, lambda choice: False) is None
