"""Trainings and searches: one after another, or N at once in processes of their own."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import torch

from mpcprof.cluster import Cluster
from mpcprof.errors import EngineError, FileBusyError
from mpcprof.files import check_writable, replace_file
from mpcprof.isolation import isolated_spawning
from mpcprof.progress import SILENT, Progress, Silent
from mpcvit.train.config import RunConfig
from mpcvit.train.loop import DivergedError

_TICK_S: Final = 0.5  # between two looks at the logs of other processes
_BUSY_S: Final = 2.0  # between two tries of a folder that another process writes
_LOST_S: Final = 60.0
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
    patience_s: float = 0.0,
    cluster: str = "",
) -> tuple[ResultT | DivergedError, ...]:
    """Return `work(job)` of every job, in their order.

    A loss that diverges does not stop the other jobs: its error stands in place of the
    result. The work itself skips what an earlier run has done.

    Args:
        n_jobs: Jobs at once. Above 1 each runs in a process of its own, which ends
            with this one, whatever ends it. On a cluster, on each host.
        patience_s: Seconds to wait for a folder that another process writes, and then
            to go on with what it left.
        cluster: Address of a Ray cluster whose hosts do the jobs; "" for this one.
            They share the folders of the runs, so that another host goes on where a
            lost one stopped.

    Raises:
        EngineError: If a process dies or the disk is full.
        Exception: Whatever else a job raises.
    """
    epochs = _Epochs(jobs, progress)
    if cluster:
        # what a lost host was at may be held for a moment longer
        attempt = partial(_attempt, work, patience_s=max(patience_s, _LOST_S))
        return _run_on_cluster(attempt, jobs, n_jobs, epochs, cluster)
    attempt = partial(_attempt, work, patience_s=patience_s)
    if n_jobs > 1 and len(jobs) > 1:
        return _run_apart(attempt, jobs, n_jobs, epochs)
    answers = []
    for job in jobs:
        answers.append(attempt(job, epochs))
        epochs.finish(answers[-1])
    return tuple(answers)


class _Epochs(Silent):
    """Shows the epochs of all jobs, as their logs count them.

    A log is a file, so that epochs in other processes, and of earlier runs, count too.

    Attributes:
        shown: Where they are shown.
    """

    def __init__(self, jobs: Sequence[Job], progress: Progress) -> None:
        self._folders = [job.run.output for job in jobs]
        self.shown = progress
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
        self.shown.advance(n_epochs - self._n_seen)
        self._n_seen = n_epochs

    def finish(self, answer: object) -> None:
        """Show what came of a job."""
        self._n_finished += 1
        self.shown.describe(f"{self._n_finished} of {len(self._folders)} runs")
        self.shown.say(str(answer))
        self.update()


def _count_epochs(folder: Path) -> int:
    try:
        return (folder / "log.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _attempt(
    work: Work[JobT, ResultT], job: JobT, progress: Progress, *, patience_s: float
) -> ResultT | DivergedError:
    begin_s = time.monotonic()
    try:
        while True:
            try:
                return work(job, progress)
            except FileBusyError:
                if time.monotonic() - begin_s >= patience_s:
                    raise
                time.sleep(_BUSY_S)
    except DivergedError as error:
        return error
    except OSError as error:
        raise EngineError(
            f"{str(job.run.output)!r}: {type(error).__name__}: {error}; {_KEPT}"
        ) from error


def _run_apart(
    attempt: Work[JobT, ResultT | DivergedError],
    jobs: Sequence[JobT],
    n_jobs: int,
    epochs: _Epochs,
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
            futures = [pool.submit(attempt, job, SILENT) for job in jobs]
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


def _run_on_cluster(
    attempt: Work[JobT, ResultT | DivergedError],
    jobs: Sequence[JobT],
    n_jobs: int,
    epochs: _Epochs,
    address: str,
) -> tuple[ResultT | DivergedError, ...]:
    if not jobs:
        return ()
    answers: dict[int, ResultT | DivergedError] = {}
    with _marked(jobs) as mark:
        make = partial(JobWorker, attempt, jobs, Path.cwd(), mark)
        with Cluster(address, make, epochs.shown, n_each=n_jobs) as cluster:
            shares = cluster.run(range(len(jobs)), on_tick=epochs.update)
            with contextlib.closing(shares):
                for share in shares:
                    answers[share.items[0]] = share.answer
                    epochs.finish(share.answer)
            epochs.shown.say(cluster.dispatch())
    return tuple(answers[number] for number in range(len(jobs)))


@contextlib.contextmanager
def _marked(jobs: Sequence[Job]) -> Iterator[Path]:
    """Leave a file where all runs are for the block: who sees it shares the folder."""
    folder = Path(os.path.commonpath([job.run.output.absolute() for job in jobs]))
    mark = folder / f".cluster-{os.getpid()}-{time.time_ns()}"
    check_writable(mark)
    replace_file(mark, "")
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


class JobWorker(Generic[JobT, ResultT]):
    """Does jobs on its host of a cluster, one after another.

    Args:
        folder: Current folder of the driver.
        mark: A file that the driver made in the folder of all runs.

    Raises:
        EngineError: If this host does not see the driver's folders.
    """

    def __init__(
        self,
        attempt: Work[JobT, ResultT | DivergedError],
        jobs: Sequence[JobT],
        folder: Path,
        mark: Path,
    ) -> None:
        if not (mark.exists() and folder.is_dir()):
            raise EngineError(
                f"it does not see {str(mark.parent)!r}: the study's folder must be one "
                "that all hosts share, choose it with --output"
            )
        os.chdir(folder)
        self._attempt = attempt
        self._jobs = jobs

    def take(self, items: tuple[int, ...]) -> ResultT | DivergedError:
        """Do the one job of this number."""
        (item,) = items
        return self._attempt(self._jobs[item], SILENT)

    def close(self) -> None:
        """End nothing: a job leaves nothing behind."""


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
