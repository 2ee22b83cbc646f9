"""Profile files in parquet: read whole, written durably, by one writer at a time.

The schema is explicit, so that a file says the same whatever wrote it. Changing it
means a new SCHEMA_VERSION: old ones load, newer ones are refused. A profile that needs
no column of a newer version is written in the older one.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mpcprof.deployment import Deployment
from mpcprof.dims import DIM_NAMES, Dims
from mpcprof.errors import (
    FileBusyError,
    FileError,
    MpcprofError,
    ProfileBusyError,
    ProfileError,
    UsageError,
)
from mpcprof.files import free_backup, locked, replace_file
from mpcprof.network import Network
from mpcprof.profile.columns import OPERATION_COLUMNS, STORED, Column
from mpcprof.profile.record import Operation, Profile, Record

SCHEMA_VERSION: Final = 3
PACKAGED: Final = Path(__file__).parents[1] / "profiles"
_METADATA_KEY = b"mpcprof"
# Any: a row is what pyarrow gives and takes; it lives in this module only
_Row = dict[str, Any]
_TYPES: Final = {
    "string": pa.string(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "list of int64": pa.list_(pa.int64()),
    "list of double": pa.list_(pa.float64()),
}
_OTHER_FORMATS = (".csv", ".json", ".jsonl", ".md", ".tsv", ".txt", ".xlsx")
_OPERATION = pa.struct([(one.name, _TYPES[one.type]) for one in OPERATION_COLUMNS])


def arrow_type(column: Column) -> pa.DataType:
    """Return the type of `column` in parquet."""
    if column.type == "list of struct":
        return pa.list_(_OPERATION)
    return _TYPES[column.type]


def schema_of(version: int) -> pa.Schema:
    """Return the schema of a file of that version."""
    columns = [column for column in STORED if column.since <= version]
    return pa.schema([(column.name, arrow_type(column)) for column in columns])


SCHEMA: Final = schema_of(1)


def profile_to_table(profile: Profile) -> pa.Table:
    """Return the table that a profile file holds, metadata included."""
    version = max([1, *map(_least_version, profile)])
    about = {
        **json.loads(profile.extra),
        "schema_version": version,
        "deployment": json.loads(profile.deployment.to_json()),
    }
    schema = schema_of(version)
    schema = schema.with_metadata({_METADATA_KEY: json.dumps(about).encode()})
    return pa.Table.from_pylist([*profile.rows(STORED)], schema=schema)


def _least_version(record: Record) -> int:
    """Return the oldest schema that holds all of a record."""
    return max(
        (c.since for c in STORED if c.since > 1 and getattr(record, c.name)), default=1
    )


def table_to_profile(table: pa.Table) -> Profile:
    """Return the profile in a table; columns that its version lacks are left alone.

    Raises:
        ProfileError: If the table is no profile, is of a newer schema, or holds a
            value outside its domain.
    """
    about = _read_metadata(table.schema.metadata or {})
    schema = schema_of(about["schema_version"])
    missing = [name for name in schema.names if name not in table.schema.names]
    if missing:
        raise ProfileError(f"the columns {', '.join(missing)} are missing")
    try:
        deployment = Deployment.from_json(json.dumps(about.pop("deployment")))
        rows = table.select(schema.names).cast(schema).to_pylist()
        records = tuple(_row_to_record(row) for row in rows)
    except (MpcprofError, pa.ArrowException, TypeError, KeyError) as error:
        raise ProfileError(f"it holds a bad value: {error}") from None
    del about["schema_version"]
    return Profile(deployment=deployment, records=records, extra=json.dumps(about))


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


def packaged_names() -> tuple[str, ...]:
    """Return the names of the profiles that come with mpcprof, such as `semi2k`."""
    return tuple(sorted(path.name[: -len(".parquet")] for path in _packaged_files()))


def _packaged_files() -> Iterator[Path]:
    yield from (p for p in PACKAGED.glob("*.parquet") if "-verify-" not in p.name)


def find_profile(path: str | os.PathLike[str]) -> Path:
    """Return the file that `path` says, or the packaged profile of that name.

    A file of the user's comes first, so a name never hides it.
    """
    given = Path(path)
    packaged = PACKAGED / f"{given.name}.parquet"
    is_name = given.name == os.fspath(path) and not given.is_file()
    return packaged if is_name and packaged in _packaged_files() else given


def default_profile(protocol: str) -> Path:
    """Return profiles/PROTOCOL.parquet, or the packaged name where there is none."""
    own = Path("profiles") / f"{protocol}.parquet"
    is_packaged = not own.exists() and protocol in packaged_names()
    return Path(protocol) if is_packaged else own


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Return the profile in a file, or the one of that name that comes with mpcprof.

        >>> profile = mpcprof.read_profile("semi2k")
        >>> profile.deployment.protocol, len(profile) > 100
        ('semi2k', True)

    Raises:
        ProfileError: If it is missing, truncated, foreign, or of a newer schema.
    """
    try:
        content = find_profile(path).read_bytes()
    except FileNotFoundError:
        raise ProfileError(
            f"no profile {os.fspath(path)!r}; `mpcprof sweep --output` makes one, and "
            f"these come with mpcprof, by name: {', '.join(packaged_names())}"
        ) from None
    except OSError as error:
        raise ProfileError(
            f"cannot read {os.fspath(path)!r}: {error.strerror}"
        ) from None
    try:
        return table_to_profile(_decode(content))
    except ProfileError as error:
        raise ProfileError(
            f"{os.fspath(path)!r} cannot be read as a profile: {error}"
        ) from None


