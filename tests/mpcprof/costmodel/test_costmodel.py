"""The cost model on the profile that is committed, and its laws."""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.costmodel.fit import HeldOutErrors, held_out_errors, held_out_latencies
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.dims import Dims
from mpcprof.errors import MissingEntryError, UsageError
from mpcprof.network import LOOPBACK, NETWORKS, Network
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from mpcprof.nn.steps import LOCAL, Step, primitive_step, without_local
from mpcprof.profile.record import Profile
from tests.committed import committed_model, committed_profile
from tests.factories import make_full_profile, make_profile, make_record

WAN = NETWORKS["wan"]

entries = st.integers(1, 10**7)
steps = st.one_of(
    st.builds(
        Step,
        st.sampled_from(["exp", "mul", "gelu_exact"]),
        st.tuples(entries),
        st.sampled_from(["a", "a/b", "c"]),
    ),
    st.builds(Step, st.sampled_from(["max", "sum"]), st.tuples(entries, entries)),
    st.builds(Step, st.just("matmul"), st.tuples(*[st.integers(1, 300)] * 4)),
)
sequences = st.lists(steps, max_size=8)
networks = st.builds(
    Network,
    bandwidth_bytes_per_s=st.floats(1e3, 1e12) | st.just(math.inf),
    rtt_s=st.floats(0, 10),
)


def aby3_like_profile(n_shapes: int = 8) -> Profile:
    """Rank 0's bytes and the hops vary, the bytes of both ranks together do not."""
    return make_profile(
        *(
            make_record(
                dims=Dims(n_heads=heads, n_tokens=65),
                bytes_sent_by_rank=(heads * 100_000 + heads % 3, 0 - heads % 3 + 7_000),
                hops=17.0 + heads % 2 / 2,
                hops_basis="measured",
            )
            for heads in range(3, 3 + n_shapes)
        )
    )


@pytest.fixture(scope="module")
def all_held_out() -> "tuple[HeldOutErrors, ...]":
    return held_out_errors(committed_profile())


def test_bytes_and_hops_of_shapes_left_out_are_exact_in_semi2k(all_held_out):
    for held_out in all_held_out:
        assert held_out.has_exact_bytes, held_out.operation
        assert held_out.has_exact_hops, held_out.operation
        assert held_out.max_bytes_error == 0, held_out.operation
        assert held_out.max_rank_bytes_error == 0, held_out.operation
        assert held_out.max_hops_error == 0, held_out.operation


def test_latencies_of_shapes_left_out_are_near(all_held_out):
    for held_out in all_held_out:
        # a sum sends nothing: 3 to 50 ms of compute on shared cores, and their noise
        is_sum = held_out.operation == "sum"

        assert held_out.median < (0.15 if is_sum else 0.03), held_out.operation
        assert held_out.percentile_95 < (0.40 if is_sum else 0.10), held_out.operation


def test_held_out_latencies_have_the_held_out_errors(all_held_out):
    cases = held_out_latencies(committed_profile())

    for held_out in all_held_out:
        errors = [
            abs(case.predicted_s / case.seen.latency_s - 1)
            for case in cases
            if case.seen.operation == held_out.operation
        ]
        assert len(errors) == held_out.n_records
        assert max(errors) == pytest.approx(held_out.largest)


def test_a_primitive_that_was_measured_costs_what_was_measured():
    for record in committed_profile():
        step = primitive_step(record.workload, record.dims)

        prediction = committed_model().predict([step], record.network)

        assert prediction.latency_s == pytest.approx(record.latency_s, rel=1e-9)
        assert prediction.basis == "measured"
        assert prediction.bytes_sent == record.bytes_sent
        assert prediction.hops == record.hops


def test_local_steps_cost_time_where_they_were_measured_and_nothing_elsewhere():
    architecture = uniform_architecture(MODELS["digits"], attention="softmax")
    steps = trace_model(architecture)
    model = fit_cost_model(make_full_profile())  # a step: 1e-8 s an entry
    n_entries = [step.size[0] for step in steps if step.operation == LOCAL]

    with_local, without = (
        model.predict(own, WAN) for own in (steps, without_local(steps))
    )
    before = committed_model().predict(steps, WAN)

    more_s = with_local.latency_s - without.latency_s
    assert more_s == pytest.approx(1e-8 * sum(n_entries), rel=1e-3)
    assert with_local.bytes_sent == without.bytes_sent
    assert with_local.hops == without.hops
    assert "local" in {one.name for one in with_local.operations}
    assert before == committed_model().predict(without_local(steps), WAN)
    with pytest.raises(MissingEntryError, match="no record of 'local' to price it"):
        committed_model().costs(LOCAL, (1,))


