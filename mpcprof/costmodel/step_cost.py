"""What one step costs, on any network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final, Literal, TypeAlias

from mpcprof.blocks.steps import ROW_OPERATIONS, Size
from mpcprof.costmodel.observations import Observation
from mpcprof.costmodel.operation_fit import OperationFit
from mpcprof.network import Network
from mpcprof.pricing import price_s

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
