"""The cost model: steps of any size, on any network, from one profile."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Final, Literal, TypeAlias

from mpcprof.costmodel.features import check_size, operation_kind
from mpcprof.costmodel.fit import OperationFit, fit_from_json
from mpcprof.costmodel.observations import (
    Observation,
    digest,
    observe,
    primitive_records,
)
from mpcprof.deployment import Deployment
from mpcprof.errors import MissingEntryError, ProfileError, did_you_mean
from mpcprof.network import Network
from mpcprof.nn.steps import ROW_OPERATIONS, Size, Step, n_entries
from mpcprof.pricing import price_s
from mpcprof.profile.record import Profile

Basis: TypeAlias = Literal["measured", "interpolated", "extrapolated"]
BASES: Final[tuple[Basis, ...]] = ("measured", "interpolated", "extrapolated")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Of one step, without what a call costs.

    Attributes:
        bytes_sent: By rank 0.
        total_bytes_sent: Summed over ranks.
        wire_bytes: On the critical path: what the latency formula prices.
        hops: One-way messages on the critical path.
        compute_s: What a slow network does not hide; below 0 where parties wait less
            than the hops say.
        hidden_s: More compute, which it does.
        relative_error: 95th percentile of the operation's held-out latency error.
        basis: Of a product: of one of its products.
        reach: Times the largest measured size; above 1 where extrapolated.
    """

    bytes_sent: float
    total_bytes_sent: float
    wire_bytes: float
    hops: float
    compute_s: float
    hidden_s: float
    relative_error: float
    basis: Basis
    reach: float

    def latency_s(self, network: Network) -> float:
        """compute_s + max(hidden_s, hops RTT/2 + wire_bytes / bandwidth)."""
        return price_s(
            network,
            compute_s=self.compute_s,
            hidden_s=self.hidden_s,
            hops=self.hops,
            wire_bytes=self.wire_bytes,
        )

    def repeated(self, count: int) -> "StepCost":
        """That many, one after another."""
        return StepCost(
            bytes_sent=count * self.bytes_sent,
            total_bytes_sent=count * self.total_bytes_sent,
            wire_bytes=count * self.wire_bytes,
            hops=count * self.hops,
            compute_s=count * self.compute_s,
            hidden_s=count * self.hidden_s,
            relative_error=self.relative_error,
            basis=self.basis,
            reach=self.reach,
        )

    def minus_start(self, start: "StartCost") -> "StepCost":
        """Without what the program pays once for all steps of the operation."""
        return replace(
            self,
            bytes_sent=self.bytes_sent - start.bytes_sent,
            total_bytes_sent=self.total_bytes_sent - start.total_bytes_sent,
            hops=self.hops - start.hops,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCost:
    """What a program pays once, however often it takes an operation.

    A reduction starts from a public number. aby3 makes a secret of it, once a program:
    one message, 8 bytes a party.
    """

    bytes_sent: float = 0.0
    total_bytes_sent: float = 0.0
    hops: float = 0.0


def start_cost(fit: OperationFit) -> StartCost:
    """Of a reduction whose bytes are known exactly; nothing of all others."""
    if fit.operation not in ROW_OPERATIONS:
        return StartCost()
    bytes_sent, total_bytes_sent = fit.costs.start_bytes()
    return StartCost(
        bytes_sent=bytes_sent,
        total_bytes_sent=total_bytes_sent,
        hops=1.0 if total_bytes_sent else 0.0,
    )


def measured_cost(fit: OperationFit, observations: Sequence[Observation]) -> StepCost:
    """Of a size that was measured: what its records say, the mean over networks."""
    compute_s = fmean(o.compute_s for o in observations)
    busy_s = fmean(o.busy_s for o in observations)
    return StepCost(
        bytes_sent=fmean(o.bytes_sent for o in observations),
        total_bytes_sent=fmean(o.total_bytes_sent for o in observations),
        wire_bytes=fmean(o.wire_bytes for o in observations),
        hops=fmean(o.hops for o in observations),
        compute_s=compute_s,
        hidden_s=max(busy_s - compute_s, 0.0),
        relative_error=fit.relative_error,
        basis="measured",
        reach=1.0,
    )


def fitted_cost(fit: OperationFit, size: Size) -> StepCost:
    """Of a size that was not measured."""
    reach = fit.reach(size)
    costs = fit.costs
    return StepCost(
        bytes_sent=costs.bytes_sent.predict(size),
        total_bytes_sent=costs.total_bytes_sent.predict(size),
        wire_bytes=costs.wire_bytes.predict(size),
        hops=costs.hops.predict(size),
        compute_s=costs.compute_s.predict(size),
        hidden_s=costs.hidden_s(size),
        relative_error=fit.relative_error,
        basis="extrapolated" if reach > 1 else "interpolated",
        reach=reach,
    )


_TRUSTED_REACH = 2.0  # up to here the held-out error is taken as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCost:
    """The steps of one part, or of one operation; without what the call costs.

    Attributes:
        name: As the steps carry it: `layer 1/attention/softmax`, or `exp`.
        count: Steps; products, of an operation that multiplies matrices.
        bytes_sent: By rank 0.
        compute_s: What would be left of the latency on a network that costs nothing; a
            slow one hides a part of it.
    """

    name: str
    count: int
    latency_s: float
    bytes_sent: float
    hops: float
    compute_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One call of a function made of steps.

    Attributes:
        latency_s: per_call_s + the latencies of the parts.
        interval_s: Low and high: all steps 95 % as wrong, in the same direction.
        bytes_sent: By rank 0.
        total_bytes_sent: Summed over ranks.
        compute_s: As of a part, and per_call_s.
        per_call_s: What every call costs, once, with the hops that all of its
            reductions share.
        basis: The worst of the steps: measured, interpolated, extrapolated.
        notes: What to know before trusting it.
        parts: In the order of the steps.
        operations: Likewise.
    """

    latency_s: float
    interval_s: tuple[float, float]
    bytes_sent: float
    total_bytes_sent: float
    hops: float
    compute_s: float
    per_call_s: float
    basis: Basis
    notes: tuple[str, ...]
    parts: tuple[PartCost, ...]
    operations: tuple[PartCost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedStep:
    """Equal steps of one part, and what one of them costs."""

    step: Step
    count: int
    cost: StepCost
    latency_s: float
    error_s: float


def priced_step(
    step: Step, count: int, cost: StepCost, network: Network, reference: Network
) -> PricedStep:
    """One of `count` equal steps on `network`.

    The error is that of the held-out latencies. They were measured on `reference`, and
    where the network is faster than that, the seconds of the error stay, for they are
    compute. Beyond twice the largest measured size it grows in proportion.
    """
    latency_s = cost.latency_s(network)
    error_s = cost.relative_error * max(latency_s, cost.latency_s(reference))
    return PricedStep(
        step=step,
        count=count,
        cost=cost,
        latency_s=latency_s,
        error_s=error_s * max(cost.reach / _TRUSTED_REACH, 1.0),
    )


def sum_up(
    priced: tuple[PricedStep, ...],
    starts: Sequence[StartCost],
    call_s: float,
    network: Network,
    notes: tuple[str, ...] = (),
) -> Prediction:
    """The whole call."""
    start_hops = sum(start.hops for start in starts)
    per_call_s = call_s + start_hops * network.one_way_s
    parts = _by_name((p.step.part, p.count, p) for p in priced)
    latency_s = per_call_s + sum(part.latency_s for part in parts)
    error_s = sum(p.count * p.error_s for p in priced)
    bases = [p.cost.basis for p in priced]
    return Prediction(
        latency_s=latency_s,
        interval_s=(max(latency_s - error_s, 0.0), latency_s + error_s),
        bytes_sent=sum(p.count * p.cost.bytes_sent for p in priced)
        + sum(start.bytes_sent for start in starts),
        total_bytes_sent=sum(p.count * p.cost.total_bytes_sent for p in priced)
        + sum(start.total_bytes_sent for start in starts),
        hops=sum(p.count * p.cost.hops for p in priced) + start_hops,
        compute_s=call_s + _compute_s(priced),
        per_call_s=per_call_s,
        basis=max(bases, key=BASES.index, default="measured"),
        notes=(*notes, *_extrapolations(priced)),
        parts=parts,
        operations=_by_name(
            (p.step.operation, p.count * _n_products(p.step.size), p) for p in priced
        ),
    )


def _compute_s(priced: Iterable[PricedStep]) -> float:
    return sum(p.count * (p.cost.compute_s + p.cost.hidden_s) for p in priced)


def _n_products(size: Size) -> int:
    return size[0] if len(size) == 4 else 1


def _by_name(named: Iterable[tuple[str, int, PricedStep]]) -> tuple[PartCost, ...]:
    groups: dict[str, list[tuple[int, PricedStep]]] = {}
    for name, count, priced in named:
        groups.setdefault(name, []).append((count, priced))
    return tuple(
        PartCost(
            name=name,
            count=sum(count for count, _ in group),
            latency_s=sum(p.count * p.latency_s for _, p in group),
            bytes_sent=sum(p.count * p.cost.bytes_sent for _, p in group),
            hops=sum(p.count * p.cost.hops for _, p in group),
            compute_s=_compute_s(p for _, p in group),
        )
        for name, group in groups.items()
    )


def _extrapolations(priced: Iterable[PricedStep]) -> tuple[str, ...]:
    """A note for each operation, of its largest step."""
    largest: dict[str, PricedStep] = {}
    for p in priced:
        known = largest.get(p.step.operation)
        if p.cost.reach > (known.cost.reach if known else 1.0):
            largest[p.step.operation] = p
    return tuple(
        f"{name}: size {n_entries(p.step.size):.1e} is {p.cost.reach:.3g} times the "
        "largest measured"
        for name, p in largest.items()
    )


MODEL_VERSION = 3  # 3: a result of one ciphertext comes back unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """latency = per_call_s + sum(compute_s + max(hidden_s, hops RTT/2 + bytes / bw)).

    A size that was measured costs what was measured; others cost what the operation's
    fit says.

    Attributes:
        hosts: Where the records were measured.
        per_call_s: Seconds that every call costs, however little it does.
        reference: The network that held-out errors are of.
        records_digest: Of the records it was fitted to.
        fits: One for each operation, by name.
    """

    deployment: Deployment
    hosts: str
    per_call_s: float
    reference: Network
    records_digest: str
    fits: tuple[OperationFit, ...]
    observations: tuple[Observation, ...] = field(repr=False)
    _fits: dict[str, OperationFit] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _starts: dict[str, StartCost] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _costs: dict[tuple[str, Size], StepCost] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._fits.update((fit.operation, fit) for fit in self.fits)
        self._starts.update((fit.operation, start_cost(fit)) for fit in self.fits)
        groups: dict[tuple[str, Size], list[Observation]] = {}
        for seen in self.observations:
            groups.setdefault((seen.operation, seen.size), []).append(seen)
        for (operation, size), group in groups.items():
            cost = measured_cost(self._fit(operation), group)
            start = self._starts[operation]
            self._costs[operation, size] = cost.minus_start(start)

    @property
    def operations(self) -> tuple[str, ...]:
        """What can be priced."""
        return tuple(self._fits)

    def _fit(self, operation: str) -> OperationFit:
        if operation not in self._fits:
            hint = did_you_mean(operation, self.operations)
            raise MissingEntryError(
                f"no record of {operation!r} to price it from; {hint}; "
                f"`{self.deployment.sweep_command} --only {operation} --output "
                "PROFILE` measures it"
            )
        return self._fits[operation]

    def step_cost(self, operation: str, size: Size) -> StepCost:
        """Of one step; b products cost b times one.

        Without what the program pays once for all steps of the operation.

        Raises:
            MissingEntryError: If the profile holds no record of the operation.
            UsageError: If the size is not one of the operation.
        """
        cost = self._costs.get((operation, size))
        if cost is None:
            cost = self._new_cost(operation, size)
            self._costs[operation, size] = cost
        return cost

    def _new_cost(self, operation: str, size: Size) -> StepCost:
        fit = self._fit(operation)
        check_size(operation, size)
        if operation_kind(operation) == "product" and size[0] != 1:
            return self.step_cost(operation, (1, *size[1:])).repeated(size[0])
        return fitted_cost(fit, size).minus_start(self._starts[operation])

    def predict(self, steps: Iterable[Step], network: Network) -> Prediction:
        """One call that takes `steps` one after another.

        Raises:
            MissingEntryError: If the profile holds no record of an operation.
            UsageError: If a size is not one of its operation.
        """
        counts = Counter(steps)
        priced = tuple(
            priced_step(
                step,
                count,
                self.step_cost(step.operation, step.size),
                network,
                self.reference,
            )
            for step, count in counts.items()
        )
        starts = [self._starts[name] for name in {step.operation for step in counts}]
        return sum_up(priced, starts, self.per_call_s, network, self._guesses(counts))

    def _guesses(self, steps: Iterable[Step]) -> tuple[str, ...]:
        names = sorted({step.operation for step in steps})
        return tuple(
            f"{name}: measured at one size only, its error is a guess"
            for name in names
            if self._fits[name].n_sizes < 2
        )

    def to_json(self) -> str:
        """The coefficients as JSON text; the measured sizes stay in the profile."""
        document = {
            "version": MODEL_VERSION,
            "deployment": json.loads(self.deployment.to_json()),
            "hosts": self.hosts,
            "per_call_s": self.per_call_s,
            "reference": {
                "bandwidth_bytes_per_s": repr(self.reference.bandwidth_bytes_per_s),
                "rtt_s": self.reference.rtt_s,
            },
            "records_digest": self.records_digest,
            "operations": {fit.operation: fit.to_json() for fit in self.fits},
        }
        return json.dumps(document, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, profile: Profile) -> "CostModel":
        """The model that `to_json` wrote, which predicts the same to the bit.

        Raises:
            ProfileError: If the text is none, or of other records than the profile's.
        """
        records = primitive_records(profile)
        try:
            document = json.loads(text)
            _check(document["version"] == MODEL_VERSION, "of another version")
            is_of_these = document["records_digest"] == digest(records)
            _check(is_of_these, "fitted to other records")
            per_call_s = float(document["per_call_s"])
            return cls(
                deployment=profile.deployment,
                hosts=str(document["hosts"]),
                per_call_s=per_call_s,
                reference=Network(
                    bandwidth_bytes_per_s=float(
                        document["reference"]["bandwidth_bytes_per_s"]
                    ),
                    rtt_s=float(document["reference"]["rtt_s"]),
                ),
                records_digest=str(document["records_digest"]),
                fits=_fits_from_json(document["operations"].items()),
                observations=observe(profile, per_call_s),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProfileError(
                f"{text[:60]!r} is no cost model of this profile: {error}; "
                "fit it anew with `mpcprof fit PROFILE --save`"
            ) from None


def _check(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise ProfileError(otherwise)


def _fits_from_json(
    items: Iterable[tuple[str, object]],
) -> tuple[OperationFit, ...]:
    return tuple(fit_from_json(name, value) for name, value in sorted(items))


def one_line(hosts: Sequence[str]) -> str:
    """The different ones of `hosts` in one line."""
    return "; ".join(sorted({*hosts}))
