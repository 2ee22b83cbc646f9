"""`mpcvit search`: learn weights, alpha and beta together, on one dataset."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import safetensors.torch

from mpcprof.costmodel.model import CostModel
from mpcprof.costmodel.storage import load_cost_model
from mpcprof.errors import UsageError
from mpcprof.files import replace_file
from mpcprof.network import Network
from mpcprof.nn.architecture import ModelPreset
from mpcprof.profile.io import read_profile
from mpcvit.data.batches import count_batches
from mpcvit.data.dataset import Dataset
from mpcvit.models.supernet import Supernet
from mpcvit.search.cost import CostForm, SearchCost
from mpcvit.search.objective import Penalty, SearchModule, SearchObjective
from mpcvit.search.result import SETTINGS, TENSORS, SearchResult, write_settings
from mpcvit.search.space import SearchSpace
from mpcvit.train.choice import choose_model
from mpcvit.train.hardware import seed_all
from mpcvit.train.loop import FitObserver, FitResult, fit
from mpcvit.train.recipe import Recipe, get_recipe
from mpcvit.train.run_request import RunRequest

_EPOCHS: Final = {"digits": 20, "quick": 8}  # of a recipe; the paper's 300 elsewhere
_PAPER_EPOCHS: Final = 300
_ALPHA_RATE: Final = 5.0  # times the weights' learning rate


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What to search for, on what, and where to put it.

    Attributes:
        profile: Measured seconds of primitives.
        model: Preset; that of the dataset without.
        run: Its recipe is that of the supernet's weights; the schedule, that of alpha
            and beta too.
        alpha_learning_rate: Peak rate of alpha and beta; 5 times the weights' without.
    """

    profile: Path
    run: RunRequest
    network: Network
    model: str | None = None
    space: SearchSpace = field(default_factory=SearchSpace)
    form: CostForm = "additive"
    penalty: Penalty = field(default_factory=Penalty)
    alpha_learning_rate: float | None = None

    def __post_init__(self) -> None:
        rate = self.alpha_learning_rate
        if rate is not None and not 0 < rate < float("inf"):
            raise UsageError(f"alpha_learning_rate={rate}: expected above 0")

    @property
    def peak_alpha_rate(self) -> float:
        """Learning rate of alpha and beta after warm-up."""
        return self.alpha_learning_rate or _ALPHA_RATE * self.run.recipe.learning_rate

    def settings(self, model: ModelPreset, records_digest: str) -> dict[str, Any]:
        """What decides the result, as it stands in `config.json`."""
        return {
            "command": "search",
            "model": asdict(model),
            "dataset": self.run.dataset,
            "limit": self.run.limit,
            "space": asdict(self.space),
            "cost": self.form,
            "penalty": asdict(self.penalty),
            "network": str(self.network),
            "records_sha256": records_digest,
            "alpha_learning_rate": self.peak_alpha_rate,
            "recipe": asdict(self.run.recipe),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchReport:
    """What the command prints.

    Attributes:
        n_resumed: Epochs that an earlier run had done.
    """

    output: Path
    result: SearchResult
    n_resumed: int
    duration_s: float
    is_first_process: bool

    def to_json(self) -> str:
        """`search.json`, alpha and beta besides; seconds, shares."""
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
    """That of `get_recipe` over the epochs of a search (MPCViT section 5.1: 300).

    Raises:
        UnknownNameError: If there is none of that name.
    """
    return get_recipe(dataset, name).with_changes(
        epochs=_EPOCHS.get(name or dataset, _PAPER_EPOCHS)
    )


def search(
    request: SearchRequest,
    observer: FitObserver | None = None,
    *,
    dataset: Dataset | None = None,
) -> SearchReport:
    """Search, or go on searching, and write the result.

    Args:
        dataset: That of the request, where it is loaded already.

    Raises:
        UsageError: If parts of the request do not fit each other or the folder.
        MissingEntryError: If the profile lacks an operation of the search space.
        DivergedError: If the loss is not finite.
    """
    cost_model = load_cost_model(read_profile(request.profile))
    run = request.run
    preset = choose_model(request.model, run.dataset)
    dataset = dataset or run.load_dataset(preset)
    model = replace(preset, n_classes=len(dataset.class_names))
    dataset.check_fits(model)
    cost = SearchCost.from_model(
        cost_model, model, request.space, request.network, request.form
    )
    objective = _make_objective(request, model, cost, dataset)
    settings = request.settings(model, cost_model.records_digest)
    results = (SETTINGS, TENSORS)
    fitted = fit(objective, dataset, run, settings, observer, results=results)
    result = _result(request, model, cost_model, cost, objective.module, fitted)
    if fitted.is_first_process:
        _write(run.output, result, objective.module)
    return SearchReport(
        output=run.output,
        result=result,
        n_resumed=fitted.n_resumed,
        duration_s=fitted.duration_s,
        is_first_process=fitted.is_first_process,
    )


def default_output(dataset: str) -> Path:
    """`runs/search-DATASET`."""
    return Path("runs") / f"search-{Path(dataset).name}"


def _make_objective(
    request: SearchRequest, model: ModelPreset, cost: SearchCost, dataset: Dataset
) -> SearchObjective:
    recipe = request.run.recipe
    seed_all(recipe.seed)
    return SearchObjective(
        Supernet(model, request.space, recipe.regularization),
        cost,
        request.penalty,
        dataset,
        recipe,
        alpha_learning_rate=request.peak_alpha_rate,
        n_steps_per_epoch=count_batches(
            len(dataset.train), batch_size=recipe.batch_size
        ),
    )


def _result(
    request: SearchRequest,
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
        space=request.space,
        dataset=request.run.dataset,
        network=str(request.network),
        profile=request.profile.name,
        records_digest=cost_model.records_digest,
        cost=cost,
        target_s=request.penalty.target_s,
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
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in module.supernet.state_dict().items()
    }
    replace_file(folder / TENSORS, safetensors.torch.save(tensors))
    write_settings(folder, result)
