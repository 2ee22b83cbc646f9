"""What of the user's folder and environment our own processes see: what is meant to.

A file called `queue.py` in the current folder, a `PYTHONPATH`, or `JAX_PLATFORMS=cuda`
is there for other programs. Our processes find the standard library first, then our
packages, then installed ones, and the user's folders last.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

_ROOT: Final = str(Path(__file__).resolve().parents[1])  # holds mpcprof and mpcvit
_STANDARD: Final = str(Path(os.__file__).parent)
# JAX is there to trace on the CPU, whatever else this machine has; figures are files
_ALIEN: Final = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "XLA_FLAGS", "MPLBACKEND")
# besides, a party takes the threads that its session gives to it
_ALIEN_TO_CHILDREN: Final = ("OMP_", "GOMP_", "KMP_", "YACL_", "YASL_", *_ALIEN)
_BOOT: Final = """\
import sys
_, folders, program, *_ = sys.argv
sys.path[:] = folders.split(":") if folders else sys.path
del sys.argv[:2]
import runpy
if "/" in program:
    runpy.run_path(program, run_name="__main__")
else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


def library_folders() -> list[str]:
    """Return where modules are looked for, with the user's folders last.

    The current folder is left out, unless it is the one that holds our packages.
    """
    known = [folder for folder in sys.path if folder not in ("", _here())]
    return sorted(dict.fromkeys([_ROOT, *known]), key=_rank)


def _rank(folder: str) -> int:
    if folder == _ROOT:
        return 1
    if any(part.endswith("-packages") for part in Path(folder).parts):
        return 2
    is_beside = Path(folder).parent == Path(_STANDARD).parent  # python311.zip
    return 0 if folder.startswith(_STANDARD) or is_beside else 3


def _here() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # somebody removed it
        return ""


def module_argv(module: str, python: str = sys.executable) -> list[str]:
    """Return a command line that runs one of our modules as `python -m` would.

    Neither the current folder nor a variable of Python's changes what it imports.
    """
    return [python, "-I", "-c", _BOOT, ":".join(library_folders()), module]


def folder_argv(folder: Path, python: str = sys.executable) -> list[str]:
    """Return a command line that runs the program in a folder, by any Python.

    Another Python than this one has its own packages alone.
    """
    own = ":".join(library_folders()) if python == sys.executable else ""
    options = ["-X", "faulthandler"]  # a crash of SPU leaves a line
    return [python, "-I", *options, "-c", _BOOT, own, str(folder)]


def child_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an engine child: `added`, and ours that are for it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_ALIEN_TO_CHILDREN)
    }
    return {**kept, **added}


@contextlib.contextmanager
def isolated_spawning() -> Iterator[None]:
    """Start processes of `multiprocessing`, which takes no options, in the block.

    They begin in the current folder and import from there: here they begin elsewhere,
    and it is for their first function to go back. Making a pool or a lock starts one.
    """
    here = _here() or "/"
    python = {name: v for name, v in os.environ.items() if name.startswith("PYTHON")}
    for name in python:
        del os.environ[name]
    os.environ["PYTHONPATH"] = ":".join(library_folders())
    os.chdir("/")
    try:
        yield
    finally:
        os.chdir(here)
        del os.environ["PYTHONPATH"]
        os.environ.update(python)


def shield() -> None:
    """Keep this process from the user's folders and from variables that break JAX.

    It must come before anything is imported that they could change.
    """
    here = _here()
    has_current = here and any(folder in ("", here) for folder in sys.path)
    sys.path[:] = library_folders() + ([here] if has_current else [])
    for name in _ALIEN:
        os.environ.pop(name, None)
    os.environ["JAX_PLATFORMS"] = "cpu"  # programs are traced; no GPU is taken for that
