"""Profile files: read whole, written durably, by one writer at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from mpcprof.deployment import Deployment
from mpcprof.errors import FileBusyError, FileError, ProfileBusyError, ProfileError
from mpcprof.files import free_backup, locked, replace_file
from mpcprof.profile.columns import profile_to_table, table_to_profile
from mpcprof.profile.record import Profile, Record


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """The profile in a file.

    Raises:
        ProfileError: If it is missing, truncated, foreign, or of a newer schema.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ProfileError(
            f"no profile {os.fspath(path)!r}; `mpcprof sweep --output` makes one"
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
    """Parquet with a checksum on every page."""
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


def write_profile(path: str | os.PathLike[str], profile: Profile) -> None:
    """Make `profile` the content of the file, whatever it held.

    Raises:
        ProfileBusyError: If a sweep writes to the same file.
        ProfileError: If the place is not writable.
    """
    target = Path(path).resolve()
    with _profile_errors(), locked(target):
        replace_file(target, encode_table(profile_to_table(profile)))


class ProfileWriter:
    """The only writer of a profile file, which adds records to it; a context.

    Args:
        fresh: Start anew. The old file stays until the first records are there, and
            then becomes `PATH.bak`, or `PATH.bak-2` and so on where that is taken.

    Raises:
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
        self._path = Path(path).resolve()
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
