"""What tests ask about processes that are not their own children."""

import time
from collections.abc import Sequence
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process exists and is not just waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def still_running(pids: Sequence[int], timeout_s: float = 30.0) -> list[int]:
    """Those that run when the time is out; hopefully none."""
    deadline_s = time.monotonic() + timeout_s
    while (left := [*filter(is_running, pids)]) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return left
