"""What this machine can do: runtimes, protocols, emulation back-ends, links.

Nothing is taken for granted: parties are started, their result is compared, and the
emulated link is measured between them.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mpcprof.builds import BUILDS, DEFAULT_BUILD
from mpcprof.deployment import PROTOCOLS, Deployment
from mpcprof.engine.emulation.backends import BackendStatus, probe_backends
from mpcprof.engine.installation import Runtime, get_runtime, list_runtimes
from mpcprof.errors import LinkError, MpcprofError
from mpcprof.network import LOOPBACK, NETWORKS
from mpcprof.profile.io import packaged_names
from mpcprof.provenance import host_description

if TYPE_CHECKING:
    from mpcprof.engine.session import Session

_QUICK = ("semi2k",)
_LINK_PROTOCOLS = ("semi2k", "aby3")  # a link between two parties, and among three
_WORKLOAD = "relu"  # a comparison and a product: what all protocols differ in
_SHOWN_TRAITS = (
    *("name", "backend", "dialect", "counts_bytes"),
    *("slack", "stray_share", "defects", "first_call_limit_s"),
)
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

SECURITY_NOTES = (
    "Parties are semi-honest: they follow the protocol and learn no more from it.",
    "semi2k takes its beaver triples from a trusted first party, which SPU's own "
    "documentation calls unsafe for deployment; what it would cost to generate them is "
    "not in the numbers.",
    "The emulated network runs between processes of this machine, without TLS.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineStatus:
    """The hardware and the Python, as this process sees them.

    Attributes:
        host: Processor, cores, memory, kernel.
        n_cpus: Processors that this process may use.
        n_cpus_by_parties: Number of parties, and the processors that each has to
            itself; 0 where there are too few, so that parties share them.
        memory_bytes: Memory of the machine, or of the container if that has a limit.
    """

    python: str
    executable: str
    host: str
    n_cpus: int
    n_cpus_by_parties: tuple[tuple[int, int], ...]
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolStatus:
    """Whether parties of a protocol start and compute.

    Attributes:
        seconds: Seconds to start parties and make one tiny call.
        setup_s: Seconds of these to connect and to exchange keys.
        problem: Why they do not, in one line; empty if the result was right.
    """

    protocol: str
    n_parties: int
    seconds: float
    setup_s: float
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """The relay's wan as the parties see it, all directions at the same time.

    Attributes:
        rtt_s: Round trip of the slowest pair; 0 if it could not be measured.
        goodput_bytes_per_s: Rate of the slowest direction while all are busy; 0 if it
            could not be measured.
        problem: Why a sweep would refuse it, in one line; empty if it would not.
    """

    n_parties: int
    protocol: str
    asked_rtt_s: float
    asked_bytes_per_s: float
    rtt_s: float
    goodput_bytes_per_s: float
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """Everything that was tried.

    Attributes:
        profiles: Names of the profiles that come with mpcprof.
    """

    machine: MachineStatus
    runtimes: tuple[Runtime, ...]
    protocols: tuple[ProtocolStatus, ...]
    backends: tuple[BackendStatus, ...]
    links: tuple[LinkStatus, ...]
    notes: tuple[str, ...] = SECURITY_NOTES
    profiles: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why semi2k over the relay cannot be measured here; empty if it can."""
        of_protocol = [p.problem for p in self.protocols if p.protocol == "semi2k"]
        of_link = [k.problem for k in self.links if k.protocol == "semi2k"]
        return next(filter(None, of_protocol + of_link), "")

    def to_json(self) -> str:
        """Return one document; `is_ok` is what the exit code says."""
        document = {
            **asdict(replace(self, runtimes=())),
            "runtimes": [_runtime_row(runtime) for runtime in self.runtimes],
            "is_ok": not self.problem,
            "problem": self.problem,
        }
        return json.dumps(document, indent=2, allow_nan=False)


