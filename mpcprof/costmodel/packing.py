"""How Cheetah packs a matrix product into ciphertexts: its cost goes in steps.

A product is cut into blocks that fill one polynomial. The cut with the least price, as
SPU prices it, decides how much work there is, and it jumps: on SPU 0.9.5 a product of
17x256x384 takes half the time of one of 17x256x256.

Source: Cheetah (Huang et al. 2022), section 3.3, for the encoding; the prices are those
of `libspu/mpc/cheetah/arith/matmat_prot.cc` of SPU, and when it packs those of
`CheetahDot::Impl::doDotOLE` in `cheetah_dot.cc` beside it.
"""

import functools
from typing import Final, NamedTuple

import numpy as np

POLYNOMIAL_DEGREE: Final = 8192  # of a ring of 64 bits
_CIPHERTEXT_PRICE: Final = 1000.0  # sending one, in automorphisms
_PRODUCTS_PER_PRICE: Final = 10.0  # ciphertexts by plaintexts, per automorphism


class Packing(NamedTuple):
    """Counts of one product of (P, Q) and (Q, R).

    Attributes:
        n_sent: Encrypted polynomials that go out.
        n_received: Packed ones that come back.
        n_bare: Those that come back unpacked, with the entries of the result alone.
        n_automorphisms: To pack them.
        n_products: Ciphertext by plaintext.
        n_results: Ciphertexts before packing.
        n_encoded: Polynomials of the side that stays in the clear.
    """

    n_sent: int
    n_received: int
    n_bare: int
    n_automorphisms: int
    n_products: int
    n_results: int
    n_encoded: int


def n_batches(n_entries: int) -> int:
    """Half batches of products of entries: Cheetah makes them by 16384, or one of 8192.

    Bytes of `exp` on SPU 0.9.5 are 9.2 MB times this, from 289 to 310472 entries.
    """
    if n_entries <= POLYNOMIAL_DEGREE:
        return 1
    return 2 * _ceil_div(n_entries, 2 * POLYNOMIAL_DEGREE)


def n_long_batches(n_entries: int) -> int:
    """Half batches of a product of entries that is too long for the stock, else 0."""
    return n_batches(n_entries) if _is_long(n_entries) else 0


def n_stocked(n_entries: int) -> int:
    """Triples that one product of entries takes from the stock; 0 where it takes none.

    Source: `MulAA::proc` of `libspu/mpc/cheetah/arithmetic.cc` of SPU.
    """
    return 0 if _is_long(n_entries) else n_entries


def waiting_share(n_entries: int) -> float:
    """Share of the products of so many entries that wait for ciphertexts.

    A long one always does. Of the others those do that refill the stock before: in
    whole half batches of triples, of which the stock keeps what the product leaves
    over, so that in the long run as many are made as are taken.

    Source: `CheetahMulState::makeSureCacheSize` of `libspu/mpc/cheetah/state.cc`.
    """
    if _is_long(n_entries):
        return 1.0
    half = POLYNOMIAL_DEGREE // 2
    return n_entries / (max(_ceil_div(n_entries, half), 1) * half)


def _is_long(n_entries: int) -> bool:
    """Too long for the stock: such a product encrypts its own entries."""
    return n_entries >= 2 * POLYNOMIAL_DEGREE


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@functools.lru_cache(maxsize=4096)
def pack(p: int, q: int, r: int) -> Packing:
    """The cheapest cut; of equal ones the last, rows before inner blocks.

    Where it leaves one ciphertext, nothing is packed, and the cut is chosen again among
    inner blocks of any length, not powers of two alone.
    """
    packed = _cheapest(p, q, r, is_packed=True)
    return packed if packed.n_results > 1 else _cheapest(p, q, r, is_packed=False)


def _cheapest(p: int, q: int, r: int, *, is_packed: bool) -> Packing:
    """Of the cuts into blocks of (rows, inner) that leave room for a column."""
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
    n_automorphisms = _ceil_div(p * r, POLYNOMIAL_DEGREE) * inner * is_packed
    n_products = n_results * n_inner
    price = (n_sent + n_packed) * _CIPHERTEXT_PRICE
    price = price + n_automorphisms + n_products / _PRODUCTS_PER_PRICE
    best = price.size - 1 - price[::-1].argmin()
    return Packing(
        n_sent=int(n_sent[best]),
        n_received=int(n_packed[best]) if is_packed else 0,
        n_bare=0 if is_packed else int(n_results[best]),
        n_automorphisms=int(n_automorphisms[best]),
        n_products=int(n_products[best]),
        n_results=int(n_results[best]),
        n_encoded=int((np.maximum(n_rows, n_columns) * n_inner)[best]),
    )
