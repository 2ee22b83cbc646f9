"""One writer per profile: a lock that the kernel releases when its holder dies.

flock and not a lock file that is there or not: the latter outlives a killed writer. The
descriptor is not inherited by the parties that a sweep starts, so a party that outlives
its sweep does not keep the profile locked. `filelock` does the same, but reports a
place where no file can be made as one that is busy.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from mpcprof.errors import ProfileBusyError


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
