import json
import sys

from click.testing import CliRunner

import mpcprof.engine.installation
from mpcprof.cli import main
from mpcprof.engine.installation import Runtime

ABSENT = Runtime(
    name="spu-9",
    version="9",
    python="/nowhere/python",
    problem="needs spu==9, found none",
)


def run(*arguments):
    return CliRunner().invoke(main, ["runtime", *arguments])


def test_list_names_each_build_and_its_python():
    shown = run("list")

    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(f"spu-0.9.5  {sys.executable}  ")


def test_a_build_that_is_not_installed_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path))

    shown = run("list", "--json")

    (row,) = (
        row
        for row in json.loads(shown.stdout)["runtimes"]
        if row["name"] == "spu-0.3.1b0"
    )
    assert row["version"] == "0.3.1b0"
    assert row["available"] is False
    assert row["problem"] == (
        "not installed; run `mpcprof runtime install spu-0.3.1b0`"
    )
    assert row["python"] == str(tmp_path / "runtimes/spu-0.3.1b0/bin/python")


def test_a_python_that_does_not_fit_is_refused_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path))

    shown = run("install", "spu-0.3.1b0", "--python", sys.executable)

    assert shown.exit_code == 1
    (line,) = shown.stderr.splitlines()
    assert f"{sys.executable} (is Python 3.1" in line
    assert "--python PATH" in line
    assert not (tmp_path / "runtimes/spu-0.3.1b0").exists()


def test_a_build_that_needs_no_installation_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path))

    shown = run("install", "spu-0.9.5")

    assert shown.exit_code == 2
    assert "expected one with an environment to install: " in shown.stderr


def test_json_says_why_a_build_cannot_be_used(monkeypatch):
    monkeypatch.setattr(mpcprof.engine.installation, "list_runtimes", lambda: (ABSENT,))

    shown = run("list", "--json")

    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == {
        "runtimes": [
            {
                "name": "spu-9",
                "version": "9",
                "python": "/nowhere/python",
                "available": False,
                "problem": "needs spu==9, found none",
            }
        ]
    }


def test_a_build_that_cannot_be_used_is_listed_with_its_problem(monkeypatch):
    monkeypatch.setattr(mpcprof.engine.installation, "list_runtimes", lambda: (ABSENT,))

    shown = run("list")

    assert shown.exit_code == 0
    assert shown.stdout == "spu-9  /nowhere/python  needs spu==9, found none\n"
