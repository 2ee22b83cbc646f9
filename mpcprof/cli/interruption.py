"""Ctrl-C: a long command ends by a line that says what it leaves."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mpcprof.errors import EngineError


@contextlib.contextmanager
def resumable(place: Path | str, *, kept: str) -> Iterator[None]:
    """Until the end of the block, Ctrl-C says where the same command goes on.

    Args:
        place: File or folder that holds what was done.
        kept: What that is, such as `finished epochs are`.

    Raises:
        EngineError: Instead of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise EngineError(
            f"stopped; {kept} in {place}, the same command goes on there"
        ) from None
