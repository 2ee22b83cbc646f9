"""A verification: from what is asked for to predicted and measured seconds."""

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mpcprof.costmodel.long_run import Calls, Made, round_seconds
from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.costmodel.refills import Refills
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.measure import Case
from mpcprof.errors import EngineError, RangeError, UsageError
from mpcprof.network import Network
from mpcprof.nn.architecture import Heads
from mpcprof.nn.catalogue import AnyNetwork
from mpcprof.predict import choose_network, plan_network
from mpcprof.pricing import Calibration
from mpcprof.profile.io import read_profile
from mpcprof.profile.parts import misfit, parts_of
from mpcprof.profile.record import Profile, Record, RecordKey
from mpcprof.progress import Progress
from mpcprof.shard import Shard
from mpcprof.sweep.cases import known_calibration
from mpcprof.sweep.config import SweepConfig, check_combination, read_parties
from mpcprof.sweep.run import sweep
from mpcprof.verify.draw import Drawn, draw_cases, draw_models, model_case
from mpcprof.verify.report import CaseResult, RefillCheck, VerifyResult
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import Workload, get_workload

_DRAWN_MODELS = ("digits", "cifar")
_NAMED = re.compile(r"([^:]+):([^:]+):(serial|batched)")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig:
    """What is verified and how it is measured; see `mpcprof verify --help`.

    Attributes:
        profile: Profile that is verified.
        model: Cost model of the profile.
        cases: Cases to predict and to measure.
        cluster: Address of a Ray cluster whose hosts measure; "" for this one.
    """

    profile: Profile
    model: CostModel
    cases: tuple[Drawn, ...]
    networks: tuple[Network, ...]
    emulation: str = "auto"
    repeats: int = 3
    warmups: int = 1
    seed: int = 0
    base_port: int = 0
    cluster: str = ""
    parties: PartyFile | None = None


def make_config(
    profile_path: Path,
    *,
    n_cases: int,
    n_models: int,
    architectures: Sequence[str],
    seed: int,
    networks: Sequence[Network],
    emulation: str,
    repeats: int,
    warmups: int,
    limit_s: float,
    n_layers: int | None = None,
    n_batch: int = 1,
    plan: str | None = None,
    shard: Shard | None = None,
    cluster: str = "",
    parties: Path | None = None,
) -> VerifyConfig:
    """Return the named cases, then drawn ones; see `mpcprof verify --help`.

    Raises:
        ProfileError: If there is no profile.
        MissingEntryError: If it lacks an operation of a case.
        UsageError: If nothing is asked for, or an architecture is not acceptable.
    """
    profile = read_profile(profile_path)
    model = fit_cost_model(profile)
    networks = tuple(dict.fromkeys(networks))
    deployment = profile.deployment
    named = [_named_architecture(text, n_layers) for text in architectures]
    plans = [
        plan_network(plan, one, n_batch, deployment=deployment, link=networks[0])
        for one in named
    ]
    found = (
        *(model_case(*pair) for pair in zip(named, itertools.repeat(n_batch), plans)),
        *draw_cases(model, networks, n_cases=n_cases, seed=seed, limit_s=limit_s),
        *draw_models(
            model,
            networks,
            presets=_DRAWN_MODELS,
            n_models=n_models,
            seed=seed,
            limit_s=limit_s,
        ),
    )
    if not found:
        raise UsageError("no cases: expected --cases, --models or --architecture")
    cases = tuple({(one.name, one.dims): one for one in found}.values())
    if shard is not None:
        shard.check_size(len(cases), "cases")
        cases = shard.take(cases)
    return VerifyConfig(
        profile=profile,
        model=model,
        cases=cases,
        networks=networks,
        emulation=emulation,
        repeats=repeats,
        warmups=warmups,
        seed=seed,
        cluster=cluster,
        parties=read_parties(parties, deployment, emulation=emulation),
    )


def _named_architecture(text: str, n_layers: int | None = None) -> AnyNetwork:
    """Return the architecture of `cifar:scale:batched`, or of a file."""
    if text.endswith(".json"):
        model, attention, heads = "", text, None
    elif match := _NAMED.fullmatch(text):
        model, attention, heads = match.groups()
    else:
        raise UsageError(
            f"--architecture {text!r}: expected MODEL:ATTENTION:HEADS, such as "
            "cifar:scale:batched, or a file arch.json"
        )
    return choose_network(
        model=model,
        attention=attention,
        heads=cast("Heads | None", heads),
        n_layers=n_layers,
    )


