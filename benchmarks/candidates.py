"""What a search derives as candidates to be trained, beside the lines of the paper."""

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from mpcvit.paper.published import Published
from mpcvit.search.alpha.derive import Derived
from mpcvit.search.alpha.result import SearchResult
from mpcvit.study.report import Source
from mpcvit.study.training import Candidate, Outcome, Study, pareto_runs


class Chosen(NamedTuple):
    """A searched network and then random ones of its cost, to be trained."""

    source: Source
    budget_s: float
    candidates: list[Candidate]
    warnings: tuple[str, ...] = ()


def make_candidate(
    group: str,
    derived: Derived,
    result: SearchResult,
    published: Published | None = None,
) -> Candidate:
    """Return a derived architecture as one to be trained."""
    return Candidate(
        group=group,
        name=derived.label,
        architecture=derived.architecture,
        detail=describe(derived, result),
        published=published,
    )


def describe(derived: Derived, result: SearchResult) -> str:
    """Return the number of accurate units, and of accurate heads in each layer."""
    accurate = result.space.accurate
    heads = [
        sum(head.count(accurate) / len(head) for head in layer)
        for layer in derived.architecture.attention
    ]
    by_layer = "-".join(f"{count:.3g}" for count in heads)
    text = f"{derived.n_accurate}/{derived.n_units} accurate, heads {by_layer}"
    if derived.n_gelu is not None:
        text += f", {derived.n_gelu}/{derived.n_gelu_units} GeLU"
    return text + derived.shortfall()


def find_published(
    table: Sequence[Published],
    what: str,
    label: str | None = None,
    dataset: str = "CIFAR-10",
) -> Published | None:
    """Return the line of a table with that `what`, at the mu of a label like mu-0.5."""
    lines = [one for one in table if (one.what, one.dataset) == (what, dataset)]
    return next((o for o in lines if label in (None, f"mu-{o.mu:g}")), None)


def pareto_command(study: Study, outcomes: Sequence[Outcome]) -> str:
    """Return the `mpcvit pareto` that reads all trainings, for a person to type."""
    words = [*pareto_runs(outcomes), "--cost-table", study.profile]
    words += ["--network", study.network]
    return shlex.join(map(str, ["mpcvit", "pareto", *words]))
