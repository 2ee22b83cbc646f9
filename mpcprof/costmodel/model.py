"""The cost model: steps of any size, on any network, from one profile."""

import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Final

from mpcprof.costmodel.features import check_size
from mpcprof.costmodel.fit import (
    OperationFit,
    fit_operation,
    leave_out_sizes,
    measured_costs,
    percentile_95,
)
from mpcprof.costmodel.observations import (
    Observation,
    by_operation,
    call_overhead_s,
    digest,
    observe,
    primitive_records,
)
from mpcprof.costmodel.prediction import Part, Prediction, add_by_name
from mpcprof.costmodel.refills import NO_REFILLS, Refills, find_refills
from mpcprof.deployment import Deployment
from mpcprof.errors import MissingEntryError, did_you_mean
from mpcprof.network import Network, parse_network
from mpcprof.nn.architecture import get_model
from mpcprof.nn.catalogue import AnyNetwork, trace_model
from mpcprof.nn.plan import Plan, Planner
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.steps import LOCAL, PRODUCT_OPERATIONS, Size, Step, without_local
from mpcprof.pricing import BASES, Costs
from mpcprof.profile.io import read_profile
from mpcprof.profile.parts import LINK_TOLERANCE, Parts
from mpcprof.profile.record import Profile
from mpcprof.terms import Terms, compute_terms
from mpcprof.units import format_duration

