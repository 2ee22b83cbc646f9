"""Standard output is for data: what SPU prints goes to standard error."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def spu_prints_to_stderr() -> Iterator[None]:
    """Until the end of the block, whatever writes to descriptor 1 writes to 2."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
