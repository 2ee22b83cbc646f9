"""The offline phase: correlated randomness by kind and number, and what it would cost.

SPU's `semi2k` takes triples and other correlated randomness from a party that is
trusted, so that none of its seconds, bytes and hops are of making them. How many a
network takes is exact: SPU's own counters have the bytes that each kernel opens, and
what is opened tells what masked it. What making them costs is priced by a published
two-party protocol, network alone, and is never part of a measured or predicted second.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from mpcprof.costmodel.features import exact_features, operation_kind, pack
from mpcprof.costmodel.ferret import TRANSFER_ROUND
from mpcprof.costmodel.fit import Exact, fit_exact
from mpcprof.costmodel.observations import primitive_records
from mpcprof.errors import MissingEntryError, UsageError, look_up
from mpcprof.network import Network
from mpcprof.nn.steps import Size, Step, primitive_step, without_local
from mpcprof.pricing import price_s
from mpcprof.profile.record import Profile, Record

Randomness: TypeAlias = Literal[
    "ring triple",
    "square pair",
    "matrix triple",
    "AND triple",
    "private product",
    "random bit",
]

_TRUNCATION_BITS: Final = 32  # ring that holds 18 or 26 fraction bits
_NO_OFFLINE: Final = MappingProxyType(
    {
        "aby3": "pairs of parties expand its correlated randomness from shared seeds",
        "cheetah": "it makes its own while it computes, and bytes and hops have it",
        "securenn": "its third party deals meanwhile, and bytes and hops have it",
    }
)


class _Opening(NamedTuple):
    """What one byte that a kernel of SPU's semi2k sends tells of its randomness."""

    kind: Randomness
    per_byte: float  # pieces; of a 64-bit ring where `is_of_ring`
    width_bits: int  # 0 for the ring's own
    is_of_ring: bool = False


# Source: libspu/mpc/semi2k/arithmetic.cc, boolean.cc, conversion.cc of SPU 0.9.5
_OPENINGS: Final = MappingProxyType(
    {
        # x - a and y - b, an element of the ring each
        "mul_aa": _Opening("ring triple", 1 / 16, 0, True),
        "mul_a1b": _Opening("ring triple", 1 / 16, 0, True),
        "square_s": _Opening("square pair", 1 / 8, 0, True),
        "square_a": _Opening("square pair", 1 / 8, 0, True),
        # x ^ a and y ^ b, eight bits a byte; conversions are made of these
        "and_bb": _Opening("AND triple", 8 / 2, 1),
        "msb_a2b": _Opening("AND triple", 8 / 2, 1),
        "a2b": _Opening("AND triple", 8 / 2, 1),
        # bits ^ random bits, at most eight a byte
        "b2a": _Opening("random bit", 8.0, 0),
        # a + x, in a small ring
        "trunc_a": _Opening("private product", 8 / _TRUNCATION_BITS, _TRUNCATION_BITS),
    }
)
_PRODUCT: Final = "mmul_aa"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """So many pieces of correlated randomness of one kind.

    Attributes:
        size: (P, Q, R) of a matrix triple; (1, 1, 1) of the others.
        width_bits: Width of the ring that it is in; 1 for bits.
        count: Number of them; of random bits, at most so many.
    """

    kind: Randomness
    size: tuple[int, int, int] = (1, 1, 1)
    width_bits: int
    count: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _KernelFit:
    """Bytes that one kernel sends in a step of one operation."""

    kernel: str
    bytes_sent: Exact


def count_randomness(
    profile: Profile, steps: Iterable[Step]
) -> tuple[Correlation, ...]:
    """Return the correlated randomness that steps take, by kind and size.

    Raises:
        UsageError: If the profile's protocol has no offline phase.
        MissingEntryError: If the profile lacks an operation, or what its kernels send.
    """
    deployment = profile.deployment
    if deployment.protocol in _NO_OFFLINE:
        raise UsageError(
            f"{deployment.protocol} has no offline phase to price: "
            f"{_NO_OFFLINE[deployment.protocol]}; expected a profile of semi2k"
        )
    fits = _fit_kernels(profile)
    counts: defaultdict[tuple[Randomness, tuple[int, int, int], int], float]
    counts = defaultdict(float)
    alike = Counter(step._replace(part="") for step in without_local(steps))
    for step, n_steps in alike.items():
        if step.operation not in fits:
            raise MissingEntryError(
                f"no record of {step.operation!r} that says what its kernels send; "
                f"`{deployment.sweep_command} --only {step.operation}` measures it"
            )
        n_units = n_steps * step.n_products
        taken = _of_step(fits[step.operation], step.size, profile)
        for kind, shape, width, count in taken:
            counts[kind, shape, width] += n_units * count
    return tuple(
        Correlation(kind=kind, size=shape, width_bits=width, count=count)
        for (kind, shape, width), count in sorted(counts.items())
        if count
    )


