"""Search over layers: shares of every option first, then networks trained alike."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Final

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Heads, uniform_architecture
from mpcprof.nn.preset import ModelPreset
from mpcprof.profile.io import read_profile
from mpcprof.progress import SILENT, Progress
from mpcvit.data.image_set import Dataset
from mpcvit.search.base import (
    BaseSearchConfig,
    BaseSearchReport,
    BaseSearchSettings,
    budget_label,
    check_labels,
    search_recipe,
)
from mpcvit.search.layers.cost import Pricer
from mpcvit.search.layers.finalists import Finals, hold_out
from mpcvit.search.layers.mixture import Mixture
from mpcvit.search.layers.objective import MixtureObjective
from mpcvit.search.layers.result import (
    FINALISTS,
    Finalist,
    LayerSearchResult,
    budget_lines,
    write_layer_result,
)
from mpcvit.search.layers.sampling import Numbers, Sampler
from mpcvit.search.layers.space import FACTORS, LayerSpace
from mpcvit.train.config import seed_all
from mpcvit.train.loop import FitResult, fit
from mpcvit.train.recipe import Recipe

# what squares and BatchNorms are trained well with, in both stages
_PARTS: Final[dict[str, bool | float]] = {
    "mlp_norm": True,
    "gradual_norm": 0.25,
    "gradual_activation": 0.25,
}
_BUDGETS: Final = (16, 8, 4)  # parts of what the model costs with softmax and GeLU
_ROOM: Final = 1.2  # times the quickest network: a lower budget leaves no choice
_EXPLORED: Final = 0.25  # of the second stage's shares are equal ones


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSearchSettings(BaseSearchSettings):
    """All that decides the first stage, as it stands in `config.json`."""

    space: LayerSpace
    heads: Heads
    lambda_per_s: float | None
    target_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSearchConfig(BaseSearchConfig):
    """What to search for, on what, and where to put it.

    The run's recipe is that of the first stage.

    Attributes:
        space: Options of every layer.
        heads: How private inference will run the heads.
        lambda_per_s: Loss per second; None where a target finds it.
        target_s: Expected seconds of the first stage; by default, without a lambda,
            the middle one of the budgets.
        budgets_s: Seconds to find networks for; by default a sixteenth, an eighth and a
            fourth of what the model costs with softmax, layernorm and GeLU.
        n_finalists: Networks to train for each budget.
        finalist_epochs: Epochs of each of them; None for half of the first stage's.
        n_jobs: How many of them are trained at once, each in a process of its own.

    Raises:
        UsageError: If a number is out of range, or two budgets have one name.
    """

    RATE: ClassVar[float] = 20.0  # of the logits

    space: LayerSpace
    heads: Heads = "batched"
    lambda_per_s: float | None = None
    target_s: float | None = None
    budgets_s: tuple[float, ...] | None = None
    n_finalists: int = 8
    finalist_epochs: int | None = None
    n_jobs: int = 1

    def __post_init__(self) -> None:
        BaseSearchConfig.__post_init__(self)  # super() misses classes with slots
        if self.lambda_per_s is not None and self.target_s is not None:
            raise UsageError("lambda and target: expected one of the two")
        lambda_per_s = self.lambda_per_s or 0.0
        if not 0 <= lambda_per_s < float("inf"):
            raise UsageError(
                f"lambda={lambda_per_s}: expected loss per second, 0 or more"
            )
        target = () if self.target_s is None else (self.target_s,)
        for budget_s in (*(self.budgets_s or ()), *target):
            if not 0 < budget_s < float("inf"):
                raise UsageError(f"budget {budget_s:g} s: expected above 0 and finite")
        check_labels([budget_label(one) for one in self.budgets_s or ()])
        if self.n_finalists < 1:
            raise UsageError(f"n_finalists={self.n_finalists}: expected at least 1")

    @property
    def finalist_recipe(self) -> Recipe:
        """Recipe of the second stage."""
        recipe = self.run.recipe
        return replace(
            recipe, epochs=self.finalist_epochs or max(recipe.epochs // 2, 1)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSearchReport(BaseSearchReport[LayerSearchResult]):
    """What the command prints."""

    def __str__(self) -> str:
        result = self.result
        heading = (
            f"{self.output}: space {result.space.name}, {result.n_epochs} epochs "
            f"({self.n_resumed} of an earlier run), then {len(result.finalists)} "
            f"networks of {result.finalist_epochs} epochs each, in "
            f"{self.duration_s:.1f} s; seconds over {result.network}"
        )
        options = " ".join(
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {value:g}")
            for name, value in _PARTS.items()
        )
        found = [f"  {one}" for one in budget_lines(result)]
        ending = f"Train what `mpcvit derive` writes as here: mpcvit train {options}"
        return "\n".join([heading, *found, ending])


def layer_recipe(dataset: str, name: str | None = None) -> Recipe:
    """Return the recipe of `search_recipe`, with what squares and BatchNorms need.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    return search_recipe(dataset, name).with_changes(**_PARTS)


