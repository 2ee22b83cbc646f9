"""Jobs of a study: in one process or several, interruptible, one line for an error."""

import errno
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mpcprof.errors import EngineError, FileBusyError, UsageError
from mpcvit.study.training import train_one
from mpcvit.train import jobs
from mpcvit.train.jobs import run_jobs
from mpcvit.train.loop import DivergedError
from tests.scripted_ray import install
from tests.studies import make_study
from tests.training_runs import tiny_architecture

pytestmark = pytest.mark.usefixtures("one_thread")


def test_an_error_in_a_process_of_its_own_is_raised_here(tmp_path):
    study = make_study(tmp_path)
    architecture = tiny_architecture()
    requests = [
        study.train_config(
            architecture, tmp_path / str(seed), seed=seed, teacher=None, kd=frozenset()
        )
        for seed in (0, 1)
    ]
    missing = [replace(one, teacher=Path("none.st")) for one in requests]

    with pytest.raises(UsageError, match="teacher but no kd"):
        run_jobs(train_one, missing, n_jobs=2)


def die(job, observer):
    os._exit(3)


def test_a_process_that_dies_is_said_so(tmp_path):
    study = make_study(tmp_path)
    request = study.train_config(
        tiny_architecture(), tmp_path, seed=0, teacher=None, kd=frozenset()
    )

    with pytest.raises(
        EngineError, match="a training process died; finished epochs are kept"
    ):
        run_jobs(die, [request, request], n_jobs=2)


def fill_the_disk(job, observer):
    assert Path.cwd() != Path("/")  # where a process begins, out of the user's folder
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_that_is_not_ours_names_the_folder_of_its_job(tmp_path, n_jobs):
    study = make_study(tmp_path)
    request = study.train_config(
        tiny_architecture(), tmp_path / "full", seed=0, teacher=None, kd=frozenset()
    )

    with pytest.raises(
        EngineError, match=r"full': OSError: \[Errno 28\] No space .*; finished epochs"
    ):
        run_jobs(fill_the_disk, [request, request], n_jobs=n_jobs)


def test_one_that_diverges_does_not_stop_the_others(tmp_path):
    def work(job, observer):
        if job.run.recipe.seed == 0:
            raise DivergedError("not finite")
        return job.run.recipe.seed

    study = make_study(tmp_path)
    requests = [
        study.train_config(
            tiny_architecture(), tmp_path, seed=seed, teacher=None, kd=frozenset()
        )
        for seed in (0, 1)
    ]

    diverged, one = run_jobs(work, requests)

    assert isinstance(diverged, DivergedError)
    assert one == 1


def fail_or_wait(job, observer):
    if job.run.recipe.seed == 0:
        raise UsageError("this one fails")
    time.sleep(600)


def test_an_error_of_one_process_ends_the_others_at_once(tmp_path):
    study = make_study(tmp_path)
    configs = [
        study.train_config(tiny_architecture(), tmp_path / str(seed), seed=seed)
        for seed in (0, 1)
    ]

    with pytest.raises(UsageError, match="this one fails"):
        run_jobs(fail_or_wait, configs, n_jobs=2)  # the test's own limit is shorter


def seeds(folder: Path):
    study = make_study(folder)
    return [
        study.train_config(tiny_architecture(), folder / str(seed), seed=seed)
        for seed in range(5)
    ]


def name_host(job, observer):
    if job.run.recipe.seed == 3:
        raise DivergedError("not finite")
    return job.run.recipe.seed


def test_jobs_on_a_cluster_come_back_in_their_order(tmp_path, monkeypatch):
    install(monkeypatch, "a", "b")

    folder = tmp_path / "study" / "trained"
    *first, diverged, last = run_jobs(name_host, seeds(folder), cluster="auto")

    assert first == [0, 1, 2]
    assert isinstance(diverged, DivergedError)
    assert last == 4
    assert [*folder.iterdir()] == []


def test_a_host_that_does_not_share_the_folder_is_told(tmp_path, monkeypatch):
    install(monkeypatch, "a")
    monkeypatch.setattr(jobs, "replace_file", lambda path, text: None)

    with pytest.raises(EngineError, match=r"host a: it does not see .* all hosts"):
        run_jobs(name_host, seeds(tmp_path), cluster="auto")


@pytest.mark.parametrize("is_patient", [True, False])
def test_a_folder_that_another_shard_writes_is_waited_for_if_asked(
    tmp_path, monkeypatch, is_patient
):
    monkeypatch.setattr(jobs, "_BUSY_S", 0.0)
    answers = iter([FileBusyError("busy"), FileBusyError("busy"), "done"])

    def work(job, observer):
        answer = next(answers)
        if isinstance(answer, FileBusyError):
            raise answer
        return answer

    (job, *_) = seeds(tmp_path)
    if is_patient:
        assert run_jobs(work, [job], patience_s=math.inf) == ("done",)
    else:
        with pytest.raises(EngineError, match="busy; finished epochs are kept"):
            run_jobs(work, [job])
