"""`mpcprof profile`: what it refuses before parties start, and what it takes."""

import pytest
from click.testing import CliRunner

from mpcprof.cli import main

SOURCE = """
def twice(x):
    return 2 * x
"""


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Runs the command in a folder with a file of functions; no party may start."""
    (tmp_path / "functions.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path / "home"))

    def refuse(*_):
        raise AssertionError("a party was started")

    monkeypatch.setattr("mpcprof.engine.session.Session.__enter__", refuse)
    return lambda *args: CliRunner().invoke(main, ["profile", *args])


def test_a_runtime_that_is_not_installed_is_said_before_any_party_starts(profile):
    result = profile("functions.py:twice", "--input", "4", "--runtime", "spu-0.3.1b0")

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "mpcprof: runtime spu-0.3.1b0: not installed; "
        "run `mpcprof runtime install spu-0.3.1b0`"
    )