def search_layers(
    config: LayerSearchConfig, progress: Progress = SILENT
) -> LayerSearchReport:
    """Search, or resume a search, and write the result.

    Raises:
        UsageError: If parts of the config do not fit each other or the folder.
        MissingEntryError: If the profile lacks an operation of the space.
        DivergedError: If the loss of the first stage is not finite.
    """
    _check_alone()
    search = _prepare(config)
    objective = search.objective()
    fitted = fit(
        objective,
        search.dataset,
        config.run,
        asdict(search.settings()),
        progress,
        results=(FINALISTS,),
    )
    shares = _shares(objective.module)
    finalists, finalists_s = search.finals(shares).play(progress)
    result = search.result(shares, fitted, finalists, finalists_s)
    write_layer_result(config.run.output, result)
    return LayerSearchReport(
        output=config.run.output,
        result=result,
        n_resumed=fitted.n_resumed,
        duration_s=result.duration_s,
    )


def _prepare(config: LayerSearchConfig) -> "_LayerSearch":
    """Load the images and price the space."""
    dataset, given = config.load()
    dataset = hold_out(dataset)
    pricer = Pricer(
        cost_model=fit_cost_model(read_profile(config.profile)),
        network=config.network,
        heads=config.heads,
        plan=config.plan,
    )
    sampler = Sampler(config.space, given, pricer)
    budgets_s = config.budgets_s or _default_budgets_s(given, pricer, sampler)
    target_s = config.target_s
    if target_s is None and config.lambda_per_s is None:
        target_s = sorted(budgets_s)[len(budgets_s) // 2]
    return _LayerSearch(
        config=config,
        dataset=dataset,
        model=config.space.sized(given)[0],
        records_digest=pricer.cost_model.records_digest,
        sampler=sampler,
        budgets_s=budgets_s,
        target_s=target_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _LayerSearch:
    """A search whose images are loaded and whose space is priced.

    Attributes:
        model: Model of the first stage.
    """

    config: LayerSearchConfig
    dataset: Dataset
    model: ModelPreset
    records_digest: str
    sampler: Sampler
    budgets_s: tuple[float, ...]
    target_s: float | None

    def settings(self) -> LayerSearchSettings:
        """Return what decides the first stage."""
        config = self.config
        return LayerSearchSettings(
            **config.base_settings(self.model, self.records_digest),
            plan=config.plan or "",
            space=config.space,
            heads=config.heads,
            lambda_per_s=config.lambda_per_s,
            target_s=self.target_s,
        )

    def objective(self) -> MixtureObjective:
        """Return the loss of the first stage, with weights drawn by the seed."""
        config, recipe = self.config, self.config.run.recipe
        seed_all(recipe.seed)
        form = replace(recipe.form, range_bound=None)  # a path not taken has no range
        return MixtureObjective(
            Mixture(self.model, config.space, form, recipe.regularization),
            self.sampler.cost,
            self.dataset,
            recipe,
            lambda_per_s=config.lambda_per_s,
            target_s=self.target_s,
            logit_rate=config.peak_alpha_rate,
        )

    def finals(self, shares: Sequence[Numbers]) -> Finals:
        """Return the second stage by the shares of the first, a part of them equal."""
        config = self.config
        joint = config.space.joint(*shares)
        explored = (1 - _EXPLORED) * joint + _EXPLORED / joint.shape[-1]
        return Finals(
            sampler=self.sampler.with_shares(explored),
            budgets_s=self.budgets_s,
            n_each=config.n_finalists,
            run=replace(config.run, recipe=config.finalist_recipe),
            n_jobs=config.n_jobs,
        )

    def result(
        self,
        shares: Sequence[Numbers],
        fitted: FitResult,
        finalists: tuple[Finalist, ...],
        finalists_s: float,
    ) -> LayerSearchResult:
        """Return what is written."""
        config, metrics = self.config, fitted.epochs[-1].metrics
        lines = (tuple(map(tuple, own.tolist())) for own in shares)
        epochs_s = sum(one.duration_s + one.metrics_s for one in fitted.epochs)
        return LayerSearchResult(
            model=self.model.to_json(),
            space=config.space,
            dataset=config.run.dataset,
            network=str(config.network),
            profile=config.profile.name,
            records_digest=self.records_digest,
            heads=config.heads,
            plan=config.plan or "",
            target_s=self.target_s,
            lambda_per_s=config.lambda_per_s,
            shares=dict(zip(FACTORS, lines, strict=True)),
            expected_latency_s=metrics["expected_latency_s"],
            accuracy=metrics["accuracy"],
            budgets_s=self.budgets_s,
            finalists=finalists,
            n_epochs=len(fitted.epochs),
            finalist_epochs=config.finalist_recipe.epochs,
            recipe=asdict(config.finalist_recipe),
            duration_s=finalists_s + epochs_s,
        )


def _check_alone() -> None:
    """Refuse several processes, whose paths would differ in a step.

    Raises:
        UsageError: If torchrun started more than one.
    """
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if n_processes > 1:
        raise UsageError(
            f"{n_processes} processes: a search over layers runs in one; start it "
            "without torchrun"
        )


def _default_budgets_s(
    model: ModelPreset, pricer: Pricer, sampler: Sampler
) -> tuple[float, ...]:
    """Return parts of what the model costs with softmax, in whole milliseconds."""
    softmax = uniform_architecture(model, attention="softmax", heads=pricer.heads)
    whole_s = pricer.price_s(softmax)
    parts_s = [round(whole_s / part, 3) for part in _BUDGETS]
    least_s = _ROOM * sampler.least_s
    return tuple(s for s in parts_s if s > least_s) or (round(2 * least_s, 3),)


def _shares(mixture: Mixture) -> list[Numbers]:
    shares = (own.detach().cpu().double().numpy() for own in mixture.worths())
    return [own / own.sum(-1, keepdims=True) for own in shares]
