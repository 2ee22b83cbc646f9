"""Refills told by bytes, and calls brought to the number of refills expected."""

import pytest

from mpcprof.costmodel.ferret import TRANSFER_ROUND
from mpcprof.costmodel.long_run import (
    Calls,
    Made,
    count_refills,
    round_seconds,
    times_longer,
    triple_seconds,
)
from mpcprof.errors import RangeError

ROUND, HALF = TRANSFER_ROUND.bytes_sent, 1_144_000
RARE = Made(0.1, 0.3)  # calls of no waits, for short
EACH = Made(2.0, 0.06, 0.1)


def sent(*made: tuple[int, int], base=5_000_000) -> list[int]:
    """Bytes of calls; ciphertexts differ a little."""
    return [
        base + rounds * ROUND + halves * HALF + 900 * (i % 3)
        for i, (rounds, halves) in enumerate(made)
    ]


@pytest.mark.parametrize(
    "made",
    [
        [(0, 0), (1, 0), (0, 0)],
        [(0, 1), (1, 0), (0, 1)],  # the leanest call made a round
        [(0, 0), (0, 3), (2, 1)],
        [(0, 0)],
    ],
)
def test_bytes_tell_both_kinds_of_refills(made):
    counted = count_refills(sent(*made), RARE, HALF)

    assert counted == tuple(Made(*one) for one in made)


def test_the_leanest_call_made_what_brings_the_mean_nearest_to_the_expected():
    often = count_refills(sent((3, 5), (4, 4)), Made(3.6, 4.4), HALF)
    once = count_refills(sent((4, 0)), Made(4.14, 0.0), HALF)

    assert often == (Made(3, 5), Made(4, 4))
    assert once == (Made(4, 0),)


def test_refills_of_the_last_call_are_taken_where_its_kernels_tell_them():
    told = count_refills(sent((0, 2)), Made(0.0, 2.6), HALF, last=(None, 2))
    guessed = count_refills(sent((0, 2)), Made(0.0, 2.6), HALF)

    rounds = count_refills(sent((1, 0), (0, 0)), RARE, HALF, last=(1, None))

    assert (told, guessed) == ((Made(0, 2),), (Made(0, 3),))
    assert rounds == (Made(2, 0), Made(1, 0))


@pytest.mark.parametrize("more", [ROUND // 2, 9 * ROUND])
def test_bytes_that_are_no_refills_of_one_program_tell_nothing(more):
    assert count_refills([5_000_000, 5_000_000 + more], Made(0.1, 0.0), HALF) is None


def calls(quiet_s: float, *made: tuple[int, int], at_once=1) -> Calls:
    """Calls whose products need so many half batches at once, one wait for them."""
    whole = tuple(Made(n, h, h / at_once) for n, h in made)
    return Calls(
        latencies_s=tuple(quiet_s + one.times_each(EACH) for one in whole),
        made=whole,
        expected=Made(0.1, 0.3, 0.3 / at_once),
    )


NONE, ROUNDED = (0, 0), (1, 0)


def test_what_a_refill_takes_is_told_by_calls_of_one_program():
    cases = [
        calls(1.0, NONE, ROUNDED),
        calls(3.0, NONE, (0, 1)),
        calls(2.0, NONE, (0, 2), at_once=2),
        calls(5.0, (0, 6), (0, 3), at_once=3),
        calls(9.0, (0, 1)),
    ]

    each_s = triple_seconds(cases)

    assert each_s == pytest.approx(EACH.triples)
    (found,) = round_seconds(cases, each_s)
    assert found == (cases[0], pytest.approx(EACH.rounds))
    assert times_longer(cases, Made(0.0, 0.03, 0.05)) == pytest.approx(2.0)


def test_a_wait_is_not_told_apart_where_each_half_batch_has_one():
    each_s = triple_seconds([calls(1.0, NONE, (0, 1)), calls(2.0, NONE, (0, 2))])

    assert each_s == pytest.approx(Made(0.0, EACH.half_batches + EACH.waits))
    assert triple_seconds([calls(1.0, NONE)]) == Made()


def test_no_more_or_fewer_refills_than_expected_are_left_in_a_mean_call():
    many = calls(1.0, NONE, ROUNDED, (1, 1))
    few = calls(1.0, NONE)

    means = [case.long_run_s(EACH) for case in (many, few)]

    assert means == pytest.approx([1.0 + 0.1 * 2.0 + 0.3 * 0.16] * 2)


def test_calls_shorter_than_the_refills_taken_off_are_refused():
    odd = Calls(latencies_s=(0.5, 0.5), made=(Made(1.0),) * 2, expected=Made(0.1))

    with pytest.raises(
        RangeError, match=r"calls take 500 ms .* alone would take 1\.8 s"
    ):
        odd.long_run_s(EACH)
