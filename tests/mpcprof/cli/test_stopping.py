"""SIGTERM and outputs that cannot be written: a line, an exit code, no process left."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mpcprof.cli import ShieldedCommand, StandardOutput
from mpcprof.cli.progress import Terminated, ended_by_sigterm, resumable
from mpcprof.errors import FileError, TerminatedError
from tests.processes import still_running

SWEEP = [
    *(sys.executable, "-m", "mpcprof", "sweep", "--network", "loopback"),
    *("--only", "mul", "--tokens", "3", "--repeats", "1", "--output"),
]


def children_of(pid):
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@pytest.mark.spu
def test_a_sweep_that_is_setting_up_promises_nothing_and_leaves_no_process(tmp_path):
    path = tmp_path / "stopped.parquet"
    with subprocess.Popen([*SWEEP, path], stderr=subprocess.PIPE, text=True) as sweep:
        while len(children := children_of(sweep.pid)) < 3:  # the relay, two parties
            assert sweep.poll() is None

        sweep.send_signal(signal.SIGTERM)
        _, shown = sweep.communicate(timeout=240)

    assert sweep.returncode == 143
    assert shown.splitlines()[-1] == (
        "mpcprof: stopped before anything was kept; the same command begins anew"
    )
    assert "Traceback" not in shown
    assert still_running(children) == []


def test_sigterm_is_a_line_about_what_is_kept_and_an_exit_code(tmp_path):
    with (
        pytest.raises(TerminatedError) as raised,
        ended_by_sigterm(),
        resumable(tmp_path, kept="finished epochs are"),
    ):
        signal.raise_signal(signal.SIGTERM)

    assert str(raised.value).startswith(f"stopped; finished epochs are in {tmp_path}")
    assert raised.value.exit_code == 143


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt, 1), (Terminated, 143)])
def test_what_cannot_be_resumed_says_so(stop, code):
    @click.command("work", cls=ShieldedCommand)
    def work():
        raise stop

    done = CliRunner().invoke(work)

    assert done.exit_code == code
    assert done.stderr == "work: stopped; the same command begins anew\n"


def test_a_second_sigterm_ends_at_once():
    with ended_by_sigterm():
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)

        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_who_was_told_to_ignore_sigterm_does(monkeypatch):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with ended_by_sigterm():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_output_that_is_full_is_said_so_once():
    output = StandardOutput(Path("/dev/full").open("wb"))  # noqa: SIM115 - it closes it
    output.write("one")

    with pytest.raises(FileError, match="cannot write standard output: No space left"):
        output.flush()

    output.write("what Python writes at its end goes nowhere")
    output.close()


def test_characters_that_the_locale_lacks_are_replaced():
    written = io.BytesIO()
    output = StandardOutput(written, "ascii", "replace")

    output.write("na\xefve: 3 \xb5s\n")
    output.flush()

    assert written.getvalue() == b"na?ve: 3 ?s\n"


@pytest.mark.parametrize(
    ("redirection", "problem"),
    [
        ("> /dev/full", "cannot write standard output: No space left on device"),
        (">&-", "standard output is closed; redirect it to a file or /dev/null"),
    ],
)
def test_a_command_without_an_output_says_so_in_one_line(redirection, problem):
    command = f"{sys.executable} -m mpcprof --help {redirection}"

    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr == f"mpcprof: {problem}\n"
