"""The SPU builds that this machine can drive, and how each is told its deployment."""

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mpcprof.deployment import Deployment
from mpcprof.engine.installation import PAPER_RUNTIME, installation_problem, python_of
from mpcprof.errors import BackendUnavailableError, UnknownNameError, did_you_mean

DEFAULT_RUNTIME = "spu-0.9.5"
_PARTY_PROGRAM = Path(__file__).parent / "party"

Dialect = Literal["hlo", "mhlo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One SPU build and the Python it lives in.

    Attributes:
        name: What `--runtime` takes.
        python: The interpreter that runs its parties.
        problem: Why it cannot be used here; empty if it can.
        backend: The module of the party program that speaks to this build.
        dialect: What its compiler reads: serialised HLO, or MHLO as text.
        counts_bytes: Whether its log has bytes and messages; else the relay counts.
        slack: By workload, or by kind of workload, how many times the error that the
            workload states is let pass, where this build's approximation is worse.
        stray_share: Of the entries of primitives, how many may be anything: a build
            that truncates without a message is wrong at random, by orders of magnitude.
        first_call_limit_s: When parties that have not finished their first program,
            which takes a second or two, have hung and are started again.
    """

    name: str
    python: str
    problem: str
    backend: str = "spu_backend"
    dialect: Dialect = "hlo"
    counts_bytes: bool = True
    slack: tuple[tuple[str, float], ...] = ()
    stray_share: float = 0.0
    first_call_limit_s: float = 3600.0

    @property
    def version(self) -> str:
        """Of SPU."""
        return self.name.removeprefix("spu-")

    @property
    def title(self) -> str:
        """As messages call it: SPU alone is the default build."""
        return "SPU" if self.name == DEFAULT_RUNTIME else self.name

    @property
    def is_available(self) -> bool:
        """Whether parties of this build can be started."""
        return not self.problem

    def slack_of(self, name: str, kind: str) -> float:
        """How many times the error that a workload states may be made."""
        by_name = dict(self.slack)
        return by_name.get(name, by_name.get(kind, 1.0))

    def stray_share_of(self, kind: str) -> float:
        """How many entries of a result may be anything, where none follows from others.

        None of a block's or a model's: a stray one goes through all that is behind it.
        """
        return self.stray_share if kind == "primitive" else 0.0

    def party_argv(self) -> tuple[str, ...]:
        """The command line of a party, without its channel."""
        return (self.python, "-X", "faulthandler", str(_PARTY_PROGRAM), self.backend)


def list_runtimes() -> tuple[Runtime, ...]:
    """Every build that mpcprof knows, usable here or not."""
    return (
        Runtime(
            name=DEFAULT_RUNTIME, python=sys.executable, problem=_own_spu_problem()
        ),
        Runtime(
            name=PAPER_RUNTIME,
            python=str(python_of(PAPER_RUNTIME)),
            problem=installation_problem(PAPER_RUNTIME),
            backend="spu_0_3_1_backend",
            dialect="mhlo",
            counts_bytes=False,
            # its tanh is off by 0.012 at 5.5, and GeLU of 4 by twice that; a model,
            # whose reciprocals stray a little, by 0.04 of a logit instead of 0.03
            slack=(("gelu_tanh", 4.0), ("model", 1.5)),
            # each share is shifted by itself, which fails for one product of size x in
            # 2**(63 - 36) / x; gelu_tanh multiplies about 20 times
            stray_share=1e-3,
            # Cheetah's first product expands keys in two threads, each over a link of
            # its own and under one lock: where one party's first thread holds the lock
            # and the other party's second, each waits for the other for good
            first_call_limit_s=30.0,
        ),
    )


def get_runtime(name: str) -> Runtime:
    """The build of that name, ready to use.

    Raises:
        UnknownNameError: If there is no such build.
        BackendUnavailableError: If it cannot be used here.
    """
    runtimes = {runtime.name: runtime for runtime in list_runtimes()}
    if name not in runtimes:
        hint = did_you_mean(name, [*runtimes])
        raise UnknownNameError(f"no runtime {name!r}; {hint}")
    if not runtimes[name].is_available:
        raise BackendUnavailableError(f"runtime {name}: {runtimes[name].problem}")
    return runtimes[name]


def runtime_settings(deployment: Deployment) -> dict[str, object]:
    """SPU's RuntimeConfig fields of a deployment, by SPU's own names.

    Profiling is on: it is where operations, and in newer builds bytes and messages, are
    read from.
    """
    settings: dict[str, object] = {
        "protocol": deployment.protocol.upper(),
        "field": f"FM{deployment.field_bits}",
        "fxp_fraction_bits": deployment.fraction_bits,
        "enable_pphlo_profile": True,
        "enable_hal_profile": True,
    }
    # the paper's build has one way to make triples and no name for it
    if deployment.beaver != "none" and deployment.runtime != PAPER_RUNTIME:
        settings["beaver_type"] = deployment.beaver
    return settings | dict(deployment.runtime_options)


def _own_spu_problem() -> str:
    wanted = DEFAULT_RUNTIME.removeprefix("spu-")
    try:
        found = importlib.metadata.version("spu")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found == wanted:
        return ""
    return (
        f"needs spu=={wanted} in this Python ({sys.version.split()[0]}), "
        f"found {found}; "
        "run `make venv`, or install mpcprof into a Python 3.10 or 3.11"
    )
