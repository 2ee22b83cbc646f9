"""How Cheetah packs a matrix product into ciphertexts: its cost goes in steps.

A product is cut into blocks that fill one polynomial. The cut with the least price, as
SPU prices it, decides how much work there is, and it jumps: on SPU 0.9.5 a product of
17x256x384 takes half the time of one of 17x256x256.

Source: Cheetah (Huang et al. 2022), section 3.3, for the encoding; the prices are those
of `libspu/mpc/cheetah/arith/matmat_prot.cc` of SPU.
"""

import functools
from typing import Final, NamedTuple

POLYNOMIAL_DEGREE: Final = 8192  # of a ring of 64 bits
_CIPHERTEXT_PRICE: Final = 1000.0  # sending one, in automorphisms
_PRODUCT_PRICE: Final = 0.1  # multiplying one by a plaintext


class Packing(NamedTuple):
    """Counts of one product of (P, Q) and (Q, R).

    Attributes:
        n_sent: Encrypted polynomials that go out.
        n_received: Packed ones that come back.
        n_automorphisms: To pack them.
        n_products: Ciphertext by plaintext.
        n_results: Ciphertexts before packing.
        n_encoded: Polynomials of the side that stays in the clear.
    """

    n_sent: int
    n_received: int
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
    """The cheapest cut; of equal ones the last, rows before inner blocks."""
    best = Packing(0, 0, 0, 0, 0, 0)
    least = float("inf")
    for rows in range(1, min(POLYNOMIAL_DEGREE, p) + 1):
        inner = 1
        while inner <= q and rows * inner <= POLYNOMIAL_DEGREE:
            one = _cut(p, q, r, rows, inner)
            price = (one.n_sent + one.n_received) * _CIPHERTEXT_PRICE
            price += one.n_automorphisms + one.n_products * _PRODUCT_PRICE
            if price <= least:
                least, best = price, one
            inner *= 2
    return best


def _cut(p: int, q: int, r: int, rows: int, inner: int) -> Packing:
    columns = min(r, POLYNOMIAL_DEGREE // rows // inner)
    n_rows, n_inner = _ceil_div(p, rows), _ceil_div(q, inner)
    n_columns = _ceil_div(r, columns)
    return Packing(
        n_sent=min(n_rows, n_columns) * n_inner,
        n_received=_ceil_div(n_rows * n_columns, inner),
        n_automorphisms=_ceil_div(p * r, POLYNOMIAL_DEGREE) * inner,
        n_products=n_rows * n_inner * n_columns,
        n_results=n_rows * n_columns,
        n_encoded=max(n_rows, n_columns) * n_inner,
    )
