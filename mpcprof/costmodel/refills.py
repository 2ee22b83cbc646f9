"""Refills of Cheetah's oblivious transfers: how many a call makes, and what one costs.

Each thread has a stock of transfers for each direction. A call that finds too few makes
a round of ten million first, so calls of one program differ: most make none, some make
one or several. How many transfers a step takes follows from SPU's source, so that in
the long run it makes a known share of a round; which calls of a profile made how many
follows from their bytes, to the byte. Stocks of triples, from which short products of
entries take, are refilled in half batches in the same way.

Source: `YaclFerretOTeAdapter::rcot`, `TiledDispatchOTFunc`, `CompareProtocol`,
`TruncateProtocol` and `BasicOTProtocols` in `libspu/mpc/cheetah` of SPU 0.9.5.
"""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType
from typing import Final, NamedTuple

from mpcprof.costmodel.features import (
    HALF_BATCH,
    VOLUME,
    n_stocked,
    operation_kind,
    waiting_share,
)
from mpcprof.costmodel.ferret import PRIMED_THREADS, THREAD_ENTRIES, TRANSFER_ROUND
from mpcprof.costmodel.long_run import (
    Calls,
    Made,
    count_refills,
    round_seconds,
    times_longer,
    triple_seconds,
)
from mpcprof.network import Network
from mpcprof.nn.steps import PRIMITIVES, PRODUCT_OPERATIONS, Size, Step, primitive_step
from mpcprof.pricing import Costs
from mpcprof.profile.record import Profile, Record, RecordKey
from mpcprof.units import format_bytes, format_duration