def _decode(content: bytes) -> pa.Table:
    if content[:4] != b"PAR1":
        raise ProfileError("it is not parquet; expected a file of `mpcprof sweep`")
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        return file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ProfileError(f"it is truncated or damaged ({reason})") from None


def encode_table(table: pa.Table) -> bytes:
    """Return parquet with a checksum on every page."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())


@contextlib.contextmanager
def _profile_errors() -> Iterator[None]:
    """Tell of a file that cannot be written as of a profile that cannot."""
    try:
        yield
    except FileBusyError as error:
        raise ProfileBusyError(str(error)) from None
    except FileError as error:
        raise ProfileError(str(error)) from None


def _place(path: str | os.PathLike[str]) -> Path:
    """Return the path of a profile, whose name does not promise another format."""
    place = Path(path)
    if place.suffix.lower() in _OTHER_FORMATS and not place.exists():
        good = place.with_suffix(".parquet")
        raise UsageError(
            f"{str(place)!r}: a profile is a .parquet file; write {good}, then "
            f"`mpcprof table export {good} --output {place}` makes the other"
        )
    return place.resolve()


def write_profile(path: str | os.PathLike[str], profile: Profile) -> None:
    """Make `profile` the content of the file, whatever it held.

    Raises:
        UsageError: If the name is one of another format.
        ProfileBusyError: If a sweep writes to the same file.
        ProfileError: If the place is not writable.
    """
    target = _place(path)
    with _profile_errors(), locked(target):
        replace_file(target, encode_table(profile_to_table(profile)))


class ProfileWriter:
    """The only writer of a profile file, which adds records to it; a context.

    Args:
        fresh: Start anew. The old file stays until the first records are there, and
            then becomes `PATH.bak`, or `PATH.bak-2` and so on where that is taken.

    Raises:
        UsageError: If the name is one of another format.
        ProfileBusyError: On entry, if another process writes the file.
        ProfileError: On entry, before anything was measured, if the place is not
            writable or the file cannot be continued.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        deployment: Deployment,
        *,
        fresh: bool = False,
    ) -> None:
        self._path = _place(path)
        self._profile = Profile(deployment=deployment)
        self._is_fresh = fresh
        self._opened = contextlib.ExitStack()
        self._is_open = False

    @property
    def profile(self) -> Profile:
        """The profile on file; still empty if it is written afresh."""
        return self._profile

    def __enter__(self) -> "ProfileWriter":
        with contextlib.ExitStack() as stack:
            with _profile_errors():
                stack.enter_context(locked(self._path))
            if self._path.exists() and not self._is_fresh:
                self._continue()
            self._opened = stack.pop_all()
        self._is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self._opened.close()

    def append(self, records: tuple[Record, ...]) -> None:
        """Put `records` on file; when this returns they survive a crash.

        Raises:
            ProfileError: If a key is there already, or the disk is full; the file is
                then what it was.
        """
        if not self._is_open:
            raise ProfileError("append outside of `with ProfileWriter(...)`")
        extended = self._profile.extended(tuple(records))
        content = encode_table(profile_to_table(extended))
        with _profile_errors():
            if self._is_fresh and self._path.exists():
                replace_file(free_backup(self._path), self._path.read_bytes())
            replace_file(self._path, content)
        self._is_fresh = False
        self._profile = extended

    def _continue(self) -> None:
        on_file = read_profile(self._path)
        difference = self._profile.deployment.difference(on_file.deployment)
        if difference:
            raise ProfileError(
                f"{os.fspath(self._path)!r} is the profile of another deployment "
                f"({difference}); start it anew with --fresh, or choose another file "
                "with --output"
            )
        self._profile = on_file
