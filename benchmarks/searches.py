"""What several scripts need of searches: alike but for what a script compares."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from mpcprof.costmodel.observations import digest, primitive_records
from mpcprof.errors import UsageError
from mpcprof.network import parse_network
from mpcprof.profile.io import read_profile
from mpcprof.progress import SILENT, Progress
from mpcvit.search.alpha.cost import FORM_OF_HEADS, HEADS_OF_FORM, CostForm
from mpcvit.search.alpha.objective import Penalty
from mpcvit.search.alpha.result import SearchResult, read_result
from mpcvit.search.alpha.run import (
    SearchConfig,
    SearchReport,
    SearchSettings,
    read_search_settings,
    search,
)
from mpcvit.search.alpha.space import SearchSpace
from mpcvit.search.base import search_recipe
from mpcvit.study.training import Study
from mpcvit.train.jobs import run_jobs
from mpcvit.train.loop import DivergedError

_END: Final = 0.01  # alphas closer to 0 or 1 than this have settled there


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A search that a study rests on.

    Attributes:
        folder: Folder of the search, as it was given.
        settings: What was asked; None if the folder has no readable `config.json`.
    """

    folder: Path
    result: SearchResult
    settings: SearchSettings | None

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return lambda and eta at the end of the search, and all that was asked."""
        result = self.result
        return {
            "folder": str(self.folder),
            "lambda_per_s": result.lambda_per_s,
            "eta_per_s": result.eta_per_s,
            "target_s": result.target_s,
            "n_epochs": result.n_epochs,
            "profile": result.profile,
            "records_sha256": result.records_digest,
            "config": None if self.settings is None else asdict(self.settings),
        }

    def line(self) -> str:
        """Return folder, penalty, cost and recipe in one line."""
        result = self.result
        parts = [f"lambda {result.lambda_per_s:.3g} per s"]
        if result.beta is not None:
            parts.append(f"eta {result.eta_per_s:.3g} per s")
        if result.target_s is not None:
            parts.append(f"found for a target of {result.target_s:g} s")
        parts += [
            f"cost {result.cost.form}",
            f"by {result.space.granularity}",
            f"{result.n_epochs} epochs",
        ]
        if self.settings is None:
            parts.append("seed, batch size and rates unknown")
        else:
            recipe = self.settings.recipe
            parts += [
                f"seed {recipe.seed}",
                f"batch {recipe.batch_size}",
                f"learning rate {recipe.learning_rate:g}",
                f"of alpha {self.settings.alpha_learning_rate:g}",
            ]
        return f"{self.folder}: {', '.join(parts)}"


def recall_search(folder: Path, result: SearchResult | None = None) -> Searched:
    """Return the search in a folder, with its settings as far as the folder has them.

    Raises:
        UsageError: If no search has finished in the folder.
    """
    result = result or read_result(folder)
    try:
        settings = read_search_settings(folder)
    except UsageError:
        settings = None
    return Searched(folder=folder, result=result, settings=settings)


def make_search(
    study: Study,
    name: str,
    space: SearchSpace,
    penalty: Penalty,
    *,
    form: CostForm | None = None,
    epochs: int | None = None,
    seed: int = 0,
) -> SearchConfig:
    """Return the search of that name, in `searches/NAME` below the study's folder.

    Args:
        form: Form of the cost; by default what the study's heads cost.
        epochs: Number of epochs; by default those of `mpcvit search` for the recipe.
    """
    run, recipe = study.run, study.run.recipe
    chosen = search_recipe(run.dataset, study.recipe).with_changes(
        epochs=epochs,
        seed=seed,
        batch_size=recipe.batch_size,
        precision=recipe.precision,
    )
    return SearchConfig(
        run=replace(run, recipe=chosen, output=study.folder / "searches" / name),
        profile=study.profile,
        network=study.network,
        model=study.model,
        space=space,
        form=form or FORM_OF_HEADS[study.heads],
        penalty=penalty,
    )


def run_searches(
    study: Study, configs: Sequence[SearchConfig], progress: Progress = SILENT
) -> tuple[Searched, ...]:
    """Search what is not searched yet; return all, in the order of `configs`.

    Raises:
        UsageError: If a folder holds a search with other settings.
        DivergedError: If a loss is not finite.
    """
    if study.shard is not None:  # its own first, so that shards do not queue up
        own = study.shard.take(configs, lambda one: one.run.output.name)
        _run_all(study, own, progress)
    answers = _run_all(study, configs, progress)
    found = []
    for config, answer in zip(configs, answers, strict=True):
        if isinstance(answer, DivergedError):
            raise answer
        found.append(recall_search(config.run.output, answer.result))
    return tuple(found)


def _run_all(
    study: Study, configs: Sequence[SearchConfig], progress: Progress
) -> tuple[SearchReport | DivergedError, ...]:
    return run_jobs(search_one, configs, progress=progress, **study.spread)


def search_one(config: SearchConfig, progress: Progress) -> SearchReport:
    """Search, as a job."""
    return search(config, progress)


def search_layers(
    study: Study, searched: Searched, progress: Progress = SILENT
) -> tuple[Searched, list[str]]:
    """Search whole layers under the settings of a search; itself if it is by layer.

    Returns:
        The search, and sentences on how it may differ in more than its layers.

    Raises:
        UsageError: If the study's folder holds one with other settings.
        DivergedError: If the loss is not finite.
    """
    if searched.result.space.granularity == "layer":
        return searched, []
    config, notes = plan_layers(study, searched)
    (found,) = run_searches(study, [config], progress)
    return found, notes


def plan_layers(study: Study, searched: Searched) -> tuple[SearchConfig, list[str]]:
    """Return the search of whole layers, and how it may differ in more than that.

    Images are read from, and devices are, those of the study.
    """
    result = searched.result
    space = replace(
        result.space,
        granularity="layer",
        activation="none" if result.beta is None else "layer",
    )
    config = make_search(
        study,
        "per-layer",
        space,
        _same_penalty(searched),
        form=result.cost.form,
        epochs=result.n_epochs,
    )
    try:
        settings = read_search_settings(searched.folder)
    except UsageError as error:
        return config, [
            f"{error}: the search by layer has the costs, penalty and epochs of the "
            "given one, but seed, batch size, learning rates and images may differ."
        ]
    run = replace(config.run, recipe=settings.recipe, limit=settings.limit)
    rate = settings.alpha_learning_rate
    return replace(config, run=run, alpha_learning_rate=rate), []


def _same_penalty(searched: Searched) -> Penalty:
    """Return lambda and eta as fixed numbers, or the same target."""
    result, settings = searched.result, searched.settings
    if result.target_s is None:
        return Penalty(
            lambda_per_s=result.lambda_per_s, eta_per_s=float(result.eta_per_s)
        )
    if settings is not None:
        return settings.penalty  # it knows how eta follows lambda
    return Penalty(lambda_per_s=None, target_s=result.target_s)


def with_search(study: Study, folder: Path) -> Study:
    """Return the study with the network, heads and model of a search.

    Raises:
        UsageError: If no search of the study's data set has finished in the folder, or
            its seconds come from another profile.
    """
    result = read_result(folder)
    found = digest(primitive_records(read_profile(study.profile)))
    if found != result.records_digest:
        raise UsageError(
            f"{str(folder)!r} was searched under {result.profile} (records "
            f"{result.records_digest[:12]}), but --cost-table {study.profile} has "
            f"records {found[:12]}: give --cost-table the profile of the search as "
            "it was then, or search again under this one"
        )
    if result.dataset != study.run.dataset:
        raise UsageError(
            f"{str(folder)!r} is a search on {result.dataset}: expected one on "
            f"{study.run.dataset}, or --dataset {result.dataset}"
        )
    return replace(
        study,
        network=parse_network(result.network),
        heads=HEADS_OF_FORM[result.cost.form],
        model=result.model.name,
    )


def warn_of_indifference(result: SearchResult) -> tuple[str, ...]:
    """Return a sentence if every alpha ended at the same end and so ranks nothing."""
    is_at_end = (result.alpha < _END) | (result.alpha > 1 - _END)
    if not is_at_end.all() or 0.0 < result.alpha.round().mean() < 1.0:
        return ()
    end = int(result.alpha.round().max())
    return (
        f"Every alpha of the search is {end}: it ranks nothing, and what is derived "
        f"from it is chance; search with a {'larger' if end else 'smaller'} --lambda.",
    )
