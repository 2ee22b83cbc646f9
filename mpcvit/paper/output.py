"""The data behind a figure as csv, and what it was made from as json."""

import csv
import importlib.metadata
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpcprof.files import replace_file
from mpcprof.provenance import commit, now_utc
from mpcvit.paper.costs import Cost, Source
from mpcvit.paper.sentences import Sentence
from mpcvit.paper.subjects import STATED, Setting

_COLUMNS = (
    *("panel", "runtime", "protocol", "x", "series", "group"),
    *("latency_s", "shown_s", "share", "bytes_sent", "hops", "basis", "measured_s"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A figure that was made.

    Attributes:
        files: Pictures, data, provenance, in this order.
        notes: What a reader of the figure should know.
        disagreement: Largest |predicted / measured - 1| of a bar or ring; None where
            nothing was measured.
    """

    name: str
    files: tuple[Path, ...]
    sources: tuple[Source, ...]
    setting: Setting
    command: str
    costs: tuple[Cost, ...]
    sentences: tuple[Sentence, ...]
    notes: tuple[str, ...]
    disagreement: float | None

    def to_json(self) -> str:
        """What NAME.json holds, and `--json` prints."""
        document = {
            "figure": self.name,
            "files": [str(path) for path in self.files],
            "command": self.command,
            "profiles": [_source_json(source) for source in self.sources],
            "network": str(self.setting.network),
            "heads": self.setting.heads,
            "activation": self.setting.activation,
            "division": self.setting.division,
            "architecture": _architecture(self),
            "basis": {
                "shown": "predicted" if self.disagreement is None else "measured",
                "numbers": dict(Counter(cost.basis for cost in self.costs)),
                "of_each": "column basis of the csv",
            },
            "predicted_against_measured": self.disagreement,
            "sentences": [
                {name: getattr(s, name) for name in s.__dataclass_fields__}
                for s in self.sentences
            ],
            "notes": list(self.notes),
            "versions": {"mpcprof": importlib.metadata.version("mpcprof")},
            "commit": commit(),
            "created_at": now_utc(),
        }
        return json.dumps(document, indent=1)

    def lines(self) -> list[str]:
        """For a person: the files, what to know, the paper's sentences."""
        lines = [str(path) for path in self.files]
        lines += [f"note: {note}" for note in self.notes]
        if self.disagreement is not None:
            lines.append(f"predicted against measured: within {self.disagreement:.1%}")
        several = len({sentence.of for sentence in self.sentences}) > 1
        for sentence in self.sentences:
            lines.append(f"{sentence.of}: {sentence}" if several else str(sentence))
        return lines


def _architecture(made: Made) -> str | None:
    if made.name != "fig8":
        return None
    path = made.setting.architecture
    return str(path) if path else STATED


def _source_json(source: Source) -> dict[str, object]:
    records = source.profile.records
    return {
        "path": str(source.path),
        "runtime": source.deployment.runtime,
        "protocol": source.deployment.protocol,
        "deployment": json.loads(source.deployment.to_json()),
        "records_digest": source.model.records_digest,
        "hosts": [*source.profile.hosts],
        "commits": sorted({record.commit for record in records}),
        "versions": sorted({record.versions for record in records}),
    }


def write_csv(path: Path, costs: Sequence[Cost]) -> None:
    """One row for each number; `share` is that of its bar or ring, of what is shown.

    Raises:
        FileError: If it cannot be written.
    """
    totals: dict[tuple[object, ...], float] = {}
    for cost in costs:
        key = _place(cost)
        totals[key] = totals.get(key, 0.0) + cost.shown_s
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for cost in costs:
        extra: dict[str, object] = {
            "runtime": cost.deployment.runtime,
            "protocol": cost.deployment.protocol,
            "share": cost.shown_s / totals[_place(cost)],
        }
        row = [extra.get(n, getattr(cost, n, None)) for n in _COLUMNS]
        writer.writerow(["" if value is None else value for value in row])
    replace_file(path, text.getvalue())


def _place(cost: Cost) -> tuple[object, ...]:
    return (cost.panel, cost.deployment, cost.x, cost.series)


def disagreement(costs: Sequence[Cost]) -> float | None:
    """Largest |predicted / measured - 1| over bars and rings; None if not measured."""
    predicted: dict[tuple[object, ...], float] = {}
    measured: dict[tuple[object, ...], float] = {}
    for cost in costs:
        if cost.measured_s is None:
            return None
        key = _place(cost)
        predicted[key] = predicted.get(key, 0.0) + cost.latency_s
        measured[key] = measured.get(key, 0.0) + cost.measured_s
    return max(abs(predicted[key] / measured[key] - 1) for key in predicted)
