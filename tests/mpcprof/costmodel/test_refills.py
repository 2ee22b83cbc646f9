"""Refills of oblivious transfers: the rule of SPU's source against recorded bytes."""

import math
from dataclasses import replace
from itertools import pairwise
from statistics import median

import pytest

from mpcprof.costmodel.ferret import TRANSFER_ROUND
from mpcprof.costmodel.fit import held_out_errors
from mpcprof.costmodel.long_run import Calls, Made, round_seconds
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.costmodel.refills import NO_REFILLS, Transfers, find_refills
from mpcprof.network import NETWORKS
from mpcprof.nn.steps import Step, primitive_step
from mpcprof.profile.io import read_profile
from mpcprof.profile.record import Profile
from tests import ROOT
from tests.committed import committed_model, committed_profile

PROFILE = committed_profile("cheetah")
REFILLS = find_refills(PROFILE)
MODEL = committed_model("cheetah")
WAN = NETWORKS["wan"]
LEAN = {"less", "max", "relu", "truncation"}


def test_calls_of_one_program_differ_by_whole_refills_to_the_byte():
    (record,) = (
        one
        for one in PROFILE
        if one.workload == "less" and one.dims.n_heads == 8 and one.dims.n_tokens == 65
    )

    sent = record.total_bytes_sent_by_repeat

    more = {n - min(sent) for n in sent}
    assert more == {0, TRANSFER_ROUND.bytes_sent, 2 * TRANSFER_ROUND.bytes_sent}
    assert TRANSFER_ROUND.bytes_sent == 1280 * 13 * 16 + 19


def test_recorded_calls_made_as_many_refills_as_the_source_says():
    made = expected = 0.0
    for record in PROFILE:
        if record.workload in LEAN:
            n_calls = len(record.latencies_s)
            size = primitive_step(record.workload, record.dims).size
            appetite = REFILLS.appetites[record.workload]
            made += n_calls * REFILLS.recorded[record.key].made.rounds
            expected += n_calls * appetite.of(size).n_refills

    assert made > 100
    assert made == pytest.approx(expected, rel=0.1)


def test_a_refill_comes_in_the_call_that_finds_too_few():
    """Parties that compared 60,000 entries 11 times refilled in calls 5 and 9."""
    taken = REFILLS.appetites["less"].of((60_000,)).from_rank_0 / 2  # by each thread
    share = taken / TRANSFER_ROUND.n_usable

    refilled = [
        call
        for call in range(1, 12)
        if math.floor(call * share) > math.floor((call - 1) * share)
    ]

    assert refilled == [5, 9]


def test_bytes_and_hops_are_those_of_calls_without_refills_and_their_mean_share():
    costs = MODEL.costs("less", (5000,))

    n_refills = 5000 * 94 / TRANSFER_ROUND.n_usable
    assert costs.hops == pytest.approx(19 + n_refills)
    assert costs.total_bytes_sent == pytest.approx(
        82.4 * 5000 + n_refills * TRANSFER_ROUND.bytes_sent, rel=0.005
    )


def test_hops_of_lean_operations_are_exact_on_sizes_left_out():
    errors = {one.operation: one for one in held_out_errors(PROFILE)}

    assert {name for name, one in errors.items() if one.has_exact_hops} >= LEAN
    assert max(errors[name].max_hops_error for name in LEAN) < 1e-9
    assert max(errors[name].max_bytes_error for name in LEAN) < 0.01


def test_a_refill_costs_the_same_wherever_it_was_seen():
    assert REFILLS.exposed_s == pytest.approx(0.80, abs=0.02)
    refill = REFILLS.costs(1.0)
    assert refill.latency_s(WAN) == pytest.approx(
        REFILLS.exposed_s + 0.02 + 0.006, 0.01
    )


def test_bytes_alone_tell_the_refills_of_one_call_where_nothing_else_is_sent():
    assert {name for name, one in REFILLS.appetites.items() if one.is_lean} == LEAN


def test_operations_with_ciphertexts_have_their_share_of_rounds_too():
    n_rounds = 9 * 10**6 / TRANSFER_ROUND.n_usable  # nine truncations an entry

    assert REFILLS.mean_of_step("exp", (10**6,)).hops == pytest.approx(n_rounds)
    assert REFILLS.mean_of_step("sum", (10**3, 10**3)).hops == 0