def examine(
    *, quick: bool = False, on_step: Callable[[str], None] = lambda step: None
) -> DoctorReport:
    """Try everything; semi2k alone if `quick`. Takes up to half a minute.

    What does not work is in the report, not raised.
    """
    on_step("emulation back-ends")
    backends = probe_backends()
    protocols, links = [], []
    for protocol in _QUICK if quick else DEFAULT_BUILD.protocols:
        on_step(f"{protocol}: {PROTOCOLS[protocol]} parties on {DEFAULT_BUILD.name}")
        status, link = _try_protocol(protocol)
        protocols.append(status)
        if link:
            links.append(link)
    return DoctorReport(
        machine=examine_machine(),
        runtimes=list_runtimes(),
        protocols=tuple(protocols),
        backends=backends,
        links=tuple(links),
        profiles=packaged_names(),
    )


def examine_machine() -> MachineStatus:
    """Look up Python, processors and memory."""
    cpus = os.sched_getaffinity(0)
    return MachineStatus(
        python=platform.python_version(),
        executable=sys.executable,
        host=host_description(),
        n_cpus=len(cpus),
        n_cpus_by_parties=tuple(
            (n_parties, len(cpus) // n_parties)
            for n_parties in sorted({*PROTOCOLS.values()})
        ),
        memory_bytes=_memory_bytes(),
    )


def _memory_bytes() -> int:
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine_bytes, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such control group, or `max`
        return machine_bytes


def _try_protocol(protocol: str) -> tuple[ProtocolStatus, LinkStatus | None]:
    """Try a computation and, for two of the protocols, the link of its parties."""
    start_s, setup_s = time.perf_counter(), 0.0
    link: LinkStatus | None = None
    try:
        with _open_session(protocol) as session:
            setup_s = session.setup.setup_s
            _compute(session)
            seconds, problem = time.perf_counter() - start_s, ""
            if protocol in _LINK_PROTOCOLS:
                link = _measure_link(session)
    except (MpcprofError, OSError, ImportError) as error:
        seconds, problem = time.perf_counter() - start_s, _one_line(error)
    status = ProtocolStatus(
        protocol=protocol,
        n_parties=PROTOCOLS[protocol],
        seconds=seconds,
        setup_s=setup_s,
        problem=problem,
    )
    return status, link


def _open_session(protocol: str) -> "Session":
    get_runtime(DEFAULT_BUILD)  # before SPU is imported, which may be absent
    from mpcprof.engine.emulation.relay import RelayEmulation
    from mpcprof.engine.session import Session

    return Session(Deployment(protocol=protocol), RelayEmulation())


def _compute(session: "Session") -> None:
    """Run a case of two entries a dimension; a wrong result raises."""
    from mpcprof.dims import Dims
    from mpcprof.engine.measure import Case, MeasureConfig, measure
    from mpcprof.workloads.registry import get_workload

    workload = get_workload(_WORKLOAD)
    dims = Dims(**dict.fromkeys(workload.dim_names, 2))
    plan = MeasureConfig(networks=(LOOPBACK,), repeats=1, warmups=0)
    measure(session, [Case(workload=workload, dims=dims)], plan)


def _measure_link(session: "Session") -> LinkStatus:
    from mpcprof.engine.calibration import check_link, trim_link

    wan, problem = NETWORKS["wan"], ""
    try:
        seen = trim_link(session, wan)
    except LinkError as error:
        seen, problem = check_link(session, wan), _one_line(error)
    return LinkStatus(
        n_parties=session.n_parties,
        protocol=session.deployment.protocol,
        asked_rtt_s=wan.rtt_s,
        asked_bytes_per_s=wan.bandwidth_bytes_per_s,
        rtt_s=seen.rtt_s,
        goodput_bytes_per_s=seen.goodput_bytes_per_s,
        problem=problem,
    )


def _runtime_row(runtime: Runtime) -> dict[str, object]:
    build = BUILDS.get(runtime.name)  # none of an environment that no build lives in
    traits = {n: getattr(build, n) for n in _SHOWN_TRAITS} if build else {}
    named = {"name": runtime.name, "version": runtime.version}
    return {**named, **traits, "python": runtime.python, "problem": runtime.problem}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
