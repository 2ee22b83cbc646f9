"""Search: learn weights, alpha and beta together, on one data set."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.files import read_json, replace_file
from mpcprof.network import Network
from mpcprof.nn.plan import choose_planner, plan_identity
from mpcprof.nn.preset import ModelPreset
from mpcprof.profile.io import read_profile
from mpcprof.progress import SILENT, Progress
from mpcvit.data.image_set import Dataset, count_batches
from mpcvit.search.cost import CostForm, SearchCost
from mpcvit.search.objective import Penalty, SearchModule, SearchObjective
from mpcvit.search.result import SETTINGS, TENSORS, SearchResult, write_settings
from mpcvit.search.space import SearchSpace
from mpcvit.search.supernet import Supernet
from mpcvit.tensor_file import pack_tensors
from mpcvit.train.config import RunConfig, choose_model, seed_all
from mpcvit.train.folder import SCHEMA_VERSION
from mpcvit.train.loop import FitResult, fit
from mpcvit.train.recipe import Recipe, get_recipe

_EPOCHS: Final = {"digits": 20, "quick": 8}  # by recipe; the paper's 300 elsewhere
_ALPHA_RATE: Final = 5.0  # times the weights' learning rate


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """All that decides the result of a search, as it stands in `config.json`.

    Attributes:
        limit: Number of images of each split; None for all.
        records_sha256: Digest of the records that the seconds come from.
        alpha_learning_rate: Peak rate of alpha and beta.
        recipe: Recipe of the supernet's weights.
        plan: `rewrites`, or the digest of a plan; "" without one.
    """

    command: Literal["search"] = "search"
    model: ModelPreset
    dataset: str
    limit: int | None
    space: SearchSpace
    cost: CostForm
    penalty: Penalty
    network: str
    records_sha256: str
    alpha_learning_rate: float
    recipe: Recipe
    schema_version: int = SCHEMA_VERSION
    n_processes: int = 1
    plan: str = ""


def read_search_settings(folder: Path) -> SearchSettings:
    """Return the settings of the search in a folder.

    Raises:
        UsageError: If the file is missing or damaged, or of something else.
    """
    return read_json(folder / "config.json", SearchSettings, what="a search's settings")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """What to search for, on what, and where to put it.

    Attributes:
        profile: File of measured seconds.
        model: Name of a preset; None for the data set's own.
        run: Its recipe is for the supernet's weights; its schedule is that of alpha and
            beta, too.
        alpha_learning_rate: Peak rate of alpha and beta; None for 5 times the weights'.
        plan: File of a plan that networks are priced by, or `rewrites`; None for none.

        >>> mpcvit.SearchConfig(
        ...     profile=Path("profiles/semi2k.parquet"),
        ...     network=mpcprof.parse_network("wan"),
        ...     run=mpcvit.RunConfig(dataset="digits", recipe=recipe, output=folder),
        ... ).space.granularity
        'head'
    """

    profile: Path
    run: RunConfig
    network: Network
    model: str | None = None
    space: SearchSpace = field(default_factory=SearchSpace)
    form: CostForm = "additive"
    penalty: Penalty = field(default_factory=Penalty)
    alpha_learning_rate: float | None = None
    plan: str | None = None

    def __post_init__(self) -> None:
        rate = self.alpha_learning_rate
        if rate is not None and not 0 < rate < float("inf"):
            raise UsageError(f"alpha_learning_rate={rate}: expected above 0")

    @property
    def peak_alpha_rate(self) -> float:
        """Learning rate of alpha and beta after warm-up."""
        return self.alpha_learning_rate or _ALPHA_RATE * self.run.recipe.learning_rate

    def settings(self, model: ModelPreset, records_digest: str) -> SearchSettings:
        """Return what decides the result."""
        return SearchSettings(
            model=model,
            dataset=self.run.dataset,
            limit=self.run.limit,
            space=self.space,
            cost=self.form,
            penalty=self.penalty,
            network=str(self.network),
            records_sha256=records_digest,
            alpha_learning_rate=self.peak_alpha_rate,
            recipe=self.run.recipe,
            plan=plan_identity(self.plan),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """What the command prints.

    Attributes:
        n_resumed: Number of epochs that an earlier run had done.
    """

    output: Path
    result: SearchResult
    n_resumed: int
    duration_s: float
    is_first_process: bool

    def to_json(self) -> str:
        """Return one document: `search.json`, alpha and beta; seconds, shares."""
        result = self.result
        return json.dumps(
            {
                "output": str(self.output),
                **result.to_json(),
                "alpha": result.alpha.tolist(),
                "beta": None if result.beta is None else result.beta.tolist(),
                "n_resumed": self.n_resumed,
            }
        )

    def __str__(self) -> str:
        result = self.result
        return (
            f"{self.output}: expected {result.expected_latency_s:.2f} s over "
            f"{result.network}, mean alpha {result.alpha.mean():.2f}, supernet's test "
            f"accuracy {result.accuracy:.2%}, {result.n_epochs} epochs "
            f"({self.n_resumed} of an earlier run) in {self.duration_s:.1f} s"
        )


def search_recipe(dataset: str, name: str | None = None) -> Recipe:
    """Return the recipe of `get_recipe` with the epochs of a search.

    Source: MPCViT section 5.1: 300 epochs.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    epochs = _EPOCHS.get(name or dataset, 300)
    return get_recipe(dataset, name).with_changes(epochs=epochs)


def default_output(dataset: str) -> Path:
    """Return `runs/search-DATASET`."""
    return Path("runs") / f"search-{Path(dataset).name}"


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
    preset = choose_model(config.model, run.dataset)
    dataset = dataset or run.load_dataset(preset)
    model = replace(preset, n_classes=len(dataset.class_names))
    dataset.check_fits(model)
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
