"""A searched architecture against random ones of the same predicted latency."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from mpcprof.units import format_duration
from mpcvit.experiments.choices import (
    draw_at_cost,
    make_trial,
    spread_budgets_s,
    warn_of_indifference,
)
from mpcvit.experiments.comparison import compare_means
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import run_trials
from mpcvit.experiments.search_config import recall_search
from mpcvit.experiments.setting import Setting
from mpcvit.experiments.trial import Outcome
from mpcvit.search.derive import derive_by_budget
from mpcvit.search.result import read_result


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomRequest:
    """What is compared.

    Attributes:
        search: Folder of a finished search.
        budget_s: Of the searched one; half-way between the extremes without.
        tolerance: Share by which a random one's predicted latency may differ.
        seed: Of the random choices.
    """

    search: Path
    budget_s: float | None = None
    n_random: int = 10
    tolerance: float = 0.01
    seed: int = 0


def compare_with_random(
    setting: Setting,
    request: RandomRequest,
    *,
    command: str,
    observer: JobsObserver | None = None,
) -> Report:
    """Train the searched one and the random ones alike; the verdict as it falls.

    Raises:
        UsageError: If there are not so many random choices at that cost.
    """
    result = read_result(request.search)
    heads = setting.heads
    budget_s = request.budget_s or spread_budgets_s(result, 1, heads)[0]
    searched = derive_by_budget(result, budget_s, heads=heads)
    others = draw_at_cost(
        result,
        searched,
        n=request.n_random,
        tolerance=request.tolerance,
        heads=heads,
        seed=request.seed,
    )
    trials = [
        make_trial("searched", searched, result),
        *(make_trial("random", one, result) for one in others),
    ]
    first, *rest = run_trials(setting, trials, observer)
    findings, values = judge(first, rest)
    return Report(
        title=f"Searched and random at {format_duration(budget_s, digits=4)}",
        setting=setting,
        outcomes=(first, *rest),
        findings=(*warn_of_indifference(result), *findings),
        values={"search": str(request.search), "budget_s": budget_s, **values},
        command=command,
        searches=(recall_search(request.search, result),),
    )


def judge(
    searched: Outcome, others: list[Outcome]
) -> tuple[tuple[str, ...], dict[str, object]]:
    """What the accuracies say, in sentences and as JSON values.

    The searched one's seeds are held against the others' means; against the seeds of
    the other where there is only one.
    """
    ratios = [one.predicted_s / searched.predicted_s - 1 for one in others]
    trained = [one for one in others if one.accuracy is not None]
    means = [one.accuracy for one in trained if one.accuracy is not None]
    cost = (
        f"Predicted latency of the random ones: {min(ratios):+.2%} to "
        f"{max(ratios):+.2%} of the searched one's."
    )
    if searched.accuracy is None or not means:
        return (cost, "No verdict: too many trainings diverged."), {}
    mean, spread = fmean(means), stdev(means) if len(means) > 1 else None
    theirs = means if len(means) > 1 else trained[0].accuracies
    found = compare_means(searched.accuracies, theirs, n_test=searched.n_test)
    n_below = sum(searched.accuracy > one for one in means)
    n_equal = sum(searched.accuracy == one for one in means)
    is_at_least = found.difference >= 0
    spread_text = "" if spread is None else f", sd {spread:.2%}"
    return (
        cost,
        f"Random: mean {mean:.2%}{spread_text} over {len(means)} architectures, "
        f"{min(means):.2%} to {max(means):.2%}. Searched: {searched.accuracy:.2%}, "
        f"above {n_below} of them and level with {n_equal}.",
        f"Verdict: the searched one is {'' if is_at_least else 'NOT '}at least as "
        f"accurate as the mean of the random ones: {found}.",
    ), {
        "latency_ratio_range": [1 + min(ratios), 1 + max(ratios)],
        "random_mean": mean,
        "random_spread": spread,
        "searched_mean": searched.accuracy,
        "n_below": n_below,
        "n_level": n_equal,
        "is_at_least_the_mean": is_at_least,
        **found.to_json(),
    }
