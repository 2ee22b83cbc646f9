"""The parquet form of a profile: one row per record, the deployment in the metadata.

The schema is explicit, so that a file says the same whatever wrote it. Changing it
means a new SCHEMA_VERSION: old ones load, newer ones are refused.
"""

import json
from dataclasses import fields
from typing import Any, Final, cast

import pyarrow as pa

from mpcprof.deployment import Deployment
from mpcprof.dims import DIM_NAMES, Dims
from mpcprof.errors import MpcprofError, ProfileError
from mpcprof.network import Network
from mpcprof.profile.record import Operation, Profile, Record

SCHEMA_VERSION: Final = 1
_METADATA_KEY = b"mpcprof"
# Any: a row is what pyarrow gives and takes; it lives in this module only
_Row = dict[str, Any]

_OPERATION = pa.struct(
    [
        ("level", pa.string()),
        ("name", pa.string()),
        ("count", pa.int64()),
        ("duration_s", pa.float64()),
        ("bytes_sent", pa.int64()),
        ("bytes_received", pa.int64()),
        ("send_actions", pa.int64()),
        ("recv_actions", pa.int64()),
    ]
)
_OPERATION_NAMES = [field.name for field in _OPERATION]
SCHEMA = pa.schema(
    [
        ("workload", pa.string()),
        ("kind", pa.string()),
        *((name, pa.int64()) for name in DIM_NAMES),  # null: no such dimension
        ("bandwidth_bytes_per_s", pa.float64()),
        ("rtt_s", pa.float64()),
        ("mode", pa.string()),
        ("emulation", pa.string()),
        ("latencies_s", pa.list_(pa.float64())),
        ("warmups_s", pa.list_(pa.float64())),
        ("loopbacks_s", pa.list_(pa.float64())),
        ("compute_s", pa.float64()),
        ("hidden_s", pa.float64()),
        ("busy_s_by_rank", pa.list_(pa.float64())),
        ("loopback_s_per_hop", pa.float64()),
        ("loopback_s_per_byte", pa.float64()),
        ("compile_s", pa.float64()),
        ("first_call_s", pa.float64()),
        ("setup_s", pa.float64()),
        ("setup_bytes", pa.int64()),
        ("bytes_sent_by_rank", pa.list_(pa.int64())),
        ("bytes_received_by_rank", pa.list_(pa.int64())),
        ("send_actions_by_rank", pa.list_(pa.int64())),
        ("recv_actions_by_rank", pa.list_(pa.int64())),
        ("total_bytes_sent_by_repeat", pa.list_(pa.int64())),
        ("wire_bytes", pa.float64()),
        ("carried_bytes", pa.int64()),
        ("hops", pa.float64()),
        ("hops_basis", pa.string()),
        ("max_abs_error", pa.float64()),
        ("operations", pa.list_(_OPERATION)),
        ("seed", pa.int64()),
        ("host", pa.string()),
        ("versions", pa.string()),
        ("commit", pa.string()),
        ("created_at", pa.string()),
    ]
)


def record_to_row(record: Record) -> _Row:
    """Plain values in the order of SCHEMA; an absent dimension is None."""
    flat: _Row = {field.name: getattr(record, field.name) for field in fields(record)}
    flat |= {name: getattr(record.dims, name) or None for name in DIM_NAMES}
    flat["bandwidth_bytes_per_s"] = record.network.bandwidth_bytes_per_s
    flat["rtt_s"] = record.network.rtt_s
    flat["operations"] = [
        {name: getattr(operation, name) for name in _OPERATION_NAMES}
        for operation in record.operations
    ]
    for name, value in flat.items():
        if isinstance(value, tuple):
            flat[name] = list(value)
    return {name: flat[name] for name in SCHEMA.names}


def _row_to_record(row: _Row) -> Record:
    values: _Row = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row.items()
    }
    sizes = {name: values.pop(name) or 0 for name in DIM_NAMES}
    network = Network(
        bandwidth_bytes_per_s=values.pop("bandwidth_bytes_per_s"),
        rtt_s=values.pop("rtt_s"),
    )
    operations = tuple(Operation(**operation) for operation in values.pop("operations"))
    return Record(dims=Dims(**sizes), network=network, operations=operations, **values)


def profile_to_table(profile: Profile) -> pa.Table:
    """The table that a profile file holds, metadata included."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for record in profile:
        for name, value in record_to_row(record).items():
            columns[name].append(value)
    about = {
        **json.loads(profile.extra),
        "schema_version": SCHEMA_VERSION,
        "deployment": json.loads(profile.deployment.to_json()),
    }
    schema = SCHEMA.with_metadata({_METADATA_KEY: json.dumps(about).encode()})
    return pa.table(columns, schema=schema)


def table_to_profile(table: pa.Table) -> Profile:
    """The profile in a table; columns that are not in SCHEMA are left alone.

    Raises:
        ProfileError: If it is not a profile, is of a newer schema, or holds a value
            outside its domain.
    """
    about = _read_metadata(table.schema.metadata or {})
    missing = [name for name in SCHEMA.names if name not in table.schema.names]
    if missing:
        raise ProfileError(f"the columns {', '.join(missing)} are missing")
    try:
        deployment = Deployment.from_json(json.dumps(about.pop("deployment")))
        rows = table.select(SCHEMA.names).cast(SCHEMA).to_pylist()
        records = tuple(_row_to_record(row) for row in rows)
    except (MpcprofError, pa.ArrowException, TypeError, KeyError) as error:
        raise ProfileError(f"it holds a bad value: {error}") from None
    del about["schema_version"]
    return Profile(deployment=deployment, records=records, extra=json.dumps(about))


def _read_metadata(metadata: dict[bytes, bytes]) -> _Row:
    if _METADATA_KEY not in metadata:
        raise ProfileError("it is parquet, but not a profile of mpcprof")
    try:
        about = json.loads(metadata[_METADATA_KEY])
        version = about["schema_version"]
    except (ValueError, TypeError, KeyError):
        raise ProfileError("its mpcprof metadata is damaged") from None
    if not isinstance(version, int) or version < 1:
        raise ProfileError(f"schema_version={version!r}: expected 1 or more")
    if version > SCHEMA_VERSION:
        raise ProfileError(
            f"schema_version={version} is newer than the {SCHEMA_VERSION} that this "
            "mpcprof reads; update mpcprof"
        )
    return cast("_Row", about)
