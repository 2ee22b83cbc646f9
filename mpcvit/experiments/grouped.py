"""Additive against grouped cost, where heads run batched and share their hops."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.profile.io import read_profile
from mpcprof.units import format_duration
from mpcvit.experiments.choices import make_trial, spread_budgets_s
from mpcvit.experiments.comparison import compare_means
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import pareto_runs, run_trials
from mpcvit.experiments.search_config import recall_search
from mpcvit.experiments.searches import SearchPlan, make_search, run_searches
from mpcvit.experiments.setting import Setting
from mpcvit.experiments.trial import Outcome, Trial
from mpcvit.search.budget import choose_within
from mpcvit.search.cost import CostForm, SearchCost
from mpcvit.search.derive import Derived, derive_by_budget, make_derived
from mpcvit.search.objective import Penalty
from mpcvit.search.result import SearchResult
from mpcvit.search.space import SearchSpace

_GROUPED: Final = "grouped"
_STEPS: Final = 100  # budgets that the quickest is looked for among


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedRequest:
    """What is compared.

    Attributes:
        lambda_per_s: Of the additive search. The grouped one's is larger by as much as
            its seconds vary less, so that both penalties have the same range.
        n_budgets: Of the additive search, at equal steps between the extremes.
    """

    lambda_per_s: float
    space: SearchSpace
    n_budgets: int = 3
    epochs: int | None = None
    seed: int = 0


def compare_costs(
    setting: Setting,
    request: GroupedRequest,
    *,
    command: str,
    observer: JobsObserver | None = None,
) -> Report:
    """Search under both costs, derive, train; price all with heads batched.

    The additive architectures are derived within budgets of additive seconds, as one
    would who knows no better. To each stand two grouped ones: as slow as it when
    batched (is it more accurate?), and the quickest with at least as many accurate
    units (is it as accurate?): of 100 budgets at equal steps the least that buys them,
    so that a quicker one may lie between two steps.

    Raises:
        UsageError: If the setting's heads are not batched.
    """
    if setting.heads != "batched":
        raise UsageError(f"heads={setting.heads}: expected batched, what is compared")
    folders, (additive, grouped) = _search(setting, request, observer)
    trials, pairs = _trials(additive, grouped, request.n_budgets)
    outcomes = run_trials(setting, trials, observer)
    by_name = {(one.trial.group, one.trial.name): one for one in outcomes}
    judged = [
        _judge(by_name["additive", first], by_name[_GROUPED, second])
        for first, second in pairs
    ]
    return Report(
        title="Additive and grouped cost, heads batched",
        setting=setting,
        outcomes=outcomes,
        findings=(
            f"lambda {additive.lambda_per_s:.3g} per s additive, "
            f"{grouped.lambda_per_s:.3g} grouped: the same range of penalty.",
            "The quickest grouped one with at least as many accurate units is what the "
            f"least of {_STEPS} budgets buys, at equal steps of "
            f"{format_duration(_step_s(grouped), digits=3)}: one between two steps may "
            "be quicker still.",
            *(sentence for sentence, _ in judged),
            *_measuring(setting, outcomes),
        ),
        values={"pairs": [values for _, values in judged]},
        command=command,
        searches=(
            recall_search(folders[0], additive),
            recall_search(folders[1], grouped),
        ),
    )


def _measuring(setting: Setting, outcomes: Sequence[Outcome]) -> list[str]:
    """What has real parties run every network; the outcomes show it from then on."""
    runs = pareto_runs(outcomes)
    if not runs:
        return []
    words = [*runs, "--cost-table", setting.profile, "--network", setting.network]
    command = shlex.join(map(str, ["mpcvit", "pareto", *words, "--measured"]))
    return [f"To measure: `{command}`, then this again."]


def _search(
    setting: Setting, request: GroupedRequest, observer: JobsObserver | None
) -> tuple[list[Path], tuple[SearchResult, ...]]:
    """Folders and results, the additive one first."""
    additive_s, grouped_s = (
        _range_s(setting, request.space, form) for form in ("additive", "grouped")
    )
    lambdas: dict[CostForm, float] = {
        "additive": request.lambda_per_s,
        "grouped": request.lambda_per_s * additive_s / grouped_s,
    }
    requests = [
        make_search(
            setting,
            SearchPlan(
                penalty=Penalty(lambda_per_s=lambda_per_s),
                form=form,
                epochs=request.epochs,
                seed=request.seed,
            ),
            request.space,
            form,
        )
        for form, lambda_per_s in lambdas.items()
    ]
    folders = [one.run.output for one in requests]
    return folders, run_searches(setting, requests, observer)


def _range_s(setting: Setting, space: SearchSpace, form: CostForm) -> float:
    """Seconds between every unit accurate and none."""
    cost_model = fit_cost_model(read_profile(setting.profile))
    cost = SearchCost.from_model(
        cost_model, setting.preset, space, setting.network, form
    )
    shape = space.beta_shape(setting.preset)
    ones = np.ones(space.alpha_shape(setting.preset))
    beta = None if shape is None else np.ones(shape)
    none_s = cost.latency_s(0 * ones, None if beta is None else 0 * beta)
    return float(cost.latency_s(ones, beta) - none_s)


def _trials(
    additive: SearchResult, grouped: SearchResult, n_budgets: int
) -> tuple[list[Trial], list[tuple[str, str]]]:
    trials: dict[tuple[str, str], Trial] = {}
    pairs = []
    for budget_s in spread_budgets_s(additive, n_budgets, "serial"):
        first = _batched(additive, budget_s)
        seconds = (
            derive_by_budget(grouped, first.predicted_s, heads="batched"),
            _quickest_with(grouped, first),
        )
        for group, result, one in (
            ("additive", additive, first),
            *((_GROUPED, grouped, second) for second in seconds),
        ):
            trials[group, one.label] = make_trial(group, one, result)
        pairs += [
            (first.label, label) for label in dict.fromkeys(s.label for s in seconds)
        ]
    return [*trials.values()], pairs


def _batched(result: SearchResult, budget_s: float) -> Derived:
    """What a budget of additive seconds buys, priced with heads batched."""
    choice = choose_within(
        result.cost.for_heads("serial"), result.alpha, result.beta, budget_s
    )
    label = f"budget-{budget_s:g}s-additive"
    derived = make_derived(result, label, choice.alpha, choice.beta, "batched")
    return replace(derived, gap=choice.gap)


def _step_s(result: SearchResult) -> float:
    """Seconds between two of the budgets that the quickest is looked for among."""
    most_s, *_, least_s = spread_budgets_s(result, _STEPS, "batched")
    return (most_s - least_s) / (_STEPS - 1)


def _quickest_with(result: SearchResult, other: Derived) -> Derived:
    """The least of 100 budgets that buys as many accurate units as another has.

    Nearly the quickest: what a budget between two steps buys is not looked at. The one
    of the other's seconds where none of them buys so many.
    """
    budgets_s = reversed(spread_budgets_s(result, _STEPS, "batched"))
    for budget_s in budgets_s:
        one = derive_by_budget(result, budget_s, heads="batched")
        is_gelu_enough = (one.n_gelu or 0) >= (other.n_gelu or 0)
        if one.n_accurate >= other.n_accurate and is_gelu_enough:
            return one
    return derive_by_budget(result, other.predicted_s, heads="batched")


def _judge(first: Outcome, second: Outcome) -> tuple[str, dict[str, Any]]:  # Any: JSON
    names = f"grouped {second.trial.name} against {first.trial.name}"
    if not first.accuracies or not second.accuracies:
        return f"{names}: a training diverged.", {}
    found = compare_means(second.accuracies, first.accuracies, n_test=first.n_test)
    saved = 1 - second.predicted_s / first.predicted_s
    sentence = (
        f"{names}: {found}, at {format_duration(second.predicted_s, digits=4)} instead "
        f"of {format_duration(first.predicted_s, digits=4)} predicted ({-saved:+.1%})"
    )
    if first.measured_s and second.measured_s:
        sentence += (
            f", {format_duration(second.measured_s, digits=4)} instead of "
            f"{format_duration(first.measured_s, digits=4)} measured"
        )
    if first.trial.architecture.attention == second.trial.architecture.attention:
        sentence += "; the same heads are accurate"
    return f"{sentence}.", {
        "additive": first.trial.name,
        "grouped": second.trial.name,
        **found.to_json(),
        "predicted_s": [first.predicted_s, second.predicted_s],
        "measured_s": [first.measured_s, second.measured_s],
    }
