"""Long commands: what they show while they run, and what they leave when stopped.

with (
    resumable(folder, kept="finished epochs are"),  # a line after Ctrl-C or SIGTERM
    spu_prints_to_stderr(),
    progress_bar("training") as progress,  # a `mpcprof.progress.Progress`
):
    result = train(request, progress)
"""

import contextlib
import errno
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import click

from mpcprof.errors import EngineError, TerminatedError
from mpcprof.progress import SILENT, Progress
from mpcprof.units import format_duration

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LINE_EVERY_S = 30.0
_AGAIN_S = 0.05


def progress_bar(title: str) -> "contextlib.AbstractContextManager[Progress]":
    """Return what shows progress on standard error until the end of a block.

    A terminal shows a bar with the time left; elsewhere a line is printed every 30 s.
    Of the processes that torchrun started, the first one alone shows it.

    Args:
        title: Text in front of the bar until the work describes a step.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK") != "0":
        return contextlib.nullcontext(SILENT)
    return ProgressBar(title) if sys.stderr.isatty() else ProgressLines(title)


class ProgressBar:
    """A bar over steps with the time left, and lines above it; a context."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            refresh_per_second=2,  # a step may take a millisecond
        )
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, n_steps: int, *, n_done: int = 0) -> None:
        """Set the length of the bar, and the steps that an earlier run has done."""
        self._bar.update(self._task, total=n_steps, completed=n_done)

    def advance(self, n_steps: int = 1) -> None:
        """Move the bar."""
        self._bar.update(self._task, advance=n_steps)

    def describe(self, text: str) -> None:
        """Show `text` in front of the bar."""
        self._bar.update(self._task, description=text)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class ProgressLines:
    """A line every 30 s where standard error is no terminal; a context.

    A step may take longer than that, so the lines come from a thread of their own.
    """

    def __init__(
        self,
        title: str,
        *,
        every_s: float = _LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._text = title
        self._every_s = every_s
        self._clock = clock
        self._begin_s = clock()
        self._n_before = self._n_done = self._n_steps = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> "ProgressLines":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        if self._n_steps:
            self.say(self._line())

    def begin(self, n_steps: int, *, n_done: int = 0) -> None:
        """Count anew, and time the steps from now on."""
        self._begin_s = self._clock()
        self._n_steps, self._n_before, self._n_done = n_steps, n_done, n_done

    def advance(self, n_steps: int = 1) -> None:
        """Count steps for the next line."""
        self._n_done += n_steps

    def describe(self, text: str) -> None:
        """Keep `text` for the next line."""
        self._text = text

    def say(self, line: str) -> None:
        """Print a line at once; hours of work do not end because nobody reads it."""
        with contextlib.suppress(OSError):
            click.echo(line, err=True)

    def _tell(self) -> None:
        while not self._is_over.wait(self._every_s):
            self.say(self._line())

    def _line(self) -> str:
        passed_s = self._clock() - self._begin_s
        line = f"{self._text}: {self._n_done}/{self._n_steps or '?'} done"
        line += f", {format_duration(passed_s, digits=2)} so far"
        n_new = self._n_done - self._n_before
        if n_new and self._n_done < self._n_steps:
            left_s = passed_s / n_new * (self._n_steps - self._n_done)
            line += f", about {format_duration(left_s, digits=2)} left"
        return line


class StepLines(ProgressLines):
    """Lines as well at each step, for work of a few long ones; a context."""

    def __init__(self, prefix: str = "", suffix: str = " ...") -> None:
        super().__init__(prefix.rstrip(": ") or "starting")
        self._prefix, self._suffix = prefix, suffix

    def describe(self, text: str) -> None:
        """Print the name of the step at once, and keep it for the next lines."""
        super().describe(f"{self._prefix}{text}")
        self.say(f"{self._prefix}{text}{self._suffix}")


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends work as Ctrl-C does."""


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Raise `Terminated` at SIGTERM until the end of the block; a second one kills.

    A parent's choice to ignore the signal stays, as do other threads, which get none.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    with _Collecting() as collecting:
        signal.signal(signal.SIGTERM, partial(_terminate, collecting))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Collecting:
    """Knows when Python collects memory, and drops what is raised; a context."""

    is_on = False

    def __enter__(self) -> "_Collecting":
        gc.callbacks.insert(0, self._begin)
        gc.callbacks.append(self._end)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._begin)
        gc.callbacks.remove(self._end)

    def _begin(self, phase: str, _: object) -> None:
        self.is_on = self.is_on or phase == "start"

    def _end(self, phase: str, _: object) -> None:
        self.is_on = self.is_on and phase != "stop"


def _terminate(collecting: _Collecting, number: int, _: FrameType | None) -> None:
    if collecting.is_on:
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        return
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


@contextlib.contextmanager
def resumable(place: Path | str, *, kept: str) -> Iterator[None]:
    """Say after Ctrl-C, SIGTERM, or on a full disk, where the same command goes on.

    After --fresh it is the command without --fresh that goes on.

    Args:
        place: File or folder that holds what was done.
        kept: What that is, such as `finished epochs are`.

    Raises:
        EngineError: Instead of KeyboardInterrupt, and of the OSError of a full disk.
        TerminatedError: Instead of `Terminated`.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        error = TerminatedError if isinstance(stop, Terminated) else EngineError
        if not Path(place).exists():
            raise error(
                "stopped before anything was kept; the same command begins anew"
            ) from None
        raise error(
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


@contextlib.contextmanager
def spu_prints_to_stderr() -> Iterator[None]:
    """Send to standard error what SPU prints: standard output is for data.

    Until the end of the block, whatever writes to descriptor 1 writes to 2.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
