"""Isolated environments for SPU builds that the tool's own Python cannot hold.

An environment is built aside and renamed when it works, so that there is never half a
one under its name; the pins that made it stand in it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mpcprof.errors import BackendUnavailableError, EngineError, UsageError

PAPER_RUNTIME: Final = "spu-0.3.1b0"
HOME_VARIABLE: Final = "MPCPROF_HOME"
_DEFAULT_HOME: Final = "~/.local/share/mpcprof"
_PYTHON_VERSION: Final = "3.8"
# Of what that build asks for, all that a party loads. The rest (JAX, its compiler,
# gRPC) is for tracing and for a scheduler; the tool's own JAX traces. SPU pins protobuf
# 3.19.4, which reads the same messages as the last one below 4.
_PINS: Final[Mapping[str, str]] = MappingProxyType(
    {"spu": "0.3.1b0", "protobuf": "3.20.3", "numpy": "1.24.4", "cachetools": "5.5.2"}
)
_MARK: Final = "mpcprof.json"  # written last: what was installed
_FITS: Final = (
    "import sys, venv, ensurepip; print(sys.version.split()[0]); "
    "sys.exit(sys.version_info[:2] != (3, 8))"
)
_WORKS: Final = "import spu; from spu.binding.api import Io; print(spu.__version__)"
_ASK_S: Final = 30.0

OnStep = Callable[[str], None]


def runtime_home(name: str) -> Path:
    """Where the environment of a build is, or would be."""
    home = os.environ.get(HOME_VARIABLE) or _DEFAULT_HOME
    return Path(home).expanduser() / "runtimes" / name


def python_of(name: str) -> Path:
    """The interpreter of that environment."""
    return runtime_home(name) / "bin" / "python"


def installation_problem(name: str) -> str:
    """Why a build in an environment of its own cannot be used; empty if it can."""
    install = f"`mpcprof runtime install {name}`"
    mark = runtime_home(name) / _MARK
    if not mark.is_file():
        return f"not installed; run {install}"
    if _read_pins(mark) != dict(_PINS):
        return f"installed with other packages; run {install} again"
    if not os.access(python_of(name), os.X_OK):
        return f"the Python that it was made with is gone; run {install} again"
    return ""


def _read_pins(mark: Path) -> object:
    try:
        return json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def install_runtime(name: str, on_step: OnStep, python: str | None = None) -> Path:
    """Make the environment of a build, unless it is there; its interpreter.

    Args:
        on_step: Told what is being done.
        python: A Python 3.8; searched for if None.

    Raises:
        UsageError: If the build needs no environment, or is not known.
        BackendUnavailableError: If there is no Python 3.8.
        EngineError: If the packages cannot be installed, or do not work.
    """
    if name != PAPER_RUNTIME:
        raise UsageError(
            f"runtime {name!r}: only {PAPER_RUNTIME} has an environment to install; "
            "spu-0.9.5 is in mpcprof's own Python"
        )
    with _locked(name, on_step):
        if not installation_problem(name):
            on_step(f"installed already, in {runtime_home(name)}")
            return python_of(name)
        base = find_python(python)
        on_step(f"environment with {base}")
        aside = runtime_home(name).with_name(f".{name}.new")
        shutil.rmtree(aside, ignore_errors=True)  # of an installation that was killed
        try:
            _build(aside, base, on_step)
            _replace(runtime_home(name), aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    on_step(f"installed in {runtime_home(name)}")
    return python_of(name)


@contextlib.contextmanager
def _locked(name: str, on_step: OnStep) -> Iterator[None]:
    """One installation at a time; the kernel releases the lock of a killed one."""
    home = runtime_home(name)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        lock = home.with_name(f".{name}.lock").open("w")
    except OSError as error:
        raise EngineError(
            f"cannot write to {home.parent}: {error.strerror}; "
            f"name another folder in {HOME_VARIABLE}"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_step(f"another process installs {name}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def find_python(python: str | None = None) -> str:
    """The first Python 3.8 that can make environments; each candidate is run.

    A version manager's shim may be on the PATH and refuse.

    Raises:
        BackendUnavailableError: If there is none; the message says what was tried.
    """
    tried = []
    for candidate in [python] if python else _candidates():
        problem = _unfitness(candidate)
        if not problem:
            return candidate
        tried.append(f"{candidate} ({problem})")
    raise BackendUnavailableError(
        f"no usable Python {_PYTHON_VERSION}: tried "
        f"{', '.join(tried) or 'the PATH, pyenv, uv and conda'}; install one "
        f"(`pyenv install {_PYTHON_VERSION}`, `uv python install {_PYTHON_VERSION}`) "
        f"or name it: mpcprof runtime install {PAPER_RUNTIME} --python PATH"
    )


def _candidates() -> list[str]:
    program = f"python{_PYTHON_VERSION}"
    folders = [Path(f) for f in os.environ.get("PATH", "").split(os.pathsep) if f]
    found = [folder / program for folder in folders]
    home = Path.home()
    for root, pattern in (
        (Path(os.environ.get("PYENV_ROOT", home / ".pyenv")), "versions/3.8*/bin"),
        (home / ".local/share/uv/python", "cpython-3.8*/bin"),
        (Path(os.environ.get("CONDA_PREFIX", home / "miniconda3")), "envs/*/bin"),
        (Path("/opt"), "python*3.8*/bin"),
    ):
        found += [folder / program for folder in sorted(root.glob(pattern))]
    runnable = (str(path) for path in found if os.access(path, os.X_OK))
    return list(dict.fromkeys(runnable))


def _unfitness(python: str) -> str:
    """Why an interpreter cannot be used; empty if it can."""
    try:
        answer = subprocess.run(
            [python, "-c", _FITS],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except OSError as error:
        return error.strerror or "cannot be run"
    except subprocess.TimeoutExpired:
        return "does not answer"
    if not answer.returncode:
        return ""
    version = answer.stdout.strip()
    if version and not version.startswith(f"{_PYTHON_VERSION}."):
        return f"is Python {version}"
    return f"does not run: {_last_line(answer.stderr, 'no reason given')}"


def _build(place: Path, python: str, on_step: OnStep) -> None:
    _run([python, "-m", "venv", str(place)], "the environment cannot be made")
    own = str(place / "bin" / "python")
    pins = [f"{package}=={version}" for package, version in _PINS.items()]
    pip = [own, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    on_step(f"packages {' '.join(pins)}")
    _run([*pip, "--only-binary", ":all:", *pins], "pip failed", on_step)
    on_step("trying it")
    _run([own, "-c", _WORKS], f"SPU {_PINS['spu']} does not work here")
    (place / _MARK).write_text(json.dumps(dict(_PINS)), encoding="utf-8")


def _run(argv: list[str], problem: str, on_step: OnStep = lambda step: None) -> None:
    """Run a command, and pass on what pip says it does."""
    lines = []
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.strip().startswith(("Downloading", "Installing")):
                on_step(line.strip())
    if process.returncode:
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise EngineError(f"{problem}: {_last_line(''.join(errors), argv[0])}")


def _last_line(text: str, otherwise: str) -> str:
    return (text.strip().splitlines() or [otherwise])[-1].strip()


def _replace(home: Path, aside: Path) -> None:
    """Put the new environment in the place of one that does not fit any more."""
    old = home.with_name(f".{home.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if home.exists():
        home.rename(old)
    aside.rename(home)
    shutil.rmtree(old, ignore_errors=True)