def test_short_products_make_triples_in_half_batches():
    """By kernels `mul_aa`; `square_s`, as in `exp`, encrypts its entries instead."""
    made = {name: one.n_products for name, one in REFILLS.appetites.items()}

    assert (made["mul"], made["tanh"], made["exp"], made["less"]) == (1, 8, 0, 0)
    assert REFILLS.half_batch_bytes == pytest.approx(1_144_000, rel=1e-3)
    steps = [Step("tanh", (2048,)), Step("mul", (4096,)), Step("mul", (20_000,))]
    assert REFILLS.expected(steps).half_batches == pytest.approx(8 / 2 + 1)


def test_bytes_without_refills_are_a_line_in_the_entries():
    """A call of `tanh` of 4352 entries makes 8 or 10 half batches, a mean one 8.5."""
    seen = {o.size[0]: o for o in MODEL.observations if o.operation == "tanh"}
    line = [
        seen[n].total_bytes_sent - 8 * n / 4096 * REFILLS.half_batch_bytes
        for n in (1088, 2176, 3264, 4352)
    ]

    steps = [b - a for a, b in pairwise(line)]
    assert steps == pytest.approx([steps[0]] * 3, rel=0.01)


def test_calls_with_and_without_a_round_tell_what_one_takes_wherever_they_are():
    """Rounds beside ciphertexts take what rounds alone take."""
    for name in ("reciprocal", "less"):
        cases = [
            found
            for record in PROFILE.filtered((name,))
            if (found := REFILLS.calls(record, [step_of(record)]))
        ]
        own = [s for _, s in round_seconds(cases, REFILLS.triples_s[WAN])]
        assert median(own) == pytest.approx(REFILLS.costs(1.0).latency_s(WAN), rel=0.15)


def step_of(record):
    return primitive_step(record.workload, record.dims)


def test_a_prediction_says_the_mean_and_the_range():
    step = Step("relu", (60_000,))

    note = MODEL.predict([step], WAN).notes[0]

    mean = 96 * 60_000 / TRANSFER_ROUND.n_usable
    assert f"{mean:.3g} refills a call in the mean, 0 to 4 in a single one" in note
    assert "prepares" not in note  # two threads, which a session has primed


def test_threads_that_no_session_primes_are_said():
    (note,) = replace(REFILLS, n_processors=8).note([("relu", (60_000,), 1)])

    assert "prepares 4 more threads, 5.89 MB" in note


def test_more_threads_spread_the_refills():
    transfers = Transfers(2.5 * TRANSFER_ROUND.n_usable, 0)

    assert transfers.refills_between(1) == (2, 3)
    assert transfers.refills_between(2) == (2, 4)


@pytest.mark.parametrize("name", ["semi2k", "aby3", "cheetah-spu0.3.1b0"])
def test_where_nothing_is_refilled_or_bytes_are_not_logged_there_is_no_rule(name):
    assert (
        find_refills(read_profile(ROOT / "profiles" / f"{name}.parquet")) == NO_REFILLS
    )


def test_products_one_after_another_wait_for_two_hops_each_and_the_first_for_three():
    """Parties took 3, 5 and 17 hops for 1, 2 and 8 products; 4 behind a truncation."""
    mul, scale = Step("mul", (16,)), Step("truncation", (16,))

    hops = [
        MODEL.predict(steps, WAN).hops
        for steps in ([mul], [mul] * 2, [mul] * 8, [scale, mul], [scale, mul] * 8)
    ]

    assert hops == pytest.approx([3, 5, 17, 4, 32], rel=0.03)


def test_triples_that_no_call_of_the_profile_shows_are_timed_by_those_at_hand():
    one = Made(0, 1, 1)
    calls = Calls(
        latencies_s=(1.0, 3.0), made=(Made(), one), expected=Made(0, 0.5, 0.5)
    )
    unseen = replace(REFILLS, triples_s={WAN: Made()})

    each_s = unseen.each_s([calls], WAN)

    assert each_s.half_batches + each_s.waits == pytest.approx(2.0)


def test_where_no_calls_tell_the_compute_of_a_refill_a_prediction_says_so():
    """Of one call each: bytes and hops of a refill follow from the source alone."""
    single = Profile(
        deployment=PROFILE.deployment,
        records=tuple(
            replace(
                record,
                latencies_s=record.latencies_s[-1:],
                total_bytes_sent_by_repeat=record.total_bytes_sent_by_repeat[-1:],
            )
            for record in PROFILE
        ),
    )

    found = fit_cost_model(single).predict([Step("relu", (60_000,))], WAN)

    plain = MODEL.predict([Step("relu", (60_000,))], WAN)
    assert found.hops == pytest.approx(plain.hops)
    assert found.bytes_sent == pytest.approx(plain.bytes_sent, rel=0.01)
    assert "their compute not priced apart, since no calls of the" in found.notes[0]