def _of_step(
    fits: Sequence[_KernelFit], size: Size, profile: Profile
) -> Iterable[tuple[Randomness, tuple[int, int, int], int, float]]:
    """Yield kind, size, width and number of what one step takes, or one product."""
    ring_bits = profile.deployment.field_bits
    for fit in fits:
        if fit.kernel == _PRODUCT:
            yield "matrix triple", (size[1], size[2], size[3]), ring_bits, 1
            continue
        kind, per_byte, width, is_of_ring = _OPENINGS[fit.kernel]
        n = fit.bytes_sent.predict(size) * per_byte
        n = n * 64 / ring_bits if is_of_ring else n
        yield kind, (1, 1, 1), width or ring_bits, n


def _fit_kernels(profile: Profile) -> dict[str, list[_KernelFit]]:
    """Return what each kernel of each operation sends, as functions of the size."""
    groups: dict[str, list[Record]] = {}
    for record in primitive_records(profile):
        groups.setdefault(record.workload, []).append(record)
    return {name: _fit_operation(name, group) for name, group in groups.items()}


def _fit_operation(operation: str, records: Sequence[Record]) -> list[_KernelFit]:
    sent = [
        {o.name: o.bytes_sent for o in record.operations if o.level == "mpc"}
        for record in records
    ]
    sizes = [primitive_step(record.workload, record.dims).size for record in records]
    if any(value is None for one in sent for value in one.values()):
        raise MissingEntryError(
            f"{records[0].workload}: this build of SPU logs no bytes of its kernels, "
            "from which triples are counted; expected a profile of spu-0.9.5"
        )
    kernels = sorted({name for one in sent for name, value in one.items() if value})
    fits = []
    for kernel in kernels:
        if kernel not in (*_OPENINGS, _PRODUCT):
            raise MissingEntryError(
                f"{operation}: nobody has said what randomness SPU's {kernel} takes"
            )
        values = [float(one.get(kernel) or 0) for one in sent]
        kind = operation_kind(operation)
        exact = fit_exact(exact_features(kind), sizes, values, largest_denominator=16)
        if exact is None:
            raise MissingEntryError(
                f"{operation}: bytes of {kernel} are not known exactly from "
                f"{len({*sizes})} sizes; measure more of them"
            )
        fits.append(_KernelFit(kernel=kernel, bytes_sent=exact))
    return fits


class _Work(NamedTuple):
    """What making one correlation takes.

    Attributes:
        n_cots: Oblivious transfers.
        payload_bytes: Bytes of corrections, or of ciphertexts, both parties together.
    """

    n_cots: float
    payload_bytes: float


def _gilboa(size: tuple[int, int, int], width_bits: int) -> _Work:
    """Return the work of a product of one party's (P, Q) and the other's (Q, R).

    Each bit of the smaller side's entries chooses in one transfer whether the other
    side's entries, shifted by it, are added: bit i sends width - i bits of each.
    """
    p, q, r = size
    bits = width_bits * (width_bits + 1) / 2
    return _Work(min(p, r) * q * width_bits, p * q * r * bits / 8)


def _by_transfers(one: Correlation) -> _Work:
    """Return the work of one correlation made of oblivious transfers."""
    product = _gilboa(one.size, one.width_bits)
    if one.kind in ("ring triple", "matrix triple"):  # a0 b1 and a1 b0
        return _Work(2 * product.n_cots, 2 * product.payload_bytes)
    if one.kind == "AND triple":  # two random transfers of a bit, without corrections
        return _Work(2, 0)
    if one.kind == "random bit":  # b0 ^ b1 = b0 + b1 - 2 b0 b1
        return _Work(1, one.width_bits / 8)
    return product  # a0 a1, of a square pair too


# Bytes of both parties together that SPU 0.9.5's Cheetah sent: profiles/cheetah.parquet
_BATCH: Final = 8192
_TRIPLES_BYTES: Final = 1_780_671 / _BATCH  # a batch of products of entries
_SQUARES_BYTES: Final = 1_116_000 / _BATCH  # the same, of an entry with itself
_SENT_BYTES, _PACKED_BYTES, _BARE_BYTES = 369_873, 508_056, 259_568  # ciphertexts


def _by_ciphertexts(one: Correlation) -> _Work:
    """Return the work of one correlation by packed products of ciphertexts."""
    if one.kind == "matrix triple":
        packing = pack(*one.size)
        return _Work(
            0,
            packing.n_sent * _SENT_BYTES
            + packing.n_received * _PACKED_BYTES
            + packing.n_bare * _BARE_BYTES,
        )
    if one.kind == "ring triple":
        return _Work(0, _TRIPLES_BYTES)
    if one.kind == "square pair":
        return _Work(0, _SQUARES_BYTES)
    return _by_transfers(one)


