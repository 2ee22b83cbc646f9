"""Laws of the functions that costs are fitted with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.builds import PAPER_BUILD
from mpcprof.costmodel.features import (
    ONE,
    VOLUME,
    Feature,
    check_size,
    exact_features,
    paused_features,
    smooth_features,
)
from mpcprof.costmodel.fit import Exact, Smooth, fit_exact, fit_smooth
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import ProfileError, UsageError
from mpcprof.network import NETWORKS
from mpcprof.nn.steps import Size, Step
from mpcprof.profile.io import read_profile
from tests import PROFILES

ENTRIES: tuple[Size, ...] = ((10,), (25,), (40,), (99,), (180,), (700,), (1000,))
LEVELS = Feature(name="levels")

counts = st.integers(0, 10**6)


@given(per_entry=st.integers(0, 10**4), constant=st.integers(0, 10**4))
def test_a_whole_number_per_entry_is_found_exactly(per_entry, constant):
    values = [constant + per_entry * n for (n,) in ENTRIES]

    exact = fit_exact(exact_features("entries"), ENTRIES, values)

    assert exact is not None
    assert exact.predict((123_456_789,)) == constant + per_entry * 123_456_789


def test_bits_packed_into_bytes_are_a_fraction_of_the_size():
    sizes = ((8,), (16,), (64,))
    values = [5 * n / 8 for (n,) in sizes]

    exact = fit_exact((ONE, VOLUME), sizes, values, 16)

    assert exact == Exact(features=(VOLUME,), numerators=(5,), denominator=8)


@pytest.mark.parametrize(
    ("length", "levels"), [(1, 0), (2, 1), (17, 5), (65, 7), (197, 10), (257, 9)]
)
def test_a_row_takes_its_halvings_and_its_odd_tails(length, levels):
    assert LEVELS.value((3, length)) == levels


def test_one_odd_value_is_no_exact_fit():
    values = [200.0 * n for (n,) in ENTRIES[:-1]] + [200_001.0]

    assert fit_exact(exact_features("entries"), ENTRIES, values, 16) is None


def test_as_many_features_as_sizes_prove_nothing():
    assert fit_exact((ONE, VOLUME), ((10,), (20,)), [3.0, 4.0], 16) is None


def test_what_costs_nothing_is_exactly_nothing():
    exact = fit_exact((ONE, VOLUME), ((10,), (20,)), [0.0, 0.0])

    assert exact is not None
    assert exact.predict((10**9,)) == 0


@given(
    values=st.lists(st.floats(-1, 1e3), min_size=len(ENTRIES), max_size=len(ENTRIES)),
    pair=st.tuples(counts, counts).map(sorted),
)
def test_a_smooth_fit_never_falls_whatever_it_was_fitted_to(values, pair):
    features = smooth_features("entries", ENTRIES)

    smooth = fit_smooth(features, ENTRIES, values, [1.0] * len(values), signed=("one",))

    small, large = (smooth.predict((n,)) for n in pair)
    assert small <= large


def test_a_smooth_fit_follows_two_slopes_and_goes_on_straight():
    values = [0.5 + min(n, 40) * 2 + max(n - 40, 0) * 3 for (n,) in ENTRIES]
    features = smooth_features("entries", ENTRIES)

    smooth = fit_smooth(features, ENTRIES, values, [1.0] * len(values))

    assert smooth.predict((10_000,)) == pytest.approx(0.5 + 80 + 3 * 9960)


def test_one_size_is_taken_as_proportional_to_the_work():
    features = smooth_features("rows", ((4, 11),))

    smooth = fit_smooth(features, ((4, 11),), [2.0], [1.0])

    assert smooth.predict((8, 11)) == pytest.approx(4.0)


@pytest.mark.parametrize("coefficients", [(-1.0,), (float("nan"),), ()])
def test_a_smooth_function_that_could_fall_is_refused(coefficients):
    with pytest.raises(ProfileError, match="expected a"):
        Smooth(features=(VOLUME,), coefficients=coefficients)


@pytest.mark.parametrize(
    ("numerators", "denominator"), [((-1,), 1), ((1,), 0), ((), 1)]
)
def test_an_exact_function_that_could_fall_is_refused(numerators, denominator):
    with pytest.raises(ProfileError, match="expected"):
        Exact(features=(VOLUME,), numerators=numerators, denominator=denominator)


def test_an_unknown_feature_is_refused():
    with pytest.raises(ProfileError, match=r"feature 'colour': expected one of one,"):
        Feature(name="colour")


@pytest.mark.parametrize(
    ("operation", "size"),
    [("exp", (2, 3)), ("max", (5,)), ("matmul", (2, 3, 4)), ("exp", (-1,))],
)
def test_a_size_of_another_operation_is_refused(operation, size):
    with pytest.raises(UsageError, match=f"of {operation}: expected counts of"):
        check_size(operation, size)


def test_hops_of_a_link_that_pauses_within_long_messages_are_found_exactly():
    sizes = [(n,) for n in (289, 4225, 16900, 38809, 66049, 155236, 264196)]

    hops = [8 + 2 * 8 * PAPER_BUILD.n_pauses(16 * n) for (n,) in sizes]
    fit = fit_smooth(paused_features("entries"), sizes, hops, [1 / h for h in hops])

    for (n,) in [*sizes, (20480,), (20481,), (100_000,)]:
        assert fit.predict((n,)) == pytest.approx(8 + 16 * PAPER_BUILD.n_pauses(16 * n))


def test_bytes_and_hops_of_rows_on_the_papers_build_are_exact_at_any_length():
    """Its `max` compares a row's initial value too, after the last halving."""
    path = PROFILES / "semi2k-spu0.3.1b0.parquet"
    profile = read_profile(path)
    model = fit_cost_model(profile)

    for n_rows, length in [(3, 2), (5, 5), (17, 12), (33, 33)]:
        predicted = model.predict([Step("max", (n_rows, length))], NETWORKS["wan"])
        levels = length.bit_length() + length.bit_count() - 2
        assert predicted.bytes_sent == 232 * n_rows * length
        assert predicted.hops == pytest.approx(9 * (levels + 1))
    for record in profile:
        if record.workload == "max":
            size = (record.dims.n_heads * record.dims.n_tokens, record.dims.n_tokens)
            predicted = model.predict([Step("max", size)], NETWORKS["wan"])
            assert predicted.bytes_sent == record.bytes_sent
            assert predicted.hops == pytest.approx(record.hops)


@pytest.mark.parametrize(
    ("message_bytes", "pauses"),
    [(0, 0), (10 * 32768, 0), (10 * 32768 + 1, 1), (1_056_784, 3)],
)
def test_the_link_waits_after_ten_chunks_of_a_message(message_bytes, pauses):
    assert PAPER_BUILD.n_pauses(message_bytes) == pauses
