"""What one function costs: seconds, bytes, hops, and the operations they go to."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mpcprof.engine.child import Child
from mpcprof.engine.hosts.follower import Offer, follow
from mpcprof.engine.hosts.party_file import read_party_file
from mpcprof.engine.installation import get_runtime
from mpcprof.engine.lowering import Lowered, lower
from mpcprof.engine.measure import FIRST_CASE, Timing, inputs_and_result
from mpcprof.engine.traced import call_timeline
from mpcprof.network import Network, parse_network
from mpcprof.nn.algebra import Shape
from mpcprof.profile.export import profile_to_json_rows
from mpcprof.profile.parts import parts_of
from mpcprof.profile.record import Operation, Profile, Record
from mpcprof.progress import SILENT, Progress
from mpcprof.sweep.config import SweepConfig, make_config
from mpcprof.sweep.grid import get_preset, make_cases
from mpcprof.sweep.run import measure_once
from mpcprof.sweep.scopes import scope_costs, scope_table
from mpcprof.trace.timeline import Timeline
from mpcprof.units import format_bytes, format_duration, format_hops
from mpcprof.workloads.arguments import Domain, take_arguments
from mpcprof.workloads.registry import Workload
from mpcprof.workloads.user import DEFAULT_TOLERANCE, make_user_workload

_SHOWN_OPERATIONS = 12
_SHOWN_CAPTURED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionReport:
    """The record of a function, for people (`str`) and programs (`to_json`).

    Attributes:
        max_abs_reference: Size of the largest entry of the reference.
        captured: Arrays that the function holds itself; see `Workload`.
        parts: Records of the parts by scope, named after the scopes.
        timeline: What the parties did in the last call, if that was asked for.
    """

    profile: Profile
    max_abs_reference: float
    captured: tuple[tuple[str, Shape], ...] = ()
    parts: tuple[Record, ...] = ()
    timeline: Timeline | None = None

    @property
    def record(self) -> Record:
        """The only record of the profile."""
        return self.profile.records[0]

    def __str__(self) -> str:
        title = f"operations of rank 0, one call, slowest {_SHOWN_OPERATIONS}:"
        shown = self.operations()[:_SHOWN_OPERATIONS]
        scopes = scope_table(scope_costs(self.record, self.parts))
        lines = [self._headline(), *self._details(), title, *map(_line, shown)]
        traced = self.timeline.lines() if self.timeline else []
        return "\n".join([*lines, *scopes, *traced])

    def _headline(self) -> str:
        record = self.record
        return (
            f"{record.workload}: {format_duration(record.latency_s, digits=4)} "
            f"({record.mode}, {self.profile.deployment.protocol}, {record.network}), "
            f"{format_bytes(record.bytes_sent, digits=4)} sent by rank 0, "
            f"{format_hops(record.hops)} hops ({record.hops_basis})"
        )

    def _details(self) -> list[str]:
        """Return what the latency is made of, and what is not in it."""
        record = self.record
        apart = {
            "compile": record.compile_s,
            "first call": record.first_call_s,
            "set-up": record.setup_s,
            **({"drivers": record.driver_s} if record.drivers_s else {}),
        }
        return [
            *([_captured_line(self.captured)] if self.captured else []),
            *_made_of(record),
            *_differences(record),
            f"not in it: {_durations(apart)}",
            f"largest error against the reference: {record.max_abs_error:.3g}, of "
            f"outputs up to {self.max_abs_reference:.3g} in size",
        ]

    def operations(self) -> list[Operation]:
        """Return the operations of the program, slowest first.

        HAL and MPC lines are left out: they repeat the time one and two levels down.
        """
        whole = [one for one in self.record.operations if one.level == "pphlo"]
        return sorted(whole, key=lambda operation: -operation.duration_s)

    def to_json(self) -> dict[str, object]:
        """Return the record as `table export` gives it, with the deployment.

        And `parts_problem`: why the parts do not fit into the latency, or null.
        """
        row = profile_to_json_rows(self.profile)[0]
        deployment = json.loads(self.profile.deployment.to_json())
        problem = parts_of(self.record, self.record.latency_s).problem or None
        return {
            "deployment": deployment,
            "max_abs_reference": self.max_abs_reference,
            "captured_arrays": [[kind, list(shape)] for kind, shape in self.captured],
            "n_captured_values": _n_values(self.captured),
            "scopes": [asdict(one) for one in scope_costs(self.record, self.parts)],
            **row,
            "parts_problem": problem,
            **({"trace": self.timeline.to_json()} if self.timeline else {}),
        }


def measure_function(
    function: Callable[..., Any],  # Any: what it returns is checked by tracing it
    shapes: Sequence[Shape | str] = (),
    *,
    inputs: Any = None,  # Any: the arguments of the user's function
    domain: Domain = (),
    tolerance: float = DEFAULT_TOLERANCE,
    network: Network | str = "wan",
    protocol: str = "semi2k",
    progress: Progress = SILENT,
    **asked: Any,  # see make_config, which checks each
) -> FunctionReport:
    """Measure a JAX function on real parties: seconds, bytes, hops, operations.

        >>> import jax.numpy as jnp
        >>> report = mpcprof.measure_function(jnp.maximum, ((4,), (4,)), mode="priced")
        >>> report.record.hops > 1, report.record.bytes_sent > 0
        (True, True)

    Args:
        shapes: Shape of each secret input, or texts as `mpcprof profile --input` takes.
        inputs: Example arguments instead: a tuple, or a dict by name, of arrays and
            whatever holds arrays. These are secret inputs with these values; a
            `jax.ShapeDtypeStruct` has its values drawn.
        domain: Values of the inputs that are drawn, once for all, one interval per
            input, or a dict by name.
        tolerance: Largest error of an output, as a share of its own size and of the
            typical size of all outputs.
        asked: Other settings of `mpcprof.sweep.config.make_config`, such as `mode`,
            `repeats` and `field_bits`.

    Raises:
        UsageError: If something asked for is not acceptable.
        EngineError: If the function cannot be measured.
    """
    name = getattr(function, "__name__", "function")
    arguments = shapes if inputs is None else take_arguments(inputs, function)
    return profile_function(
        make_user_workload(
            function, arguments, name=name, domain=domain, rtol=tolerance
        ),
        progress,
        network=parse_network(network) if isinstance(network, str) else network,
        protocol=protocol,
        **asked,
    )


def profile_function(
    workload: Workload,
    progress: Progress = SILENT,
    **asked: Any,  # see make_config, which checks each
) -> FunctionReport:
    """Measure one workload; see `mpcprof profile --help`.

    Raises:
        UsageError: If something asked for is not acceptable.
        EngineError: If it cannot be measured.
    """
    cases = make_cases((workload,), get_preset("quick"))
    config = make_config(cases=cases, **asked)
    get_runtime(config.deployment.build)
    _, reference = inputs_and_result(cases[0], config.seed)  # before parties start
    timings: list[Timing] = []
    whole, *parts = measure_once(config, progress, timings.append)
    return FunctionReport(
        profile=Profile(deployment=config.deployment, records=(whole,)),
        parts=tuple(parts),
        max_abs_reference=float(np.max(np.abs(reference))),
        captured=workload.captured,
        timeline=_timeline(timings[0], config) if config.is_traced else None,
    )


def _timeline(timing: Timing, config: SweepConfig) -> Timeline:
    """Return the timeline of the last call on the network."""
    title = f"{timing.case}, {config.deployment}, {config.network}"
    return call_timeline(timing.on(config.network)[-1], title, config.network)


def is_follower(parties: Path) -> bool:
    """Tell whether a party file is of another rank than 0, which leads.

    Raises:
        UsageError: If it cannot be read.
    """
    return read_party_file(parties).rank != 0


def follow_with_function(
    workload: Workload,
    progress: Progress = SILENT,
    **asked: Any,  # see make_config, which checks each
) -> int:
    """Take part in one profile of a function by rank 0; return this party's rank.

    Raises:
        UsageError: If something asked for is not acceptable.
        EngineError: If rank 0 profiles another function, or a party fails.
    """
    cases = make_cases((workload,), get_preset("quick"))
    config = make_config(cases=cases, **asked)
    assert config.parties is not None, "is_follower() comes first"
    inputs, _ = inputs_and_result(cases[0], config.seed)

    def lower_own(compiler: Child, _: dict[str, int]) -> Lowered:
        return lower(
            workload.function,
            inputs,
            case=FIRST_CASE,
            deployment=config.deployment,
            compiler=compiler,
        )

    offer = Offer(deployment=config.deployment, lower=lower_own)
    follow(config.parties, progress, offer=offer, is_once=True)
    return config.parties.rank


def _captured_line(captured: tuple[tuple[str, Shape], ...]) -> str:
    texts = [f"{kind}[{'x'.join(map(str, shape))}]" for kind, shape in captured]
    n_more = len(texts) - _SHOWN_CAPTURED
    shown = ", ".join(texts[:_SHOWN_CAPTURED])
    return (
        f"public: {_n_values(captured)} values that the function holds itself, {shown}"
        f"{f' and {n_more} more' if n_more > 0 else ''}; products with them cost fewer "
        "bytes and hops than with secret values. To have them secret, make them "
        "parameters, given by --input NAME=FILE.npz or --inputs"
    )


def _n_values(captured: tuple[tuple[str, Shape], ...]) -> int:
    return sum(math.prod(shape) for _, shape in captured)


def _line(operation: Operation) -> str:
    """Return one line, without bytes and messages where SPU prints none."""
    duration = format_duration(operation.duration_s, digits=3)
    line = f"  {operation.name:32} {operation.count:5} x {duration:>9}"
    if operation.bytes_sent is None:
        return line
    sent = format_bytes(operation.bytes_sent, digits=3)
    return f"{line} {sent:>9} {operation.send_actions or 0:5} messages"


def _made_of(record: Record) -> list[str]:
    """Return the parts as far as they fit, and a line on those that do not.

    Compute that does not fit behind hops and transfer overlaps them, or is noise.
    """
    parts = parts_of(record, record.latency_s)
    fitted = parts.fitted()
    is_cut = fitted.compute_s < parts.compute_s
    durations = {
        "compute up to" if is_cut else "compute": parts.compute_s,
        "hops": fitted.hops_s,
        "transfer": fitted.transfer_s,
    }
    notes = [f"note: {parts.problem}"] if parts.problem else []
    return [f"made of: {_durations(durations)}", *notes]


def _differences(record: Record) -> list[str]:
    """Return a line on what differs from call to call, where it does."""
    if not record.differs_by_call:
        return []
    n_bytes, hops = record.total_bytes_sent_by_repeat, record.hops_by_repeat
    if len(hops) == 1:
        return ["note: calls differ, and this is one; see how far with --repeats 5"]
    low, mean, high = (format_bytes(f(n_bytes), digits=4) for f in (min, fmean, max))
    least, middle, most = (format_hops(f(hops)) for f in (min, fmean, max))
    return [
        f"note: calls differ, as where SPU selects at random: {low} to {high} sent by "
        f"all parties, mean {mean}; {least} to {most} hops, mean {middle}; {len(hops)} "
        "calls, the median one above"
    ]


def _durations(parts: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {format_duration(part_s, digits=3)}" for name, part_s in parts.items()
    )
