"""A figure's files: the data as csv, the provenance as json, and lines for a person."""

import csv
import importlib.metadata
import io
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mpcprof.deployment import Deployment
from mpcprof.files import replace_file
from mpcprof.provenance import commit, now_utc
from mpcvit.paper.cases import CaseConfig
from mpcvit.paper.costs import FittedProfile, GroupCost
from mpcvit.paper.figure import Sentence

_COLUMNS = (
    *("panel", "runtime", "protocol", "x", "series", "group"),
    *("latency_s", "shown_s", "share", "bytes_sent", "hops", "basis", "measured_s"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureResult:
    """A figure that was made.

    Attributes:
        files: Pictures, data, provenance, in this order.
        architecture: Where the mixed model comes from; None if the figure has none.
        notes: What a reader of the figure should know.
        disagreement: Largest |predicted / measured - 1| of a bar or ring; None where
            nothing was measured.
    """

    name: str
    files: tuple[Path, ...]
    profiles: tuple[FittedProfile, ...]
    case: CaseConfig
    architecture: str | None
    command: str
    costs: tuple[GroupCost, ...]
    sentences: tuple[Sentence, ...]
    notes: tuple[str, ...]
    disagreement: float | None

    def to_json(self) -> str:
        """Return what NAME.json holds, and `--json` prints."""
        document = {
            "figure": self.name,
            "files": [str(path) for path in self.files],
            "command": self.command,
            "profiles": [_profile_json(fitted) for fitted in self.profiles],
            "network": str(self.case.network),
            "heads": self.case.heads,
            "activation": self.case.activation,
            "division": self.case.division,
            "architecture": self.architecture,
            "basis": {
                "shown": "predicted" if self.disagreement is None else "measured",
                "numbers": dict(Counter(cost.basis for cost in self.costs)),
                "of_each": "column basis of the csv",
            },
            "predicted_against_measured": self.disagreement,
            "sentences": [asdict(sentence) for sentence in self.sentences],
            "notes": list(self.notes),
            "versions": {"mpcprof": importlib.metadata.version("mpcprof")},
            "commit": commit(),
            "created_at": now_utc(),
        }
        return json.dumps(document, indent=1)

    def lines(self) -> list[str]:
        """Return the files, what to know, and the paper's sentences, for a person."""
        lines = [str(path) for path in self.files]
        lines += [f"note: {note}" for note in self.notes]
        if self.disagreement is not None:
            lines.append(f"predicted against measured: within {self.disagreement:.1%}")
        several = len({sentence.of for sentence in self.sentences}) > 1
        for sentence in self.sentences:
            lines.append(f"{sentence.of}: {sentence}" if several else str(sentence))
        return lines


def _profile_json(fitted: FittedProfile) -> dict[str, object]:
    records = fitted.profile.records
    return {
        "path": str(fitted.path),
        "runtime": fitted.deployment.runtime,
        "protocol": fitted.deployment.protocol,
        "deployment": json.loads(fitted.deployment.to_json()),
        "records_digest": fitted.model.records_digest,
        "hosts": [*fitted.profile.hosts],
        "commits": sorted({record.commit for record in records}),
        "versions": sorted({record.versions for record in records}),
    }


def write_csv(path: Path, costs: Sequence[GroupCost]) -> None:
    """Write one row for each number; `share` is its part of what its bar or ring shows.

    Raises:
        FileError: If it cannot be written.
    """
    totals: dict[tuple[str, Deployment, str, str], float] = defaultdict(float)
    for cost in costs:
        totals[cost.place] += cost.shown_s
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for cost in costs:
        extra: dict[str, object] = {
            "runtime": cost.deployment.runtime,
            "protocol": cost.deployment.protocol,
            # a layer of additions alone may cost nothing
            "share": cost.shown_s / (totals[cost.place] or 1.0),
        }
        row = [extra.get(name, getattr(cost, name, None)) for name in _COLUMNS]
        writer.writerow(["" if value is None else value for value in row])
    replace_file(path, text.getvalue())


def disagreement(costs: Sequence[GroupCost]) -> float | None:
    """Return the largest |predicted / measured - 1| of a bar or ring.

    It is None if a number was not measured.
    """
    predicted: dict[tuple[str, Deployment, str, str], float] = defaultdict(float)
    measured: dict[tuple[str, Deployment, str, str], float] = defaultdict(float)
    for cost in costs:
        if cost.measured_s is None:
            return None
        predicted[cost.place] += cost.latency_s
        measured[cost.place] += cost.measured_s
    return max(abs(predicted[place] / measured[place] - 1) for place in predicted)
