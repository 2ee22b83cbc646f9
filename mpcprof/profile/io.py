"""One writer per profile: a lock that the kernel releases when its holder dies.

flock and not a lock file that is there or not: the latter outlives a killed writer. The
descriptor is not inherited by the parties that a sweep starts, so a party that outlives
its sweep does not keep the profile locked. `filelock` does the same, but reports a
place where no file can be made as one that is busy.
"""

import contextlib
import fcntl
import itertools
import os
import re
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from mpcprof.deployment import Deployment
from mpcprof.errors import ProfileBusyError, ProfileError
from mpcprof.profile.columns import profile_to_table, table_to_profile
from mpcprof.profile.merge import Profile
from mpcprof.profile.record import Record


class ProfileLock:
    """Exclusive from its making until `release`; the lock file goes with it.

    Raises:
        ProfileBusyError: If another process, or another lock of this one, holds it.
        OSError: If the lock file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.lock")
        self._fd = self._open()
        while os.fstat(self._fd).st_nlink == 0:  # its last holder just removed it
            os.close(self._fd)
            self._fd = self._open()

    def _open(self) -> int:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            profile = os.fspath(self._path.with_suffix(""))
            raise ProfileBusyError(
                f"{profile!r} is being written by another process; wait for it, or "
                "choose another file with --output"
            ) from None
        except OSError:
            os.close(fd)
            raise
        return fd

    def release(self) -> None:
        """Let the next writer in."""
        with contextlib.suppress(OSError):  # a lock file that stays blocks nobody
            self._path.unlink()
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # a forked child may hold a copy
        os.close(self._fd)


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


def replace_file(path: Path, content: bytes) -> None:
    """Make `content` the file at `path`, at once and durably.

    Temporary files that dead writers left are removed on the way. A pipe or a device
    is written to as it is.

    Raises:
        ProfileError: If the folder or the disk does not let us; the old file stays.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        _write_into(path, content)
        return
    path = path.resolve()  # a link stays a link
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _remove_stale_temporaries(path)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from None


def _write_into(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise _unwritable(path, error) from None


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unwritable(path: Path, error: OSError) -> ProfileError:
    return ProfileError(
        f"cannot write {os.fspath(path)!r}: {error.strerror}; "
        "choose another place with --output"
    )


def _remove_stale_temporaries(path: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.tmp")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match and not _is_alive(int(match[1])):
            other.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process is alive too
        return True
    return True


def _acquire(path: Path) -> ProfileLock:
    """The only writer of `path`, until released or dead."""
    if path.is_dir():
        raise ProfileError(f"cannot write {os.fspath(path)!r}: it is a folder")
    if path.exists() and not os.access(path, os.W_OK):
        raise ProfileError(f"cannot write {os.fspath(path)!r}: it is read-only")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return ProfileLock(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _free_backup(path: Path) -> Path:
    """The first of `PATH.bak`, `PATH.bak-2`, ... that is no file yet."""
    suffixes = itertools.chain([".bak"], (f".bak-{n}" for n in itertools.count(2)))
    backups = (path.with_name(f"{path.name}{suffix}") for suffix in suffixes)
    return next(backup for backup in backups if not os.path.lexists(backup))


def write_profile(path: str | os.PathLike[str], profile: Profile) -> None:
    """Make `profile` the content of the file, whatever it held.

    Raises:
        ProfileBusyError: If a sweep writes to the same file.
        ProfileError: If the place is not writable.
    """
    target = Path(path).resolve()
    lock = _acquire(target)
    try:
        replace_file(target, encode_table(profile_to_table(profile)))
    finally:
        lock.release()


class ProfileWriter:
    """Adds records to a profile file, of which it is the only writer; a context.

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
        self._lock: ProfileLock | None = None

    @property
    def profile(self) -> Profile:
        """What is on file; nothing yet of a fresh one."""
        return self._profile

    def __enter__(self) -> "ProfileWriter":
        self._lock = _acquire(self._path)
        try:
            self._probe()
            if self._path.exists() and not self._is_fresh:
                self._continue()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release()

    def append(self, records: tuple[Record, ...]) -> None:
        """Put `records` on file; when this returns they survive a crash.

        Raises:
            ProfileError: If a key is there already, or the disk is full; the file is
                then what it was.
        """
        if self._lock is None:
            raise ProfileError("append outside of `with ProfileWriter(...)`")
        extended = self._profile.extended(tuple(records))
        content = encode_table(profile_to_table(extended))
        if self._is_fresh and self._path.exists():
            replace_file(_free_backup(self._path), self._path.read_bytes())
        replace_file(self._path, content)
        self._is_fresh = False
        self._profile = extended

    def _probe(self) -> None:
        """Find out now, not after an hour, that the folder takes no file."""
        probe = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        try:
            probe.write_bytes(b"PAR1")
            probe.unlink()
        except OSError as error:
            raise _unwritable(self._path, error) from None

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

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
