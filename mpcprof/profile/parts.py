"""What a latency is made of, and whether the parts fit into it."""

from collections.abc import Sequence
from dataclasses import dataclass

from mpcprof.deployment import Deployment
from mpcprof.profile.record import Record
from mpcprof.units import format_duration

LINK_TOLERANCE = 0.03  # of a latency: the emulated link may be off by so much


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The latency of a record as compute, hops and transfer.

    Attributes:
        noise_s: Seconds that the parts may be off by: what the calls differ by, and
            what the emulated link may be off by.
    """

    latency_s: float
    compute_s: float
    hops_s: float
    transfer_s: float
    noise_s: float

    @property
    def network_s(self) -> float:
        """Seconds of hops and bytes together."""
        return self.hops_s + self.transfer_s

    @property
    def total_s(self) -> float:
        """Seconds of all parts, at most the latency where they are right."""
        return self.compute_s + self.network_s

    @property
    def problem(self) -> str:
        """What does not fit, in one line; empty where the parts fit."""
        allowed_s = self.latency_s + self.noise_s
        latency = f"a latency of {format_duration(self.latency_s, digits=3)}"
        if self.network_s > allowed_s:
            return (
                f"hops and bytes would take {format_duration(self.network_s, digits=3)}"
                f" of {latency}: messages waited less than RTT/2 each, so that hops "
                "are an upper bound"
            )
        if self.total_s > allowed_s:
            return (
                "compute, hops and transfer add up to "
                f"{format_duration(self.total_s, digits=3)} of {latency}: compute, "
                "which is of loopback calls, is an upper bound"
            )
        return ""

    def fitted(self) -> "Parts":
        """Return parts no larger than the whole: those that do not fit are cut."""
        if not self.problem and max(self.compute_s, self.network_s) <= self.latency_s:
            return self
        share = min(1.0, self.latency_s / self.network_s) if self.network_s else 1.0
        left_s = self.latency_s - share * self.network_s
        return Parts(
            latency_s=self.latency_s,
            compute_s=min(self.compute_s, left_s),
            hops_s=share * self.hops_s,
            transfer_s=share * self.transfer_s,
            noise_s=self.noise_s,
        )


def parts_of(record: Record, latency_s: float) -> Parts:
    """Return the parts of a typical call, which takes `latency_s`.

    On loopback hops and bytes take what this host's link costs by its calibration, and
    compute is the rest.
    """
    network = record.network
    if network.is_loopback:
        hops_s = max(record.hops * record.loopback_s_per_hop, 0.0)
        transfer_s = max(record.wire_bytes * record.loopback_s_per_byte, 0.0)
        compute_s = max(latency_s - hops_s - transfer_s, 0.0)
    else:
        hops_s = record.hops * network.one_way_s
        transfer_s = record.wire_bytes / network.bandwidth_bytes_per_s
        unhidden_s = max(record.hidden_s - hops_s - transfer_s, 0.0)
        compute_s = record.compute_s + unhidden_s
    spread_s = _spread_s(record.latencies_s) + _spread_s(record.loopbacks_s)
    return Parts(
        latency_s=latency_s,
        compute_s=compute_s,
        hops_s=hops_s,
        transfer_s=transfer_s,
        noise_s=LINK_TOLERANCE * latency_s + spread_s,
    )


def _spread_s(calls_s: Sequence[float]) -> float:
    return max(calls_s) - min(calls_s) if calls_s else 0.0


def misfit(records: Sequence[Record], deployment: Deployment) -> str:
    """Return one line on the records whose parts do not fit; empty where all do."""
    found = [(parts_of(r, deployment.typical_call(r.latencies_s)), r) for r in records]
    bad = [(parts, record) for parts, record in found if parts.problem]
    if not bad:
        return ""
    parts, record = max(bad, key=lambda one: one[0].total_s / one[0].latency_s)
    return (
        f"the parts of {len(bad)} of {len(records)} latencies do not fit; the most: "
        f"{record.key}: {parts.problem}"
    )
