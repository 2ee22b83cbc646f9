"""A searched family beside its baselines: trained alike, drawn by `mpcvit pareto`.

    mpcvit search --cost-table profiles/semi2k.parquet --output runs/search
    python benchmarks/pareto_family.py runs/search [--budgets 18s,14s] [--jobs 2]

Baselines at the same costs: whole layers (a search by layer), equally many heads in
every layer, random heads; besides, one attention in every head. Prints every accuracy
and predicted latency, and draws `pareto.png`. On digits 12 minutes with one seed on two
cores.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from baselines import (
    by_layer,
    draw_at_cost,
    evenly,
    spread_budgets_s,
    uniform_baselines,
)
from candidates import make_candidate, pareto_command
from mpcprof.cli.options import parse_durations_s
from mpcprof.errors import UsageError
from mpcprof.progress import Progress
from mpcvit.front import draw_pareto
from mpcvit.pareto import ParetoConfig, gather
from mpcvit.search.alpha.derive import derive_by_budget
from mpcvit.study.report import StudyReport
from mpcvit.study.training import (
    Candidate,
    Outcome,
    Study,
    pareto_runs,
    train_candidates,
)
from script import study_command, tolerance_option
from searches import recall_search, search_layers, warn_of_indifference


@study_command("runs/family", seeds="0", has_search=True)
@click.option("--budgets", "budgets_s", type=parse_durations_s, help="Such as 18s,14s.")
@click.option(
    "--n-budgets",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Number of budgets without --budgets.",
)
@click.option(
    "--n-random",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Random choices at each budget.",
)
@tolerance_option
def main(
    study: Study,
    progress: Progress,
    search: Path,
    budgets_s: tuple[float, ...] | None,
    n_budgets: int,
    n_random: int,
    tolerance: float,
) -> StudyReport:
    """Train what SEARCH derives and every baseline alike; table and picture."""
    found = recall_search(search)
    result, heads = found.result, study.heads
    layers, notes = search_layers(study, found, progress)
    candidates: list[Candidate] = []
    for budget_s in budgets_s or spread_budgets_s(result, n_budgets, heads):
        searched = derive_by_budget(result, budget_s, heads=heads)
        whole = by_layer(layers.result, budget_s, heads=heads)
        even = evenly(result, budget_s, heads=heads)
        candidates += [
            make_candidate("searched", searched, result),
            make_candidate("per-layer", whole, layers.result),
            make_candidate("even", even, result),
        ]
        if not n_random:
            continue
        try:
            drawn = draw_at_cost(
                result, searched, n=n_random, tolerance=tolerance, heads=heads
            )
        except UsageError as error:  # an extreme has no others of its cost
            notes.append(f"Nothing random beside {searched.label}: {error}.")
            continue
        named = [replace(one, label=f"{one.label}-{budget_s:g}s") for one in drawn]
        candidates += [make_candidate("random", one, result) for one in named]
    candidates += [
        Candidate(group=name, name=name, architecture=one, detail="in every head")
        for name, one in uniform_baselines(result.model, heads=heads).items()
    ]
    outcomes = train_candidates(study, candidates, progress)
    return StudyReport(
        title="A searched family and its baselines",
        study=study,
        outcomes=outcomes,
        findings=(
            *warn_of_indifference(result),
            *notes,
            *compare(outcomes),
            *draw(study, outcomes),
        ),
        values={"search": str(search)},
        searches=tuple({one.folder: one for one in (found, layers)}.values()),
    )


def compare(outcomes: Sequence[Outcome]) -> list[str]:
    """Return, for each searched network, the baselines that beat it."""
    sentences = []
    searched = [one for one in outcomes if one.candidate.group == "searched"]
    for one in (one for one in searched if one.accuracy is not None):
        better = [
            f"{other.candidate.group}/{other.candidate.name}"
            for other in outcomes
            if other not in searched and beats(other, one)
        ]
        named = f"by {', '.join(better)}" if better else "by no baseline"
        sentences.append(
            f"{one.candidate.name} is beaten in accuracy or predicted seconds, at no "
            f"loss of the other, {named}."
        )
    return sentences


def beats(one: Outcome, other: Outcome) -> bool:
    """Return whether one is better than the other in one respect, and worse in none."""
    if one.accuracy is None or other.accuracy is None:
        return False
    gain, saved_s = one.accuracy - other.accuracy, other.predicted_s - one.predicted_s
    return min(gain, saved_s) >= 0 and max(gain, saved_s) > 0


def draw(study: Study, outcomes: Sequence[Outcome]) -> list[str]:
    """Draw what this call trained; return where, and the command to draw it again."""
    runs = pareto_runs(outcomes)
    if not runs:
        return ["Nothing is drawn: every training diverged."]
    path = study.folder / "pareto.png"
    request = ParetoConfig(runs=runs, profile=study.profile, network=study.network)
    draw_pareto(gather(request), study.label, path)
    again = f"{pareto_command(study, outcomes)} -o {shlex.quote(str(path))}"
    return [f"Drawn in {path}.", f"The same, and measured: `{again} --measured`."]


if __name__ == "__main__":
    main()
