"""One search's family beside every baseline at the same costs."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from mpcvit.experiments.choices import (
    draw_at_cost,
    make_trial,
    spread_budgets_s,
    warn_of_indifference,
)
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import group_folders, run_trials
from mpcvit.experiments.searches import SearchPlan, make_search, run_searches
from mpcvit.experiments.setting import Setting
from mpcvit.experiments.trial import Outcome, Trial
from mpcvit.pareto import Request, draw_pareto, gather
from mpcvit.search.baselines import UNIFORM, by_layer, evenly, uniform_baselines
from mpcvit.search.derive import derive_by_budget
from mpcvit.search.penalty import Penalty
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
    """

    search: Path
    budgets_s: tuple[float, ...] = ()
    n_budgets: int = 3
    n_random: int = 1
    tolerance: float = 0.01
    variants: tuple[str, ...] = UNIFORM


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
    trials = _trials(setting, request, result, observer)
    outcomes = run_trials(setting, trials, observer)
    pareto = _draw(setting, trials)
    return Report(
        title="A searched family and its baselines",
        setting=setting,
        outcomes=outcomes,
        findings=(
            *warn_of_indifference(result),
            *_findings(outcomes),
            f"Drawn in {setting.folder / _PICTURE}.",
            f"The same, and measured: `{pareto} --measured`.",
        ),
        values={"search": str(request.search)},
        command=command,
    )


def _trials(
    setting: Setting,
    request: FamilyRequest,
    result: SearchResult,
    observer: JobsObserver | None,
) -> list[Trial]:
    heads = setting.heads
    budgets_s = request.budgets_s or spread_budgets_s(result, request.n_budgets, heads)
    layers = _search_layers(setting, result, observer)
    trials = []
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
        for one in draw_at_cost(
            result,
            searched,
            n=request.n_random,
            tolerance=request.tolerance,
            heads=heads,
        ):
            named = replace(one, label=f"{one.label}-{budget_s:g}s")
            trials.append(make_trial("random", named, result))
    uniform = uniform_baselines(result.model, heads=heads, variants=request.variants)
    trials += [
        Trial(group=name, name=name, architecture=one, detail="in every head")
        for name, one in uniform.items()
    ]
    return trials


def _search_layers(
    setting: Setting, result: SearchResult, observer: JobsObserver | None
) -> SearchResult:
    """A search of whole layers, as the given one but for that; itself if it is one."""
    if result.space.granularity == "layer":
        return result
    if result.target_s is None:
        penalty = Penalty(
            lambda_per_s=result.lambda_per_s, eta_per_s=float(result.eta_per_s)
        )
    else:
        penalty = Penalty(lambda_per_s=None, target_s=result.target_s)
    plan = SearchPlan(penalty=penalty, form=result.cost.form, epochs=result.n_epochs)
    space = replace(
        result.space,
        granularity="layer",
        activation="none" if result.beta is None else "layer",
    )
    made = make_search(setting, plan, space, "per-layer")
    (found,) = run_searches(setting, [made], observer)
    return found


def _draw(setting: Setting, trials: list[Trial]) -> str:
    """The picture, and the command that draws it again."""
    folders = group_folders(setting, trials)
    runs = tuple(
        f"{group}={folder}"
        for group, folder in folders.items()
        if any(folder.rglob("model.safetensors"))
    )
    path = setting.folder / _PICTURE
    request = Request(runs=runs, profile=setting.profile, network=setting.network)
    title = f"{setting.run.dataset}, {setting.network}, {setting.profile.stem}"
    draw_pareto(gather(request), title, path)
    words = [*runs, "--cost-table", setting.profile, "--network", setting.network]
    return shlex.join(map(str, ["mpcvit", "pareto", *words, "-o", path]))


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
