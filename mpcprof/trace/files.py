"""Timelines as files: Chrome traces, which Perfetto opens, and speedscope's JSON.

Source: Trace Event Format (complete, metadata and flow-less events), and
https://www.speedscope.app/file-format-schema.json.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.files import check_writable, replace_file
from mpcprof.trace.timeline import STATES, PartySlice, Timeline

TraceUnit = Literal["seconds", "bytes", "hops"]
TRACE_UNITS: Final[tuple[str, ...]] = get_args(TraceUnit)
SPEEDSCOPE: Final = ".speedscope.json"
_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"
_MICROSECOND: Final = 1e-6
_Event = dict[str, Any]  # Any: JSON


def check_trace(path: Path | None, unit: str = "seconds") -> None:
    """Refuse now what could not be written later.

    Args:
        path: File of the trace; None if there is to be none.

    Raises:
        UsageError: If the name or the unit is none, or both do not go together.
        FileError: If no file can be written there.
    """
    if unit not in TRACE_UNITS:
        raise UnknownNameError(f"no unit {unit!r}; {did_you_mean(unit, TRACE_UNITS)}")
    if path is None:
        if unit != "seconds":
            raise UsageError(f"--trace-unit {unit} is of --trace FILE{SPEEDSCOPE}")
        return
    if path.suffix != ".json":
        raise UsageError(
            f"--trace {path}: expected FILE.json for Perfetto, or FILE{SPEEDSCOPE}"
        )
    if unit != "seconds" and not path.name.endswith(SPEEDSCOPE):
        raise UsageError(
            f"--trace-unit {unit}: a Chrome trace is in seconds; expected --trace "
            f"FILE{SPEEDSCOPE}"
        )
    check_writable(path)


def write_trace(timeline: Timeline, path: Path, unit: TraceUnit = "seconds") -> None:
    """Write a Chrome trace, or speedscope's JSON if the name ends in .speedscope.json.

    Raises:
        UsageError: As `check_trace`.
        FileError: If the file cannot be written.
    """
    check_trace(path, unit)
    if path.name.endswith(SPEEDSCOPE):
        document = speedscope_document(timeline, unit)
    else:
        document = chrome_document(timeline)
    replace_file(path, json.dumps(document))


def chrome_document(timeline: Timeline) -> _Event:
    """Return a Chrome trace: a row per party, its parts nested above its states."""
    events: list[_Event] = [_name("process_name", 0, timeline.title)]
    for rank, row in enumerate(timeline.rows):
        events.append(_name("thread_name", rank, f"party {rank}"))
        events.append(
            {**_name("thread_sort_index", rank, ""), "args": {"sort_index": rank}}
        )
        events += _nested(row, rank, 0)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "title": timeline.title,
            "is_predicted": timeline.is_predicted,
            "latency_s": timeline.latency_s,
        },
    }


def _name(kind: str, rank: int, name: str) -> _Event:
    return {"ph": "M", "pid": 0, "tid": rank, "name": kind, "args": {"name": name}}


def _nested(row: tuple[PartySlice, ...], rank: int, depth: int) -> Iterator[_Event]:
    """Yield a slice for each part at this depth, then what is in it."""
    for name, group in itertools.groupby(row, lambda one: one.path[depth : depth + 1]):
        inside = tuple(group)
        if name:
            yield _complete(name[0], rank, inside)
            yield from _nested(inside, rank, depth + 1)
        else:
            for one in inside:
                yield _complete(one.state, rank, (one,))


def _complete(name: str, rank: int, inside: tuple[PartySlice, ...]) -> _Event:
    first, last = inside[0], inside[-1]
    arguments: _Event = {
        "bytes_sent": sum(one.n_bytes for one in inside),
        "hops": sum(one.hops for one in inside),
    }
    if first.detail and len(inside) == 1:
        arguments["message"] = first.detail
    return {
        "ph": "X",
        "pid": 0,
        "tid": rank,
        "name": name,
        "cat": name if name in STATES else "part",
        "ts": first.begin_s / _MICROSECOND,
        "dur": (last.end_s - first.begin_s) / _MICROSECOND,
        "args": arguments,
    }


def speedscope_document(timeline: Timeline, unit: TraceUnit = "seconds") -> _Event:
    """Return speedscope's JSON: a profile per party, its slices weighed by the unit."""
    frames: dict[str, int] = {}
    profiles = []
    for rank, row in enumerate(timeline.rows):
        weighed = [(one, _weight(one, unit)) for one in row]
        shown = [(one, weight) for one, weight in weighed if weight > 0]
        profiles.append(
            {
                "type": "sampled",
                "name": f"party {rank}",
                "unit": "none" if unit == "hops" else unit,
                "startValue": 0,
                "endValue": sum(weight for _, weight in shown),
                "samples": [
                    [frames.setdefault(name, len(frames)) for name in _stack(one)]
                    for one, _ in shown
                ],
                "weights": [weight for _, weight in shown],
            }
        )
    return {
        "$schema": _SCHEMA,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": profiles,
        "name": f"{timeline.title}, {unit}",
        "activeProfileIndex": 0,
        "exporter": "mpcprof",
    }


def _stack(one: PartySlice) -> tuple[str, ...]:
    return (*one.path, one.state)


def _weight(one: PartySlice, unit: TraceUnit) -> float:
    return {"seconds": one.duration_s, "bytes": one.n_bytes, "hops": one.hops}[unit]
