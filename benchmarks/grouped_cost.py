"""Additive against grouped cost in search and derivation, heads batched.

    python benchmarks/grouped_cost.py [--lambda 0.005] [--seeds 0,1,2] [--jobs 2]

Searches under both costs, trains what both derive, and prints pairs of an additive and
a grouped network: accuracies, their difference, predicted seconds. The additive
networks are derived within budgets of additive seconds, as somebody would who knows no
better. Beside each stand two grouped ones: as slow as it when batched (is it more
accurate?), and the quickest of 100 budgets with at least as many accurate units (is it
as accurate?), if there is one. The script also prints the command that measures every
network by real parties; run it, and this again, for measured seconds in the table. On
digits 15 minutes with two seeds on two cores.
"""

from functools import partial
from typing import Any, Final

import click

from baselines import derive_additive, extremes_s, spread_budgets_s
from candidates import make_candidate, pareto_command
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.profile.io import read_profile
from mpcprof.progress import Progress
from mpcprof.units import format_duration
from mpcvit.search.alpha.cost import CostForm, SearchCost
from mpcvit.search.alpha.derive import Derived, derive_by_budget
from mpcvit.search.alpha.objective import Penalty
from mpcvit.search.alpha.result import SearchResult
from mpcvit.search.alpha.space import SearchedActivation, SearchSpace
from mpcvit.study.report import StudyReport, compare_means
from mpcvit.study.training import Candidate, Outcome, Study, train_candidates
from script import search_options, study_command
from searches import make_search, run_searches

STEPS: Final = 100  # budgets among which the quickest is looked for


@study_command("runs/grouped_cost", heads="batched")
@click.option("--activation", default="none", show_default=True, help="none, layer ...")
@click.option(
    "--n-budgets",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Number of budgets in additive seconds.",
)
@search_options
def main(
    study: Study,
    progress: Progress,
    activation: SearchedActivation,
    n_budgets: int,
    lambda_per_s: float,
    search_epochs: int | None,
    search_seed: int,
) -> StudyReport:
    """Search and derive under both costs, train alike, price with heads batched."""
    if study.heads != "batched":
        raise UsageError(f"heads={study.heads}: expected batched, what is compared")
    space = SearchSpace(activation=activation)
    # the grouped lambda is larger by as much as its seconds vary less
    ratio = range_s(study, space, "additive") / range_s(study, space, "grouped")
    ratios: dict[CostForm, float] = {"additive": 1.0, "grouped": ratio}
    search = partial(
        make_search, study, space=space, epochs=search_epochs, seed=search_seed
    )
    searches = [
        search(form, penalty=Penalty(lambda_per_s=lambda_per_s * times), form=form)
        for form, times in ratios.items()
    ]
    found = run_searches(study, searches, progress)
    additive, grouped = (one.result for one in found)
    candidates, pairs = make_pairs(additive, grouped, n_budgets)
    outcomes = train_candidates(study, candidates, progress)
    named = {one.candidate.name: one for one in outcomes}
    compared = [compare(named[first], named[second]) for first, second in pairs]
    most_s, *_, least_s = spread_budgets_s(grouped, STEPS, "batched")
    step = format_duration((most_s - least_s) / (STEPS - 1), digits=3)
    return StudyReport(
        title="Additive and grouped cost, heads batched",
        study=study,
        outcomes=outcomes,
        findings=(
            f"lambda {additive.lambda_per_s:.3g} per s additive, "
            f"{grouped.lambda_per_s:.3g} grouped: the same range of penalty.",
            "The quickest grouped one with at least as many accurate units is what the "
            f"least of {STEPS} budgets buys, at equal steps of {step}: one between two "
            "steps may be quicker still.",
            *(sentence for sentence, _ in compared),
            f"To measure: `{pareto_command(study, outcomes)} --measured`, then this "
            "again.",
        ),
        values={"pairs": [values for _, values in compared]},
        searches=found,
    )


def range_s(study: Study, space: SearchSpace, form: CostForm) -> float:
    """Return the seconds between every unit accurate and none."""
    model = fit_cost_model(read_profile(study.profile))
    cost = SearchCost.from_model(model, study.preset, space, study.network, form)
    cheap_s, accurate_s = extremes_s(cost, space, study.preset)
    return accurate_s - cheap_s


def make_pairs(
    additive: SearchResult, grouped: SearchResult, n_budgets: int
) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Return what is trained, and the names that are compared, additive first."""
    derive = partial(derive_by_budget, grouped, heads="batched")
    candidates, pairs = {}, []
    for budget_s in spread_budgets_s(additive, n_budgets, "serial"):
        first = derive_additive(additive, budget_s)
        candidates[first.label] = make_candidate("additive", first, additive)
        as_slow = derive(first.predicted_s)
        others = map(derive, reversed(spread_budgets_s(grouped, STEPS, "batched")))
        quickest = next((one for one in others if has_as_many(one, first)), as_slow)
        for one in (as_slow, quickest):
            candidates[one.label] = make_candidate("grouped", one, grouped)
            pairs.append((first.label, one.label))
    return [*candidates.values()], [*dict.fromkeys(pairs)]


def has_as_many(one: Derived, other: Derived) -> bool:
    """Return whether one has at least as many accurate units and GeLU as the other."""
    is_gelu_enough = (one.n_gelu or 0) >= (other.n_gelu or 0)
    return one.n_accurate >= other.n_accurate and is_gelu_enough


def compare(first: Outcome, second: Outcome) -> tuple[str, dict[str, Any]]:  # Any: JSON
    """Return accuracy and seconds of a pair, in a sentence and as JSON values."""
    theirs, ours = first.candidate, second.candidate
    names = f"grouped {ours.name} against {theirs.name}"
    if not first.accuracies or not second.accuracies:
        return f"{names}: a training diverged.", {}
    found = compare_means(second.accuracies, first.accuracies, n_test=first.n_test)
    parts = [f"{names}: {found}"]
    seconds: dict[str, list[float | None]] = {}
    for kind in ("predicted_s", "measured_s"):
        seconds[kind] = [getattr(first, kind), getattr(second, kind)]
        theirs_s, ours_s = seconds[kind]
        if theirs_s and ours_s:
            long, short = (format_duration(x, digits=4) for x in (theirs_s, ours_s))
            change = f"{kind.removesuffix('_s')} ({ours_s / theirs_s - 1:+.1%})"
            parts.append(f"{short} instead of {long} {change}")
    if ours.architecture.attention == theirs.architecture.attention:
        parts.append("the same heads are accurate")
    both = {"additive": theirs.name, "grouped": ours.name}
    return f"{', '.join(parts)}.", {**both, **found.to_json(), **seconds}


if __name__ == "__main__":
    main()
