"""Refills of Cheetah's oblivious transfers: how many a call makes, and what one costs.

Each thread has a stock of transfers for each direction. A call that finds too few makes
a round of ten million first, so calls of one program differ: most make none, some make
one or several. How many transfers a step takes follows from SPU's source, so that in
the long run it makes a known share of a round; which calls of a profile made how many
follows from their bytes, to the byte.

Source: `YaclFerretOTeAdapter::rcot`, `TiledDispatchOTFunc`, `CompareProtocol`,
`TruncateProtocol` and `BasicOTProtocols` in `libspu/mpc/cheetah` of SPU 0.9.5.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from types import MappingProxyType
from typing import Final, NamedTuple

from mpcprof.costmodel.features import VOLUME, operation_kind
from mpcprof.costmodel.ferret import PRIMED_THREADS, THREAD_ENTRIES, TRANSFER_ROUND
from mpcprof.nn.steps import PRIMITIVES, PRODUCT_OPERATIONS, Size, primitive_step
from mpcprof.pricing import Costs
from mpcprof.profile.record import Profile, Record, RecordKey
from mpcprof.units import format_bytes, format_duration

_DIGIT_BITS: Final = 4  # of a comparison: one of 16 messages, by four transfers
_NOISE: Final = 0.3  # of a round, which bytes of a call without one never differ by
# what a thread of two stocks costs the call that first needs it, as seen at the relay
THREAD_BYTES: Final = 1_472_844
THREAD_HOPS: Final = 250


class Transfers(NamedTuple):
    """Oblivious transfers in each direction.

    Attributes:
        from_rank_0: Transfers that rank 0 sends.
        from_rank_1: Transfers that rank 1 sends.
    """

    from_rank_0: float = 0.0
    from_rank_1: float = 0.0

    def times(self, n: float) -> "Transfers":
        """Return `n` times as many."""
        return Transfers(self.from_rank_0 * n, self.from_rank_1 * n)

    def plus(self, other: "Transfers") -> "Transfers":
        """Return both together."""
        return Transfers(
            self.from_rank_0 + other.from_rank_0, self.from_rank_1 + other.from_rank_1
        )

    @property
    def n_refills(self) -> float:
        """Rounds that these transfers use up."""
        return sum(self) / TRANSFER_ROUND.n_usable

    def refills_between(self, n_threads: int) -> tuple[int, int]:
        """Return the fewest and the most rounds in one call of `n_threads` stocks."""
        shares = [n / n_threads / TRANSFER_ROUND.n_usable for n in self]
        return (
            n_threads * sum(math.floor(share) for share in shares),
            n_threads * sum(math.ceil(share) for share in shares),
        )


def _per_entry(kernel: str, ring_bits: int) -> Transfers | None:
    """Return what a kernel takes for an entry; None if that depends on its bits.

    A comparison of all bits but the sign takes four transfers for each digit, and an
    AND, of a transfer in each direction, for all digits but one.
    """
    n_digits = -(-(ring_bits - 1) // _DIGIT_BITS)
    n_ands = n_digits - 1
    known = {
        "msb_a2b": Transfers(n_digits * _DIGIT_BITS + n_ands, n_ands),
        "mul_a1b": Transfers(1, 1),
        "trunc_a": Transfers(1, 0),
    }
    return known.get(kernel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appetite:
    """Transfers that one operation takes for each entry of its volume.

    Attributes:
        transfers: Transfers of one entry; of a product, of an entry of the result.
        is_lean: Whether it sends nothing but transfers, so that refills show in bytes.
    """

    operation: str
    transfers: Transfers
    is_lean: bool

    def of(self, size: Size) -> Transfers:
        """Return the transfers of one step; for `matmul`, of one of its products."""
        return self.transfers.times(_n_entries(self.operation, size))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRefills:
    """Refills that the calls of one record made.

    Attributes:
        mean: Mean over the repeats.
        hops: Hops of a call that makes none.
    """

    mean: float
    hops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refills:
    """Refills in the calls of a profile, and the rule for any step.

    Attributes:
        appetites: What each operation takes, by name.
        recorded: Refills of each record whose bytes tell them.
        exposed_s: Compute of a refill, besides its hop and its bytes.
        n_processors: Processors of the host that was measured on.
    """

    appetites: Mapping[str, Appetite]
    recorded: Mapping[RecordKey, RecordedRefills]
    exposed_s: float
    n_processors: int

    def made_in(self, record: Record) -> Costs:
        """Return what refills add to the mean call of a record, if bytes tell it."""
        known = self.recorded.get(record.key)
        return self.costs(known.mean if known else 0.0)

    def loopback_s(self, record: Record) -> float:
        """Return the seconds that refills add in the long run to a loopback call.

        Nothing where the network's calls keep theirs, either.
        """
        if record.key not in self.recorded:
            return 0.0
        step = primitive_step(record.workload, record.dims)
        return self.mean_of_step(step.operation, step.size).exposed_s

    def hops_without(self, record: Record) -> float:
        """Return the hops of a call of a record that makes no refill."""
        known = self.recorded.get(record.key)
        return known.hops if known else record.hops

    def costs(self, n_refills: float) -> Costs:
        """Return the costs of so many refills."""
        n_bytes = n_refills * TRANSFER_ROUND.bytes_sent
        return Costs(
            bytes_sent=n_bytes / 2,
            total_bytes_sent=n_bytes,
            wire_bytes=n_bytes,
            hops=n_refills * TRANSFER_ROUND.hops,
            exposed_s=n_refills * self.exposed_s,
        )

    def mean_of_step(self, operation: str, size: Size) -> Costs:
        """Return what refills cost a step in the long run.

        Nothing for operations whose records have their refills in them.
        """
        appetite = self.appetites.get(operation)
        if appetite is None or not appetite.is_lean:
            return Costs()
        return self.costs(appetite.of(size).n_refills)

    def note(self, steps: Iterable[tuple[str, Size, int]]) -> tuple[str, ...]:
        """Say how many refills a call makes: in the mean, at least and at most.

        Args:
            steps: Operation, size and number of steps, or of products.
        """
        if not self.appetites:
            return ()
        total, largest = Transfers(), 0
        for operation, size, n in steps:
            if operation in self.appetites:
                total = total.plus(self.appetites[operation].of(size).times(n))
                largest = max(largest, _n_entries(operation, size))
        n_threads = max(min(self.n_processors, -(-largest // THREAD_ENTRIES)), 1)
        low, high = total.refills_between(n_threads)
        if not high:
            return ()
        cost_s = format_duration(self.exposed_s, digits=2)
        n_more = max(n_threads - PRIMED_THREADS, 0)
        n_bytes = n_more * THREAD_BYTES
        first = (
            f"; the first call of a session prepares {n_more} more threads, "
            f"{format_bytes(n_bytes, digits=3)} and some {THREAD_HOPS} hops"
        )
        return (
            f"oblivious transfers: {total.n_refills:.3g} refills a call in the mean, "
            f"{low} to {high} in a single one on {self.n_processors} processors, "
            f"{cost_s} of compute each{first * bool(n_more)}",
        )


NO_REFILLS: Final = Refills(
    appetites=MappingProxyType({}),
    recorded=MappingProxyType({}),
    exposed_s=0.0,
    n_processors=1,
)


def find_refills(profile: Profile) -> Refills:
    """Return the refills in a profile's calls; none where nothing keeps a stock."""
    deployment = profile.deployment
    if not (deployment.keeps_stock and deployment.build.counts_bytes):
        return NO_REFILLS
    groups: dict[str, list[Record]] = {}
    for record in profile:
        if record.kind == "primitive" and record.workload in PRIMITIVES:
            groups.setdefault(record.workload, []).append(record)
    appetites = {
        name: _appetite(name, group, deployment.field_bits)
        for name, group in groups.items()
    }
    counted: dict[RecordKey, tuple[int, ...]] = {}
    for name, group in groups.items():
        if appetites[name].is_lean:
            counted |= _count(group)
    added_s = [s for record in profile for s in _added_s(record, counted)]
    if not added_s:
        return NO_REFILLS
    return Refills(
        appetites=MappingProxyType(appetites),
        recorded=MappingProxyType(_recorded(groups, counted)),
        exposed_s=max(median(added_s), 0.0),
        n_processors=max(map(_n_processors, profile.hosts), default=1),
    )


