"""Laws of Cheetah's cut of a matrix product."""

from hypothesis import given
from hypothesis import strategies as st

from mpcprof.costmodel.packing import POLYNOMIAL_DEGREE, n_batches, pack

axis = st.integers(1, 300)


@given(p=axis, q=axis, r=axis)
def test_the_blocks_of_a_cut_hold_the_whole_product(p, q, r):
    cut = pack(p, q, r)

    assert cut.n_products * POLYNOMIAL_DEGREE >= p * q * r
    assert cut.n_results <= cut.n_products
    assert cut.n_sent <= cut.n_encoded


def test_a_product_that_fits_one_polynomial_needs_one_ciphertext_each_way():
    cut = pack(4, 4, 4)

    assert (cut.n_sent, cut.n_received, cut.n_products) == (1, 1, 1)


def test_more_columns_may_be_less_work():
    wide, narrow = pack(17, 256, 384), pack(17, 256, 256)

    assert wide.n_automorphisms < narrow.n_automorphisms


def test_products_of_entries_come_in_batches():
    assert [n_batches(n) for n in (1, 8192, 8193, 16384, 16385)] == [1, 1, 2, 2, 4]