@given(sequence=sequences, network=networks, more=st.floats(0, 10))
def test_a_longer_round_trip_is_never_cheaper(sequence, network, more):
    slower = replace(network, rtt_s=network.rtt_s + more)

    near, far = (
        committed_model().predict(sequence, n).latency_s for n in (network, slower)
    )

    assert far >= near or far == pytest.approx(near)


@given(sequence=sequences, network=networks, factor=st.floats(1, 1e3))
def test_a_narrower_line_is_never_cheaper(sequence, network, factor):
    slower = replace(
        network, bandwidth_bytes_per_s=network.bandwidth_bytes_per_s / factor
    )

    wide, narrow = (
        committed_model().predict(sequence, n).latency_s for n in (network, slower)
    )

    assert narrow >= wide or narrow == pytest.approx(wide)


@given(
    name=st.sampled_from(["exp", "gelu_exact", "reciprocal", "truncation"]),
    pair=st.tuples(entries, entries).map(sorted),
    network=networks,
)
def test_more_entries_that_nobody_measured_never_cost_less(name, pair, network):
    costs = [committed_model().costs(name, (n,)) for n in pair]
    if "measured" in {cost.basis for cost in costs}:
        return  # what was measured is reported with its noise

    small, large = (cost.latency_s(network) for cost in costs)

    assert 0 <= small <= large or small == pytest.approx(large)


@given(sequence=sequences, network=networks)
def test_a_call_costs_the_sum_of_its_parts_and_its_overhead_once(sequence, network):
    prediction = committed_model().predict(sequence, network)

    for split in (prediction.parts, prediction.operations):
        latency_s = committed_model().per_call_s + sum(part.latency_s for part in split)
        assert latency_s == pytest.approx(prediction.latency_s)
        bytes_sent = sum(part.bytes_sent for part in split)
        assert bytes_sent == pytest.approx(prediction.bytes_sent)
        assert sum(part.hops for part in split) == pytest.approx(prediction.hops)


@given(sequence=sequences, network=networks)
def test_the_interval_holds_the_latency(sequence, network):
    prediction = committed_model().predict(sequence, network)

    low_s, high_s = prediction.interval_s
    assert 0 <= low_s <= prediction.latency_s <= high_s


def test_the_order_of_records_does_not_matter():
    reversed_profile = replace(
        committed_profile(), records=committed_profile().records[::-1]
    )

    assert fit_cost_model(reversed_profile) == committed_model()


@pytest.mark.parametrize("size", [(1, 65, 192, 64), (1, 70, 70, 70)])
def test_many_products_cost_as_many_times_one(size):
    one, many = (
        committed_model().predict([Step("matmul", (n, *size[1:]))], WAN, is_call=False)
        for n in (1, 12)
    )

    assert many.hops == 12 * one.hops
    assert many.bytes_sent == 12 * one.bytes_sent
    assert many.total_bytes_sent == 12 * one.total_bytes_sent
    assert many.latency_s == pytest.approx(12 * one.latency_s)
    assert many.basis == one.basis
    assert [part.count for part in many.operations] == [12]


def test_what_is_larger_than_anything_measured_is_flagged_and_less_certain():
    small, large = (Step("exp", (n,), "x") for n in (500_000, 500_000_000))

    near, far = (committed_model().predict([step], WAN) for step in (small, large))

    assert (near.basis, far.basis) == ("interpolated", "extrapolated")
    assert near.notes == ()
    assert far.notes == ("exp: size 5.0e+08 is 631 times the largest measured",)
    widths = [found.interval_s[1] / found.latency_s - 1 for found in (near, far)]
    assert widths[1] == pytest.approx(631 / 2 * widths[0], rel=0.01)


def test_the_basis_of_a_call_is_that_of_its_worst_step():
    measured = Step("exp", (4225,))

    bases = [
        committed_model().predict([measured, *more], WAN).basis
        for more in ([], [Step("exp", (4226,))], [Step("max", (1, 1000))])
    ]

    assert bases == ["measured", "interpolated", "extrapolated"]


def test_on_a_faster_network_the_error_of_the_compute_stays():
    wan, lan = (
        committed_model().predict([Step("exp", (5000,))], n) for n in (WAN, LOOPBACK)
    )

    errors_s = [p.interval_s[1] - p.latency_s for p in (wan, lan)]

    assert errors_s[0] == pytest.approx(errors_s[1])


def test_thousands_of_steps_are_priced_in_milliseconds():
    sequence = [Step("exp", (5000 + i % 50,), f"layer {i % 12}") for i in range(3000)]
    committed_model().predict(sequence, WAN)

    def seconds(act: Callable[[], object]) -> float:
        start_s = time.perf_counter()
        act()
        return time.perf_counter() - start_s

    predict_s = min(
        seconds(lambda: committed_model().predict(sequence, WAN)) for _ in range(5)
    )
    counting_s = min(seconds(lambda: Counter(sequence)) for _ in range(5))
    assert predict_s < max(0.010, 15 * counting_s)  # the latter on a slower machine