def _appetite(name: str, records: Sequence[Record], ring_bits: int) -> Appetite:
    """Return what an operation takes for an entry, as its kernels tell."""
    found = [_transfers(record, ring_bits) for record in records]
    return Appetite(
        operation=name,
        transfers=Transfers(
            median(one.from_rank_0 for one, _ in found),
            median(one.from_rank_1 for one, _ in found),
        ),
        is_lean=all(is_lean for _, is_lean in found),
    )


def _transfers(record: Record, ring_bits: int) -> tuple[Transfers, bool]:
    """Return the transfers of an entry, and whether nothing else is sent.

    ANDs open two bits each, of which rank 0 sends its half; a conversion of bits into
    numbers sends back a bit for each transfer.
    """
    step = primitive_step(record.workload, record.dims)
    n = _n_entries(step.operation, step.size)
    is_elementwise = operation_kind(step.operation) == "entries"
    total, is_lean = Transfers(), True
    for kernel in record.operations:
        if kernel.level != "mpc" or not kernel.bytes_sent:
            continue
        each = _per_entry(kernel.name, ring_bits)
        if each is not None:
            total = total.plus(each.times(kernel.count if is_elementwise else 1))
            continue
        is_lean = False
        if kernel.name in ("a2b", "and_bb"):
            n_ands = kernel.bytes_sent * 8 / 2 / n
            total = total.plus(Transfers(n_ands, n_ands))
        elif kernel.name == "b2a":
            total = total.plus(Transfers((kernel.bytes_received or 0) * 8 / n, 0.0))
    return total, is_lean and bool(sum(total))


