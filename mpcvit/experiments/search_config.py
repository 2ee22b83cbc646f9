"""A search that an experiment rests on, with what it was asked for, for a report."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpcprof.errors import UsageError
from mpcvit.search.result import SearchResult
from mpcvit.search.run import SearchSettings, read_search_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A search that an experiment rests on, for its report.

    Attributes:
        folder: Of the search, as it was given.
        config: None if the folder has none that can be read.
    """

    folder: Path
    result: SearchResult
    config: SearchSettings | None

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
            "config": None if self.config is None else asdict(self.config),
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
        config = read_search_settings(folder)
    except UsageError:
        config = None
    return Searched(folder=folder, result=result, config=config)