# shortest round trip that `verify` held predictions against; docs/cost-model.md
_CHECKED_RTT_S: Final = {"semi2k": 0.003, "aby3": 0.008}
_FAR: Final = 10.0  # times slower than the profile's network
_OPENING: Final = ("mul", "square")  # begin with what both parties open
_SILENT: Final = frozenset({LOCAL, "sum"})
_TRUSTED_REACH = 2.0  # beyond twice the largest size the held-out error is scaled up


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """latency = per_call_s + sum(exposed_s + max(hidden_s, hops RTT/2 + bytes / bw)).

    A size that was measured costs what was measured; others cost what the operation's
    fit says.

        >>> model = mpcprof.CostModel.from_profile("profiles/semi2k.parquet")
        >>> cifar = mpcprof.get_model("cifar")
        >>> vit = mpcprof.uniform_architecture(cifar, attention="relu_softmax")
        >>> model.predict(vit, "100MBps,10ms").latency_s < model.predict(vit).latency_s
        True
        >>> model.terms("cifar").unit_s("attention", ["softmax", "scale"]).shape
        (7, 2)

    Attributes:
        hosts: Machines where the records were measured.
        per_call_s: Seconds that every call costs, however little it does.
        reference: Network that held-out errors are of.
        records_digest: Fingerprint of the records that were fitted.
        fits: One fit for each operation, by name.
        refills: How often, and at what cost, steps refill a stock.
    """

    deployment: Deployment
    hosts: str
    per_call_s: float
    reference: Network
    records_digest: str
    fits: tuple[OperationFit, ...]
    observations: tuple[Observation, ...] = field(repr=False)
    refills: Refills = field(default=NO_REFILLS, repr=False, compare=False)
    _fits: dict[str, OperationFit] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _starts: dict[str, Costs] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _costs: dict[tuple[str, Size], Costs] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._fits.update((fit.operation, fit) for fit in self.fits)
        self._starts.update((fit.operation, self._first(fit)) for fit in self.fits)
        groups: dict[tuple[str, Size], list[Observation]] = {}
        for seen in self.observations:
            groups.setdefault((seen.operation, seen.size), []).append(seen)
        for (operation, size), group in groups.items():
            costs = measured_costs(group).minus(self._starts[operation])
            self._costs[operation, size] = self._refilled(operation, size, costs)

    def _first(self, fit: OperationFit) -> Costs:
        """Return what a program pays only for the first step of an operation.

        In Cheetah a step that ends with a truncation is over for rank 0 while the last
        message is on its way to rank 1. In a product that follows, what rank 0 opens is
        right behind it, and rank 1 truncates at once: it waits a hop less than where
        both begin together.
        """
        if self.refills.appetites and fit.operation in _OPENING:
            return Costs(hops=1.0)
        return fit.start()

    def start_of(self, operation: str) -> Costs:
        """Return what a program pays once for an operation; see `OperationFit.start`.

        The hop of `mul` and `square` in Cheetah is paid only where nothing else sends.
        """
        return self._starts[operation]

    def _refilled(self, operation: str, size: Size, costs: Costs) -> Costs:
        """Return the costs of a step with its share of refills."""
        return costs.plus(self.refills.mean_of_step(operation, size))

    @classmethod
    def from_profile(cls, profile: "Profile | str | os.PathLike[str]") -> "CostModel":
        """Return the cost model of a profile or of its file, as `fit_cost_model`.

        Raises:
            ProfileError: If the file cannot be read.
            MissingEntryError: If the profile holds no primitives.
        """
        if not isinstance(profile, Profile):
            profile = read_profile(profile)
        return fit_cost_model(profile)

    @property
    def operations(self) -> tuple[str, ...]:
        """Operations that can be priced."""
        return tuple(self._fits)

    def priced(self, steps: Iterable[Step]) -> Iterable[Step]:
        """Return the steps, without the local ones if no record prices them."""
        return steps if LOCAL in self._fits else without_local(steps)

    def costs(self, operation: str, size: Size) -> Costs:
        """Return the costs of one step; for `matmul`, of one of its products.

        What a program pays once for all steps of the operation is left out.

        Raises:
            MissingEntryError: If the profile holds no record of the operation.
            UsageError: If the size is not one of the operation.
        """
        known = self._costs.get((operation, size))
        if known is None:
            known = self._costs[operation, size] = self._new_costs(operation, size)
        return known

    def _new_costs(self, operation: str, size: Size) -> Costs:
        if operation not in self._fits:
            hint = did_you_mean(operation, self.operations)
            raise MissingEntryError(
                f"no record of {operation!r} to price it from; {hint}; "
                f"`{self.deployment.sweep_command} --only {operation} --output "
                "PROFILE` measures it"
            )
        check_size(operation, size)
        if operation in PRODUCT_OPERATIONS and size[0] != 1:
            return self.costs(operation, (1, *size[1:]))
        costs = self._fits[operation].costs(size).minus(self._starts[operation])
        return self._refilled(operation, size, costs)

    def predict(
        self,
        what: Iterable[Step] | AnyNetwork,
        network: Network | str = "wan",
        *,
        n_batch: int = 1,
        plan: Plan | None = None,
        is_call: bool = True,
    ) -> Prediction:
        """Return the cost of one call of a network, or of steps one after another.

        Args:
            network: Network, or its text such as `100MBps,10ms`.
            n_batch: Inputs of the call; of a network only, as is the plan.
            plan: How it is deployed; None for the network as it is.
            is_call: False leaves out what a call pays once, for a part of a call.

        Raises:
            MissingEntryError: If the profile holds no record of an operation.
            UsageError: If a size is not one of its operation.
        """
        if isinstance(what, AnyNetwork):
            what = trace_model(what, n_batch, plan)
        return self._predict(
            Counter(self.priced(what)), _to_network(network), is_call=is_call
        )

    def terms(
        self,
        model: ModelPreset | str = "cifar",
        network: Network | str = "wan",
        *,
        n_batch: int = 1,
        attentions: Collection[str] | None = None,
        activations: Collection[str] | None = None,
        has_rows: bool = False,
        planner: Planner | None = None,
    ) -> Terms:
        """Return Lat(ATTN_ij) and Lat(Act_ij) of a model, as `compute_terms`.

        Args:
            model: Sizes, or the name of a preset.
            network: Network, or its text such as `100MBps,10ms`.

        Raises:
            MissingEntryError: If the profile lacks an operation of what was named.
        """
        return compute_terms(
            self,
            get_model(model) if isinstance(model, str) else model,
            _to_network(network),
            n_batch,
            attentions=attentions,
            activations=activations,
            has_rows=has_rows,
            planner=planner,
        )

    def _predict(
        self, counts: Counter[Step], network: Network, *, is_call: bool
    ) -> Prediction:
        priced = [
            (s, n * s.n_products, self.costs(s.operation, s.size))
            for s, n in counts.items()
        ]
        parts = add_by_name(
            _part(step.part, counts[step], n, costs, network)
            for step, n, costs in priced
        )
        operations = add_by_name(
            _part(step.operation, n, n, costs, network) for step, n, costs in priced
        )
        total_bytes_sent = sum(n * costs.total_bytes_sent for _, n, costs in priced)
        names = sorted({step.operation for step in counts})
        start = self._start(names) if is_call else Costs()
        call_s = self.per_call_s if is_call else 0.0
        per_call_s = call_s + start.latency_s(network)
        latency_s = per_call_s + sum(part.latency_s for part in parts)
        error_s = sum(self._error_s(*one, network) for one in priced)
        hops = start.hops + sum(part.hops for part in parts)
        compute_s = call_s + sum(part.compute_s for part in parts)
        bases = [costs.basis for _, _, costs in priced]
        return Prediction(
            latency_s=latency_s,
            interval_s=(max(latency_s - error_s, 0.0), latency_s + error_s),
            bytes_sent=start.bytes_sent + sum(part.bytes_sent for part in parts),
            total_bytes_sent=start.total_bytes_sent + total_bytes_sent,
            hops=hops,
            compute_s=compute_s,
            per_call_s=per_call_s,
            basis=max(bases, key=BASES.index, default="measured"),
            notes=(
                *self._guesses(names),
                *self._one_row(counts),
                *_extrapolations(priced),
                *self._doubts(network),
                *self.refills.note((s.operation, s.size, n) for s, n, _ in priced),
                *_misfit(latency_s, compute_s, hops * network.one_way_s),
            ),
            parts=parts,
            operations=operations,
        )

    def _start(self, operations: Sequence[str]) -> Costs:
        """Return what a call pays once for these operations."""
        opening = [name for name in operations if name in _OPENING]
        others = [name for name in operations if name not in opening]
        begins = {*others} <= _SILENT  # nothing is sent before a product
        names = [*others, *opening[: int(begins)]]
        return reduce(Costs.plus, map(self.start_of, names), Costs())

    def _error_s(self, step: Step, n: int, costs: Costs, network: Network) -> float:
        """Return the seconds that `n` equal units may be off, by held-out errors.

        The errors were measured on `reference`. Where the network is faster than that,
        the seconds of the error stay, since they are compute. Beyond twice the largest
        measured size the error grows in proportion.
        """
        latency_s = max(costs.latency_s(network), costs.latency_s(self.reference))
        error_s = self._fits[step.operation].relative_error * latency_s
        return n * error_s * max(costs.reach / _TRUSTED_REACH, 1.0)

    def _doubts(self, network: Network) -> tuple[str, ...]:
        """Say where a network is far from those on which predictions were checked."""
        measured = self.reference
        if network.is_loopback or network == measured:
            return ()
        known_s = checked_rtt_s(self.deployment.protocol)
        least_s = min(known_s or measured.rtt_s, measured.rtt_s)
        if network.rtt_s < (least_s if known_s else least_s / 4):
            return (
                f"{network}: nobody has checked predictions for so short a round trip; "
                f"the shortest checked is {format_duration(least_s)} "
                "(docs/cost-model.md, Fast networks)",
            )
        if (
            network.rtt_s > _FAR * measured.rtt_s
            or network.bandwidth_bytes_per_s * _FAR < measured.bandwidth_bytes_per_s
        ):
            return (
                f"{network}: over {_FAR:g} times slower than {measured}, on which the "
                "profile was measured; nobody has checked predictions so far from it",
            )
        return ()

    def _guesses(self, operations: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            f"{name}: measured at one size only, its error is a guess"
            for name in operations
            if self._fits[name].n_sizes < 2
        )

    def _one_row(self, steps: Collection[Step]) -> Iterator[str]:
        """Say which rows are priced with the hops of the only length measured."""
        for fit in (fit for fit in self.fits if fit.only_row):
            name, sweep = fit.operation, self.deployment.sweep_command
            own = {step.size[-1] for step in steps if step.operation == name}
            lengths = ",".join(map(str, sorted(own - {fit.only_row})))
            if lengths:
                yield (
                    f"{name}: rows of {lengths} are priced with the hops of rows of "
                    f"{fit.only_row}, the only ones measured; "
                    f"`{sweep} --only {name} --heads 1 --tokens {lengths} --output "
                    "PROFILE` measures more"
                )


