"""Features: the numbers made from a step's size that its cost is linear in.

Each feature grows with every size, and so does a sum of features with coefficients of
at least 0. Exceptions are the counts of ciphertexts and the draws on stocks of triples,
which go up and down in steps. All features but `waiting_share` are whole numbers. Most
of the work is proportional to `volume`: entries, comparisons of a reduction over rows,
multiplications of a product.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from mpcprof.builds import PAPER_BUILD
from mpcprof.errors import ProfileError, UsageError
from mpcprof.nn.steps import PRODUCT_OPERATIONS, ROW_OPERATIONS, Size

POLYNOMIAL_DEGREE: Final = 8192  # of a ring of 64 bits
HALF_BATCH: Final = POLYNOMIAL_DEGREE // 2  # triples that a stock is refilled by
_CIPHERTEXT_PRICE: Final = 1000.0  # sending one, in automorphisms
_PRODUCTS_PER_PRICE: Final = 10.0  # ciphertexts by plaintexts, per automorphism


class Packing(NamedTuple):
    """Counts of Cheetah's product of (P, Q) and (Q, R).

    Attributes:
        n_sent: Encrypted polynomials sent.
        n_received: Packed polynomials that come back.
        n_bare: Polynomials that come back unpacked, with the result's entries only.
        n_automorphisms: Automorphisms that pack the results, level by level of a tree.
        n_slots: Results that a packed polynomial has room for; 0 if none are packed.
        n_products: Products of a ciphertext and a plaintext.
        n_results: Ciphertexts before packing.
        n_encoded: Polynomials of the side that stays in the clear.
    """

    n_sent: int
    n_received: int
    n_bare: int
    n_automorphisms: int
    n_slots: int
    n_products: int
    n_results: int
    n_encoded: int


def n_batches(n_entries: int) -> int:
    """Return the half batches in which Cheetah multiplies entries.

    A batch has 16384 entries; up to 8192 entries are one half batch. The bytes of `exp`
    on SPU 0.9.5 are 9.2 MB times this count, from 289 to 310472 entries.
    """
    if n_entries <= POLYNOMIAL_DEGREE:
        return 1
    return 2 * -(-n_entries // (2 * POLYNOMIAL_DEGREE))


def n_long_batches(n_entries: int) -> int:
    """Return the half batches of a product too long for the stock, else 0."""
    return n_batches(n_entries) if _is_long(n_entries) else 0


def n_stocked(n_entries: int) -> int:
    """Return the triples that a product of entries takes from the stock.

    Source: `MulAA::proc` of `libspu/mpc/cheetah/arithmetic.cc` of SPU.
    """
    return 0 if _is_long(n_entries) else n_entries


def waiting_share(n_entries: int) -> float:
    """Return the share of products of this length that wait for ciphertexts.

    A long product always waits. A shorter one waits if it refills the stock first. A
    refill is a whole number of half batches of triples, and the stock keeps the
    triples left over, so that in the long run as many are made as are taken.

    Source: `CheetahMulState::makeSureCacheSize` of `libspu/mpc/cheetah/state.cc`.
    """
    if _is_long(n_entries):
        return 1.0
    return n_entries / (max(-(-n_entries // HALF_BATCH), 1) * HALF_BATCH)


def _is_long(n_entries: int) -> bool:
    """Return whether a product is too long for the stock and encrypts its entries."""
    return n_entries >= 2 * POLYNOMIAL_DEGREE


@functools.lru_cache(maxsize=4096)
def pack(p: int, q: int, r: int) -> Packing:
    """Return the counts of the cheapest cut of a product into blocks.

    Of equally cheap cuts SPU takes the last, with rows counted before inner blocks. A
    result of one ciphertext is not packed; its cut is chosen among inner blocks of any
    length, not only powers of two.
    """
    packed = _cheapest(p, q, r, is_packed=True)
    return packed if packed.n_results > 1 else _cheapest(p, q, r, is_packed=False)


def _cheapest(p: int, q: int, r: int, *, is_packed: bool) -> Packing:
    """Return the cheapest of all cuts into (rows, inner) with room for a column."""
    numbers = np.arange(1, POLYNOMIAL_DEGREE + 1)
    each = numbers[:p]
    longest = np.minimum(q, POLYNOMIAL_DEGREE // each)
    rows = np.repeat(each, longest)
    inner = np.concatenate([numbers[:n] for n in longest])
    if is_packed:
        is_power = inner & (inner - 1) == 0
        rows, inner = rows[is_power], inner[is_power]
    columns = np.minimum(r, POLYNOMIAL_DEGREE // (rows * inner))
    n_rows, n_inner, n_columns = -(-p // rows), -(-q // inner), -(-r // columns)
    n_sent = np.minimum(n_rows, n_columns) * n_inner
    n_results = n_rows * n_columns
    n_packed = -(-n_results // inner)  # what SPU prices, packed or not
    n_priced = -(-p * r // POLYNOMIAL_DEGREE) * inner * is_packed
    n_products = n_results * n_inner
    price = (n_sent + n_packed) * _CIPHERTEXT_PRICE
    price = price + n_priced + n_products / _PRODUCTS_PER_PRICE
    best = price.size - 1 - price[::-1].argmin()
    n_slots = int(inner[best]) * is_packed
    return Packing(
        n_sent=int(n_sent[best]),
        n_received=int(n_packed[best]) if is_packed else 0,
        n_bare=0 if is_packed else int(n_results[best]),
        n_automorphisms=_automorphisms(int(n_results[best]), n_slots),
        n_slots=n_slots,
        n_products=int(n_products[best]),
        n_results=int(n_results[best]),
        n_encoded=int((np.maximum(n_rows, n_columns) * n_inner)[best]),
    )


def _automorphisms(n_results: int, n_slots: int) -> int:
    """Return the automorphisms that pack results into polynomials.

    A level of the tree merges pairs half as far apart as the one before; a result that
    has no partner there needs its automorphism as well.
    """
    n_full, n_left = divmod(n_results, n_slots) if n_slots else (0, 0)
    levels = [n_slots >> level for level in range(1, n_slots.bit_length())]
    return n_full * sum(levels) + sum(min(n_left, width) for width in levels)


Kind: TypeAlias = Literal["entries", "rows", "product"]

_SIZES: Final[dict[Kind, tuple[str, ...]]] = {
    "entries": ("n_entries",),
    "rows": ("n_rows", "row_length"),
    "product": ("n_products", "P", "Q", "R"),
}
_FEW_SIZES = 6  # fewer leave too few sizes on either side of a knot
_FEW_SIZES_TO_PACK = 12  # with few more sizes than features, noise would be fitted
_FEW_SIZES_TO_DRAW = 8  # draws on the stock have fewer features
_KNOT_QUANTILE = 0.3  # best held-out latency among 1/3, 1/2, two knots and none


def operation_kind(operation: str) -> Kind:
    """Return the kind of size that an operation has."""
    if operation in ROW_OPERATIONS:
        return "rows"
    return "product" if operation in PRODUCT_OPERATIONS else "entries"


def check_size(operation: str, size: Size) -> None:
    """Refuse a size that the operation cannot have.

    Raises:
        UsageError: If the number of axes is wrong, or an axis is below 0.
    """
    expected = _SIZES[operation_kind(operation)]
    if len(size) != len(expected) or min(size) < 0:
        names = ", ".join(expected)
        raise UsageError(f"size {size} of {operation}: expected counts of {names}")


def _volume(size: Size) -> int:
    if len(size) == 1:
        return size[0]
    if len(size) == 2:
        return size[0] * max(size[1] - 1, 0)
    return size[1] * size[2] * size[3]


def _levels(size: Size) -> int:
    """Return the steps in which SPU reduces a row: halvings, then odd tails."""
    return max(size[1].bit_length() + size[1].bit_count() - 2, 0)


def _log2(size: Size) -> int:
    """Return the halvings of a row that is padded to a power of two."""
    return max(size[1] - 1, 0).bit_length()


def _shared_entries(size: Size) -> tuple[int, ...]:
    """Return the number of entries in each message of a step.

    A product shares both its sides. A reduction over rows shares the pairs of each
    halving, then one entry a row for each odd tail and for the initial value. An
    elementwise operation shares its entries.
    """
    if len(size) == 4:
        return (size[1] * size[2] + size[2] * size[3],)
    if len(size) == 2:
        halvings = range(1, size[1].bit_length())
        pairs = (size[0] * (size[1] >> halving) for halving in halvings)
        return (*pairs, *(size[0],) * size[1].bit_count())
    return (_volume(size),)


def _packed(name: str) -> Callable[[Size], int]:
    return lambda size: int(getattr(pack(*size[1:]), name))


_VALUES: Final = MappingProxyType[str, Callable[[Size], float]](
    {
        "one": lambda size: 1,
        "volume": _volume,
        "n_rows": lambda size: size[0],
        "row_length": lambda size: size[1],
        "levels": _levels,
        "log2": _log2,
        "pq": lambda size: size[1] * size[2],
        "qr": lambda size: size[2] * size[3],
        "pr": lambda size: size[1] * size[3],
        "n_batches": lambda size: n_batches(_volume(size)),
        "n_long_batches": lambda size: n_long_batches(_volume(size)),
        "n_stocked": lambda size: n_stocked(_volume(size)),
        "waiting_share": lambda size: waiting_share(_volume(size)),
        **{name: _packed(name) for name in Packing._fields},
    }
)
_SEGMENTS: Final = ("below", "above")
_PAUSES: Final = "pauses"
_PAUSE_BYTES: Final = (4, 8, 16, 24, 32)  # of a message, per entry, in SPU's protocols


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One number made from a size; for `matmul`, from one of the products.

    Attributes:
        name: One of `one volume n_rows row_length levels log2 pq qr pr n_batches
            n_long_batches n_stocked waiting_share`; a count of `Packing`; `below` and
            `above`, which are min(volume, knot) and max(0, volume - knot); or `pauses`,
            the times a link that sends in chunks waits for an answer within messages
            of `knot` bytes per entry.
        knot: Parameter of `below`, `above` and `pauses`; 0 for the others.
    """

    name: str
    knot: int = 0

    def __post_init__(self) -> None:
        if self.name not in (*_VALUES, *_SEGMENTS, _PAUSES):
            known = ", ".join((*_VALUES, *_SEGMENTS, _PAUSES))
            raise ProfileError(f"feature {self.name!r}: expected one of {known}")

    def value(self, size: Size) -> float:
        """Return the value of the feature at `size`."""
        if self.name == "below":
            return min(_volume(size), self.knot)
        if self.name == "above":
            return max(_volume(size) - self.knot, 0)
        if self.name == _PAUSES:
            return sum(
                PAPER_BUILD.n_pauses(n * self.knot) for n in _shared_entries(size)
            )
        return _VALUES[self.name](size)