_DIGIT_BITS: Final = 4  # of a comparison: one of 16 messages, by four transfers
_NOISE: Final = 0.3  # of a round, which bytes of a call without one never differ by
_TRANSFERRING: Final = ("msb_a2b", "mul_a1b", "trunc_a", "a2b", "and_bb", "b2a")
_TAKING_TRIPLES: Final = ("mul_aa",)  # `square_s` encrypts its entries instead
_OPENED_BYTES: Final = 32  # of a product of two entries: two numbers from either party
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
    """What one operation takes from the stocks for each entry of its volume.

    Attributes:
        transfers: Transfers of one entry; of a product, of an entry of the result.
        n_products: Products of all its entries, each of which takes a triple an entry.
        bytes_each: Bytes of the transfers of one entry in a call without a round.
        is_lean: Whether it sends nothing but transfers.
    """

    operation: str
    transfers: Transfers
    n_products: int = 0
    bytes_each: float = 0.0
    is_lean: bool

    @property
    def takes_transfers(self) -> bool:
        """Whether it takes any transfers."""
        return bool(sum(self.transfers))

    def of(self, size: Size) -> Transfers:
        """Return the transfers of one step; for `matmul`, of one of its products."""
        return self.transfers.times(_n_entries(self.operation, size))

    def transfer_bytes(self, size: Size) -> float:
        """Return the bytes of the transfers of one step that makes no round."""
        return self.bytes_each * _n_entries(self.operation, size)

    def n_triples(self, size: Size) -> int:
        """Return the triples that one step takes from the stock."""
        return self.n_products * n_stocked(_n_entries(self.operation, size))

    def expected(self, size: Size) -> Made:
        """Return the refills of one step in the long run; of one of its products."""
        n_triples = self.n_triples(size)
        waits = waiting_share(_n_entries(self.operation, size)) if n_triples else 0.0
        return Made(
            self.of(size).n_refills, n_triples / HALF_BATCH, self.n_products * waits
        )

    def has_long(self, size: Size) -> bool:
        """Whether a step has products too long for the stock."""
        return bool(self.n_products) and not self.n_triples(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRefills:
    """Refills that the calls of one record made.

    Attributes:
        made: Rounds of transfers of the mean repeat; half batches of triples and waits
            beyond those expected, below 0 where it made fewer.
        hops: Hops of a call that makes no round.
    """

    made: Made
    hops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refills:
    """Refills in the calls of a profile, and the rule for any step.

    Attributes:
        appetites: What each operation takes, by name.
        recorded: Refills of each record.
        exposed_s: Compute of a round of transfers, besides its hop and its bytes; 0 if
            no calls of a profile show it.
        half_batch_bytes: Bytes of a half batch of triples, summed over ranks; 0 if no
            calls of a profile show them.
        triples_s: Seconds of a half batch, and of a wait for some, by network.
        n_processors: Processors of the host that was measured on.
    """

    appetites: Mapping[str, Appetite]
    recorded: Mapping[RecordKey, RecordedRefills]
    exposed_s: float
    half_batch_bytes: float = 0.0
    triples_s: Mapping[Network, Made] = field(default_factory=dict)
    n_processors: int

    def made_in(self, record: Record) -> Costs:
        """Return what refills add to the mean call of a record.

        Of transfers all; of triples those beyond what is expected, since a step's own
        costs have its share of them.
        """
        known = self.recorded.get(record.key)
        if known is None:
            return Costs()
        network = record.network
        n_bytes = known.made.half_batches * self.half_batch_bytes
        triples_s = known.made.triples.times_each(self.triples_s.get(network, Made()))
        link_s = n_bytes / 2 / network.bandwidth_bytes_per_s
        return self.costs(known.made.rounds).plus(
            Costs(
                bytes_sent=n_bytes / 2,
                total_bytes_sent=n_bytes,
                wire_bytes=n_bytes / 2,
                exposed_s=triples_s - link_s,
            )
        )

    def loopback_s(self, record: Record) -> float:
        """Return the seconds that refills add in the long run to a loopback call.

        Nothing where the network's calls keep theirs, either.
        """
        if record.key not in self.recorded:
            return 0.0
        return self.mean_of_step(record.workload, _size(record)).exposed_s

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
        """Return what rounds of transfers cost a step in the long run."""
        appetite = self.appetites.get(operation)
        if appetite is None or not appetite.takes_transfers:
            return Costs()
        return self.costs(appetite.of(size).n_refills)

    def expected(self, steps: Iterable[Step]) -> Made:
        """Return the refills that a call of these steps makes in the long run."""
        total = Made()
        for step in steps:
            if appetite := self.appetites.get(step.operation):
                expected = appetite.expected(step.size)
                total = total.plus(expected, step.n_products)
        return total

    def calls(self, record: Record, steps: Sequence[Step]) -> Calls | None:
        """Return the calls of a record and their refills, if its bytes tell them."""
        n_bytes = record.total_bytes_sent_by_repeat
        if len(n_bytes) != len(record.latencies_s):
            return None
        expected = self.expected(steps)
        made = count_refills(
            n_bytes, expected, self.half_batch_bytes, self._last(record, steps)
        )
        if made is None:
            return None
        return Calls(latencies_s=record.latencies_s, made=made, expected=expected)

    def _last(
        self, record: Record, steps: Sequence[Step]
    ) -> tuple[int | None, int | None]:
        """Return the refills of the last call, as the bytes of its kernels tell.

        Beside refills transfers send as many bytes for an entry as in other records,
        and a product of entries opens two numbers for each. Products that are too long
        for the stock send ciphertexts of their own; then no half batches are told.
        """
        taking = [
            (appetite, step.size, step.n_products)
            for step in steps
            if (appetite := self.appetites.get(step.operation))
        ]
        quiet = sum(n * one.transfer_bytes(size) for one, size, n in taking)
        rounds = (_bytes_by(record, _TRANSFERRING) - quiet) / TRANSFER_ROUND.bytes_sent
        is_long = any(one.has_long(size) for one, size, _ in taking)
        if is_long or not self.half_batch_bytes:
            return _whole(rounds), None
        opened = _OPENED_BYTES * sum(one.n_triples(size) for one, size, _ in taking)
        half_batches = _bytes_by(record, _TAKING_TRIPLES) - opened
        return _whole(rounds), _whole(half_batches / self.half_batch_bytes)

    @property
    def each_bytes(self) -> Made:
        """Bytes of each kind of refill, summed over ranks."""
        return Made(TRANSFER_ROUND.bytes_sent, self.half_batch_bytes)

    def each_s(self, cases: Sequence[Calls], network: Network) -> Made:
        """Return the seconds of each kind of refill as these calls on a network show.

        What they do not show is what the profile says.
        """
        known_s = self.triples_s.get(network, Made())
        if not any(known_s):  # no calls of the profile show them there
            known_s = triple_seconds(cases)
        times = times_longer(cases, known_s) if any(known_s) else 1.0
        triples_s = Made().plus(known_s, times)
        seen_s = [seconds for _, seconds in round_seconds(cases, triples_s)]
        return triples_s._replace(
            rounds=median(seen_s or [self.costs(1.0).latency_s(network)])
        )

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
        cost = (
            f"{format_duration(self.exposed_s, digits=2)} of compute each"
            if self.exposed_s
            else "their compute not priced apart, since no calls of the profile tell it"
        )
        n_more = max(n_threads - PRIMED_THREADS, 0)
        n_bytes = n_more * THREAD_BYTES
        first = (
            f"; the first call of a session prepares {n_more} more threads, "
            f"{format_bytes(n_bytes, digits=3)} and some {THREAD_HOPS} hops"
        )
        return (
            f"oblivious transfers: {total.n_refills:.3g} refills a call in the mean, "
            f"{low} to {high} in a single one on {self.n_processors} processors, "
            f"{cost}{first * bool(n_more)}",
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
    rule = Refills(
        appetites=MappingProxyType(appetites),
        recorded=MappingProxyType({}),
        exposed_s=0.0,
        half_batch_bytes=_half_batch_bytes(groups, appetites),
        n_processors=max(map(_n_processors, profile.hosts), default=1),
    )
    counted: dict[RecordKey, Calls] = {}
    for name, group in groups.items():
        counted |= _counted(group, appetites[name], rule)
    triples_s = _triples_s(counted)
    exposed_s = _exposed_s(counted, triples_s, rule)
    return replace(
        rule,
        recorded=MappingProxyType(_recorded(groups, counted, appetites)),
        exposed_s=max(median(exposed_s or [0.0]), 0.0),
        triples_s=MappingProxyType(triples_s),
    )


def _counted(
    records: Sequence[Record], appetite: Appetite, rule: Refills
) -> dict[RecordKey, Calls]:
    """Return the calls of each record of an operation whose bytes tell refills."""
    counted = {}
    for record in records:
        if calls := rule.calls(record, [primitive_step(record.workload, record.dims)]):
            counted[record.key] = calls
    return counted


def _half_batch_bytes(
    groups: Mapping[str, Sequence[Record]], appetites: Mapping[str, Appetite]
) -> float:
    """Return the bytes of a half batch of triples, from calls of single products.

    A call that refills makes as many as hold its entries.
    """
    found = []
    for name, group in groups.items():
        if appetites[name].n_products != 1 or operation_kind(name) != "entries":
            continue
        for record in group:
            sent = record.total_bytes_sent_by_repeat
            n_entries = n_stocked(int(VOLUME.value(_size(record))))
            n_half_batches = -(-n_entries // HALF_BATCH)
            more = [n - min(sent) for n in sent]
            found += [
                n / n_half_batches
                for n in more
                if n_half_batches and n > 2 * TRANSFER_ROUND.bytes_sent
            ]
    return median(found or [0.0])


def _triples_s(counted: Mapping[RecordKey, Calls]) -> dict[Network, Made]:
    """Return the seconds of a half batch, and of a wait for some, on each network."""
    return {
        network: triple_seconds(
            [calls for key, calls in counted.items() if key.network == network]
        )
        for network in {key.network for key in counted}
    }


def _exposed_s(
    counted: Mapping[RecordKey, Calls], triples_s: Mapping[Network, Made], rule: Refills
) -> list[float]:
    """Return the compute of a round in each record whose calls differ by rounds.

    Its hop and its bytes are taken off.
    """
    found = []
    for key, calls in counted.items():
        link_s = rule.costs(1.0).latency_s(key.network)
        each = round_seconds([calls], triples_s[key.network])
        found += [seconds - link_s for _, seconds in each]
    return found


def _appetite(name: str, records: Sequence[Record], ring_bits: int) -> Appetite:
    """Return what an operation takes for an entry, as its kernels tell."""
    found = [_transfers(record, ring_bits) for record in records]
    return Appetite(
        operation=name,
        transfers=Transfers(
            median(one.from_rank_0 for one, _ in found),
            median(one.from_rank_1 for one, _ in found),
        ),
        n_products=_n_products(records),
        bytes_each=_bytes_each(name, records),
        is_lean=all(is_lean for _, is_lean in found),
    )


def _n_products(records: Sequence[Record]) -> int:
    """Return the products of all entries that take triples, in most records."""
    return int(
        median(
            sum(
                kernel.count
                for kernel in record.operations
                if kernel.level == "mpc" and kernel.name in _TAKING_TRIPLES
            )
            for record in records
        )
    )


def _bytes_by(record: Record, kernels: Collection[str]) -> int:
    """Return the bytes that some kernels of the last call sent, by both parties."""
    return sum(
        (kernel.bytes_sent or 0) + (kernel.bytes_received or 0)
        for kernel in record.operations
        if kernel.level == "mpc" and kernel.name in kernels
    )


def _whole(number: float) -> int | None:
    """Return the whole number of at least 0 that one is near to, or None."""
    is_near = abs(number - round(number)) < _NOISE and round(number) >= 0
    return round(number) if is_near else None


def _transfers(record: Record, ring_bits: int) -> tuple[Transfers, bool]:
    """Return the transfers of an entry, and whether nothing else is sent.

    ANDs open two bits each, of which rank 0 sends its half; a conversion of bits into
    numbers sends back a bit for each transfer.
    """
    n = _n_entries(record.workload, _size(record))
    is_elementwise = operation_kind(record.workload) == "entries"
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


def _bytes_each(name: str, records: Sequence[Record]) -> float:
    """Return the bytes of the transfers of one entry in the leanest last call."""
    return min(
        _bytes_by(record, _TRANSFERRING) / max(_n_entries(name, _size(record)), 1)
        for record in records
    )


def _n_entries(operation: str, size: Size) -> int:
    """Return the entries that take transfers: a product truncates its result."""
    if operation in PRODUCT_OPERATIONS:
        return size[1] * size[3]
    return int(VOLUME.value(size))


def _recorded(
    groups: Mapping[str, Sequence[Record]],
    counted: Mapping[RecordKey, Calls],
    appetites: Mapping[str, Appetite],
) -> dict[RecordKey, RecordedRefills]:
    """Return mean refills and hops of each record.

    A record whose bytes do not tell them is taken to have made what is expected.
    """
    recorded = {}
    for name, group in groups.items():
        quiet = _quiet_hops(group, counted) if appetites[name].is_lean else {}
        for record in group:
            expected = appetites[name].expected(_size(record))
            known = counted.get(record.key)
            made = known.mean_made if known else expected
            recorded[record.key] = RecordedRefills(
                made=made.plus(expected.triples, -1.0),
                hops=quiet.get(_row_length(record), record.hops),
            )
    return recorded


def _quiet_hops(
    records: Sequence[Record], counted: Mapping[RecordKey, Calls]
) -> dict[int, float]:
    """Return the hops of calls without refills, by the length of a row.

    An operation of entries has the same at every size, a reduction at every number of
    rows.
    """
    quiet: dict[int, float] = {}
    for record in records:
        if record.key in counted and not any(map(sum, counted[record.key].made)):
            length = _row_length(record)
            quiet[length] = min(record.hops, quiet.get(length, math.inf))
    return quiet


def _size(record: Record) -> Size:
    return primitive_step(record.workload, record.dims).size


def _row_length(record: Record) -> int:
    return _size(record)[1] if operation_kind(record.workload) == "rows" else 0


def _n_processors(host: str) -> int:
    match = re.search(r"(\d+) cores", host)
    return int(match[1]) if match else 1