def verify(
    config: VerifyConfig,
    path: str | os.PathLike[str],
    progress: Progress,
    *,
    is_fresh: bool = False,
) -> VerifyResult:
    """Measure the cases on every network into the profile at `path`, then compare.

    Cases that are on file there are not measured again, so that a stopped verification
    goes on where it was.

    Raises:
        EngineError: If nothing could be measured; it says why.
        ProfileError: If the file is of another deployment.
        UsageError: If the back-end cannot count this deployment's hops.
    """
    check_combination(config.profile.deployment, config.emulation)
    left_out: list[str] = []
    measured = Profile(deployment=config.profile.deployment)
    for network in config.networks:
        result = sweep(
            _sweep_config(config, network),
            path,
            progress,
            is_fresh=is_fresh and not len(measured),
            calibration=_calibration(config.profile),
            cluster=config.cluster,
        )
        measured = result.profile
        left_out += [
            f"{one.case} on {network}: {one.reason}" for one in result.left_out
        ]
    pairs = [
        (case, measured.get(key))
        for network in config.networks
        for case in config.cases
        if (key := _key(case, network)) in measured
    ]
    refilled = {
        network: _Refilled.of(config.model.refills, network, pairs)
        for network in config.networks
    }
    results = []
    for case, record in pairs:
        seen = refilled[record.network]
        try:
            results.append(_compare(config.model, case, record, measured, seen))
        except RangeError as error:
            left_out.append(f"{record.key}: {error}")
    if not results:
        raise EngineError(f"no case could be measured: {'; '.join(left_out)}")
    return VerifyResult(
        deployment=str(config.profile.deployment),
        profile_hosts=config.profile.hosts,
        hosts=measured.hosts,
        seed=config.seed,
        results=tuple(results),
        left_out=tuple(left_out),
        misfit=misfit([record for _, record in pairs], measured.deployment),
        refills=tuple(one.check() for one in refilled.values() if one.calls),
    )


def _sweep_config(config: VerifyConfig, network: Network) -> SweepConfig:
    return SweepConfig(
        deployment=config.profile.deployment,
        network=network,
        emulation=config.emulation,
        cases=tuple(Case(workload=_workload(c), dims=c.dims) for c in config.cases),
        repeats=config.repeats,
        warmups=config.warmups,
        seed=config.seed,
        base_port=config.base_port,
        parties=config.parties,
    )


def _workload(case: Drawn) -> Workload:
    if case.architecture is not None:
        return model_workload(case.architecture, case.plan)
    return get_workload(case.name)


def _calibration(profile: Profile) -> Calibration | None:
    """Return this host's calibration, if the profile was measured here."""
    networks = {record.network for record in profile}
    known = (known_calibration(profile, network) for network in sorted(networks))
    return next((one for one in known if one), None)


def _key(case: Drawn, network: Network) -> RecordKey:
    return RecordKey(
        workload=case.name, dims=case.dims, network=network, mode="emulated"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refilled:
    """Calls on one network whose refills are known, and what a refill took there.

    Attributes:
        calls: Calls of each record; none where nothing is refilled.
        each_s: Seconds of each kind of refill, as these calls show.
    """

    refills: Refills
    network: Network
    calls: Mapping[RecordKey, Calls]
    each_s: Made

    @classmethod
    def of(
        cls, refills: Refills, network: Network, pairs: Sequence[tuple[Drawn, Record]]
    ) -> "_Refilled":
        """Find the refills of the records of one network."""
        calls = {
            record.key: found
            for case, record in pairs
            if refills.appetites and record.network == network
            if (found := refills.calls(record, case.steps))
        }
        each_s = refills.each_s([*calls.values()], network)
        return cls(refills=refills, network=network, calls=calls, each_s=each_s)

    def long_run(self, record: Record, typical_s: float) -> tuple[float, float]:
        """Return seconds and bytes of a call with its share of refills.

        Those of the typical call where nothing is refilled, or bytes do not tell.
        """
        n_bytes = record.mean_total_bytes_sent
        calls = self.calls.get(record.key)
        if calls is None:
            return typical_s, n_bytes
        surplus = calls.surplus.times_each(self.refills.each_bytes)
        return calls.long_run_s(self.each_s), n_bytes - surplus

    def check(self) -> RefillCheck:
        """Return the refills of all calls beside those expected and priced."""
        cases = [*self.calls.values()]
        n_seen = len(round_seconds(cases, self.each_s))
        return RefillCheck(
            network=self.network,
            n_calls=sum(len(case.made) for case in cases),
            made=sum(made.rounds for case in cases for made in case.made),
            expected=sum(len(case.made) * case.expected.rounds for case in cases),
            n_seen=n_seen,
            measured_s=self.each_s.rounds if n_seen else None,
            priced_s=self.refills.costs(1.0).latency_s(self.network),
        )


def _compare(
    model: CostModel,
    case: Drawn,
    record: Record,
    measured: Profile,
    refilled: _Refilled,
) -> CaseResult:
    predicted = model.predict(case.steps, record.network)
    architecture = case.architecture
    typical_s = measured.call_s(record)
    measured_s, n_bytes = refilled.long_run(record, typical_s)
    calls = refilled.calls.get(record.key)
    return CaseResult(
        workload=record.workload,
        kind=record.kind,
        dims=record.dims,
        network=record.network,
        predicted_s=predicted.latency_s,
        interval_s=predicted.interval_s,
        basis=predicted.basis,
        measured_s=measured_s,
        latencies_s=record.latencies_s,
        bytes_error=_relative(predicted.total_bytes_sent, n_bytes),
        hops_error=_relative(predicted.hops, record.hops),
        architecture=architecture.to_json() if architecture else "",
        parts_problem=parts_of(record, typical_s).problem,
        called_s=typical_s,
        rounds_made=calls.mean_made.rounds if calls else 0.0,
        rounds_expected=calls.expected.rounds if calls else 0.0,
    )


def _relative(predicted: float, measured: float) -> float:
    """Return the relative error; 0 where both numbers are 0."""
    if predicted == measured:
        return 0.0
    return predicted / measured - 1 if measured else float("inf")
