"""What an experiment trains, and what came out."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from mpcprof.nn.architecture import Architecture
from mpcvit.paper.published import Published
from mpcvit.train.distillation import KdTerm


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One architecture to be trained.

    Attributes:
        group: What it is drawn as: `searched`, `random`, ...
        name: Unlike all others of its group.
        kd: What the teacher gives; everything it can if None.
        detail: What tells it from the others, for the table.
        published: What the paper prints for its like.
    """

    group: str
    name: str
    architecture: Architecture
    kd: frozenset[KdTerm] | None = None
    detail: str = ""
    published: Published | None = None

    def folder_name(self, seed: int) -> Path:
        """GROUP/NAME-seed-SEED, below the folder of all trainings."""
        return Path(self.group, f"{self.name}-seed-{seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRun:
    """One training.

    Attributes:
        accuracy: Share of the test images; None if it diverged.
        duration_s: Of all its epochs, those of an earlier run too.
        n_resumed: Epochs that an earlier run had done.
        failure: Why there is no accuracy; empty if there is one.
        measured_s: A private inference by real parties, if somebody measured it.
    """

    seed: int
    checkpoint: Path
    accuracy: float | None
    duration_s: float
    n_resumed: int
    failure: str = ""
    measured_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One architecture, trained with every seed.

    Attributes:
        predicted_s: A private inference of one image.
        n_test: Test images that accuracies are of.
    """

    trial: Trial
    predicted_s: float
    n_test: int
    runs: tuple[SeedRun, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Of the seeds whose training did not diverge."""
        return tuple(run.accuracy for run in self.runs if run.accuracy is not None)

    @property
    def accuracy(self) -> float | None:
        """Mean over seeds; None if every one diverged. Equal where the sums are."""
        return round(fmean(self.accuracies), 12) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1); None of fewer than two."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Of the accuracy of one training, by the test images; see `standard_error`."""
        if self.accuracy is None:
            return None
        return standard_error(self.accuracy, self.n_test)

    @property
    def measured_s(self) -> float | None:
        """Mean of what was measured; None if nothing was."""
        known = [run.measured_s for run in self.runs if run.measured_s is not None]
        return fmean(known) if known else None


def standard_error(accuracy: float, n_images: int) -> float:
    """sqrt(p (1 - p) / n): how far other test images of the kind would move it.

    Seeds share the test images: more seeds do not make it smaller.
    """
    return math.sqrt(accuracy * (1 - accuracy) / n_images)
