"""The result of a search over layers, and the best network of it within a budget.

`finalists.json` holds the shares that the first stage ended with, and the networks that
the second stage trained. It is read without torch.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mpcprof.errors import UsageError
from mpcprof.files import read_json, replace_file
from mpcprof.nn.architecture import Architecture, Heads, parse_architecture, parse_model
from mpcprof.nn.preset import ModelPreset
from mpcprof.units import format_duration
from mpcvit.search.base import budget_label, check_labels, too_quick
from mpcvit.search.layers.space import LayerSpace

FINALISTS: Final = "finalists.json"
FINALIST_NAME: Final = re.compile(r"budget-.+s-(varied-)?\d+")  # of its folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalist:
    """A network near the front, trained briefly.

    Attributes:
        label: Name of its folder: `budget-2s-1` is the first drawn for 2 s.
        document: What `architecture.json` says of it.
        predicted_s: Seconds by the search's profile.
        accuracy: Share of the images held out that it labels right; None if its
            training diverged.
    """

    label: str
    document: dict[str, Any]  # Any: JSON
    predicted_s: float
    accuracy: float | None

    @property
    def architecture(self) -> Architecture:
        """Network that the document describes."""
        return parse_architecture(json.dumps(self.document))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSearchResult:
    """A finished search over layers.

    Attributes:
        model: Keys of the sizes that the first stage was of.
        dataset: Name of the data set.
        network: Network that the seconds are for.
        profile: Name of the file that the seconds come from.
        records_digest: Digest of that file's records.
        heads: How private inference runs the heads that the seconds are of.
        plan: `rewrites` if the seconds are of networks with every exact rewrite.
        target_s: Expected seconds that the first stage aimed at; None without a target.
        shares: Of each factor's options in each layer, (L, O), by the factor's name:
            what they are worth, before any toll on their seconds.
        expected_latency_s: Seconds of networks drawn by the shares, on average.
        accuracy: Share of the images held out that the likeliest network of the first
            stage labels right, with that stage's weights.
        budgets_s: Seconds within which finalists were drawn.
        finalists: Networks of the second stage.
        n_epochs: Epochs of the first stage.
        finalist_epochs: Epochs of each network of the second stage.
        recipe: Recipe of the second stage, by the names of `Recipe`.
        duration_s: Seconds of all epochs of both stages.
    """

    model: dict[str, Any]  # Any: JSON
    space: LayerSpace
    dataset: str
    network: str
    profile: str
    records_digest: str
    heads: Heads
    plan: str
    target_s: float | None
    lambda_per_s: float | None
    shares: dict[str, tuple[tuple[float, ...], ...]]
    expected_latency_s: float
    accuracy: float
    budgets_s: tuple[float, ...]
    finalists: tuple[Finalist, ...]
    n_epochs: int
    finalist_epochs: int
    recipe: dict[str, Any]  # Any: JSON
    duration_s: float
    schema_version: Literal[1] = 1

    @property
    def preset(self) -> ModelPreset:
        """Sizes that the first stage was of."""
        return parse_model(self.model)

    def report_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the document of `finalists.json`, which has all of it."""
        return asdict(self)


def write_layer_result(folder: Path, result: LayerSearchResult) -> None:
    """Write `finalists.json`, the last file of a search over layers."""
    text = json.dumps(result.report_json(), indent=1) + "\n"
    replace_file(folder / FINALISTS, text)


def is_layer_search(folder: Path) -> bool:
    """Return whether a search over layers has finished in the folder."""
    return (folder / FINALISTS).exists()


def read_layer_result(folder: Path) -> LayerSearchResult:
    """Return the finished search over layers in a run's folder.

    Raises:
        UsageError: If there is none, or it is damaged.
    """
    return read_json(folder / FINALISTS, LayerSearchResult, what="search over layers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best finalist within a budget.

    Attributes:
        label: `budget-2s`; also its file's name.
        finalist: Label of the finalist.
        accuracy: Share of the images held out that it labelled right.
        n_compared: Number of finalists within the budget.
    """

    label: str
    architecture: Architecture
    predicted_s: float
    finalist: str
    accuracy: float
    n_compared: int

    def line(self) -> str:
        """Return one line."""
        model = self.architecture.model
        predicted = format_duration(self.predicted_s, digits=4)
        return (
            f"{self.label}: {self.finalist}, {model.n_layers} layers, "
            f"{self.accuracy:.2%} of the images held out, the most of "
            f"{self.n_compared}, predicted {predicted}"
        )


def find_within(result: LayerSearchResult, budget_s: float) -> Found:
    """Return the most accurate finalist within a budget, of equal ones the quickest.

    Raises:
        UsageError: If none is as quick as that, or the training of each diverged.
    """
    within = [one for one in result.finalists if one.predicted_s <= budget_s]
    judged = [
        (one.accuracy, -one.predicted_s, one)
        for one in within
        if one.accuracy is not None
    ]
    if within and not judged:
        raise UsageError(
            f"budget {format_duration(budget_s)}: the training of each of the "
            f"{len(within)} networks within it diverged; search anew with a lower "
            "--learning-rate"
        )
    if not within:
        least_s = min(one.predicted_s for one in result.finalists)
        ending = (
            "what the quickest trained network costs; search with --budget "
            f"{format_duration(budget_s)} to train quicker ones"
        )
        raise too_quick("budget", budget_s, least_s, ending)
    accuracy, _, best = max(judged, key=lambda one: one[:2])
    return Found(
        label=budget_label(budget_s),
        architecture=best.architecture,
        predicted_s=best.predicted_s,
        finalist=best.label,
        accuracy=accuracy,
        n_compared=len(judged),
    )


def budget_lines(result: LayerSearchResult) -> Iterator[str]:
    """Yield what was found within each of the search's budgets, or why nothing was."""
    for budget_s in result.budgets_s:
        try:
            yield find_within(result, budget_s).line()
        except UsageError as error:  # the others were found, after hours
            yield str(error)


def layer_family(
    result: LayerSearchResult,
    *,
    mus: Sequence[float] = (),
    budgets_s: Sequence[float] = (),
    heads: Heads | None = None,
) -> tuple[Found, ...]:
    """Return the best finalist within each budget, or within each of the search's own.

    Raises:
        UsageError: If mu is asked for, other heads, twice the same, or what no
            finalist meets.
    """
    if mus:
        raise UsageError(
            f"--mu {mus[0]:g}: a search of the space {result.space.name} has no alpha; "
            "give --budget 2s,1s"
        )
    if heads not in (None, result.heads):
        raise UsageError(
            f"--heads {heads}: the seconds of the search are of heads {result.heads}; "
            "leave --heads out, or search with the other --cost"
        )
    found = tuple(find_within(result, one) for one in budgets_s or result.budgets_s)
    check_labels([one.label for one in found])
    return found
