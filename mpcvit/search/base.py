"""What every search has, whatever it chooses: config, settings, report, a budget."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.preset import ModelPreset
from mpcprof.units import format_at_least, format_duration
from mpcvit.data.image_set import Dataset
from mpcvit.train.config import RunConfig, choose_model
from mpcvit.train.folder import SCHEMA_VERSION
from mpcvit.train.recipe import Recipe, get_recipe

_EPOCHS: Final = {"digits": 20, "quick": 8}  # by recipe; the paper's 300 elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSearchConfig:
    """What to search on, and where to put it.

    Attributes:
        profile: File of measured seconds.
        run: Data set, folder, and recipe of the weights that are learned meanwhile.
        model: Name of a preset; None for the data set's own.
        plan: What networks are priced by: `rewrites`, or for one model a plan's file;
            None for none.
        alpha_learning_rate: Peak rate of what the choice is learned by; None for
            `RATE` times the weights'.

    Raises:
        UsageError: If a number is out of range.
    """

    RATE: ClassVar[float]

    profile: Path
    run: RunConfig
    network: Network
    model: str | None = None
    plan: str | None = None
    alpha_learning_rate: float | None = None

    def __post_init__(self) -> None:
        rate = self.alpha_learning_rate
        if rate is not None and not 0 < rate < float("inf"):
            raise UsageError(f"alpha_learning_rate={rate}: expected above 0")

    @property
    def peak_alpha_rate(self) -> float:
        """Learning rate, after warm-up, of what the choice is learned by."""
        return self.alpha_learning_rate or self.RATE * self.run.recipe.learning_rate

    def load(self, dataset: Dataset | None = None) -> tuple[Dataset, ModelPreset]:
        """Load the images, if they are not given, and the model for their classes.

        Raises:
            UsageError: If there are no such images, or the model cannot take them.
        """
        preset = choose_model(self.model, self.run.dataset)
        dataset = dataset or self.run.load_dataset(preset)
        model = replace(preset, n_classes=len(dataset.class_names))
        dataset.check_fits(model)
        return dataset, model

    def base_settings(self, model: ModelPreset, records_digest: str) -> dict[str, Any]:
        """Return the values of `BaseSearchSettings`, each a field's."""
        return {
            "model": model,
            "dataset": self.run.dataset,
            "data": self.run.data_folder and str(self.run.data_folder),
            "limit": self.run.limit,
            "network": str(self.network),
            "records_sha256": records_digest,
            "alpha_learning_rate": self.peak_alpha_rate,
            "recipe": self.run.recipe,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSearchSettings:
    """All that decides the result of a search, as it stands in `config.json`.

    Attributes:
        limit: Number of images of each split; None for all.
        data: Folder of a named data set; None for its own default.
        records_sha256: Digest of the records that the seconds come from.
        plan: `rewrites`, or the digest of a plan; "" without one.
    """

    command: Literal["search"] = "search"
    model: ModelPreset
    dataset: str
    limit: int | None
    network: str
    records_sha256: str
    alpha_learning_rate: float
    recipe: Recipe
    plan: str = ""
    data: str | None = None
    schema_version: int = SCHEMA_VERSION
    n_processes: int = 1


class ReportedResult(Protocol):
    """A result that a report prints."""

    def report_json(self) -> dict[str, Any]:  # Any: JSON
        """Return all of it, as `--json` prints it."""


Result_co = TypeVar("Result_co", bound=ReportedResult, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseSearchReport(Generic[Result_co]):
    """What the command prints; a subclass says how.

    Attributes:
        n_resumed: Number of epochs that an earlier run had done, of the first stage
            where there are two.
    """

    output: Path
    result: Result_co
    n_resumed: int
    duration_s: float
    is_first_process: bool = True

    def to_json(self) -> str:
        """Return one document: the result with all its choices; seconds, shares."""
        return json.dumps(
            {
                "output": str(self.output),
                **self.result.report_json(),
                "n_resumed": self.n_resumed,
            }
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


def budget_label(budget_s: float) -> str:
    """Return the name of what is found within a budget, such as `budget-2s`."""
    return f"budget-{budget_s:g}s"


def check_labels(labels: Sequence[str]) -> None:
    """Refuse what would have one name, and so one file.

    Raises:
        UsageError: If a label is there twice.
    """
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise UsageError(
            f"{', '.join(repeated)} asked for twice, to six digits: give each once"
        )


def too_quick(what: str, asked_s: float, least_s: float, ending: str) -> UsageError:
    """Return the refusal of a budget or target that nothing is as quick as."""
    return UsageError(
        f"{what} {format_duration(asked_s)}: expected at least "
        f"{format_at_least(least_s)}, {ending}"
    )
