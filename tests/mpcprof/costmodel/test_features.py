"""Laws of Cheetah's cut of a matrix product, and of its stock of triples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.costmodel.features import (
    POLYNOMIAL_DEGREE,
    n_batches,
    n_long_batches,
    n_stocked,
    pack,
    waiting_share,
)
from mpcprof.costmodel.observations import observe
from mpcprof.deployment import make_deployment
from mpcprof.profile.record import Profile
from tests.factories import make_record

axis = st.integers(1, 300)


@given(p=axis, q=axis, r=axis)
def test_the_blocks_of_a_cut_hold_the_whole_product(p, q, r):
    cut = pack(p, q, r)

    assert cut.n_products * POLYNOMIAL_DEGREE >= p * q * r
    assert cut.n_results <= cut.n_products
    assert cut.n_sent <= cut.n_encoded


@given(p=axis, q=axis, r=axis)
def test_what_comes_back_is_packed_unless_it_is_one_ciphertext(p, q, r):
    cut = pack(p, q, r)

    assert (cut.n_received == 0) == (cut.n_bare > 0)
    assert cut.n_bare in (0, cut.n_results)
    assert (cut.n_slots == 0) == (cut.n_bare > 0)
    assert cut.n_automorphisms <= cut.n_results * cut.n_slots.bit_length()


@pytest.mark.parametrize("size", [(4, 4, 4), (12, 17, 12), (34, 11, 11), (1, 256, 10)])
def test_a_product_that_fits_one_polynomial_needs_one_bare_ciphertext_each_way(size):
    cut = pack(*size)

    assert (cut.n_sent, cut.n_bare, cut.n_products) == (1, 1, 1)


def test_more_columns_may_be_less_work():
    wide, narrow = pack(17, 256, 384), pack(17, 256, 256)

    assert wide.n_automorphisms < narrow.n_automorphisms


def test_few_results_need_nearly_as_many_automorphisms_a_level_as_many():
    """Of 256 slots: all levels of 33 results have 33 but the last five."""
    few, half, full = (
        pack(*size) for size in ((65, 256, 16), (17, 256, 64), (17, 256, 256))
    )

    assert [one.n_slots for one in (few, half, full)] == [256] * 3
    assert [one.n_results for one in (few, half, full)] == [33, 64, 256]
    assert few.n_automorphisms == 33 + 33 + 32 + 31
    assert half.n_automorphisms == 64 + 64 + 63
    assert full.n_automorphisms == 255


def test_products_of_entries_come_in_batches():
    assert [n_batches(n) for n in (1, 8192, 8193, 16384, 16385)] == [1, 1, 2, 2, 4]


@given(n_entries=st.integers(1, 2 * POLYNOMIAL_DEGREE - 1))
def test_the_share_of_refills_is_what_a_stock_with_leftovers_comes_to(n_entries):
    n_calls, n_refills, stock = 2000, 0, 0
    half = POLYNOMIAL_DEGREE // 2
    for _ in range(n_calls):
        if stock < n_entries:
            n_refills += 1
            stock += -(-n_entries // half) * half
        stock -= n_entries

    assert n_refills / n_calls == pytest.approx(
        waiting_share(n_entries), abs=1.5 / n_calls
    )


def test_long_products_take_nothing_from_the_stock_and_always_wait():
    assert n_stocked(2 * POLYNOMIAL_DEGREE) == 0
    assert waiting_share(2 * POLYNOMIAL_DEGREE) == 1
    assert waiting_share(0) == 0
    assert [n_long_batches(n) for n in (0, 1, 16383, 16384, 16385)] == [0, 0, 0, 2, 4]


def test_bytes_of_a_call_among_many_are_a_mean_of_those_with_and_without_a_refill():
    record = make_record(
        bytes_sent_by_rank=(150, 50), total_bytes_sent_by_repeat=(1000, 200, 200, 200)
    )
    profile = Profile(deployment=make_deployment("cheetah"), records=(record,))

    (seen,) = observe(profile, per_call_s=0.0)

    assert (seen.bytes_sent, seen.total_bytes_sent) == (300, 400)
