"""Observations: what each record of a primitive says about one step."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from mpcprof.costmodel.refills import Refills, find_refills
from mpcprof.errors import MissingEntryError
from mpcprof.network import Network
from mpcprof.nn.steps import PRIMITIVES, Size, primitive_step
from mpcprof.pricing import price_s
from mpcprof.profile.record import Profile, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One record of a primitive as a step, net of what every call costs.

        latency_s = per_call_s
            + max(loopback_s, exposed_s + hops RTT/2 + wire_bytes / bandwidth)

    Attributes:
        network: Network of the latency.
        was_waited_for: Whether the latency was measured over an emulated network rather
            than priced.
        bytes_sent: Bytes that rank 0 sends.
        total_bytes_sent: Bytes sent, summed over ranks.
        wire_bytes: Bytes on the critical path.
        hops: One-way messages on the critical path.
        exposed_s: Compute left after overlap with the network; negative if hops and
            bytes overestimate the waiting. Priced records: compute of the loopback run.
        loopback_s: Compute of the loopback run, with its hidden part; at least 0 and at
            most the latency on an emulated network.
        refilled_s: Seconds of refills that calls made, which are in no other number.
        has_pauses: Whether the build's link waits for answers within long messages.
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
    exposed_s: float
    loopback_s: float
    has_pauses: bool
    refilled_s: float = 0.0


def primitive_records(profile: Profile) -> tuple[Record, ...]:
    """Return the records that a cost model is made from.

    A primitive that a user registered is no step of a block and is left out.

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
    """Return the seconds of a call that does next to nothing: waking up, logging.

    They are the least compute of the records of one step that send nothing, or of all
    of one step where every one sends something.
    """
    short = [r for r in records if PRIMITIVES[r.workload].n_steps == 1] or records
    silent = [record.compute_s for record in short if not record.hops]
    return min(silent or [record.compute_s for record in short])


def observe(profile: Profile, per_call_s: float) -> tuple[Observation, ...]:
    """Return an observation for each record of a primitive.

    Priced records count only for sizes that were never measured over an emulated
    network. Each latency is netted with its own network, so networks do not mix.
    Refills that calls made by chance are taken off; the cost model adds their mean.

    Raises:
        MissingEntryError: If there are none.
    """
    refills = find_refills(profile)
    found = tuple(
        _observation(record, profile, per_call_s, refills)
        for record in primitive_records(profile)
    )
    waited = {(o.operation, o.size) for o in found if o.was_waited_for}
    return tuple(
        o for o in found if o.was_waited_for or (o.operation, o.size) not in waited
    )


def by_operation(
    observations: Sequence[Observation],
) -> Iterator[tuple[Observation, ...]]:
    """Yield the observations of each operation, by name."""
    for name in sorted({o.operation for o in observations}):
        yield tuple(o for o in observations if o.operation == name)


def _observation(
    record: Record, profile: Profile, per_call_s: float, refills: Refills
) -> Observation:
    step = primitive_step(record.workload, record.dims)
    network = record.network
    made = refills.made_in(record)
    latency_s = profile.call_s(record) - made.latency_s(network)
    was_waited_for = record.mode == "emulated" and not network.is_loopback
    total_bytes_sent = record.mean_total_bytes_sent - made.total_bytes_sent
    wire_bytes, hops = record.wire_bytes, refills.hops_without(record)
    if made.wire_bytes:  # at least what the busier direction of two carries
        wire_bytes = max(wire_bytes - made.wire_bytes, total_bytes_sent / 2)
    link_s = price_s(network, hops=hops, wire_bytes=wire_bytes)
    # exactly 1 unless some calls refill a stock
    of_one_call = total_bytes_sent / (record.total_bytes_sent or 1)
    exposed_s, loopback_s = record.compute_s, record.compute_s + record.hidden_s
    if was_waited_for:
        exposed_s = latency_s - link_s
        quiet_s = loopback_s - refills.loopback_s(record)
        loopback_s = min(max(quiet_s, min(exposed_s, loopback_s)), latency_s)
    n_steps = PRIMITIVES[step.operation].n_steps  # of more than one, all are local
    if n_steps > 1:
        latency_s = per_call_s + (latency_s - per_call_s) / n_steps
    return Observation(
        operation=step.operation,
        size=step.size,
        network=network,
        was_waited_for=was_waited_for,
        latency_s=latency_s,
        bytes_sent=record.bytes_sent * of_one_call,
        total_bytes_sent=total_bytes_sent,
        wire_bytes=wire_bytes,
        hops=hops,
        exposed_s=(exposed_s - per_call_s) / n_steps,
        loopback_s=max(loopback_s - per_call_s, 0.0) / n_steps,
        has_pauses=profile.deployment.build.has_pauses,
        refilled_s=max(made.latency_s(network), 0.0),
    )


def digest(records: Sequence[Record]) -> str:
    """Return a fingerprint of everything in `records` that a model is fitted to."""
    fitted = attrgetter(
        *("key", "latencies_s", "compute_s", "hidden_s", "bytes_sent_by_rank"),
        *("total_bytes_sent_by_repeat", "wire_bytes", "hops"),
    )
    lines = sorted(repr(fitted(record)) for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