def _n_entries(operation: str, size: Size) -> int:
    """Return the entries that take transfers: a product truncates its result."""
    if operation in PRODUCT_OPERATIONS:
        return size[1] * size[3]
    return int(VOLUME.value(size))


def _count(records: Sequence[Record]) -> dict[RecordKey, tuple[int, ...]]:
    """Return the refills of each repeat: bytes beyond those of the leanest call.

    A record is left out if its bytes are not those of whole refills.
    """
    sizes = [primitive_step(one.workload, one.dims).size for one in records]
    volumes = [max(int(VOLUME.value(size)), 1) for size in sizes]
    sent = [one.total_bytes_sent_by_repeat for one in records]
    per_entry = min(min(n) / v for n, v in zip(sent, volumes, strict=True))
    counted = {}
    for record, volume, repeats in zip(records, volumes, sent, strict=True):
        rounds = [
            (n_bytes - per_entry * volume) / TRANSFER_ROUND.bytes_sent
            for n_bytes in repeats
        ]
        if all(abs(n - round(n)) < _NOISE for n in rounds):
            counted[record.key] = tuple(map(round, rounds))
    return counted


def _added_s(
    record: Record, counted: Mapping[RecordKey, tuple[int, ...]]
) -> list[float]:
    """Return the compute of a refill in each repeat that made some, if others did not.

    Its hop and its bytes are taken off.
    """
    counts = counted.get(record.key, ())
    if len(counts) != len(record.latencies_s):
        return []
    calls = [*zip(record.latencies_s, counts, strict=True)]
    quiet = [latency_s for latency_s, n in calls if not n]
    if not quiet:
        return []
    network = record.network
    link_s = TRANSFER_ROUND.hops * network.one_way_s
    link_s += TRANSFER_ROUND.bytes_sent / network.bandwidth_bytes_per_s
    return [(s - median(quiet)) / n - link_s for s, n in calls if n]


def _recorded(
    groups: Mapping[str, Sequence[Record]], counted: Mapping[RecordKey, tuple[int, ...]]
) -> dict[RecordKey, RecordedRefills]:
    """Return mean refills and hops of each record of known refills.

    Hops are those of calls without refills: an operation of entries has the same at
    every size, a reduction at every number of rows.
    """
    recorded = {}
    for group in groups.values():
        quiet: dict[int, float] = {}
        for record in group:
            if record.key in counted and not any(counted[record.key]):
                length = _row_length(record)
                quiet[length] = min(record.hops, quiet.get(length, math.inf))
        for record in group:
            hops = quiet.get(_row_length(record))
            if record.key in counted and hops is not None:
                mean = fmean(counted[record.key])
                recorded[record.key] = RecordedRefills(mean=mean, hops=hops)
    return recorded


def _row_length(record: Record) -> int:
    size = primitive_step(record.workload, record.dims).size
    return size[1] if operation_kind(record.workload) == "rows" else 0


def _n_processors(host: str) -> int:
    match = re.search(r"(\d+) cores", host)
    return int(match[1]) if match else 1
