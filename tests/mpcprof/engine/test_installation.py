"""Environments of SPU builds, made by a Python 3.8 that is a script."""

import json
import shutil

import pytest

from mpcprof.builds import PAPER_BUILD
from mpcprof.engine import installation
from mpcprof.engine.installation import (
    find_python,
    install_runtime,
    installation_problem,
    python_of,
    runtime_home,
)
from mpcprof.errors import BackendUnavailableError, EngineError

assert PAPER_BUILD.environment
PAPER = PAPER_BUILD.environment

# answers that it is 3.8; `-I -m venv PLACE` puts itself there; notes what it was asked
PYTHON = """#!/bin/sh
echo "$@" >> {log}
[ "$1" = -I ] && shift
case "$1 $2" in
    "-c import sys; print"*) echo 3.8.18 ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip") {pip} ;;
esac
"""


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no uv but that of a test
    return tmp_path / "home"


@pytest.fixture
def make_python(tmp_path):
    def make(pip="echo 'Downloading spu'"):
        path = tmp_path / "python3.8"
        path.write_text(PYTHON.format(log=tmp_path / "log", pip=pip))
        path.chmod(0o755)
        return str(path)

    return make


UV = """#!/bin/sh
echo "uv $@" >> {log}
case "$1" in
    venv) {venv}; mkdir -p "$5/bin" && cp {python} "$5/bin/python" ;;
    pip) {pip} ;;
esac
"""


@pytest.fixture
def make_uv(monkeypatch, tmp_path):
    def make(python, venv=":", pip="echo 'Installed 4 packages in 3ms' >&2"):
        path, log = tmp_path / "uv", tmp_path / "log"
        path.write_text(UV.format(log=log, python=python, venv=venv, pip=pip))
        path.chmod(0o755)
        monkeypatch.setattr(shutil, "which", {"uv": str(path)}.get)

    return make


def asked_of_uv(tmp_path):
    lines = (tmp_path / "log").read_text().splitlines()
    return [line.split() for line in lines if line.startswith("uv ")]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_installation_is_whole_and_says_what_it_does(home, make_python):
    steps = []

    python = install_runtime(PAPER, steps.append, make_python())

    assert python == python_of(PAPER)
    assert python.is_file()
    assert installation_problem(PAPER) == ""
    assert any("spu==0.3.1b0" in step for step in steps)
    assert "Downloading spu" in steps
    assert names_in(home / "runtimes") == [f".{PAPER.name}.lock", PAPER.name]


def test_packages_are_pinned_and_bring_no_others(make_python, tmp_path):
    install_runtime(PAPER, lambda step: None, make_python())

    (pip,) = (x for x in (tmp_path / "log").read_text().splitlines() if "-m pip" in x)
    assert "--no-deps" in pip
    packages = [word for word in pip.split() if "==" in word]
    assert {p.split("==")[0] for p in packages} >= {"spu", "protobuf", "numpy"}


def test_uv_makes_the_environment_where_it_is_on_the_path(
    make_python, make_uv, monkeypatch, tmp_path
):
    make_uv(make_python())
    monkeypatch.setattr(installation, "_candidates", lambda version: [])
    steps = []

    install_runtime(PAPER, steps.append)

    venv, pip = asked_of_uv(tmp_path)
    place = venv[-1]
    assert venv[1:-1] == ["venv", "--no-project", "--python", "3.8"]
    assert pip[1:5] == ["pip", "install", "--python", f"{place}/bin/python"]
    assert pip[5:8] == ["--no-deps", "--only-binary", ":all:"]
    assert pip[8:] == [f"{name}=={version}" for name, version in PAPER.packages]
    assert "Installed 4 packages in 3ms" in steps
    assert installation_problem(PAPER) == ""


def test_uv_takes_the_python_that_is_named(make_python, make_uv, tmp_path):
    python = make_python()
    make_uv(python)

    install_runtime(PAPER, lambda step: None, python)

    assert asked_of_uv(tmp_path)[0][3:5] == ["--python", python]


@pytest.mark.parametrize("broken", ["venv", "pip"])
def test_what_uv_cannot_do_is_said_and_done_without_it(make_python, make_uv, broken):
    python = make_python()
    make_uv(python, **{broken: "echo 'error: no route to pypi.org' >&2; exit 2"})
    steps = []

    install_runtime(PAPER, steps.append, python)

    assert "uv failed: error: no route to pypi.org; trying without uv" in steps
    assert f"environment with {python}" in steps
    assert installation_problem(PAPER) == ""


def test_a_second_installation_does_nothing(make_python, tmp_path):
    python = make_python()
    install_runtime(PAPER, lambda step: None, python)
    before = (tmp_path / "log").read_text()
    steps = []

    install_runtime(PAPER, steps.append, python)

    assert (tmp_path / "log").read_text() == before
    assert "installed already" in steps[-1]


def test_a_failed_installation_leaves_nothing_and_names_the_reason(home, make_python):
    python = make_python(pip="echo 'ERROR: no matching distribution'; exit 1")

    with pytest.raises(EngineError, match="pip failed: ERROR: no matching distribu"):
        install_runtime(PAPER, lambda step: None, python)

    assert names_in(home / "runtimes") == [f".{PAPER.name}.lock"]
    assert "not installed" in installation_problem(PAPER)


def test_what_a_killed_installation_left_is_cleared_away(home, make_python):
    left = home / "runtimes" / f".{PAPER.name}.new"
    left.mkdir(parents=True)
    (left / "half").touch()

    install_runtime(PAPER, lambda step: None, make_python())

    assert not left.exists()
    assert not (runtime_home(PAPER) / "half").exists()


@pytest.mark.parametrize("damage", ["pins", "python"])
def test_an_environment_that_does_not_fit_any_more_is_made_anew(make_python, damage):
    install_runtime(PAPER, lambda step: None, make_python())
    mark = runtime_home(PAPER) / installation._MARK
    if damage == "pins":
        mark.write_text(json.dumps({"spu": "0.3.0"}))
    else:
        python_of(PAPER).unlink()
    assert "run `mpcprof runtime install" in installation_problem(PAPER)

    install_runtime(PAPER, lambda step: None, make_python())

    assert installation_problem(PAPER) == ""


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path, make_python):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path / "file"))

    with pytest.raises(EngineError, match="another folder in MPCPROF_HOME"):
        install_runtime(PAPER, lambda step: None, make_python())


def test_a_shim_that_refuses_is_passed_over(monkeypatch, tmp_path, make_python):
    good = make_python()
    shims = tmp_path / "shims"
    shims.mkdir()
    shim = shims / "python3.8"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}:{tmp_path}:/usr/bin:/bin")

    assert find_python(PAPER) == good


def test_where_there_is_no_python_the_message_says_what_was_tried(
    monkeypatch, tmp_path
):
    shim = tmp_path / "python3.8"
    shim.write_text("#!/bin/sh\necho 'not installed' >&2\nexit 127")
    shim.chmod(0o755)
    monkeypatch.setattr(installation, "_candidates", lambda version: [str(shim)])

    with pytest.raises(BackendUnavailableError) as caught:
        find_python(PAPER)

    message = str(caught.value)
    assert f"tried {shim} (does not run: not installed)" in message
    assert "mpcprof runtime install spu-0.3.1b0 --python PATH" in message
    assert "\n" not in message
