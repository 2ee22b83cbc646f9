"""Figure 9: what a search finds as a second costs its loss more or less."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from mpcprof.errors import UsageError
from mpcprof.units import format_duration
from mpcvit.experiments.alpha_figure import draw_alpha
from mpcvit.experiments.choices import make_trial
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import run_trials
from mpcvit.experiments.search_config import Searched, recall_search
from mpcvit.experiments.searches import SearchPlan, make_search, run_searches
from mpcvit.experiments.setting import Setting
from mpcvit.search.derive import Derived, derive_by_mu
from mpcvit.search.objective import Penalty
from mpcvit.search.result import SearchResult
from mpcvit.search.space import SearchSpace

_PICTURE = "alpha.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaRequest:
    """What is compared.

    Attributes:
        lambdas_per_s: Loss per second, each of a search.
        plan: All of a search but lambda.
        mu: Train what the first seed's search under each lambda derives by this share;
            None trains nothing.
    """

    lambdas_per_s: tuple[float, ...]
    plan: SearchPlan
    space: SearchSpace
    mu: float | None = None

    def __post_init__(self) -> None:
        if list(self.lambdas_per_s) != sorted({*self.lambdas_per_s}):
            raise UsageError(
                f"lambda {self.lambdas_per_s}: expected each once, ascending"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaPoint:
    """The searches under one lambda, one for each seed."""

    lambda_per_s: float
    searches: tuple[Searched, ...]

    @property
    def results(self) -> tuple[SearchResult, ...]:
        """In the order of the seeds."""
        return tuple(one.result for one in self.searches)

    @property
    def expected_s(self) -> float:
        """Latency of the relaxed model, mean over seeds."""
        return fmean(result.expected_latency_s for result in self.results)

    @property
    def accuracy(self) -> float:
        """Of the supernet on the test images, mean over seeds."""
        return fmean(result.accuracy for result in self.results)

    @property
    def alpha_by_layer(self) -> tuple[float, ...]:
        """Mean alpha of each layer, over heads and seeds: Figure 9."""
        alphas = np.stack([result.alpha for result in self.results])  # (S, L, ...)
        by_layer = alphas.reshape(*alphas.shape[:2], -1).mean(axis=(0, 2))
        return tuple(map(float, by_layer))

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Seconds, shares."""
        return {
            "lambda_per_s": self.lambda_per_s,
            "expected_s": [result.expected_latency_s for result in self.results],
            "supernet_accuracy": [result.accuracy for result in self.results],
            "alpha_by_layer": list(self.alpha_by_layer),
            "alpha": [result.alpha.tolist() for result in self.results],
        }

    def line(self) -> str:
        """In one line."""
        expected = format_duration(self.expected_s, digits=4)
        latencies_s = [result.expected_latency_s for result in self.results]
        spread = f" (sd {stdev(latencies_s):.2g} s)" if len(latencies_s) > 1 else ""
        alphas = ", ".join(f"{alpha:.2f}" for alpha in self.alpha_by_layer)
        return (
            f"lambda {self.lambda_per_s:g} per s: expected {expected}{spread}, "
            f"supernet {self.accuracy:.2%}, mean alpha by layer {alphas}"
        )


def sweep_lambda(
    setting: Setting,
    request: LambdaRequest,
    *,
    command: str,
    observer: JobsObserver | None = None,
) -> Report:
    """Search under every lambda and seed; draw the mean alpha of each layer.

    Raises:
        UsageError: If a folder holds a search with other settings.
    """
    points = _search(setting, request, observer)
    path = setting.folder / _PICTURE
    draw_alpha(
        {f"lambda {point.lambda_per_s:g}": point.alpha_by_layer for point in points},
        f"{setting.run.dataset}, {setting.network}, {setting.profile.stem}",
        path,
    )
    trials = [
        make_trial("lambda", replace(one, label=f"{point.lambda_per_s:g}"), result)
        for point in points
        for result in point.results[:1]
        for one in _derive(result, request.mu, setting)
    ]
    return Report(
        title="Lambda (Figure 9)",
        setting=setting,
        outcomes=run_trials(setting, trials, observer) if trials else (),
        findings=(
            *(point.line() for point in points),
            *_findings(points),
            *_state_trained(setting, n_trained=len(trials)),
            f"Mean alpha by layer is drawn in {path}; the paper's Figure 9 prints no "
            "numbers, and its lambda is of other units.",
        ),
        values={"points": [point.to_json() for point in points]},
        command=command,
        searches=tuple(one for point in points for one in point.searches),
    )


def _search(
    setting: Setting, request: LambdaRequest, observer: JobsObserver | None
) -> tuple[LambdaPoint, ...]:
    plans = [
        replace(request.plan, penalty=Penalty(lambda_per_s=one), seed=seed)
        for one, seed in product(request.lambdas_per_s, setting.seeds)
    ]
    searches = [
        make_search(
            setting,
            plan,
            request.space,
            f"lambda-{plan.penalty.lambda_per_s:g}-seed-{plan.seed}",
        )
        for plan in plans
    ]
    results = run_searches(setting, searches, observer)
    found = tuple(
        recall_search(search.run.output, result)
        for search, result in zip(searches, results, strict=True)
    )
    n_seeds = len(setting.seeds)
    return tuple(
        LambdaPoint(lambda_per_s=one, searches=found[n * n_seeds : (n + 1) * n_seeds])
        for n, one in enumerate(request.lambdas_per_s)
    )


def _derive(result: SearchResult, mu: float | None, setting: Setting) -> list[Derived]:
    return [] if mu is None else [derive_by_mu(result, mu, heads=setting.heads)]


def _state_trained(setting: Setting, *, n_trained: int) -> list[str]:
    """Of which searches the trainings are, where it is not of all."""
    first, *others = setting.seeds
    if not n_trained or not others:
        return []
    return [
        f"Trained, with every seed, is what the search of seed {first} derives; "
        f"what those of {', '.join(map(str, others))} derive is not."
    ]


def _findings(points: Sequence[LambdaPoint]) -> list[str]:
    if len(points) < 2:
        return []  # one says nothing about what grows or falls
    falls = [
        second.expected_s <= first.expected_s for first, second in pairwise(points)
    ]
    judged = "falls" if all(falls) else "does NOT always fall"
    sentences = [f"Expected latency {judged} as lambda grows."]
    for first, second in pairwise(points):
        likeness = _likeness(first, second)
        if likeness is not None:
            sentences.append(
                f"Rank correlation of alpha, lambda {first.lambda_per_s:g} and "
                f"{second.lambda_per_s:g}: {likeness:.2f}."
            )
    return sentences


def _likeness(first: LambdaPoint, second: LambdaPoint) -> float | None:
    """Spearman's, of alpha over all units, means over seeds; None of constant ones."""
    alphas = [
        np.mean([result.alpha for result in point.results], axis=0).ravel()
        for point in (first, second)
    ]
    if any(np.ptp(alpha) == 0 for alpha in alphas):
        return None
    return float(spearmanr(*alphas).statistic)
