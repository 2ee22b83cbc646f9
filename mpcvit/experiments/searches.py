"""The searches of an experiment: alike but for what is compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.network import parse_network
from mpcprof.profile.io import read_profile
from mpcprof.progress import Progress
from mpcvit.experiments.jobs import JobsObserver, run_jobs
from mpcvit.experiments.setting import Setting
from mpcvit.search.cost import FORM_OF_HEADS, HEADS_OF_FORM, CostForm
from mpcvit.search.objective import Penalty
from mpcvit.search.result import SearchResult, read_result
from mpcvit.search.run import SearchConfig, SearchReport, search, search_recipe
from mpcvit.search.space import SearchSpace
from mpcvit.train.loop import DivergedError


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """How an experiment searches.

    Attributes:
        form: What the setting's heads cost, without.
        epochs: Those of `mpcvit search` for the recipe without.
    """

    penalty: Penalty
    form: CostForm | None = None
    epochs: int | None = None
    seed: int = 0


def make_search(
    setting: Setting, plan: SearchPlan, space: SearchSpace, name: str
) -> SearchConfig:
    """The search of that name, in `searches/NAME` below the experiment's folder."""
    run, recipe = setting.run, setting.run.recipe
    chosen = search_recipe(run.dataset, setting.recipe).with_changes(
        epochs=plan.epochs,
        seed=plan.seed,
        batch_size=recipe.batch_size,
        precision=recipe.precision,
    )
    output = setting.folder / "searches" / name
    return SearchConfig(
        run=replace(run, recipe=chosen, output=output),
        profile=setting.profile,
        network=setting.network,
        model=setting.model,
        space=space,
        form=plan.form or FORM_OF_HEADS[setting.heads],
        penalty=plan.penalty,
    )


def run_searches(
    setting: Setting,
    requests: Sequence[SearchConfig],
    observer: JobsObserver | None = None,
) -> tuple[SearchResult, ...]:
    """What each found; a finished one is read, not searched again.

    Raises:
        UsageError: If a folder holds a search with other settings.
        DivergedError: If a loss is not finite.
    """
    answers = run_jobs(search_one, requests, n_jobs=setting.n_jobs, observer=observer)
    results = []
    for answer in answers:
        if isinstance(answer, DivergedError):
            raise answer
        results.append(answer.result)
    return tuple(results)


def search_one(request: SearchConfig, progress: Progress) -> SearchReport:
    """`search`, as a job."""
    return search(request, progress)


def with_search(setting: Setting, folder: Path) -> Setting:
    """The same setting with the network, heads and model that were searched for.

    Raises:
        UsageError: If no search of the setting's data set has finished in the folder,
            or its seconds are of another profile.
    """
    result = read_result(folder)
    _check_profile(setting, folder, result)
    if result.dataset != setting.run.dataset:
        raise UsageError(
            f"{str(folder)!r} is a search on {result.dataset}: expected one on "
            f"{setting.run.dataset}, or --dataset {result.dataset}"
        )
    return replace(
        setting,
        network=parse_network(result.network),
        heads=HEADS_OF_FORM[result.cost.form],
        model=result.model.name,
    )


def _check_profile(setting: Setting, folder: Path, result: SearchResult) -> None:
    """Equal latency is that of one profile: budgets and prices are of the same."""
    digest = fit_cost_model(read_profile(setting.profile)).records_digest
    if digest != result.records_digest:
        raise UsageError(
            f"{str(folder)!r} was searched under {result.profile} (records "
            f"{result.records_digest[:12]}), but --cost-table {setting.profile} has "
            f"records {digest[:12]}: give --cost-table the profile of the search as "
            "it was then, or search again under this one"
        )
