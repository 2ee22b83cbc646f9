"""Where each runtime lives on this machine, and how an environment is made for one.

The default build lives in the tool's own Python, others in environments of their own.

Such an environment is built aside and renamed when it works, so that a half-built one
never has its name; the pins that made it stand in it.
"""

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from mpcprof.builds import BUILDS, ENVIRONMENTS, Build, Environment
from mpcprof.errors import BackendUnavailableError, EngineError
from mpcprof.isolation import folder_argv

HOME_VARIABLE: Final = "MPCPROF_HOME"
_DEFAULT_HOME: Final = "~/.local/share/mpcprof"
_MARK: Final = "mpcprof.json"  # written last: what was installed
_PYTHON: Final = "bin/python"  # below an environment
_FITS: Final = "import sys; print(sys.version.split()[0]); import venv, ensurepip"
_ASK_S: Final = 30.0

OnStep = Callable[[str], None]
_PARTY_PROGRAM: Final = Path(__file__).parent / "party"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One runtime on this machine.

    Attributes:
        name: Name of the build or the environment.
        version: Version of what computes in it.
        python: The interpreter that runs its parties.
        problem: Why it cannot be used here; empty if it can.
        backend: Module of the party program that speaks to it; empty if none does.
    """

    name: str
    version: str
    python: str
    problem: str
    backend: str = ""

    @property
    def party_argv(self) -> tuple[str, ...]:
        """Command line of a party, without its channel."""
        return (*folder_argv(_PARTY_PROGRAM, self.python), self.backend)


def find_runtime(build: Build) -> Runtime:
    """Return where a build lives, usable here or not."""
    if build.environment:
        installed = _find_installed(build.environment)
        return replace(
            installed, name=build.name, version=build.version, backend=build.backend
        )
    return Runtime(
        name=build.name,
        version=build.version,
        python=sys.executable,
        problem=_own_problem(build),
        backend=build.backend,
    )


def _find_installed(environment: Environment) -> Runtime:
    return Runtime(
        name=environment.name,
        version=environment.version,
        python=str(python_of(environment)),
        problem=installation_problem(environment),
    )


def list_runtimes() -> tuple[Runtime, ...]:
    """Return every runtime that mpcprof knows, usable here or not."""
    builds = [find_runtime(build) for build in BUILDS.values()]
    others = [env for name, env in ENVIRONMENTS.items() if name not in BUILDS]
    return (*builds, *map(_find_installed, others))


def get_runtime(build: Build) -> Runtime:
    """Return where a build lives, ready to use.

    Raises:
        BackendUnavailableError: If it cannot be used here.
    """
    runtime = find_runtime(build)
    if runtime.problem:
        raise BackendUnavailableError(f"runtime {build.name}: {runtime.problem}")
    return runtime


def _own_problem(build: Build) -> str:
    """Return why a build that lives in this Python cannot be used; empty if it can."""
    try:
        found = importlib.metadata.version("spu")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found == build.version:
        return ""
    return (
        f"needs spu=={build.version} in this Python ({sys.version.split()[0]}), "
        f"found {found}; run `make venv`, or install mpcprof into a Python 3.10 or 3.11"
    )


def mpcprof_home() -> Path:
    """Return the folder for what mpcprof keeps on this machine."""
    return Path(os.environ.get(HOME_VARIABLE) or _DEFAULT_HOME).expanduser()


def runtime_home(environment: Environment) -> Path:
    """Return where an environment is, or would be."""
    return mpcprof_home() / "runtimes" / environment.name


def python_of(environment: Environment) -> Path:
    """Return the interpreter of that environment."""
    return runtime_home(environment) / _PYTHON


def installation_problem(environment: Environment) -> str:
    """Return why an environment cannot be used; empty if it can."""
    install = f"`mpcprof runtime install {environment.name}`"
    mark = runtime_home(environment) / _MARK
    if not mark.is_file():
        return f"not installed; run {install}"
    if _read_pins(mark) != dict(environment.packages):
        return f"installed with other packages; run {install} again"
    if not os.access(python_of(environment), os.X_OK):
        return f"the Python that it was made with is gone; run {install} again"
    return ""


def _read_pins(mark: Path) -> object:
    try:
        return json.loads(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def install_runtime(
    environment: Environment, on_step: OnStep, python: str | None = None
) -> Path:
    """Make an environment, unless it is there; return its interpreter.

    Args:
        on_step: Told what is being done.
        python: A Python of its version. If None, one is searched for; uv may download
            one.

    Raises:
        BackendUnavailableError: If there is no Python of its version.
        EngineError: If the packages cannot be installed, or do not work.
    """
    home = runtime_home(environment)
    with _locked(home, on_step):
        if not installation_problem(environment):
            on_step(f"installed already, in {home}")
            return python_of(environment)
        aside = home.with_name(f".{home.name}.new")
        shutil.rmtree(aside, ignore_errors=True)  # of an installation that was killed
        try:
            _build(environment, aside, python, on_step)
            _replace(home, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    on_step(f"installed in {home}")
    return python_of(environment)


@contextlib.contextmanager
def _locked(home: Path, on_step: OnStep) -> Iterator[None]:
    """Hold the lock of one installation; the kernel releases that of a killed one."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home.with_name(f".{home.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_step(f"another process installs {home.name}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise EngineError(
            f"cannot write to {home.parent}: {error.strerror}; "
            f"name another folder in {HOME_VARIABLE}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def find_python(environment: Environment, python: str | None = None) -> str:
    """Return the first fitting Python that can make environments; each one is run.

    A version manager's shim may be on the PATH and refuse.

    Raises:
        BackendUnavailableError: If there is none; the message says what was tried.
    """
    version = environment.python_version
    tried = []
    for candidate in [python] if python else _candidates(version):
        problem = _unfitness(candidate, version)
        if not problem:
            return candidate
        tried.append(f"{candidate} ({problem})")
    raise BackendUnavailableError(
        f"no usable Python {version}: tried "
        f"{', '.join(tried) or 'the PATH, pyenv, uv and conda'}; install one "
        f"(`pyenv install {version}`, `uv python install {version}`) "
        f"or name it: mpcprof runtime install {environment.name} --python PATH"
    )


def _candidates(version: str) -> list[str]:
    program = f"python{version}"
    folders = [Path(f) for f in os.environ.get("PATH", "").split(os.pathsep) if f]
    found = [folder / program for folder in folders]
    home = Path.home()
    for root, pattern in (
        (
            Path(os.environ.get("PYENV_ROOT", home / ".pyenv")),
            f"versions/{version}*/bin",
        ),
        (home / ".local/share/uv/python", f"cpython-{version}*/bin"),
        (Path(os.environ.get("CONDA_PREFIX", home / "miniconda3")), "envs/*/bin"),
        (Path("/opt"), f"python*{version}*/bin"),
    ):
        found += [folder / program for folder in sorted(root.glob(pattern))]
    runnable = (str(path) for path in found if os.access(path, os.X_OK))
    return list(dict.fromkeys(runnable))


def _unfitness(python: str, version: str) -> str:
    """Return why an interpreter cannot be used; empty if it can."""
    try:
        answer = subprocess.run(
            [python, "-I", "-c", _FITS],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except OSError as error:
        return error.strerror or "cannot be run"
    except subprocess.TimeoutExpired:
        return "does not answer"
    found = answer.stdout.strip()
    if found and not found.startswith(f"{version}."):
        return f"is Python {found}"
    if not answer.returncode:
        return ""
    return f"does not run: {_last_line(answer.stderr, 'no reason given')}"


def _build(
    environment: Environment, place: Path, python: str | None, on_step: OnStep
) -> None:
    """Make the environment with uv, or else with the `venv` and pip of a Python.

    Source: `uv venv --help`, `uv pip install --help` of uv 0.13.
    """
    uv = shutil.which("uv")
    try:
        python = find_python(environment, python)
    except BackendUnavailableError:
        if python or not uv:
            raise  # uv may download one
    own = str(place / _PYTHON)
    if uv:
        on_step("environment with uv")
        version = python or environment.python_version
        make = [uv, "venv", "--no-project", "--python", version, str(place)]
        try:
            _run(make, "uv failed")
            pip = [uv, "pip", "install", "--python", own]
            _install_packages(environment, place, pip, on_step)
            return
        except EngineError as error:
            on_step(f"{error}; trying without uv")
            shutil.rmtree(place, ignore_errors=True)
    python = find_python(environment, python)
    on_step(f"environment with {python}")
    _run([python, "-I", "-m", "venv", str(place)], "the environment cannot be made")
    pip = [own, "-I", "-m", "pip", "--disable-pip-version-check", "install"]
    _install_packages(environment, place, pip, on_step)


def _install_packages(
    environment: Environment, place: Path, installer: list[str], on_step: OnStep
) -> None:
    pins = [f"{package}=={version}" for package, version in environment.packages]
    on_step(f"packages {' '.join(pins)}, about {environment.download_mb} MB")
    name = "uv" if installer[1] == "pip" else "pip"
    options = ["--no-deps", "--only-binary", ":all:"]
    options += [word for one in environment.built for word in ("--no-binary", one)]
    options += [w for one in environment.indexes for w in ("--extra-index-url", one)]
    _run([*installer, *options, *pins], f"{name} failed", on_step)
    on_step("trying it")
    own = str(place / _PYTHON)
    check = [own, "-I", "-c", environment.check]
    _run(check, f"{environment.name} does not work here")
    (place / _MARK).write_text(json.dumps(dict(environment.packages)), encoding="utf-8")


def _run(argv: list[str], problem: str, on_step: OnStep = lambda step: None) -> None:
    """Run a command, and pass on what an installer says it does."""
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
        try:
            for line in process.stdout:
                lines.append(line)
                if line.strip().startswith(("Downloading", "Installing", "Installed")):
                    on_step(line.strip())
        except BaseException:  # such as SIGTERM, which the installer has not got
            process.kill()
            raise
    if process.returncode:
        errors = [x for x in lines if x.lower().startswith("error")] or lines
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