ONE: Final = Feature(name="one")
VOLUME: Final = Feature(name="volume")
ROW_LENGTH: Final = Feature(name="row_length")
_N_ROWS: Final = Feature(name="n_rows")
_ROWS: Final = (Feature(name="levels"), Feature(name="log2"))
_SIDES: Final = tuple(Feature(name=name) for name in ("pq", "qr", "pr"))


def exact_features(kind: Kind) -> tuple[Feature, ...]:
    """Return the features that bytes and hops may be exact sums of, likelier first."""
    if kind == "product":
        return (ONE, *_SIDES)
    return (ONE, VOLUME, *_ROWS, _N_ROWS) if kind == "rows" else (ONE, VOLUME)


def paused_features(kind: Kind) -> tuple[Feature, ...]:
    """Return the features of hops on a link that waits within long messages."""
    pauses = (Feature(name=_PAUSES, knot=knot) for knot in _PAUSE_BYTES)
    return (ONE, *(_ROWS if kind == "rows" else ()), *pauses)


def smooth_features(kind: Kind, sizes: tuple[Size, ...]) -> tuple[Feature, ...]:
    """Return the features that a measured quantity is fitted with.

    The volume counts in two segments, so that extrapolation is linear. Few sizes allow
    one segment, and a single size a quantity proportional to the volume.
    """
    volumes = sorted({_volume(size) for size in sizes})
    if len(volumes) == 1:
        return (VOLUME if volumes[0] else ONE,)
    extra = {"entries": (), "rows": _ROWS[:1], "product": _SIDES}[kind]
    if len(volumes) < _FEW_SIZES:
        return (ONE, VOLUME, *(extra if kind == "rows" else ()))
    knot = volumes[int(len(volumes) * _KNOT_QUANTILE)]
    below, above = (Feature(name=name, knot=knot) for name in _SEGMENTS)
    return (ONE, below, above, *extra)


def packed_features(
    kind: Kind, n_sizes: int, smooth: tuple[Feature, ...]
) -> tuple[Feature, ...]:
    """Return the features of a quantity where values are packed into ciphertexts."""
    if kind == "product" and n_sizes > _FEW_SIZES_TO_PACK:
        counts = (Feature(name=name) for name in Packing._fields)
        return (ONE, *counts, Feature(name="pr"))
    if kind == "entries" and n_sizes > _FEW_SIZES_TO_DRAW:
        draws = ("n_batches", "n_long_batches", "n_stocked", "waiting_share")
        return (*smooth, *(Feature(name=name) for name in draws))
    return smooth


def axes(kind: Kind) -> tuple[Feature, ...]:
    """Return the features whose largest measured value starts extrapolation."""
    if kind == "product":
        return (VOLUME, *_SIDES)
    return (VOLUME, ROW_LENGTH) if kind == "rows" else (VOLUME,)
