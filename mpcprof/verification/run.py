"""Measures drawn cases with real parties and compares them with what was predicted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from mpcprof.costmodel import CostModel
from mpcprof.engine.measure import Case
from mpcprof.errors import EngineError
from mpcprof.network import Network
from mpcprof.pricing import Calibration
from mpcprof.profiles import Profile
from mpcprof.records import Record, RecordKey
from mpcprof.sweep import Observer, SweepConfig, known_calibration, sweep
from mpcprof.sweep_request import check_combination
from mpcprof.verification.drawing import Drawn
from mpcprof.verification.report import CaseResult, Verification
from mpcprof.workloads import Workload, get_workload, model_workload


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """How cases are measured; see `mpcprof verify --help`."""

    networks: tuple[Network, ...]
    emulation: str = "auto"
    repeats: int = 3
    warmups: int = 1
    seed: int = 0
    base_port: int = 0


def verify(
    profile: Profile,
    model: CostModel,
    cases: Sequence[Drawn],
    request: VerifyRequest,
    path: str | os.PathLike[str],
    observer: Observer,
    *,
    is_fresh: bool = False,
) -> Verification:
    """Measure `cases` on every network into the profile at `path`, then compare.

    Cases that are on file there are not measured again, so that a verification that was
    stopped goes on where it was.

    Raises:
        EngineError: If nothing could be measured; it says why.
        ProfileError: If the file is of another deployment.
        UsageError: If the back-end cannot count this deployment's hops.
    """
    check_combination(profile.deployment, request.emulation)
    left_out: list[str] = []
    measured = Profile(deployment=profile.deployment)
    for network in request.networks:
        result = sweep(
            _config(profile, cases, request, network),
            path,
            observer,
            is_fresh=is_fresh and not len(measured),
            calibration=_calibration(profile),
        )
        measured = result.profile
        left_out += [
            f"{one.case} on {network}: {one.reason}" for one in result.left_out
        ]
    results = [
        _compare(model, case, measured, measured.get(key))
        for network in request.networks
        for case in cases
        if (key := _key(case, network)) in measured
    ]
    if not results:
        raise EngineError(f"no case could be measured: {'; '.join(left_out)}")
    return Verification(
        deployment=str(profile.deployment),
        profile_hosts=profile.hosts,
        hosts=measured.hosts,
        seed=request.seed,
        results=tuple(results),
        left_out=tuple(left_out),
    )


def _config(
    profile: Profile, cases: Sequence[Drawn], request: VerifyRequest, network: Network
) -> SweepConfig:
    return SweepConfig(
        deployment=profile.deployment,
        network=network,
        mode="emulated",
        emulation=request.emulation,
        cases=tuple(Case(workload=_workload(c), dims=c.dims) for c in cases),
        repeats=request.repeats,
        enough_s=1.0,  # short ones, on which noise weighs most, are called more often
        warmups=request.warmups,
        seed=request.seed,
        case_limit_s=float("inf"),
        base_port=request.base_port,
    )


def _workload(case: Drawn) -> Workload:
    if case.architecture is not None:
        return model_workload(case.architecture)
    return get_workload(case.name)


def _calibration(profile: Profile) -> Calibration | None:
    """The host's, if the profile was measured here; it is not what is verified."""
    networks = {record.network for record in profile}
    known = (known_calibration(profile, network) for network in sorted(networks))
    return next((one for one in known if one), None)


def _key(case: Drawn, network: Network) -> RecordKey:
    return RecordKey(
        workload=case.name, dims=case.dims, network=network, mode="emulated"
    )


def _compare(
    model: CostModel, case: Drawn, measured: Profile, record: Record
) -> CaseResult:
    predicted = model.predict(case.steps, record.network)
    architecture = case.architecture
    return CaseResult(
        workload=record.workload,
        kind=record.kind,
        dims=record.dims,
        network=record.network,
        predicted_s=predicted.latency_s,
        interval_s=predicted.interval_s,
        basis=predicted.basis,
        measured_s=measured.call_s(record),
        latencies_s=record.latencies_s,
        bytes_error=_relative(predicted.total_bytes_sent, record.mean_total_bytes_sent),
        hops_error=_relative(predicted.hops, record.hops),
        architecture=architecture.to_json() if architecture else "",
    )


def _relative(predicted: float, measured: float) -> float:
    """0 where both are 0."""
    if predicted == measured:
        return 0.0
    return predicted / measured - 1 if measured else float("inf")
