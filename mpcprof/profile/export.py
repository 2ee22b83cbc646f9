"""Profiles as tables for people and other programs."""

import csv
import io
import json
import math
from collections.abc import Callable
from typing import Literal, get_args

import pyarrow as pa

from mpcprof.errors import UnknownNameError, did_you_mean
from mpcprof.profile.columns import LEADING, ORDERED
from mpcprof.profile.io import arrow_type, encode_table, profile_to_table
from mpcprof.profile.merge import ProfileDiff
from mpcprof.profile.record import Profile
from mpcprof.units import format_bytes, format_duration, format_hops

ExportFormat = Literal["csv", "json", "md", "parquet"]
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)

_RENAMED = {"warmups_s": "warmup_s"}  # the list of warm-ups, as scripts know it

# Columns of an export that come first; the rest of the table follows.
EXPORT_COLUMNS = tuple(_RENAMED.get(one.name, one.name) for one in LEADING)


def profile_to_rows(profile: Profile) -> list[dict[str, object]]:
    """Return one row per record: EXPORT_COLUMNS, then the rest of the table."""
    return [
        {_RENAMED.get(name, name): value for name, value in row.items()}
        for row in profile.rows(ORDERED)
    ]


def profile_to_json_rows(profile: Profile) -> list[dict[str, object]]:
    """Return `profile_to_rows` with null for infinity, which JSON lacks."""
    return [
        {name: None if value == math.inf else value for name, value in row.items()}
        for row in profile_to_rows(profile)
    ]


def _to_json(profile: Profile) -> str:
    document = {
        "deployment": json.loads(profile.deployment.to_json()),
        "records": profile_to_json_rows(profile),
        "extra": json.loads(profile.extra),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _to_csv(profile: Profile) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_RENAMED.get(one.name, one.name) for one in ORDERED)
    for row in profile_to_rows(profile):
        writer.writerow(
            json.dumps(value) if isinstance(value, list) else value
            for value in row.values()
        )
    return text.getvalue()


def display_rows(profile: Profile) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and cells for reading: with units, rounded to three digits."""
    header = ("workload", "dims", "network", "mode", "latency", "compute", "sent")
    cells: list[tuple[str, ...]] = [
        (
            record.workload,
            str(record.dims),
            str(record.network),
            record.mode,
            format_duration(record.latency_s, digits=3),
            format_duration(record.compute_s, digits=3),
            f"{about}{format_bytes(record.bytes_sent, digits=3)}",
            f"{about}{format_hops(record.hops)}",
        )
        for record in profile
        for about in ("about " if record.differs_by_call else "",)
    ]
    return (*header, "hops"), cells


def diff_rows(diff: ProfileDiff) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and cells of a comparison, for reading."""
    header = ("case", "a", "b", "b/a", "bytes", "hops", "")
    cells: list[tuple[str, ...]] = [
        (
            str(entry.key),
            format_duration(entry.a_latency_s, digits=3),
            format_duration(entry.b_latency_s, digits=3),
            f"{entry.ratio:.3f}",
            "equal" if entry.has_equal_bytes else "differ",
            "equal" if entry.has_equal_hops else "differ",
            "REGRESSION" if entry.is_regression else "",
        )
        for entry in diff.common
    ]
    cells += [(str(key), *("",) * 5, "only in a") for key in diff.only_a]
    cells += [(str(key), *("",) * 5, "only in b") for key in diff.only_b]
    return header, cells


_COMPARED = (
    *("a_latency_s", "b_latency_s", "ratio", "is_slower", "has_equal_bytes"),
    *("has_equal_hops", "is_regression"),
)


def diff_to_json(diff: ProfileDiff) -> str:
    """Return a comparison as one JSON document."""
    document = {
        "tolerance": diff.tolerance,
        "deployment_difference": diff.deployment,
        "has_regressions": diff.has_regressions,
        "common": [
            {
                "case": str(entry.key),
                "workload": entry.key.workload,
                "dims": dict(entry.key.dims.items()),
                "network": str(entry.key.network),
                "mode": entry.key.mode,
                **{name: getattr(entry, name) for name in _COMPARED},
            }
            for entry in diff.common
        ],
        "only_a": [str(key) for key in diff.only_a],
        "only_b": [str(key) for key in diff.only_b],
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _to_markdown(profile: Profile) -> str:
    header, cells = display_rows(profile)
    lines = [header, ("---",) * len(header), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _to_parquet(profile: Profile) -> bytes:
    """Return a profile that has the leading derived columns behind its own."""
    table = profile_to_table(profile)
    derived = [column for column in LEADING if not column.is_stored]
    rows = [*profile.rows(derived)]
    for column in derived:
        values = pa.array([row[column.name] for row in rows], arrow_type(column))
        table = table.append_column(column.name, values)
    return encode_table(table)


_EXPORTERS: dict[str, Callable[[Profile], str | bytes]] = {
    "csv": _to_csv,
    "json": _to_json,
    "md": _to_markdown,
    "parquet": _to_parquet,
}


def export_profile(profile: Profile, export_format: str) -> str | bytes:
    """Return the profile as csv, json, md (text) or parquet (bytes).

    csv holds lists as JSON text; json holds an infinite bandwidth as null; parquet has
    the derived columns too and is still a profile.

    Raises:
        UnknownNameError: If the format is none of these.
    """
    if export_format not in _EXPORTERS:
        hint = did_you_mean(export_format, [*_EXPORTERS])
        raise UnknownNameError(f"no format {export_format!r}; {hint}")
    return _EXPORTERS[export_format](profile)
