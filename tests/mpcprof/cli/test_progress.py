"""What long commands show on standard error, and leave after Ctrl-C."""

import doctest
import errno
import gc
import os
import signal
import time

import click
import pytest
from click.testing import CliRunner

import mpcprof.progress
from mpcprof.cli.progress import (
    ProgressBar,
    ProgressLines,
    StepLines,
    Terminated,
    ended_by_sigterm,
    progress_bar,
    resumable,
)
from mpcprof.errors import EngineError


def test_the_example_of_work_that_is_watched_runs():
    assert doctest.testmod(mpcprof.progress).failed == 0


def test_a_bar_shows_lines_the_step_and_how_far_it_came(capsys):
    with ProgressBar("setting up") as progress:
        progress.say("3 cases to measure")
        progress.begin(12)
        progress.describe("exp (4, 4)")
        progress.advance()

    shown = capsys.readouterr()
    assert "3 cases to measure" in shown.err
    assert "exp (4, 4)" in shown.err
    assert "1/12" in shown.err
    assert not shown.out


def test_what_is_no_terminal_gets_lines_with_the_time_left(capsys):
    now_s = iter([0.0, 0.0, 30.0])
    lines = ProgressLines("setting up", clock=lambda: next(now_s))

    with lines as progress:
        progress.say("3 cases to measure")
        progress.begin(12, n_done=2)
        progress.describe("exp (4, 4)")
        progress.advance(4)

    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "3 cases to measure",
        "exp (4, 4): 6/12 done, 30 s so far, about 45 s left",
    ]
    assert not shown.out


def test_a_step_that_takes_long_is_told_of_while_it_lasts(capsys):
    with ProgressLines("setting up", every_s=0.01):
        time.sleep(0.1)

    assert "setting up: 0/? done" in capsys.readouterr().err


def test_no_terminal_gets_no_bar():
    assert isinstance(progress_bar("setting up"), ProgressLines)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Make the folder that a stopped command has written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x").mkdir(parents=True)


def test_ctrl_c_before_anything_was_kept_promises_nothing():
    with (
        pytest.raises(EngineError, match="stopped before anything was kept; the same"),
        resumable("runs/x", kept="finished epochs are"),
    ):
        raise KeyboardInterrupt


@pytest.mark.usefixtures("place")
def test_ctrl_c_becomes_a_line_about_what_is_kept():
    with (
        pytest.raises(EngineError) as raised,
        resumable("runs/x", kept="finished epochs are"),
    ):
        raise KeyboardInterrupt

    assert str(raised.value) == (
        "stopped; finished epochs are in runs/x, the same command goes on there"
    )
    assert raised.value.__suppress_context__


def test_a_full_disk_becomes_a_line_about_what_is_kept():
    with (
        pytest.raises(EngineError) as raised,
        resumable("runs/x", kept="finished epochs are"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert str(raised.value) == (
        "No space left on device; finished epochs are in runs/x: make room, and the "
        "same command goes on there"
    )


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_what_began_with_fresh_goes_on_without_it(error):
    @click.command()
    @click.option("--fresh", "is_fresh", is_flag=True)
    def command(is_fresh):
        with resumable("runs/x", kept="finished epochs are"):
            raise error

    fresh = CliRunner().invoke(command, ["--fresh"]).exception
    plain = CliRunner().invoke(command, []).exception

    assert str(fresh).endswith("the same command without --fresh goes on there")
    assert str(plain).endswith("the same command goes on there")


@pytest.mark.parametrize("error", [LookupError("its own"), FileNotFoundError("own")])
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error), match="own"), resumable("runs/x", kept="it is"):
        raise error


def test_a_step_of_a_few_long_ones_is_a_line_at_once(capsys):
    with StepLines("doctor: ", suffix="") as steps:
        steps.describe("semi2k: 2 parties")

        assert capsys.readouterr().err == "doctor: semi2k: 2 parties\n"


def test_work_goes_on_where_nobody_reads_its_lines(monkeypatch):
    def refuse(line, err):
        raise BrokenPipeError

    monkeypatch.setattr(click, "echo", refuse)

    ProgressLines("setting up").say("3 cases to measure")


def test_of_the_processes_of_torchrun_the_first_alone_shows_progress(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "1")

    with progress_bar("training") as progress:
        assert progress is mpcprof.progress.SILENT
    monkeypatch.setenv("RANK", "0")
    assert isinstance(progress_bar("training"), ProgressLines)


def test_sigterm_while_memory_is_collected_is_not_lost():
    """What is raised in a callback of the collector, as JAX has one, Python drops."""

    def collecting(phase, info):
        if phase == "start" and not sent:
            sent.append(phase)
            os.kill(os.getpid(), signal.SIGTERM)

    def work():
        with ended_by_sigterm():
            gc.collect()
            time.sleep(5)

    sent = []
    gc.callbacks.append(collecting)

    try:
        with pytest.raises(Terminated):
            work()
    finally:
        gc.callbacks.remove(collecting)
