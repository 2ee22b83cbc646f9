"""Search: learn weights, alpha and beta together, on one data set."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.files import read_json, replace_file
from mpcprof.nn.plan import choose_planner, plan_identity
from mpcprof.nn.preset import ModelPreset
from mpcprof.profile.io import read_profile
from mpcprof.progress import SILENT, Progress
from mpcvit.data.image_set import Dataset, count_batches
from mpcvit.search.alpha.cost import CostForm, SearchCost
from mpcvit.search.alpha.objective import Penalty, SearchModule, SearchObjective
from mpcvit.search.alpha.result import SETTINGS, TENSORS, SearchResult, write_settings
from mpcvit.search.alpha.space import SearchSpace
from mpcvit.search.alpha.supernet import Supernet
from mpcvit.search.base import BaseSearchConfig, BaseSearchReport, BaseSearchSettings
from mpcvit.tensor_file import pack_tensors
from mpcvit.train.config import seed_all
from mpcvit.train.loop import FitResult, fit


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings(BaseSearchSettings):
    """All that decides the result of a search, as it stands in `config.json`."""

    space: SearchSpace
    cost: CostForm
    penalty: Penalty


def read_search_settings(folder: Path) -> SearchSettings:
    """Return the settings of the search in a folder.

    Raises:
        UsageError: If the file is missing or damaged, or of something else.
    """
    return read_json(folder / "config.json", SearchSettings, what="a search's settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig(BaseSearchConfig):
    """What to search for, on what, and where to put it.

    The run's recipe is for the supernet's weights; its schedule is that of alpha and
    beta, too.

        >>> mpcvit.SearchConfig(
        ...     profile=Path("profiles/semi2k.parquet"),
        ...     network=mpcprof.parse_network("wan"),
        ...     run=mpcvit.RunConfig(dataset="digits", recipe=recipe, output=folder),
        ... ).space.granularity
        'head'
    """

    RATE: ClassVar[float] = 5.0

    space: SearchSpace = field(default_factory=SearchSpace)
    form: CostForm = "additive"
    penalty: Penalty = field(default_factory=Penalty)

    def settings(self, model: ModelPreset, records_digest: str) -> SearchSettings:
        """Return what decides the result."""
        return SearchSettings(
            **self.base_settings(model, records_digest),
            plan=plan_identity(self.plan),
            space=self.space,
            cost=self.form,
            penalty=self.penalty,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport(BaseSearchReport[SearchResult]):
    """What the command prints."""

    def __str__(self) -> str:
        result = self.result
        return (
            f"{self.output}: expected {result.expected_latency_s:.2f} s over "
            f"{result.network}, mean alpha {result.alpha.mean():.2f}, supernet's test "
            f"accuracy {result.accuracy:.2%}, {result.n_epochs} epochs "
            f"({self.n_resumed} of an earlier run) in {self.duration_s:.1f} s"
        )


def search(
    config: SearchConfig, progress: Progress = SILENT, *, dataset: Dataset | None = None
) -> SearchReport:
    """Search, or resume a search, and write the result.

        >>> run = mpcvit.RunConfig(
        ...     dataset="digits", recipe=recipe, output=folder / "search", limit=40
        ... )
        >>> config = mpcvit.SearchConfig(
        ...     profile=Path("profiles/semi2k.parquet"),
        ...     network=mpcprof.parse_network("wan"),
        ...     run=run,
        ... )
        >>> mpcvit.run_search(config).result.alpha.shape
        (3, 4)

    Args:
        dataset: The config's data set, where it is loaded already.

    Raises:
        UsageError: If parts of the config do not fit each other or the folder.
        MissingEntryError: If the profile lacks an operation of the search space.
        DivergedError: If the loss is not finite.
    """
    cost_model = fit_cost_model(read_profile(config.profile))
    run = config.run
    dataset, model = config.load(dataset)
    cost = SearchCost.from_model(
        cost_model,
        model,
        config.space,
        config.network,
        config.form,
        planner=choose_planner(
            config.plan, model, deployment=cost_model.deployment, network=config.network
        ),
    )
    objective = _make_objective(config, model, cost, dataset)
    settings = asdict(config.settings(model, cost_model.records_digest))
    results = (SETTINGS, TENSORS)
    fitted = fit(objective, dataset, run, settings, progress, results=results)
    result = _result(config, model, cost_model, cost, objective.module, fitted)
    if fitted.is_first_process:
        _write(run.output, result, objective.module)
    return SearchReport(
        output=run.output,
        result=result,
        n_resumed=fitted.n_resumed,
        duration_s=fitted.duration_s,
        is_first_process=fitted.is_first_process,
    )


def _make_objective(
    config: SearchConfig, model: ModelPreset, cost: SearchCost, dataset: Dataset
) -> SearchObjective:
    recipe = config.run.recipe
    seed_all(recipe.seed)
    return SearchObjective(
        Supernet(model, config.space, recipe.regularization),
        cost,
        config.penalty,
        dataset,
        recipe,
        alpha_learning_rate=config.peak_alpha_rate,
        n_steps_per_epoch=count_batches(
            len(dataset.train), batch_size=recipe.batch_size
        ),
    )


def _result(
    config: SearchConfig,
    model: ModelPreset,
    cost_model: CostModel,
    cost: SearchCost,
    module: SearchModule,
    fitted: FitResult,
) -> SearchResult:
    supernet = module.supernet
    lambda_per_s, eta_per_s = module.multipliers.tolist()
    alpha, beta = (
        None if x is None else x.detach().cpu().double().numpy()
        for x in (supernet.alpha, supernet.beta)
    )
    assert alpha is not None  # every space has one
    metrics = fitted.epochs[-1].metrics
    return SearchResult(
        model=model,
        space=config.space,
        dataset=config.run.dataset,
        network=str(config.network),
        profile=config.profile.name,
        records_digest=cost_model.records_digest,
        cost=cost,
        target_s=config.penalty.target_s,
        alpha=alpha,
        beta=beta,
        lambda_per_s=lambda_per_s,
        eta_per_s=eta_per_s,
        expected_latency_s=metrics["expected_latency_s"],
        accuracy=metrics["accuracy"],
        n_epochs=len(fitted.epochs),
        duration_s=sum(epoch.duration_s + epoch.metrics_s for epoch in fitted.epochs),
    )


def _write(folder: Path, result: SearchResult, module: SearchModule) -> None:
    replace_file(folder / TENSORS, pack_tensors(module.supernet.state_dict()))
    write_settings(folder, result)
