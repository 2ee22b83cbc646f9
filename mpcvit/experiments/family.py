"""One search's family beside every baseline at the same costs."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from mpcprof.errors import UsageError
from mpcvit.experiments.choices import (
    check_draw,
    draw_at_cost,
    make_trial,
    spread_budgets_s,
    warn_of_indifference,
)
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.layer_search import LayerSearch, search_layers
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import pareto_runs, run_trials
from mpcvit.experiments.search_config import Searched, recall_search
from mpcvit.experiments.setting import Setting
from mpcvit.experiments.trial import Outcome, Trial
from mpcvit.pareto import ParetoConfig, draw_pareto, gather
from mpcvit.search.baselines import UNIFORM, by_layer, evenly, uniform_baselines
from mpcvit.search.derive import derive_by_budget
from mpcvit.search.result import SearchResult, read_result

_PICTURE = "pareto.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRequest:
    """What is compared.

    Attributes:
        search: Folder of a finished search.
        budgets_s: Seconds of the setting's heads; `n_budgets` at equal steps without.
        n_random: Random choices at each budget.
        tolerance: Share by which their seconds may differ from the searched one's.
        variants: In every head of a network each.

    Raises:
        UsageError: If a number is out of range.
    """

    search: Path
    budgets_s: tuple[float, ...] = ()
    n_budgets: int = 3
    n_random: int = 1
    tolerance: float = 0.01
    variants: tuple[str, ...] = UNIFORM

    def __post_init__(self) -> None:
        if self.n_budgets < 1:
            raise UsageError(f"n_budgets={self.n_budgets}: expected at least 1")
        if self.n_random:
            check_draw(self.n_random, self.tolerance)


def compare_family(
    setting: Setting,
    request: FamilyRequest,
    *,
    command: str,
    observer: JobsObserver | None = None,
) -> Report:
    """Train searched, per-layer, even, random and uniform networks; draw `pareto.png`.

    Raises:
        UsageError: If the search is not finished or no choice meets a budget.
    """
    result = read_result(request.search)
    layers = search_layers(setting, request.search, result, observer)
    trials, missing = _trials(setting, request, result, layers.result)
    outcomes = run_trials(setting, trials, observer)
    return Report(
        title="A searched family and its baselines",
        setting=setting,
        outcomes=outcomes,
        findings=(
            *warn_of_indifference(result),
            *layers.notes,
            *missing,
            *_findings(outcomes),
            *_draw(setting, outcomes),
        ),
        values={"search": str(request.search)},
        command=command,
        searches=_searches(request, result, layers),
    )


def _searches(
    request: FamilyRequest, result: SearchResult, layers: LayerSearch
) -> tuple[Searched, ...]:
    by_folder = {request.search: result, layers.folder: layers.result}
    return tuple(recall_search(*one) for one in by_folder.items())


def _trials(
    setting: Setting,
    request: FamilyRequest,
    result: SearchResult,
    layers: SearchResult,
) -> tuple[list[Trial], list[str]]:
    """What is trained; where there are too few random choices, that there are none."""
    heads = setting.heads
    budgets_s = request.budgets_s or spread_budgets_s(result, request.n_budgets, heads)
    trials, missing = [], []
    for budget_s in budgets_s:
        searched = derive_by_budget(result, budget_s, heads=heads)
        whole = by_layer(layers, budget_s, heads=heads)
        even = evenly(result, budget_s, heads=heads)
        trials += [
            make_trial("searched", searched, result),
            make_trial("per-layer", whole, layers),
            make_trial("even", even, result),
        ]
        if not request.n_random:
            continue
        try:
            found = draw_at_cost(
                result,
                searched,
                n=request.n_random,
                tolerance=request.tolerance,
                heads=heads,
            )
        except UsageError as error:  # an extreme has no others of its cost
            missing.append(f"Nothing random beside {searched.label}: {error}.")
            continue
        for one in found:
            named = replace(one, label=f"{one.label}-{budget_s:g}s")
            trials.append(make_trial("random", named, result))
    uniform = uniform_baselines(result.model, heads=heads, variants=request.variants)
    trials += [
        Trial(group=name, name=name, architecture=one, detail="in every head")
        for name, one in uniform.items()
    ]
    return trials, missing


def _draw(setting: Setting, outcomes: tuple[Outcome, ...]) -> list[str]:
    """Draw what this call trained; where, and the command that draws it again."""
    runs = pareto_runs(outcomes)
    if not runs:
        return ["Nothing is drawn: every training diverged."]
    path = setting.folder / _PICTURE
    request = ParetoConfig(runs=runs, profile=setting.profile, network=setting.network)
    title = f"{setting.run.dataset}, {setting.network}, {setting.profile.stem}"
    draw_pareto(gather(request), title, path)
    words = [*runs, "--cost-table", setting.profile, "--network", setting.network]
    again = shlex.join(map(str, ["mpcvit", "pareto", *words, "-o", path]))
    return [f"Drawn in {path}.", f"The same, and measured: `{again} --measured`."]


def _findings(outcomes: tuple[Outcome, ...]) -> list[str]:
    """For each searched network the baselines that are neither slower nor worse."""
    sentences = []
    for one in outcomes:
        if one.trial.group != "searched" or one.accuracy is None:
            continue
        better = [
            f"{other.trial.group}/{other.trial.name}"
            for other in outcomes
            if other.trial.group != "searched" and _beats(other, one)
        ]
        named = f"by {', '.join(better)}" if better else "by no baseline"
        sentences.append(
            f"{one.trial.name} is beaten in accuracy or predicted seconds, at no loss "
            f"of the other, {named}."
        )
    return sentences


def _beats(one: Outcome, other: Outcome) -> bool:
    if one.accuracy is None or other.accuracy is None:
        return False
    is_no_worse = (
        one.accuracy >= other.accuracy and one.predicted_s <= other.predicted_s
    )
    return is_no_worse and (one.accuracy, one.predicted_s) != (
        other.accuracy,
        other.predicted_s,
    )
