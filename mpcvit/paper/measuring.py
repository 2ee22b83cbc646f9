"""The numbers of a figure from real parties: every group of steps as one program."""

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
from mpcprof.profile.record import Profile, RecordKey
from mpcprof.progress import SILENT, Progress
from mpcprof.sweep.cases import known_calibration
from mpcprof.sweep.config import SweepConfig
from mpcprof.sweep.run import sweep
from mpcprof.workloads.blocks import steps_workload
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcvit.paper.costs import FittedProfile, GroupCost
from mpcvit.paper.softmax_error import ErrorTable, measure_errors, write_errors

Sweep = Callable[..., Any]  # Any: `sweep`, or a test's stand-in for it


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureMeasurer:
    """Measures the numbers of a figure by real parties.

    Attributes:
        repeats: Calls of each group, at least.
    """

    repeats: int = 3
    progress: Progress = SILENT
    run_sweep: Sweep = sweep

    def measure_costs(
        self,
        fitted: FittedProfile,
        costs: Sequence[GroupCost],
        network: Network,
        path: Path,
    ) -> tuple[GroupCost, ...]:
        """Measure those of `costs` that are of the profile's deployment.

        The others are returned as they are. Equal lists of steps are measured once.
        What is on file at `path` is not measured again, so that a run that was stopped
        goes on where it was.

        Raises:
            EngineError: If one could not be measured: a bar is measured wholly or not.
            ProfileError: If the file is of another deployment.
        """
        deployment = fitted.deployment
        workloads = {
            cost.steps: steps_workload(cost.steps)
            for cost in costs
            if cost.deployment == deployment
        }
        by_name = {workload.name: workload for workload in workloads.values()}
        result = self.run_sweep(
            SweepConfig(
                deployment=deployment,
                network=network,
                cases=tuple(Case(workload=w, dims=Dims()) for w in by_name.values()),
                repeats=self.repeats,
            ),
            path,
            self.progress,
            calibration=known_calibration(fitted.profile, network),
        )
        if result.left_out:
            raise EngineError(
                f"{len(result.left_out)} of {len(by_name)} groups could not be "
                f"measured, the first because: {result.left_out[0].reason}"
            )

        names = {steps: workload.name for steps, workload in workloads.items()}
        return tuple(
            _with_measured(cost, result.profile, names[cost.steps], network)
            if cost.deployment == deployment
            else cost
            for cost in costs
        )

    def measure_errors(self, deployment: Deployment, path: Path) -> ErrorTable:
        """Measure Figure 1(c) and write it to `path`; see `measure_softmax_error`."""
        errors = measure_softmax_error(deployment)
        write_errors(path, errors)
        return errors


def _with_measured(
    cost: GroupCost, profile: Profile, workload: str, network: Network
) -> GroupCost:
    key = RecordKey(workload=workload, dims=Dims(), network=network, mode="emulated")
    return replace(cost, measured_s=profile.call_s(profile.get(key)))


def measure_softmax_error(deployment: Deployment, seed: int = 0) -> ErrorTable:
    """Measure Figure 1(c) by real parties on loopback: no network changes a result.

    Raises:
        EngineError: If parties cannot be started, or one fails.
    """
    emulation = make_emulation(choose_emulation("auto"))
    with Session(deployment, emulation) as session:
        return measure_errors(session, JaxAlgebra(), seed)
