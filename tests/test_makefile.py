"""`make venv` with a Python that is a script: what is there is kept where it works."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

MAKEFILE = ROOT / "Makefile"
INPUTS = ("setup.py", "pyproject.toml", "constraints.txt", "constraints-3.10.txt")

# fits, makes environments with a pip; has one itself where a file `pip` lies beside it
PYTHON = """#!/bin/sh
case "$*" in
    *"import pip"*) test -e "$(dirname "$0")/pip" ;;
    *"print("*) echo constraints.txt ;;
    "--version") echo "Python 3.11.9" ;;
    "-m venv --clear .venv")
        mkdir -p .venv/bin && cp "$0" .venv/bin/python && touch .venv/bin/pip ;;
    "-m pip"*) echo "installing with $0" ;;
esac
"""


def put_python(folder: Path, name: str, *, has_pip: bool) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text(PYTHON)
    (folder / name).chmod(0o755)
    if has_pip:
        (folder / "pip").touch()


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("has_pip", [False, True], ids=["stopped", "whole"])
def test_an_environment_without_pip_is_made_anew_and_a_whole_one_is_kept(
    tmp_path, has_pip
):
    shutil.copy(MAKEFILE, tmp_path)
    for name in INPUTS:
        (tmp_path / name).touch()
    put_python(tmp_path / "bin", "python3.11", has_pip=True)
    put_python(tmp_path / ".venv/bin", "python", has_pip=has_pip)

    done = subprocess.run(
        ["make", "venv"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert ("new .venv" in done.stdout) == (not has_pip)
    assert "installing with .venv/bin/python" in done.stdout
    assert (tmp_path / ".venv/.installed").exists()


def test_every_test_that_measures_a_link_lies_where_the_makefile_looks():
    (given,) = re.findall(r"^WITH_LINKS := -m link (.*)$", MAKEFILE.read_text(), re.M)
    places = [ROOT / place for place in given.split()]

    marked = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.link" in path.read_text() and path != Path(__file__)
    ]

    assert marked
    assert [p for p in marked if not {*places} & {p, *p.parents}] == []
