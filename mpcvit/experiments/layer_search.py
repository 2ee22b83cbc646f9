"""A search of whole layers beside one of heads: alike but for that."""

from dataclasses import dataclass, replace
from pathlib import Path

from mpcprof.errors import UsageError
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.searches import SearchPlan, make_search, run_searches
from mpcvit.experiments.setting import Setting
from mpcvit.search.objective import Penalty
from mpcvit.search.result import SearchResult
from mpcvit.search.run import SearchConfig, SearchSettings, read_search_settings

_NAME = "per-layer"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSearch:
    """What was found.

    Attributes:
        folder: Of the search.
        notes: Sentences on how it may differ from the given one in more than layers.
    """

    folder: Path
    result: SearchResult
    notes: tuple[str, ...] = ()


def search_layers(
    setting: Setting,
    folder: Path,
    result: SearchResult,
    observer: JobsObserver | None = None,
) -> LayerSearch:
    """The given search by layer, else under its own settings; itself if it is one.

    Raises:
        UsageError: If the experiment's folder holds one with other settings.
        DivergedError: If the loss is not finite.
    """
    if result.space.granularity == "layer":
        return LayerSearch(folder=folder, result=result)
    request, notes = plan_layers(setting, folder, result)
    (found,) = run_searches(setting, [request], observer)
    return LayerSearch(folder=request.run.output, result=found, notes=notes)


def plan_layers(
    setting: Setting, folder: Path, result: SearchResult
) -> tuple[SearchConfig, tuple[str, ...]]:
    """The request, of the settings in the given search's folder; what differs.

    Images are read from, and devices are, those of the setting.
    """
    try:
        config = read_search_settings(folder)
    except UsageError as error:
        return _make(setting, result, None), (
            f"{error}: the search by layer has the costs, penalty and epochs of the "
            "given one, but seed, batch size, learning rates and images may differ.",
        )
    request = _make(setting, result, config)
    run = replace(request.run, recipe=config.recipe, limit=config.limit)
    rate = config.alpha_learning_rate
    return replace(request, run=run, alpha_learning_rate=rate), ()


def _make(
    setting: Setting, result: SearchResult, config: SearchSettings | None
) -> SearchConfig:
    plan = SearchPlan(
        penalty=_penalty(result, config),
        form=result.cost.form,
        epochs=result.n_epochs,
    )
    space = replace(
        result.space,
        granularity="layer",
        activation="none" if result.beta is None else "layer",
    )
    return make_search(setting, plan, space, _NAME)


def _penalty(result: SearchResult, config: SearchSettings | None) -> Penalty:
    """The numbers that a fixed lambda and eta were, or the same target."""
    if result.target_s is None:
        return Penalty(
            lambda_per_s=result.lambda_per_s, eta_per_s=float(result.eta_per_s)
        )
    if config is not None:
        return config.penalty  # it knows how eta follows lambda
    return Penalty(lambda_per_s=None, target_s=result.target_s)
