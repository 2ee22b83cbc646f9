"""The searched architecture against random ones of equal predicted latency.

    mpcvit search --cost-table profiles/semi2k.parquet --output runs/search
    python benchmarks/searched_and_random.py runs/search [--budget 14s] [--jobs 2]

The search may be one over layers (`mpcvit search --space free`); random networks are
then drawn from the same space.

Trains what the search derives within the budget, and random choices of that cost, by
the same recipe; prints every accuracy, and the difference of the means with its
interval. On digits 35 minutes with ten random choices and four seeds on two cores.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click

from baselines import draw_at_cost, spread_budgets_s
from candidates import Chosen, make_candidate
from layers import choose_layers
from mpcprof.progress import Progress
from mpcprof.units import format_duration, parse_duration_s
from mpcvit.search.alpha.derive import derive_by_budget
from mpcvit.search.layers.result import is_layer_search
from mpcvit.study.report import StudyReport, compare_means
from mpcvit.study.training import Outcome, Study, train_candidates
from script import study_command, tolerance_option
from searches import recall_search, warn_of_indifference


@study_command("runs/searched_and_random", has_search=True)
@click.option("--budget", type=parse_duration_s, help="[default: half-way]")
@click.option("--n-random", type=click.IntRange(min=1), default=10, show_default=True)
@tolerance_option
@click.option(
    "--random-seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random choices.",
)
def main(
    study: Study,
    progress: Progress,
    search: Path,
    budget: float | None,
    n_random: int,
    tolerance: float,
    random_seed: int,
) -> StudyReport:
    """Train what SEARCH derives, and random choices at its cost, alike."""
    make = choose_layers if is_layer_search(search) else _choose_heads
    chosen = make(study, search, budget, n_random, tolerance, random_seed)
    first, *rest = train_candidates(study, chosen.candidates, progress)
    findings, values = compare(first, rest)
    return StudyReport(
        title=f"Searched and random at {format_duration(chosen.budget_s, digits=4)}",
        study=study,
        outcomes=(first, *rest),
        findings=(*chosen.warnings, *findings),
        values={"search": str(search), "budget_s": chosen.budget_s, **values},
        searches=(chosen.source,),
    )


def _choose_heads(
    study: Study,
    search: Path,
    budget: float | None,
    n_random: int,
    tolerance: float,
    seed: int,
) -> Chosen:
    found = recall_search(search)
    result, heads = found.result, study.heads
    budget_s = budget or spread_budgets_s(result, 1, heads)[0]
    searched = derive_by_budget(result, budget_s, heads=heads)
    others = draw_at_cost(
        result, searched, n=n_random, tolerance=tolerance, heads=heads, seed=seed
    )
    candidates = [
        make_candidate("searched", searched, result),
        *(make_candidate("random", one, result) for one in others),
    ]
    return Chosen(found, budget_s, candidates, warn_of_indifference(result))


def compare(
    searched: Outcome, others: Sequence[Outcome]
) -> tuple[tuple[str, ...], dict[str, Any]]:  # Any: JSON
    """Return what the accuracies say, in sentences and as JSON values.

    The searched one's seeds are held against the others' means; against the other's
    seeds where there is only one.
    """
    ratios = [one.predicted_s / searched.predicted_s - 1 for one in others]
    trained = [one for one in others if one.accuracy is not None]
    means = [one.accuracy for one in trained if one.accuracy is not None]
    cost = (
        f"Predicted latency of the random ones: {min(ratios):+.2%} to "
        f"{max(ratios):+.2%} of the searched one's."
    )
    if searched.accuracy is None or not means:
        return (cost, "Nothing to compare: too many trainings diverged."), {}
    theirs = means if len(means) > 1 else trained[0].accuracies
    found = compare_means(searched.accuracies, theirs, n_test=searched.n_test)
    mean, spread = fmean(means), stdev(means) if len(means) > 1 else None
    n_below = sum(searched.accuracy > one for one in means)
    n_equal = sum(searched.accuracy == one for one in means)
    spread_text = "" if spread is None else f", sd {spread:.2%}"
    return (
        cost,
        f"Random: mean {mean:.2%}{spread_text} over {len(means)} architectures, "
        f"{min(means):.2%} to {max(means):.2%}. Searched: {searched.accuracy:.2%}, "
        f"above {n_below} of them and level with {n_equal}.",
        f"Searched less the mean of the random ones: {found}.",
    ), {
        "latency_ratio_range": [1 + min(ratios), 1 + max(ratios)],
        "random_mean": mean,
        "random_spread": spread,
        "searched_mean": searched.accuracy,
        "n_below": n_below,
        "n_level": n_equal,
        "is_at_least_the_mean": found.difference >= 0,
        **found.to_json(),
    }


if __name__ == "__main__":
    main()
