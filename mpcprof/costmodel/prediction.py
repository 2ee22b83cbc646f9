"""What a sequence of steps costs on a network: in all, by part, by operation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mpcprof.blocks.steps import Size, Step, n_entries
from mpcprof.costmodel.step_cost import BASES, Basis, StartCost, StepCost
from mpcprof.network import Network

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
