"""The same numbers from real parties: every group of steps as one program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.backends import choose_emulation, make_emulation
from mpcprof.engine.measure import Case
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError
from mpcprof.network import Network
from mpcprof.profile.record import RecordKey
from mpcprof.progress import Progress
from mpcprof.sweep.run import SweepConfig, known_calibration, sweep
from mpcprof.workloads.blocks import steps_workload
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcvit.paper.costs import Cost, Source
from mpcvit.paper.softmax_error import ErrorTable, measure_errors

Sweep = Callable[..., Any]  # Any: `sweep`, or a test's stand-in for it


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRequest:
    """How groups are measured."""

    network: Network
    emulation: str = "auto"
    repeats: int = 3
    warmups: int = 1
    seed: int = 0


def measure_costs(
    source: Source,
    costs: Sequence[Cost],
    request: MeasureRequest,
    path: Path,
    progress: Progress,
    run_sweep: Sweep = sweep,
) -> tuple[Cost, ...]:
    """Those of `costs` that are of the source's deployment, measured; the others as is.

    Equal lists of steps are measured once. What is on file at `path` is not measured
    again, so that a run that was stopped goes on where it was.

    Raises:
        EngineError: If one could not be measured: a bar is measured wholly or not.
        ProfileError: If the file is of another deployment.
    """
    workloads = {
        cost.steps: steps_workload(cost.steps)
        for cost in costs
        if cost.deployment == source.deployment
    }
    by_name = {workload.name: workload for workload in workloads.values()}
    config = _config(source.deployment, [*by_name.values()], request)
    result = run_sweep(
        config,
        path,
        progress,
        calibration=known_calibration(source.profile, request.network),
    )
    if result.left_out:
        one = result.left_out[0]
        raise EngineError(
            f"{len(result.left_out)} of {len(by_name)} groups could not be measured, "
            f"the first because: {one.reason}"
        )

    def measured(cost: Cost) -> Cost:
        if cost.deployment != source.deployment:
            return cost
        key = RecordKey(
            workload=workloads[cost.steps].name,
            dims=Dims(),
            network=request.network,
            mode="emulated",
        )
        record = result.profile.get(key)
        return replace(cost, measured_s=result.profile.call_s(record))

    return tuple(measured(cost) for cost in costs)


def _config(
    deployment: Deployment, workloads: Sequence[Any], request: MeasureRequest
) -> SweepConfig:
    return SweepConfig(
        deployment=deployment,
        network=request.network,
        mode="emulated",
        emulation=request.emulation,
        cases=tuple(Case(workload=one, dims=Dims()) for one in workloads),
        repeats=request.repeats,
        enough_s=1.0,
        warmups=request.warmups,
        seed=request.seed,
        case_limit_s=float("inf"),
        base_port=0,
    )


def measure_softmax_error(deployment: Deployment, seed: int = 0) -> ErrorTable:
    """Figure 1(c) by real parties on loopback; the network does not change a result.

    Raises:
        EngineError: If parties cannot be started, or one fails.
    """
    emulation = make_emulation(choose_emulation("auto"))
    with Session(deployment, emulation) as session:
        return measure_errors(session, JaxAlgebra(), seed)
