"""Table 3: one alpha for a layer, a row of a head, or a head."""

from dataclasses import dataclass
from typing import Final

from mpcvit.experiments.choices import make_trial
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import run_trials
from mpcvit.experiments.search_config import recall_search
from mpcvit.experiments.searches import SearchPlan, make_search, run_searches
from mpcvit.experiments.setting import Setting
from mpcvit.experiments.trial import Outcome
from mpcvit.paper.published import TABLE_3, Published
from mpcvit.search.derive import family
from mpcvit.search.space import Granularity, SearchSpace

_GRANULARITIES: Final[tuple[Granularity, ...]] = ("layer", "row", "head")


@dataclass(frozen=True, slots=True, kw_only=True)
class GranularityRequest:
    """What is compared.

    Attributes:
        mus: Shares to keep; the paper's are 0.5 and 0.7.
    """

    plan: SearchPlan
    mus: tuple[float, ...] = (0.5, 0.7)


def compare_granularities(
    setting: Setting,
    request: GranularityRequest,
    *,
    command: str,
    observer: JobsObserver | None = None,
) -> Report:
    """Search by layer, row and head; train what each derives.

    Raises:
        UsageError: If a share is not from 0 to 1.
    """
    spaces = [SearchSpace(granularity=one) for one in _GRANULARITIES]
    searches = [
        make_search(setting, request.plan, space, f"by-{space.granularity}")
        for space in spaces
    ]
    results = run_searches(setting, searches, observer)
    trials = [
        make_trial(
            f"by-{space.granularity}",
            one,
            result,
            _published(space.granularity, one.label),
        )
        for space, result in zip(spaces, results, strict=True)
        for one in family(result, mus=request.mus, heads=setting.heads)
    ]
    outcomes = run_trials(setting, trials, observer)
    labels = dict.fromkeys(trial.name for trial in trials)
    return Report(
        title="Granularity of the search (Table 3)",
        setting=setting,
        outcomes=outcomes,
        findings=(
            *(_order(label, outcomes) for label in labels),
            "The same mu is not the same cost: a head whose rows differ computes both "
            "attentions.",
        ),
        values={},
        command=command,
        searches=tuple(
            recall_search(search.run.output, result)
            for search, result in zip(searches, results, strict=True)
        ),
    )


def _published(granularity: Granularity, label: str) -> Published | None:
    what = f"MPCViT, {granularity}-wise search"
    matches = (one for one in TABLE_3 if (one.what, f"mu-{one.mu:g}") == (what, label))
    return next(matches, None)


def _order(label: str, outcomes: tuple[Outcome, ...]) -> str:
    named = [
        (one.accuracy, one.trial.group)
        for one in outcomes
        if one.trial.name == label and one.accuracy is not None
    ]
    ranked = sorted(named, key=lambda pair: -pair[0])
    text = ", ".join(f"{group} {accuracy:.2%}" for accuracy, group in ranked)
    return f"{label}, the most accurate first: {text}."
