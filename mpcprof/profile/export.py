"""Profiles as tables for people and other programs."""

import json
from collections.abc import Callable
from typing import Literal, cast, get_args

import pandas as pd
import pyarrow as pa

from mpcprof.dims import DIM_NAMES
from mpcprof.errors import UnknownNameError, did_you_mean
from mpcprof.profile.columns import SCHEMA, profile_to_table, record_to_row
from mpcprof.profile.io import encode_table
from mpcprof.profile.merge import ProfileDiff
from mpcprof.profile.record import Profile, Record
from mpcprof.units import format_bytes, format_duration

ExportFormat = Literal["csv", "json", "md", "parquet"]
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)
_NUMBERS_LOST_TO_JSON = ("bandwidth_bytes_per_s",)  # infinite on loopback: null

COLUMNS = (
    *("workload", "kind", *DIM_NAMES, "bandwidth_bytes_per_s", "rtt_s", "mode"),
    *("emulation", "latency_s", "latencies_s", "warmup_s", "compute_s", "bytes_sent"),
    *("bytes_received", "send_actions", "hops", "setup_s", "protocol", "runtime"),
    *("field_bits", "fraction_bits", "options", "beaver", "host", "created_at"),
)


def profile_to_rows(profile: Profile) -> list[dict[str, object]]:
    """One dict per record: COLUMNS first, then the rest of the record.

    `warmup_s` is the list of warm-ups, None where the workload lacks a dimension.
    """
    return [_to_row(record, profile) for record in profile]


def _to_row(record: Record, profile: Profile) -> dict[str, object]:
    deployment = profile.deployment
    row: dict[str, object] = {
        **record_to_row(record),
        "latency_s": record.latency_s,
        "bytes_sent": record.bytes_sent,
        "bytes_received": record.bytes_received,
        "send_actions": record.send_actions,
        "protocol": deployment.protocol,
        "runtime": deployment.runtime,
        "field_bits": deployment.field_bits,
        "fraction_bits": deployment.fraction_bits,
        "options": deployment.options,
        "beaver": deployment.beaver,
        "total_bytes_sent": record.total_bytes_sent,
    }
    row["warmup_s"] = row.pop("warmups_s")
    first = {name: row[name] for name in COLUMNS}
    return first | row


def to_frame(profile: Profile) -> pd.DataFrame:
    """One row per record; an absent dimension is <NA>."""
    rows = profile_to_rows(profile)
    names = [*rows[0]] if rows else [*COLUMNS]
    frame = pd.DataFrame(rows, columns=names)
    return frame.astype(dict.fromkeys(DIM_NAMES, "Int64"))


def profile_to_json_rows(profile: Profile) -> list[dict[str, object]]:
    """The same of numbers that JSON has: null instead of an infinite one."""
    rows = profile_to_rows(profile)
    for row in rows:
        for name in _NUMBERS_LOST_TO_JSON:
            row[name] = None if row[name] == float("inf") else row[name]
    return rows


def _to_json(profile: Profile) -> str:
    document = {
        "deployment": json.loads(profile.deployment.to_json()),
        "records": profile_to_json_rows(profile),
        "extra": json.loads(profile.extra),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _to_csv(profile: Profile) -> str:
    frame = to_frame(profile)
    for name in frame.columns:
        values = [*frame[name]]
        if any(isinstance(value, list) for value in values):
            frame[name] = [json.dumps(value) for value in values]
    return cast("str", frame.to_csv(index=False))


def display_rows(profile: Profile) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and cells for reading: units in the cells, rounded to three digits."""
    header = ("workload", "dims", "network", "mode", "latency", "compute", "sent")
    cells: list[tuple[str, ...]] = [
        (
            record.workload,
            str(record.dims),
            str(record.network),
            record.mode,
            format_duration(record.latency_s, digits=3),
            format_duration(record.compute_s, digits=3),
            format_bytes(record.bytes_sent, digits=3),
            f"{record.hops:g}",
        )
        for record in profile
    ]
    return (*header, "hops"), cells


def diff_rows(diff: ProfileDiff) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and cells of what changed, for reading."""
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


def diff_to_json(diff: ProfileDiff) -> str:
    """The comparison as one JSON document."""
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
                "a_latency_s": entry.a_latency_s,
                "b_latency_s": entry.b_latency_s,
                "ratio": entry.ratio,
                "is_slower": entry.is_slower,
                "has_equal_bytes": entry.has_equal_bytes,
                "has_equal_hops": entry.has_equal_hops,
                "is_regression": entry.is_regression,
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
    """A profile still, with the derived columns behind its own."""
    table = profile_to_table(profile)
    rows = profile_to_rows(profile)
    for name in COLUMNS:
        if name not in SCHEMA.names and name != "warmup_s" and rows:
            table = table.append_column(name, pa.array([row[name] for row in rows]))
    return encode_table(table)


_EXPORTERS: dict[str, Callable[[Profile], str | bytes]] = {
    "csv": _to_csv,
    "json": _to_json,
    "md": _to_markdown,
    "parquet": _to_parquet,
}


def export_profile(profile: Profile, export_format: str) -> str | bytes:
    """The profile as csv, json, md (text) or parquet (bytes).

    csv holds lists as JSON text; json holds an infinite bandwidth as null; parquet has
    the derived columns too and is still a profile.

    Raises:
        UnknownNameError: If the format is none of these.
    """
    if export_format not in _EXPORTERS:
        hint = did_you_mean(export_format, [*_EXPORTERS])
        raise UnknownNameError(f"no format {export_format!r}; {hint}")
    return _EXPORTERS[export_format](profile)
