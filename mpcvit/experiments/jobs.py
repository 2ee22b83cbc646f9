"""Several runs of the loop: one after another, or at once in processes of their own."""

import contextlib
import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

import torch

from mpcprof.errors import EngineError, MpcprofError
from mpcprof.progress import SILENT, Progress, Silent
from mpcvit.train.config import RunConfig
from mpcvit.train.loop import DivergedError

_TICK_S = 0.5
_LOG = logging.getLogger(__name__)


class Job(Protocol):
    """What is run: a training or a search."""

    @property
    def run(self) -> RunConfig:
        """Where it is done, and how long it goes."""


JobT = TypeVar("JobT", bound=Job)
ResultT = TypeVar("ResultT")
Work = Callable[[JobT, Progress], ResultT]  # of a module: it is sent by name


class JobsObserver(Protocol):
    """Is told how the runs go on."""

    def on_start(self, jobs: Sequence[Job]) -> None:
        """They begin, or go on."""

    def on_tick(self) -> None:
        """An epoch is done, or half a second is over."""

    def on_done(self, job: Job, answer: object) -> None:
        """One is done: its result, or the error of one that diverged."""


class SilentJobsObserver:
    """Tells nobody."""

    def on_start(self, jobs: Sequence[Job]) -> None:
        """Nothing."""

    def on_tick(self) -> None:
        """Nothing."""

    def on_done(self, job: Job, answer: object) -> None:
        """Nothing."""


def run_jobs(
    work: Work[JobT, ResultT],
    jobs: Sequence[JobT],
    *,
    n_jobs: int = 1,
    observer: JobsObserver | None = None,
) -> tuple[ResultT | DivergedError, ...]:
    """The results in the order of the jobs; a loss that diverged does not stop others.

    A job that was done before is not done again, one that was stopped goes on: the work
    sees to that.

    Raises:
        MpcprofError: What any other job raised.
        EngineError: If a process died, a disk is full, or a job in a process of its own
            raised anything else.
    """
    watching = observer or SilentJobsObserver()
    watching.on_start(jobs)
    if n_jobs > 1 and len(jobs) > 1:
        return _run_apart(work, jobs, n_jobs, watching)
    answers = []
    for job in jobs:
        answers.append(_attempt(work, job, _Ticking(watching)))
        watching.on_done(job, answers[-1])
    return tuple(answers)


class _Ticking(Silent):
    def __init__(self, observer: JobsObserver) -> None:
        self._observer = observer

    def say(self, line: str) -> None:
        self._observer.on_tick()


def _attempt(
    work: Work[JobT, ResultT], job: JobT, progress: Progress
) -> ResultT | DivergedError:
    try:
        return work(job, progress)
    except DivergedError as error:
        return error
    except OSError as error:
        raise _failure(job, error) from error


def _run_apart(
    work: Work[JobT, ResultT],
    jobs: Sequence[JobT],
    n_jobs: int,
    observer: JobsObserver,
) -> tuple[ResultT | DivergedError, ...]:
    waiting = deque(enumerate(jobs))
    answers: dict[int, ResultT | DivergedError] = {}
    busy: dict[Connection, tuple[int, _Worker[JobT, ResultT]]] = {}
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(_started(work, n_jobs))
            for _ in range(min(n_jobs, len(jobs)))
        ]
        while waiting or busy:
            while waiting and idle:
                worker = idle.pop()
                index, job = waiting.popleft()
                worker.connection.send(job)
                busy[worker.connection] = (index, worker)
            for ready in wait([*busy], timeout=_TICK_S):
                assert isinstance(ready, Connection)
                index, worker = busy.pop(ready)
                answers[index] = worker.answer()
                observer.on_done(jobs[index], answers[index])
                idle.append(worker)
            observer.on_tick()
    return tuple(answers[index] for index in range(len(jobs)))


class _Worker(Generic[JobT, ResultT]):
    """A process that works on what it is sent until its connection is closed."""

    def __init__(self, work: Work[JobT, ResultT], n_workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # torch does not survive a fork
        self.connection, theirs = context.Pipe()
        n_threads = max(1, (os.cpu_count() or 1) // n_workers)
        self.process = context.Process(
            target=_serve, args=(theirs, work, n_threads), daemon=True
        )
        self.process.start()
        theirs.close()

    def answer(self) -> ResultT | DivergedError:
        try:
            found: Any = self.connection.recv()  # Any: whatever the work returns
        except EOFError:
            self.process.join()
            raise EngineError(
                f"a training process ended with {self.process.exitcode}; finished "
                "epochs are kept, the same command goes on there"
            ) from None
        if isinstance(found, MpcprofError) and not isinstance(found, DivergedError):
            raise found
        answer: ResultT | DivergedError = found
        return answer

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


@contextlib.contextmanager
def _started(
    work: Work[JobT, ResultT], n_workers: int
) -> Iterator[_Worker[JobT, ResultT]]:
    worker = _Worker(work, n_workers)
    try:
        yield worker
    finally:
        worker.stop()


def _serve(connection: Connection, work: Work[Any, Any], n_threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started us ends us
    torch.set_num_threads(n_threads)
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):  # it is gone
            return
        answer = _answer(work, job)
        try:
            connection.send(answer)
        except OSError:
            return


def _answer(work: Work[Any, Any], job: Job) -> object:
    """The result, or the error as one that names the job and passes a pipe."""
    try:
        return work(job, SILENT)
    except MpcprofError as error:
        return error
    except Exception as error:
        if not isinstance(error, OSError):  # a bug: the pipe takes no traceback
            _LOG.exception("%s", job.run.output)
        return _failure(job, error)


def _failure(job: Job, error: Exception) -> EngineError:
    return EngineError(
        f"{str(job.run.output)!r}: {type(error).__name__}: {error}; finished epochs "
        "are kept, the same command goes on there"
    )
