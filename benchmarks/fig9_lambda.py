"""Figure 9: what a search finds as a second costs its loss more or less.

    python benchmarks/fig9_lambda.py [--lambda 0,0.003,0.01,0.03] [--mu 0.5] [--jobs 2]

Searches under each lambda with every seed, prints expected latency and mean alpha by
layer, and draws alpha in `alpha.png`. On digits 8 minutes with one seed on two cores.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, pairwise, product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any  # Any: JSON

import click
import numpy as np
from scipy.stats import spearmanr

from candidates import make_candidate
from mpcprof.cli.options import parse_numbers
from mpcprof.errors import UsageError
from mpcprof.figures.canvas import COLORS, add_legend, label_figure, open_figure
from mpcprof.progress import Progress
from mpcprof.units import format_duration
from mpcvit.search.alpha.derive import derive_by_mu
from mpcvit.search.alpha.objective import Penalty
from mpcvit.search.alpha.space import SearchedActivation, SearchSpace
from mpcvit.study.report import StudyReport
from mpcvit.study.training import Study, train_candidates
from script import search_epochs_option, study_command
from searches import Searched, make_search, run_searches


@study_command("runs/lambda_sweep", seeds="0")
@click.option(
    "--lambda",
    "lambdas",
    type=parse_numbers,
    default="0,0.001,0.003,0.01,0.03",
    show_default=True,
)
@click.option(
    "--mu",
    type=click.FloatRange(0, 1),
    help="Train what each lambda's first search derives. [default: none]",
)
@click.option("--activation", default="none", show_default=True, help="none, layer ...")
@search_epochs_option
def main(
    study: Study,
    progress: Progress,
    lambdas: tuple[float, ...],
    mu: float | None,
    activation: SearchedActivation,
    search_epochs: int | None,
) -> StudyReport:
    """Search under each lambda, with every seed."""
    if list(lambdas) != sorted({*lambdas}):
        raise UsageError(f"lambda {lambdas}: expected each once, ascending")
    space = SearchSpace(activation=activation)
    search = partial(make_search, study, space=space, epochs=search_epochs)
    searches = [
        search(f"lambda-{x:g}-seed-{seed}", penalty=Penalty(lambda_per_s=x), seed=seed)
        for x, seed in product(lambdas, study.seeds)
    ]
    found = run_searches(study, searches, progress)
    n_seeds = len(study.seeds)
    groups = [found[n : n + n_seeds] for n in range(0, len(found), n_seeds)]
    points = [*map(summarize, lambdas, groups)]
    picture = study.folder / "alpha.png"
    draw(points, study.label, picture)
    candidates = []
    for value, (first, *_) in zip(lambdas, groups, strict=True):
        if mu is not None:
            derived = derive_by_mu(first.result, mu, heads=study.heads)
            named = replace(derived, label=f"{value:g}")
            candidates.append(make_candidate("lambda", named, first.result))
    seed = study.seeds[0]
    note = f"Trained, with every seed: what the search of seed {seed} derives."
    return StudyReport(
        title="Lambda (Figure 9)",
        study=study,
        outcomes=train_candidates(study, candidates, progress) if candidates else (),
        findings=(
            *map(describe, points),
            *(correlate(*pair) for pair in pairwise(points)),
            *([note] if candidates else []),
            f"Mean alpha by layer is drawn in {picture}; the paper's Figure 9 prints "
            "no numbers, and its lambda is of other units.",
        ),
        values={"points": points},
        searches=found,
    )


def summarize(lambda_per_s: float, group: Sequence[Searched]) -> dict[str, Any]:
    """Return what the searches under one lambda found, a number for each seed."""
    alphas = np.stack([one.result.alpha for one in group])  # (S, L, ...)
    by_layer = alphas.reshape(*alphas.shape[:2], -1).mean(axis=(0, 2))
    return {
        "lambda_per_s": lambda_per_s,
        "expected_s": [one.result.expected_latency_s for one in group],
        "supernet_accuracy": [one.result.accuracy for one in group],
        "alpha_by_layer": by_layer.tolist(),
        "alpha": alphas.tolist(),
    }


def describe(point: dict[str, Any]) -> str:
    """Return means over seeds in one line."""
    seconds = point["expected_s"]
    spread = f" (sd {stdev(seconds):.2g} s)" if len(seconds) > 1 else ""
    return (
        f"lambda {point['lambda_per_s']:g} per s: expected "
        f"{format_duration(fmean(seconds), digits=4)}{spread}, "
        f"supernet {fmean(point['supernet_accuracy']):.2%}, mean alpha by layer "
        f"{', '.join(f'{alpha:.2f}' for alpha in point['alpha_by_layer'])}"
    )


def correlate(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Return how expected latency and the order of alpha change between two lambdas."""
    change_s = fmean(second["expected_s"]) - fmean(first["expected_s"])
    alphas = [np.mean(point["alpha"], axis=0).ravel() for point in (first, second)]
    rank = "undefined, alpha is constant"
    if all(np.ptp(alpha) > 0 for alpha in alphas):
        rank = f"{spearmanr(*alphas).statistic:.2f}"
    return (
        f"As lambda grows from {first['lambda_per_s']:g} to {second['lambda_per_s']:g}:"
        f" expected latency {change_s:+.3g} s, rank correlation of alpha {rank}."
    )


def draw(points: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the mean alpha of each layer, a line for each lambda."""
    layers = range(1, len(points[0]["alpha_by_layer"]) + 1)
    with open_figure(1.4, 1.0, path) as figure:
        axes, handles = figure.subplots(), {}
        for point, color, marker in zip(points, cycle(COLORS.values()), cycle("os^Dv")):
            alphas = point["alpha_by_layer"]
            (line,) = axes.plot(layers, alphas, color=color, marker=marker)
            handles[f"lambda {point['lambda_per_s']:g}"] = line
        axes.set(xlabel="layer", ylabel="mean alpha", ylim=(-0.02, 1.02), xticks=layers)
        add_legend(figure, handles, is_sorted=False)
        label_figure(figure, title, "")


if __name__ == "__main__":
    main()
