"""What a failing child says: one line for people, and the whole of it in a log file.

The logs lie in `logs` of mpcprof's home, or in the temporary folder where that cannot
be written. The newest 20 are kept.
"""

import contextlib
import os
import re
import tempfile
import time
from pathlib import Path

from mpcprof.engine.installation import mpcprof_home

_KEPT = 20  # logs
_MOST_SHOWN = 200  # letters of a reason
# in this order: MLIR's compiler; SPU_THROW, [file:line] reason, and SPU_ENFORCE,
# [Enforce fail at file:line] condition. reason; a crash without any of them
_REASONS = (
    re.compile(r"^(?:.*[):])? ?error: (.+)", re.MULTILINE),
    re.compile(
        r"^\s*(?:what\(\):)?\s*\[(?:Enforce fail at )?\S+\.(?:cc|h):\d+\] *"
        r"(?:\(.+?\)\. (?=\S))?(.+)",
        re.MULTILINE,
    ),
    re.compile(r"^(Fatal Python error.*)", re.MULTILINE),
    re.compile(r"(\S.*)"),
)

_LOOP = "; loop a fixed number of times, as lax.fori_loop does"
_HINTS = (  # a part of SPU's reason, and what to do
    ("While with secret condition", _LOOP),
    ("isa<mpc::Pub2kTy>", f", where SPU needs a public value{_LOOP}"),  # 0.3.1b0
    ("stablehlo.fft", "; SPU has no Fourier transform: multiply by its matrix"),
    ("bf16", "; SPU has no bfloat16: compute in float32"),
    ("expect to_type FXP, got F16", "; compute in float32"),
)


def one_line(text: str, name: str) -> str:
    """Return the reason that a text gives, and the file that keeps a long text.

    Args:
        name: Who said it, such as `party 0`.
    """
    reason = text.strip()
    if "\n" in reason:
        reason = next(found[1] for one in _REASONS if (found := one.search(text)))
    hints = (hint for sign, hint in _HINTS if sign in reason)
    shown = _shortened(reason.strip(" ."))
    said = f"{shown}{next(hints, '')}"
    is_whole = shown == text.strip(" .\n\r\t")
    return said if is_whole else f"{said} (all of it: {keep_log(text, name)})"


def _shortened(reason: str) -> str:
    """Return the begin and the end of a long reason: its subject and its object."""
    half = _MOST_SHOWN // 2
    is_short = len(reason) <= _MOST_SHOWN
    return reason if is_short else f"{reason[:half]} ... {reason[-half:]}"


def keep_log(text: str, name: str) -> str:
    """Write a text to a log; return its path, or why there is none."""
    moment = time.strftime("%Y%m%d-%H%M%S")
    file = f"{moment}-{os.getpid()}-{name.replace(' ', '')}.log"
    problem = ""
    for folder in (mpcprof_home() / "logs", Path(tempfile.gettempdir()) / "mpcprof"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / file).open("a", encoding="utf-8", errors="replace") as log:
                log.write(f"{text.rstrip()}\n")
        except OSError as error:
            problem = f"not kept, {error.strerror}"
            continue
        _drop_old(folder)
        return str(folder / file)
    return problem


def _drop_old(folder: Path) -> None:
    for old in sorted(folder.glob("2*-*.log"))[:-_KEPT]:
        with contextlib.suppress(OSError):
            old.unlink(missing_ok=True)
