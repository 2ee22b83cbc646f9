"""What of the user's folder and environment our own processes see."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import pytest

from mpcprof.engine.child import python_child
from mpcprof.engine.emulation.backends import probe_backends
from mpcprof.isolation import (
    child_environment,
    folder_argv,
    isolated_spawning,
    library_folders,
    shield,
)
from tests import ROOT

NAMES = [
    *(set(sys.stdlib_module_names) - {"site", "sitecustomize", "usercustomize"}),
    *("click", "filelock", "jax", "mpcvit", "numpy", "rich", "spu", "torch"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a file of the user's for every module we may import."""
    for name in NAMES:
        Path(tmp_path, f"{name}.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_the_relay_starts_beside_files_called_as_modules(folder):
    child = python_child("relay", "mpcprof.engine.emulation.relay")

    try:
        assert child.ask({"command": "start", "n_parties": 2}) == {}
    finally:
        child.close()


def test_the_probe_of_back_ends_does_too(folder):
    assert not any("imported" in backend.reason for backend in probe_backends())


@pytest.mark.parametrize("python", [sys.executable, os.path.realpath(sys.executable)])
def test_a_program_in_a_folder_imports_what_lies_in_it(folder, tmp_path, python):
    program = tmp_path / "program"
    program.mkdir()
    (program / "mine.py").write_text("import queue, random, sys; print(queue.__file__)")
    (program / "__main__.py").write_text("import mine, sys; print(*sys.argv[1:])")

    out = subprocess.check_output(
        [*folder_argv(program, python), "a", "b"], stderr=subprocess.STDOUT, text=True
    )

    assert out.splitlines() == [str(Path(os.__file__).with_name("queue.py")), "a b"]


def test_a_process_of_the_pool_starts_beside_them(folder):
    with isolated_spawning(), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        where = pool.submit(os.getcwd)

    assert where.result() == "/"
    assert Path.cwd() == folder
    assert os.environ["PYTHONPATH"] == str(folder)


def test_folders_of_the_user_come_last(folder, monkeypatch):
    mine = str(folder)
    monkeypatch.setattr(sys, "path", ["", mine, "/mine", *sys.path])

    folders = library_folders()

    packages = str(Path(jax.__path__[0]).parent)
    assert folders.index("/mine") > folders.index(packages)
    assert "" not in folders
    assert mine not in folders
    assert folders.index(str(ROOT)) < folders.index(packages)
    assert folders.index(str(Path(os.__file__).parent)) < folders.index(str(ROOT))


def test_a_command_looks_into_the_current_folder_last(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")

    shield()

    assert sys.path[-1] == str(folder)
    assert os.environ["JAX_PLATFORMS"] == "cpu"  # no GPU is taken to trace a program


def test_a_child_of_the_engine_has_the_threads_that_it_is_given(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XLA_FLAGS", "--xla_nonsense")
    monkeypatch.setenv("HOME", "/home/me")

    variables = child_environment({"OMP_THREAD_LIMIT": "2"})

    assert {k: v for k, v in variables.items() if k[:3] in ("OMP", "XLA", "HOM")} == {
        "OMP_THREAD_LIMIT": "2",
        "HOME": "/home/me",
    }


def test_a_command_starts_beside_them(tmp_path):
    for name in ("queue", "random", "selectors", "click", "filelock", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    program = (
        f"import sys; sys.path.insert(1, {str(ROOT)!r}); "
        "from mpcprof.__main__ import main; main()"
    )

    out = subprocess.check_output(
        [sys.executable, "-c", program, "runtime", "list"],
        env=env,
        cwd=tmp_path,
        text=True,
    )

    assert "spu-0.9.5" in out


def test_a_command_runs_in_a_folder_that_was_deleted(tmp_path):
    (tmp_path / "gone").mkdir()
    program = (
        f"import os, sys; os.chdir({str(tmp_path / 'gone')!r}); "
        "os.rmdir(os.getcwd()); sys.path.insert(0, ''); "
        f"sys.path.insert(1, {str(ROOT)!r}); from mpcprof.__main__ import main; main()"
    )

    out = subprocess.check_output([sys.executable, "-c", program, "--help"], text=True)

    assert "Commands:" in out