def _to_network(network: Network | str) -> Network:
    return parse_network(network) if isinstance(network, str) else network


def checked_rtt_s(protocol: str) -> float | None:
    """Return the shortest round trip that predictions were held against, if known."""
    return _CHECKED_RTT_S.get(protocol)


def _part(name: str, count: int, n_units: int, costs: Costs, network: Network) -> Part:
    return Part(
        name=name,
        count=count,
        latency_s=n_units * costs.latency_s(network),
        bytes_sent=n_units * costs.bytes_sent,
        hops=n_units * costs.hops,
        compute_s=n_units * costs.compute_s,
    )


def _misfit(latency_s: float, compute_s: float, hops_s: float) -> tuple[str, ...]:
    """Say where compute and hops alone are more than the latency they are parts of."""
    parts = Parts(
        latency_s=latency_s,
        compute_s=compute_s,
        hops_s=hops_s,
        transfer_s=0.0,
        noise_s=LINK_TOLERANCE * latency_s,
    )
    return (parts.problem,) if parts.problem else ()


def _extrapolations(priced: Iterable[tuple[Step, int, Costs]]) -> tuple[str, ...]:
    """Return a note for each operation with a step beyond the measured sizes."""
    largest: dict[str, tuple[float, Size]] = {}
    for step, _, costs in priced:
        if costs.reach > largest.get(step.operation, (1.0,))[0]:
            largest[step.operation] = (costs.reach, step.size)
    return tuple(
        f"{name}: size {math.prod(size):.1e} is {reach:.3g} times the largest measured"
        for name, (reach, size) in largest.items()
    )


def fit_cost_model(profile: Profile) -> CostModel:
    """Return the cost model of the primitives in `profile`.

    Coefficients are fitted each time, in less than half a second, and not stored.

        >>> profile = mpcprof.read_profile("profiles/semi2k.parquet")
        >>> "exp" in mpcprof.fit_cost_model(profile).operations
        True

    Raises:
        MissingEntryError: If it holds none.
    """
    records = primitive_records(profile)
    per_call_s = call_overhead_s(records)
    observations = observe(profile, per_call_s)
    networks = Counter(o.network for o in observations)
    return CostModel(
        deployment=profile.deployment,
        hosts="; ".join(sorted({record.host for record in records})),
        per_call_s=per_call_s,
        reference=max(networks, key=lambda network: (networks[network], network)),
        records_digest=digest(records),
        fits=tuple(_fit(group, per_call_s) for group in by_operation(observations)),
        observations=observations,
        refills=find_refills(profile),
    )


def _fit(group: Sequence[Observation], per_call_s: float) -> OperationFit:
    fit = fit_operation(group)
    errors = [case.latency_error for case in leave_out_sizes(group, per_call_s)]
    return replace(fit, relative_error=percentile_95(errors)) if errors else fit
