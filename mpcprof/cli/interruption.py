"""Ctrl-C and full disks: a long command ends by a line that says what it leaves."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import click

from mpcprof.errors import EngineError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def resumable(place: Path | str, *, kept: str) -> Iterator[None]:
    """Until the end of the block, Ctrl-C says where the same command goes on.

    So does a disk that has no room. With --fresh the same command would begin again:
    then it is the one without that goes on.

    Args:
        place: File or folder that holds what was done.
        kept: What that is, such as `finished epochs are`.

    Raises:
        EngineError: Instead of KeyboardInterrupt, and of the OSError of a full disk.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise EngineError(
            f"stopped; {kept} in {place}, {_what_goes_on()} goes on there"
        ) from None
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise EngineError(
            f"{error.strerror}; {kept} in {place}: make room, and {_what_goes_on()} "
            "goes on there"
        ) from None


def _what_goes_on() -> str:
    context = click.get_current_context(silent=True)
    is_fresh = context is not None and context.params.get("is_fresh", False)
    return "the same command without --fresh" if is_fresh else "the same command"
