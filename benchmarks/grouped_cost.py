"""Additive against grouped cost in search and derivation, heads batched.

    python benchmarks/grouped_cost.py [--lambda 0.005] [--seeds 0,1,2] [--jobs 2]

Searches under both costs, trains what both derive, and prints pairs of an additive and
a grouped network: accuracies, their difference, predicted seconds. It also prints the
command that measures every network by real parties; run it, and this again, for
measured seconds in the table. On digits 15 minutes with two seeds on two cores.
"""

from dataclasses import replace
from typing import Any, Final

import click

from baselines import extremes_s, spread_budgets_s
from candidates import make_candidate, pareto_command
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.profile.io import read_profile
from mpcprof.progress import Progress
from mpcprof.units import format_duration
from mpcvit.search.budget import choose_within
from mpcvit.search.cost import CostForm, SearchCost
from mpcvit.search.derive import Derived, derive_by_budget, make_derived
from mpcvit.search.objective import Penalty
from mpcvit.search.result import SearchResult
from mpcvit.search.space import SearchedActivation, SearchSpace
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
    forms: tuple[tuple[CostForm, float], ...] = (("additive", 1.0), ("grouped", ratio))
    searches = [
        make_search(
            study,
            form,
            space,
            Penalty(lambda_per_s=lambda_per_s * times),
            form=form,
            epochs=search_epochs,
            seed=search_seed,
        )
        for form, times in forms
    ]
    found = run_searches(study, searches, progress)
    additive, grouped = (one.result for one in found)
    candidates, pairs = make_pairs(additive, grouped, n_budgets)
    outcomes = train_candidates(study, candidates, progress)
    by_name = {one.candidate.name: one for one in outcomes}
    compared = [compare(by_name[first], by_name[second]) for first, second in pairs]
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
    """Return what is trained, and the names that are compared, additive first.

    The additive networks are derived within budgets of additive seconds, as somebody
    would who knows no better. Beside each stand two grouped ones: as slow as it when
    batched (is it more accurate?), and the quickest with at least as many accurate
    units (is it as accurate?).
    """
    candidates, pairs = {}, []
    for budget_s in spread_budgets_s(additive, n_budgets, "serial"):
        first = derive_additive(additive, budget_s)
        candidates[first.label] = make_candidate("additive", first, additive)
        as_slow = derive_by_budget(grouped, first.predicted_s, heads="batched")
        quickest = derive_quickest(grouped, first)
        for label, one in {one.label: one for one in (as_slow, quickest)}.items():
            candidates[label] = make_candidate("grouped", one, grouped)
            pairs.append((first.label, label))
    return [*candidates.values()], pairs


def derive_additive(result: SearchResult, budget_s: float) -> Derived:
    """Return what a budget of additive seconds buys, priced with heads batched."""
    cost = result.cost.for_heads("serial")
    choice = choose_within(cost, result.alpha, result.beta, budget_s)
    label = f"budget-{budget_s:g}s-additive"
    derived = make_derived(result, label, choice.alpha, choice.beta, "batched")
    return replace(derived, gap=choice.gap)


def derive_quickest(result: SearchResult, other: Derived) -> Derived:
    """Return what the least of 100 budgets buys that has as many accurate units.

    The network of the other's seconds if none of the budgets buys so many.
    """
    for budget_s in reversed(spread_budgets_s(result, STEPS, "batched")):
        one = derive_by_budget(result, budget_s, heads="batched")
        is_gelu_enough = (one.n_gelu or 0) >= (other.n_gelu or 0)
        if one.n_accurate >= other.n_accurate and is_gelu_enough:
            return one
    return derive_by_budget(result, other.predicted_s, heads="batched")


def compare(first: Outcome, second: Outcome) -> tuple[str, dict[str, Any]]:  # Any: JSON
    """Return accuracy and seconds of a pair, in a sentence and as JSON values."""
    theirs, ours = first.candidate, second.candidate
    names = f"grouped {ours.name} against {theirs.name}"
    if not first.accuracies or not second.accuracies:
        return f"{names}: a training diverged.", {}
    found = compare_means(second.accuracies, first.accuracies, n_test=first.n_test)
    parts = [f"{names}: {found}"]
    for kind in ("predicted_s", "measured_s"):
        theirs_s, ours_s = getattr(first, kind), getattr(second, kind)
        if theirs_s and ours_s:
            parts.append(
                f"{format_duration(ours_s, digits=4)} instead of "
                f"{format_duration(theirs_s, digits=4)} {kind.removesuffix('_s')} "
                f"({ours_s / theirs_s - 1:+.1%})"
            )
    if ours.architecture.attention == theirs.architecture.attention:
        parts.append("the same heads are accurate")
    return f"{', '.join(parts)}.", {
        "additive": theirs.name,
        "grouped": ours.name,
        **found.to_json(),
        "predicted_s": [first.predicted_s, second.predicted_s],
        "measured_s": [first.measured_s, second.measured_s],
    }


if __name__ == "__main__":
    main()
