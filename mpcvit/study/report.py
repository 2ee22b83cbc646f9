"""What a study prints and writes: a table, CSV, JSON, and what they were made under."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any, Final, Protocol

import numpy as np
from scipy.stats import t as student_t
from scipy.stats import ttest_ind

from mpcprof.costmodel.observations import digest, primitive_records
from mpcprof.errors import UsageError
from mpcprof.files import replace_file
from mpcprof.profile.io import read_profile
from mpcprof.provenance import commit, host_description, now_utc
from mpcprof.units import format_duration
from mpcvit.paper.published import Published
from mpcvit.study.training import Outcome, SeedRun, Study

_LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One mean accuracy minus another, with the error that other trainings would show.

    Attributes:
        difference: Difference of the means, in shares.
        standard_error: Standard error of the difference, from the spread within both
            groups; None, as all below, where neither group has two members.
        degrees_of_freedom: Degrees of freedom of that error, by Welch.
        p_value: How often chance alone gives means so far apart, either way.
        interval: 95 % confidence interval of the difference, in shares.
    """

    difference: float
    standard_error: float | None = None
    degrees_of_freedom: float | None = None
    p_value: float | None = None
    interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return all of it, in shares."""
        values = asdict(self)
        return {**values, "interval_95": values.pop("interval")}

    def __str__(self) -> str:
        points = f"{100 * self.difference:+.2f} points"
        if self.interval is None:
            return f"{points} (one training each, no interval)"
        low, high = self.interval
        return (
            f"{points}, {_LEVEL:.0%} interval {100 * low:+.2f} to {100 * high:+.2f} "
            f"(p = {self.p_value:.2g})"
        )


def compare_means(
    first: Sequence[float], second: Sequence[float], *, n_test: int
) -> Difference:
    """Return mean(first) - mean(second) with Welch's interval.

    A group of one is taken to vary as the other group does. No group varies less than
    accuracies rounded to one test image do, 1 / (n_test sqrt(12)): two equal accuracies
    are no proof that a third would be the same. All accuracies come from the same test
    images, so the interval is about other trainings, not about other images.

    Raises:
        UsageError: If there is no test image.
    """
    if n_test < 1:
        raise UsageError(f"n_test={n_test}: expected at least one test image")
    difference = fmean(first) - fmean(second)
    if len(first) == len(second) == 1:
        return Difference(difference=difference)
    groups = [_widened(group, 1 / (n_test * 12**0.5)) for group in (first, second)]
    is_pooled = 1 in (len(first), len(second))  # all of the spread is the other group's
    found = ttest_ind(*groups, equal_var=is_pooled)
    low, high = map(float, found.confidence_interval(_LEVEL))
    quantile = float(student_t.ppf((1 + _LEVEL) / 2, found.df))
    return Difference(
        difference=difference,
        standard_error=(high - low) / 2 / quantile,
        degrees_of_freedom=float(found.df),
        p_value=float(found.pvalue),
        interval=(low, high),
    )


def _widened(group: Sequence[float], least: float) -> Sequence[float]:
    """Return numbers of the same mean whose standard deviation is at least `least`."""
    if len(group) == 1 or stdev(group) >= least:
        return group
    steps = np.linspace(-1, 1, len(group))
    return [*(fmean(group) + least / np.std(steps, ddof=1) * steps)]


def compare_outcomes(first: Outcome, second: Outcome) -> str:
    """Return the difference of two mean accuracies in words."""
    if not first.accuracies or not second.accuracies:
        return "a training diverged"
    return str(compare_means(first.accuracies, second.accuracies, n_test=first.n_test))


class Source(Protocol):
    """What a study rests on, such as a search."""

    def line(self) -> str:
        """Return where it is and what made it, in one line."""

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return where it is and everything that was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport:
    """The outcomes of a study and what they show.

    Attributes:
        findings: Sentences with the numbers that the study compares.
        values: Numbers of the findings, for programs.
        searches: Searches that the study rests on.
        command: Command line that made it.
        options: Every option of the script with its value; empty without a script.
    """

    title: str
    study: Study
    outcomes: tuple[Outcome, ...]
    findings: tuple[str, ...]
    values: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    searches: tuple[Source, ...] = ()
    command: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    def __str__(self) -> str:
        notes = _accuracy_notes(self.outcomes) if self.outcomes else []
        return "\n".join(
            [
                f"# {self.title}",
                "",
                *_conditions_text(self),
                *(["", outcome_table(self.outcomes), "", *notes] if notes else []),
                "",
                *(f"- {one}" for one in self.findings),
            ]
        )

    def to_json(self) -> str:
        """Return one document, in seconds and shares."""
        return json.dumps(
            {
                "title": self.title,
                "conditions": _conditions(self),
                "outcomes": [_outcome_json(one) for one in self.outcomes],
                "findings": list(self.findings),
                "values": dict(self.values),
            },
            indent=2,
        )

    def to_csv(self) -> str:
        """Return a line for each training, in seconds and shares."""
        rows = [_csv_row(one, run) for one in self.outcomes for run in one.runs]
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def write(self) -> None:
        """Write `results.md`, `results.csv` and `results.json` to the folder."""
        folder = self.study.folder
        replace_file(folder / "results.md", f"{self}\n")
        replace_file(folder / "results.csv", self.to_csv())
        replace_file(folder / "results.json", f"{self.to_json()}\n")


def _conditions(report: StudyReport) -> dict[str, Any]:  # Any: JSON
    study = report.study
    profile = read_profile(study.profile)
    return {
        "command": report.command,
        "options": dict(report.options),
        "dataset": study.run.dataset,
        "limit": study.run.limit,
        "model": asdict(study.preset),
        "profile": str(study.profile),
        "records_sha256": digest(primitive_records(profile)),
        "deployment": str(profile.deployment),
        "network": str(study.network),
        "heads": study.heads,
        "seeds": list(study.seeds),
        "teacher": study.teacher,
        "recipe": asdict(study.run.recipe),
        "searches": [one.to_json() for one in report.searches],
        "host": host_description(),
        "commit": commit(),
        "created_at": now_utc(),
    }


def _conditions_text(report: StudyReport) -> list[str]:
    study = report.study
    deployment = read_profile(study.profile).deployment
    lines = [
        f"`{report.command}`: {study.run.dataset}, model {study.preset.name}, "
        f"{study.run.recipe.epochs} epochs, seeds {', '.join(map(str, study.seeds))}, "
        f"teacher {study.teacher}.",
        f"Seconds: {study.profile.name} ({deployment}) over {study.network}, heads "
        f"{study.heads}, one image.",
    ]
    if report.options:
        given = [f"{k} {_text(x)}" for k, x in report.options.items() if x is not None]
        unset = [name for name, x in report.options.items() if x is None]
        rest = f"; none: {', '.join(unset)}" if unset else ""
        lines.append(f"Options, durations in seconds: {', '.join(given)}{rest}.")
    if report.searches:
        lines.append(f"Searches: {'; '.join(one.line() for one in report.searches)}.")
    return lines


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """Return a Markdown table, a line per architecture, accuracies as means."""
    has_paper = any(one.candidate.published for one in outcomes)
    headings = ["group", "name", "what", "accuracy", "sd", "seeds"]
    headings += ["predicted", "measured", *(["paper"] if has_paper else [])]
    rows = [headings, ["---"] * len(headings)]
    for one in outcomes:
        cells = [
            one.candidate.group,
            one.candidate.name,
            one.candidate.detail,
            "diverged" if one.accuracy is None else f"{one.accuracy:.2%}",
            "" if one.spread is None else f"{one.spread:.2%}",
            str(len(one.accuracies)),
            format_duration(one.predicted_s, digits=4),
            "" if not one.measured_s else format_duration(one.measured_s, digits=4),
        ]
        paper = _paper_text(one.candidate.published)
        rows.append([*cells, *([paper] if has_paper else [])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _paper_text(paper: Published | None) -> str:
    if paper is None:
        return ""
    percent, seconds = paper.accuracy_percent, paper.latency_s
    known = [
        *([] if percent is None else [f"{percent:.2f}%"]),
        *([] if seconds is None else [f"{seconds:.2f} s"]),
    ]
    return ", ".join([paper.dataset, *known])


def _accuracy_notes(outcomes: Sequence[Outcome]) -> list[str]:
    n_test = outcomes[0].n_test
    errors = [one.standard_error for one in outcomes if one.standard_error is not None]
    notes = [
        f"- Accuracy is of {n_test} test images: one image is {1 / n_test:.2%}; the "
        f"standard error of one training is up to {max(errors, default=0):.2%}. sd is "
        "over seeds, which share the test images."
    ]
    if any(one.candidate.published for one in outcomes):
        notes.append(
            "- The paper's numbers are of other data, larger models and SPU 0.3.1b0: "
            "compare the order within a column, not across."
        )
    failed = [
        f"{one.candidate.group}/{one.candidate.name} seed {run.seed}"
        for one in outcomes
        for run in one.runs
        if run.accuracy is None
    ]
    if failed:
        notes.append(f"- Diverged, and left out of the means: {', '.join(failed)}.")
    return notes


def _csv_row(one: Outcome, run: SeedRun) -> dict[str, object]:
    paper = one.candidate.published
    return {
        "group": one.candidate.group,
        "name": one.candidate.name,
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
        "what": one.candidate.detail,
    }


def _outcome_json(one: Outcome) -> dict[str, Any]:  # Any: JSON
    paper = one.candidate.published
    kd = one.candidate.kd
    return {
        "group": one.candidate.group,
        "name": one.candidate.name,
        "what": one.candidate.detail,
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
        "architecture": json.loads(one.candidate.architecture.to_json()),
    }