def test_an_operation_that_is_not_on_file_is_named_with_what_to_do():
    model = fit_cost_model(make_profile(make_record()))

    with pytest.raises(MissingEntryError, match=r"'max'.*exp.*--only max --output"):
        model.predict([Step("max", (4, 65))], WAN)


@pytest.mark.parametrize(
    "profile", [make_profile(), make_profile(make_record(kind="model"))]
)
def test_a_profile_without_primitives_is_named_with_what_to_do(profile):
    with pytest.raises(MissingEntryError, match="sweep --protocol semi2k --output"):
        fit_cost_model(profile)


def test_records_of_blocks_are_no_primitives():
    with_block = make_profile(make_record(), make_record(workload="b", kind="block"))

    model = fit_cost_model(with_block)

    assert model == fit_cost_model(make_profile(make_record()))


def test_fewer_than_two_folds_are_refused():
    with pytest.raises(UsageError, match="n_folds=1: expected at least 2"):
        held_out_errors(committed_profile(), n_folds=1)


def test_one_size_says_that_its_error_is_a_guess():
    profile = make_profile(make_record())

    (held_out,) = held_out_errors(profile)
    prediction = fit_cost_model(profile).predict([Step("exp", (50,))], WAN)

    assert held_out.median is None
    assert prediction.notes == ("exp: measured at one size only, its error is a guess",)
    assert prediction.hops == 17


def test_rows_of_one_length_say_that_the_hops_of_others_are_unknown():
    def notes(length: int, *measured: int) -> str:
        records = (
            make_record(workload="max", dims=Dims(n_heads=1, n_tokens=n))
            for n in measured
        )
        model = fit_cost_model(make_profile(*records))
        return " ".join(model.predict([Step("max", (9, length))], WAN).notes)

    assert "max: rows of 17 are priced with the hops of rows of 65" in notes(17, 65)
    assert "rows of" not in notes(65, 65)
    assert "rows of" not in notes(17, 65, 33)


def test_hops_that_were_measured_and_the_bytes_of_one_rank_are_not_exact():
    (held_out,) = held_out_errors(aby3_like_profile())

    assert not held_out.has_exact_hops
    assert held_out.max_rank_bytes_error > 0
    assert held_out.max_hops_error < 0.05


def test_a_priced_record_gives_way_to_one_that_was_waited_for():
    waited = make_record(latencies_s=(0.5,))
    priced = make_record(mode="priced", emulation="none", latencies_s=(0.4,))

    model = fit_cost_model(make_profile(waited, priced))

    step = primitive_step("exp", waited.dims)
    assert model.predict([step], WAN).latency_s == pytest.approx(0.5)


def test_records_of_two_networks_are_each_netted_with_their_own():
    far = Network(bandwidth_bytes_per_s=44e6, rtt_s=0.080)
    near_s = make_record().latency_s
    profile = make_profile(
        make_record(), make_record(network=far, latencies_s=(near_s + 17 * 0.020,))
    )

    model = fit_cost_model(profile)

    step = primitive_step("exp", make_record().dims)
    assert model.predict([step], WAN).latency_s == pytest.approx(near_s)
    assert model.predict([step], far).latency_s == pytest.approx(near_s + 0.34)


def test_priced_records_alone_are_enough():
    record = make_record(mode="priced", emulation="none", compute_s=0.1, hidden_s=0.02)

    model = fit_cost_model(make_profile(record))

    step = primitive_step("exp", record.dims)
    assert model.predict([step], LOOPBACK).latency_s == pytest.approx(0.12)


def test_coefficients_that_an_older_version_stored_are_fitted_anew():
    stored = make_profile(make_record(), extra='{"cost_model": {"version": 3}}')

    assert fit_cost_model(stored) == fit_cost_model(make_profile(make_record()))


@given(sequence=sequences)
def test_compute_is_what_a_network_that_costs_nothing_leaves(sequence):
    on_wan = committed_model().predict(sequence, WAN)

    free_s = committed_model().predict(sequence, LOOPBACK).latency_s

    assert on_wan.compute_s == pytest.approx(free_s)
    parts_s = sum(part.compute_s for part in on_wan.parts)
    assert on_wan.compute_s == pytest.approx(committed_model().per_call_s + parts_s)


def test_a_prediction_whose_hops_are_more_than_its_latency_says_so():
    def notes(latency_s):
        record = make_record(latencies_s=(latency_s,), hops=60.0, compute_s=0.1)
        step = primitive_step(record.workload, record.dims)
        return " ".join(fit_cost_model(make_profile(record)).predict([step], WAN).notes)

    assert "hops and bytes would take 1.2 s of a latency of 1 s" in notes(1.0)
    assert "hops and bytes" not in notes(1.5)
