"""Trainings and searches: one after another, or N at once in processes of their own."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Protocol, TypeVar

import torch

from mpcprof.errors import EngineError
from mpcprof.isolation import isolated_spawning
from mpcprof.progress import SILENT, Progress, Silent
from mpcvit.train.config import RunConfig
from mpcvit.train.loop import DivergedError

_TICK_S: Final = 0.5  # between two looks at the logs of other processes
_KEPT: Final = "finished epochs are kept, the same command goes on there"


class Job(Protocol):
    """A training or a search to be run."""

    @property
    def run(self) -> RunConfig:
        """Folder and number of epochs."""


JobT = TypeVar("JobT", bound=Job)
ResultT = TypeVar("ResultT")
# a module's function: it is sent to other processes by its name
Work = Callable[[JobT, Progress], ResultT]


def run_jobs(
    work: Work[JobT, ResultT],
    jobs: Sequence[JobT],
    *,
    n_jobs: int = 1,
    progress: Progress = SILENT,
) -> tuple[ResultT | DivergedError, ...]:
    """Return `work(job)` of every job, in their order.

    A loss that diverges does not stop the other jobs: its error stands in place of the
    result. The work itself skips what an earlier run has done.

    Args:
        n_jobs: Jobs at once. Above 1 each runs in a process of its own, which ends
            with this one, whatever ends it.

    Raises:
        EngineError: If a process dies or the disk is full.
        Exception: Whatever else a job raises.
    """
    epochs = _Epochs(jobs, progress)
    if n_jobs > 1 and len(jobs) > 1:
        return _run_apart(work, jobs, n_jobs, epochs)
    answers = []
    for job in jobs:
        answers.append(_attempt(work, job, epochs))
        epochs.finish(answers[-1])
    return tuple(answers)


class _Epochs(Silent):
    """Shows the epochs of all jobs, as their logs count them.

    A log is a file, so that epochs in other processes, and of earlier runs, count too.
    """

    def __init__(self, jobs: Sequence[Job], progress: Progress) -> None:
        self._folders = [job.run.output for job in jobs]
        self._progress = progress
        self._n_finished = 0
        self._n_seen = sum(map(_count_epochs, self._folders))
        n_epochs = sum(job.run.recipe.epochs for job in jobs)
        progress.describe(f"0 of {len(jobs)} runs")
        progress.begin(n_epochs, n_done=self._n_seen)

    def describe(self, text: str) -> None:
        """Look at the logs: the loop of a job describes each finished epoch."""
        self.update()

    def update(self) -> None:
        """Show the epochs that were added to the logs."""
        n_epochs = sum(map(_count_epochs, self._folders))
        self._progress.advance(n_epochs - self._n_seen)
        self._n_seen = n_epochs

    def finish(self, answer: object) -> None:
        """Show what came of a job."""
        self._n_finished += 1
        self._progress.describe(f"{self._n_finished} of {len(self._folders)} runs")
        self._progress.say(str(answer))
        self.update()


def _count_epochs(folder: Path) -> int:
    try:
        return (folder / "log.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _attempt(
    work: Work[JobT, ResultT], job: JobT, progress: Progress
) -> ResultT | DivergedError:
    try:
        return work(job, progress)
    except DivergedError as error:
        return error
    except OSError as error:
        raise EngineError(
            f"{str(job.run.output)!r}: {type(error).__name__}: {error}; {_KEPT}"
        ) from error


def _run_apart(
    work: Work[JobT, ResultT], jobs: Sequence[JobT], n_jobs: int, epochs: _Epochs
) -> tuple[ResultT | DivergedError, ...]:
    # one process imports torch, which survives a fork until it is used, for all others
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mpcvit.train.run"])
    theirs, ours = context.Pipe(duplex=False)
    n_threads = max(1, (os.cpu_count() or 1) // n_jobs)
    begin = (theirs, n_threads, Path.cwd())
    with isolated_spawning():  # of the tracker of its locks
        pool = ProcessPoolExecutor(
            min(n_jobs, len(jobs)), context, _begin_process, begin
        )
    try:
        with isolated_spawning():
            futures = [pool.submit(_attempt, work, job, SILENT) for job in jobs]
        waiting = {*futures}
        while waiting:
            done, waiting = wait(waiting, _TICK_S, FIRST_COMPLETED)
            for future in done:
                epochs.finish(future.result())
            epochs.update()
        return tuple(future.result() for future in futures)
    except BrokenProcessPool:
        raise EngineError(f"a training process died; {_KEPT}") from None
    except BaseException:
        ours.close()  # ends the others at once, instead of after hours
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def _begin_process(parent: Connection, n_threads: int, folder: Path) -> None:
    os.chdir(folder)
    for number in (signal.SIGINT, signal.SIGTERM):  # for the parent, which ends this
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(n_threads)


def _end_with(parent: Connection) -> None:
    """End this process when the parent closes its end of the pipe, or dies."""
    with contextlib.suppress(EOFError, OSError):
        parent.recv()
    os._exit(1)
