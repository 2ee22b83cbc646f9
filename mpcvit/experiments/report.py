"""An experiment's outcomes as a table, CSV and JSON, with what they were made under."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpcprof.files import replace_file
from mpcprof.units import format_duration
from mpcvit.experiments.conditions import Options, conditions, state_conditions
from mpcvit.experiments.search_config import Searched
from mpcvit.experiments.setting import Setting
from mpcvit.experiments.trial import Outcome, SeedRun
from mpcvit.paper.published import Published

_HEADINGS = (
    "group",
    "name",
    "what",
    "accuracy",
    "sd",
    "seeds",
    "predicted",
    "measured",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an experiment prints and writes.

    Attributes:
        findings: Sentences, the verdict among them.
        values: What of the findings is for programs.
        command: That made it.
        searches: That it rests on.
        options: Every one of the script, with its value; none where it was no script.
    """

    title: str
    setting: Setting
    outcomes: tuple[Outcome, ...]
    findings: tuple[str, ...]
    values: Mapping[str, Any]  # Any: JSON
    command: str
    searches: tuple[Searched, ...] = ()
    options: Options = field(default_factory=dict)

    def __str__(self) -> str:
        """Markdown."""
        return "\n".join(
            [
                f"# {self.title}",
                "",
                *state_conditions(*self._conditions()),
                *(["", outcome_table(self.outcomes)] if self.outcomes else []),
                *(["", *_accuracy_notes(self.outcomes)] if self.outcomes else []),
                *(["", *(f"- {one}" for one in self.findings)]),
            ]
        )

    def _conditions(self) -> tuple[Setting, str, Options, tuple[Searched, ...]]:
        return self.setting, self.command, self.options, self.searches

    def to_json(self) -> str:
        """One document; seconds, shares."""
        return json.dumps(
            {
                "title": self.title,
                "conditions": conditions(*self._conditions()),
                "outcomes": [_outcome_json(one) for one in self.outcomes],
                "findings": list(self.findings),
                "values": dict(self.values),
            },
            indent=2,
        )

    def to_csv(self) -> str:
        """A line for each training; seconds, shares."""
        rows = [_csv_row(one, run) for one in self.outcomes for run in one.runs]
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """`results.md`, `results.csv` and `results.json`."""
        replace_file(folder / "results.md", f"{self}\n")
        replace_file(folder / "results.csv", self.to_csv())
        replace_file(folder / "results.json", f"{self.to_json()}\n")


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: a line for each architecture, accuracies as means over seeds."""
    papers = [one.trial.published for one in outcomes]
    headings = [*_HEADINGS, *(["paper"] if any(papers) else [])]
    lines = [_line(headings), _line(["---"] * len(headings))]
    for one, paper in zip(outcomes, papers, strict=True):
        cells = [
            one.trial.group,
            one.trial.name,
            one.trial.detail,
            _percent(one.accuracy, "diverged"),
            _percent(one.spread, ""),
            str(len(one.accuracies)),
            format_duration(one.predicted_s, digits=4),
            "" if not one.measured_s else format_duration(one.measured_s, digits=4),
        ]
        lines.append(_line([*cells, *([_state(paper)] if any(papers) else [])]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None, otherwise: str) -> str:
    return otherwise if share is None else f"{share:.2%}"


def _state(paper: Published | None) -> str:
    if paper is None:
        return ""
    parts: list[str] = [paper.dataset]
    if paper.accuracy_percent is not None:
        parts.append(f"{paper.accuracy_percent:.2f}%")
    if paper.latency_s is not None:
        parts.append(f"{paper.latency_s:.2f} s")
    return ", ".join(parts)


def _accuracy_notes(outcomes: Sequence[Outcome]) -> list[str]:
    n_test = outcomes[0].n_test
    errors = [one.standard_error for one in outcomes if one.standard_error is not None]
    notes = [
        f"- Accuracy is of {n_test} test images: one image is {1 / n_test:.2%}; the "
        f"standard error of one training is up to {max(errors, default=0):.2%}. sd is "
        "over seeds, which share the test images."
    ]
    papers = {one.trial.published for one in outcomes} - {None}
    if papers:
        notes.append(
            "- The paper's numbers are of other data, larger models and SPU 0.3.1b0: "
            "compare the order within a column, not across."
        )
    failed = [
        f"{one.trial.group}/{one.trial.name} seed {run.seed}"
        for one in outcomes
        for run in one.runs
        if run.accuracy is None
    ]
    if failed:
        notes.append(f"- Diverged, and left out of the means: {', '.join(failed)}.")
    return notes


def _csv_row(one: Outcome, run: SeedRun) -> dict[str, object]:
    paper = one.trial.published
    return {
        "group": one.trial.group,
        "name": one.trial.name,
        "seed": run.seed,
        "accuracy": run.accuracy,
        "n_test": one.n_test,
        "predicted_s": one.predicted_s,
        "measured_s": run.measured_s,
        "train_s": run.duration_s,
        "published_percent": paper and paper.accuracy_percent,
        "published_s": paper and paper.latency_s,
        "failure": run.failure,
        "checkpoint": run.checkpoint,
        "what": one.trial.detail,
    }


def _outcome_json(one: Outcome) -> dict[str, Any]:  # Any: JSON
    paper = one.trial.published
    kd = one.trial.kd
    return {
        "group": one.trial.group,
        "name": one.trial.name,
        "what": one.trial.detail,
        "accuracy": one.accuracy,
        "spread": one.spread,
        "standard_error": one.standard_error,
        "n_test": one.n_test,
        "predicted_s": one.predicted_s,
        "measured_s": one.measured_s,
        "kd": None if kd is None else sorted(kd),
        "runs": [
            {**asdict(run), "checkpoint": str(run.checkpoint)} for run in one.runs
        ],
        "published": None if paper is None else asdict(paper),
        "architecture": json.loads(one.trial.architecture.to_json()),
    }
