"""What the records of primitives say about steps, net of what a call costs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mpcprof.costmodel.features import check_size
from mpcprof.errors import MissingEntryError
from mpcprof.network import Network
from mpcprof.nn.steps import PRIMITIVES, Size, primitive_step
from mpcprof.profile.record import Profile, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One record of a primitive as a step.

    `compute_s` and `busy_s` are net of what every call costs:
    latency_s = per_call_s + max(busy_s, compute_s + hops RTT/2 + bytes / bandwidth).

    Attributes:
        network: The one that latency_s is of.
        was_waited_for: Latency was measured over an emulated network, not priced.
        compute_s: Latency net of hops and bytes: compute that the network does not
            hide. Below 0 where parties wait less than hops and bytes say. Priced
            records: what their loopback runs say.
        busy_s: Compute and hidden compute: what is left on a network that costs
            nothing; at least 0, and not more than on one that costs something.
        has_pauses: Its build's link waits for answers within long messages.
    """

    operation: str
    size: Size
    network: Network
    was_waited_for: bool
    latency_s: float
    bytes_sent: float
    total_bytes_sent: float
    wire_bytes: float
    hops: float
    compute_s: float
    busy_s: float
    has_pauses: bool


def primitive_records(profile: Profile) -> tuple[Record, ...]:
    """The records that a cost model is made from.

    Primitives that somebody registered besides are no step of a block and left out.

    Raises:
        MissingEntryError: If there are none.
    """
    records = tuple(
        record
        for record in profile
        if record.kind == "primitive" and record.workload in PRIMITIVES
    )
    if not records:
        raise MissingEntryError(
            f"no record of a primitive among the {len(profile)} on file, and a cost "
            "model is made from them; measure some with "
            f"`{profile.deployment.sweep_command} --output PROFILE`"
        )
    return records


def call_overhead_s(records: Sequence[Record]) -> float:
    """Seconds of a call that does next to nothing: wake-up, common start, logging.

    The least compute of the records that send nothing, or of all where all send.
    """
    silent = [record.compute_s for record in records if not record.hops]
    return min(silent or [record.compute_s for record in records])


def observe(profile: Profile, per_call_s: float) -> tuple[Observation, ...]:
    """Each primitive's record as a step; priced ones only of sizes nobody waited for.

    Each latency is netted with its own network, so networks do not mix.

    Raises:
        MissingEntryError: If there are none.
    """
    seen = tuple(
        _observation(record, profile, per_call_s)
        for record in primitive_records(profile)
    )
    waited = {(o.operation, o.size) for o in seen if o.was_waited_for}
    return tuple(
        o for o in seen if o.was_waited_for or (o.operation, o.size) not in waited
    )


def _observation(record: Record, profile: Profile, per_call_s: float) -> Observation:
    latency_s = profile.call_s(record)
    step = primitive_step(record.workload, record.dims)
    check_size(step.operation, step.size)
    network = record.network
    was_waited_for = record.mode == "emulated" and not network.is_loopback
    link_s = record.hops * network.one_way_s
    link_s += record.wire_bytes / network.bandwidth_bytes_per_s
    total_bytes_sent = record.mean_total_bytes_sent
    # exactly 1 unless some calls refill a stock
    of_one_call = total_bytes_sent / (record.total_bytes_sent or 1)
    compute_s, busy_s = record.compute_s, record.compute_s + record.hidden_s
    if was_waited_for:
        compute_s = latency_s - link_s
        busy_s = min(busy_s, latency_s)
    return Observation(
        operation=step.operation,
        size=step.size,
        network=network,
        was_waited_for=was_waited_for,
        latency_s=latency_s,
        bytes_sent=record.bytes_sent * of_one_call,
        total_bytes_sent=total_bytes_sent,
        wire_bytes=record.wire_bytes,
        hops=record.hops,
        compute_s=compute_s - per_call_s,
        busy_s=max(busy_s - per_call_s, 0.0),
        has_pauses=profile.deployment.build.has_pauses,
    )


def digest(records: Sequence[Record]) -> str:
    """Fingerprint of everything in `records` that a model is fitted to."""
    lines = sorted(
        repr(
            (
                record.key,
                record.latencies_s,
                record.compute_s,
                record.hidden_s,
                record.bytes_sent_by_rank,
                record.total_bytes_sent_by_repeat,
                record.wire_bytes,
                record.hops,
            )
        )
        for record in records
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
