"""What long commands show on standard error, and leave after Ctrl-C."""

import errno
import os

import click
import pytest
from click.testing import CliRunner

from mpcprof.cli.interruption import resumable
from mpcprof.cli.progress import SweepProgress
from mpcprof.errors import EngineError
from mpcvit.cli.progress import FitProgress


def test_a_sweep_says_what_is_on_file_and_how_far_it_came(capsys):
    with SweepProgress() as progress:
        progress.on_start(n_cases=3, n_calls=12, n_resumed=1)
        progress.on_call("exp (4, 4)")

    shown = capsys.readouterr()
    assert "3 cases to measure, 1 on file already" in shown.err
    assert "exp (4, 4)" in shown.err
    assert "1/12" in shown.err
    assert not shown.out


def test_epochs_of_an_earlier_run_count_as_done(capsys):
    with FitProgress("training") as progress:
        progress.on_start(n_epochs=4, n_done=1, n_steps=10)
        progress.on_step()
        progress.on_epoch("epoch 2")

    shown = capsys.readouterr()
    assert "1 of 4 epochs are done already" in shown.err
    assert "epoch 2 (of 4)" in shown.err
    assert "11/40" in shown.err
    assert not shown.out


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