def _by_dealer(one: Correlation) -> _Work:
    """Return what a dealer sends to correct seeds: the last part of a correlation."""
    p, _, r = one.size
    return _Work(0, p * r * one.width_bits / 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineProtocol:
    """A published way to make correlated randomness.

    Attributes:
        meaning: What it is, in a line.
        source: Papers, and where constants are from.
        bytes_per_cot: Bytes of both parties for one oblivious transfer.
        n_cots_per_round: Transfers after which the next ones wait; infinite if none do.
        n_directions: Directions among which bytes are split evenly.
        last_hops: Hops besides those of rounds of transfers.
    """

    name: str
    meaning: str
    source: str
    work: Callable[[Correlation], _Work]
    bytes_per_cot: float = 0.0
    n_cots_per_round: float = math.inf
    n_directions: int = 2
    last_hops: int

    def hops(self, n_cots: float) -> float:
        """Return the hops of so many transfers, half of them in each direction."""
        rounds = math.ceil(n_cots / 2 / self.n_cots_per_round)
        return rounds * TRANSFER_ROUND.hops + self.last_hops


_FERRET_BYTES: Final = TRANSFER_ROUND.bytes_sent / TRANSFER_ROUND.n_usable
_GILBOA: Final = "Gilboa, CRYPTO 1999; Demmler, Schneider, Zohner (ABY), NDSS 2015"
_AND: Final = "AND triples: Asharov, Lindell, Schneider, Zohner, CCS 2013"
_SILENT: Final = "Yang et al. (Ferret), CCS 2020, and Half-Tree, EUROCRYPT 2023"
PROTOCOLS: Final = MappingProxyType(
    {
        one.name: one
        for one in (
            OfflineProtocol(
                name="bfv",
                meaning="products of ciphertexts, and Ferret's transfers for bits",
                source="Huang, Lu, Hong, Ding (Cheetah), USENIX Security 2022, bytes "
                f"as SPU 0.9.5 sent them; {_SILENT}; {_AND}",
                work=_by_ciphertexts,
                bytes_per_cot=_FERRET_BYTES,
                n_cots_per_round=TRANSFER_ROUND.n_usable,
                last_hops=2,
            ),
            OfflineProtocol(
                name="ferret",
                meaning="Gilboa's products over Ferret's silent transfers",
                source=f"{_GILBOA}; {_SILENT}; {_AND}",
                work=_by_transfers,
                bytes_per_cot=_FERRET_BYTES,
                n_cots_per_round=TRANSFER_ROUND.n_usable,
                last_hops=1,
            ),
            OfflineProtocol(
                name="iknp",
                meaning="Gilboa's products over transfers by extension, 128 bits each",
                source=f"{_GILBOA}; Ishai, Kilian, Nissim, Petrank, CRYPTO 2003; "
                f"{_AND}",
                work=_by_transfers,
                bytes_per_cot=128 / 8,
                last_hops=2,
            ),
            OfflineProtocol(
                name="dealer",
                meaning="a trusted dealer corrects what parties expand from seeds",
                source="beaver_ttp.cc of SPU 0.9.5; CrypTen's trusted first party",
                work=_by_dealer,
                n_directions=1,
                last_hops=1,
            ),
        )
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineRow:
    """One kind of correlated randomness: how many, and bytes of both parties."""

    kind: Randomness
    size: tuple[int, int, int]
    width_bits: int
    count: float
    n_transfers: float
    total_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineCosts:
    """A priced offline phase, the network alone, without compute and without set-up.

    Attributes:
        protocol: Name of the way that is priced.
        total_bytes: Bytes of both parties together.
        wire_bytes: Bytes in one direction, which the bandwidth is paid for.
        hops: One-way messages, each kind made in one go.
    """

    protocol: str
    meaning: str
    source: str
    rows: tuple[OfflineRow, ...]
    total_bytes: float
    wire_bytes: float
    hops: float

    def latency_s(self, network: Network) -> float:
        """Return the seconds that the network takes."""
        return price_s(network, hops=self.hops, wire_bytes=self.wire_bytes)


def price_offline(
    correlations: Sequence[Correlation], protocol: str = "bfv"
) -> OfflineCosts:
    """Return what making correlated randomness costs by a named protocol.

    Raises:
        UnknownNameError: If there is no protocol of that name.
    """
    by = look_up("offline protocol", protocol, PROTOCOLS)
    rows = tuple(_row(one, by) for one in correlations)
    total_bytes = sum(row.total_bytes for row in rows)
    return OfflineCosts(
        protocol=by.name,
        meaning=by.meaning,
        source=by.source,
        rows=rows,
        total_bytes=total_bytes,
        wire_bytes=total_bytes / by.n_directions,
        hops=by.hops(sum(row.n_transfers for row in rows)) if rows else 0.0,
    )


def _row(one: Correlation, by: OfflineProtocol) -> OfflineRow:
    work = by.work(one)
    return OfflineRow(
        kind=one.kind,
        size=one.size,
        width_bits=one.width_bits,
        count=one.count,
        n_transfers=one.count * work.n_cots,
        total_bytes=one.count * (work.n_cots * by.bytes_per_cot + work.payload_bytes),
    )
