"""What a search was asked for, read back from `config.json` in its folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mpcprof.errors import UsageError
from mpcvit.data.augmentation import Augmentation
from mpcvit.models.layers import Regularization
from mpcvit.search.objective import Penalty
from mpcvit.search.result import SearchResult
from mpcvit.train.recipe import Distillation, Recipe

_CONFIG: Final = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """What decided a search beside what its result says.

    Attributes:
        limit: Images of each split; all if None.
        alpha_learning_rate: Peak rate of alpha and beta.
        recipe: Of the supernet's weights.
        values: The whole file.
    """

    limit: int | None
    penalty: Penalty
    alpha_learning_rate: float
    recipe: Recipe
    values: Mapping[str, Any]  # Any: JSON


def read_search_config(folder: Path) -> SearchConfig:
    """The settings of the search in a folder.

    Raises:
        UsageError: If the file is missing or damaged, or of something else.
    """
    path = folder / _CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["command"] != "search":
            raise ValueError(f"it is of {values['command']!r}")
        return SearchConfig(
            limit=values["limit"],
            penalty=Penalty(**values["penalty"]),
            alpha_learning_rate=float(values["alpha_learning_rate"]),
            recipe=_parse_recipe(values["recipe"]),
            values=values,
        )
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{str(path)!r} is not the settings of a search "
            f"({type(error).__name__}: {error})"
        ) from None


def _parse_recipe(values: dict[str, Any]) -> Recipe:  # Any: JSON
    return Recipe(
        **values
        | {
            "augmentation": Augmentation(**values["augmentation"]),
            "regularization": Regularization(**values["regularization"]),
            "distillation": Distillation(**values["distillation"]),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A search that an experiment rests on, for its report.

    Attributes:
        folder: Of the search, as it was given.
        config: None if the folder has none that can be read.
    """

    folder: Path
    result: SearchResult
    config: SearchConfig | None

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Lambda and eta as they were at the end; all that was asked for."""
        result = self.result
        return {
            "folder": str(self.folder),
            "lambda_per_s": result.lambda_per_s,
            "eta_per_s": result.eta_per_s,
            "target_s": result.target_s,
            "n_epochs": result.n_epochs,
            "profile": result.profile,
            "records_sha256": result.records_digest,
            "config": None if self.config is None else dict(self.config.values),
        }

    def line(self) -> str:
        """In one line."""
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
        if self.config is None:
            parts.append("seed, batch size and rates unknown")
        else:
            recipe = self.config.recipe
            parts += [
                f"seed {recipe.seed}",
                f"batch {recipe.batch_size}",
                f"learning rate {recipe.learning_rate:g}",
                f"of alpha {self.config.alpha_learning_rate:g}",
            ]
        return f"{self.folder}: {', '.join(parts)}"


def recall_search(folder: Path, result: SearchResult) -> Searched:
    """The result with what it was asked for, as far as the folder says."""
    try:
        config = read_search_config(folder)
    except UsageError:
        config = None
    return Searched(folder=folder, result=result, config=config)
