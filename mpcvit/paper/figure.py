"""What a figure of the paper consists of; `fig1`, `fig3` and `fig8` fill it in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mpcprof.figures.panels import Panel
from mpcvit.paper.cases import CaseConfig
from mpcvit.paper.costs import FittedProfile, GroupCost
from mpcvit.paper.softmax_error import ErrorTable

# What "non-negligible" and "important" are taken to mean: the paper gives no number.
COUNTS: float = 0.10  # of the latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A claim of the paper, held against the numbers of one deployment.

    Attributes:
        text: The claim, in short.
        where: Section and figure of the paper.
        of: The deployment whose numbers it is held against.
        holds: Whether the numbers meet the stated criterion; None if not checked.
        because: The numbers and the criterion, or why it could not be checked.
    """

    text: str
    where: str
    of: str
    holds: bool | None
    because: str

    def __str__(self) -> str:
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "not checked"}
        return f"{verdict[self.holds]}: {self.text} ({self.where}): {self.because}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """The numbers of one row of panels: of one runtime.

    Attributes:
        profiles: Profiles of the row, one for each protocol of the figure.
        errors: Errors of softmax under MPC; None if not measured, or not in the figure.
        errors_path: File of these errors.
    """

    profiles: tuple[FittedProfile, ...]
    costs: tuple[GroupCost, ...]
    errors: ErrorTable | None
    errors_path: Path


class Figure(ABC):
    """One figure: which profiles and cases it shows, and what is said of them.

    Attributes:
        protocols: Protocols of the profiles of a row, in this order.
        has_errors: Whether a panel shows the error of softmax under MPC.
    """

    protocols: ClassVar[tuple[str, ...]]
    has_errors: ClassVar[bool] = False

    @abstractmethod
    def price(
        self, profiles: Sequence[FittedProfile], config: CaseConfig
    ) -> tuple[GroupCost, ...]:
        """Return the numbers of one row, predicted.

        Raises:
            MissingEntryError: If a profile lacks an operation.
            ProfileError: If the profiles do not belong in one row.
            UsageError: If the given architecture does not fit the figure.
        """

    @abstractmethod
    def panels(self, row: FigureRow, prefix: str) -> tuple[Panel, ...]:
        """Return the panels of one row; `prefix` opens the title of the first."""

    @abstractmethod
    def sentences(self, row: FigureRow) -> tuple[Sentence, ...]:
        """Hold what the paper says of the figure against the numbers of a row."""

    def notes(self, config: CaseConfig, rows: Sequence[FigureRow]) -> list[str]:
        """Return what a reader of the figure should know."""
        return []

    def caption(self, config: CaseConfig) -> str:
        """Return the text below the panels."""
        return (
            f"One image, heads {heads_text(config)}, {config.activation}. Other: "
            "scalings of scores, what a call costs."
        )

    def architecture(self, config: CaseConfig) -> str | None:
        """Return where the mixed model comes from; None if the figure has none."""
        return None


def heads_text(config: CaseConfig) -> str:
    """Return how heads run, as a caption says it."""
    return "one by one" if config.heads == "serial" else "batched"


def percent(value: float) -> str:
    """Return a share as whole percent: `74 %`."""
    return f"{100 * value:.0f} %"
