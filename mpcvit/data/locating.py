"""Files of a data set: in a folder, one folder below, or in an archive."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from mpcprof.errors import UsageError


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None


def read_members(place: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Where each named file lies, for messages, and its bytes; in that order.

    Args:
        place: A folder, or a tar archive of any compression.

    Raises:
        UsageError: If one is missing, or the archive is damaged.
    """
    if place.is_dir():
        yield from ((str(place / name), read_bytes(place / name)) for name in names)
        return
    found = {}
    try:
        with tarfile.open(place) as archive:
            for member in archive:
                name = Path(member.name).name
                file = archive.extractfile(member) if name in names else None
                if file is not None:
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
        raise UsageError(f"{place}: not a whole archive: {error}") from None
    for name in names:
        if name not in found:
            raise UsageError(f"{place}: no {name} in it: expected {', '.join(names)}")
        yield f"{place}:{name}", found[name]
