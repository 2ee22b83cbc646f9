from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.deployment import Deployment, make_deployment
from mpcprof.dims import Dims
from mpcprof.errors import MissingEntryError, ProfileError
from mpcprof.network import NETWORKS
from mpcprof.profile.merge import diff_profiles, merge_profiles
from mpcprof.profile.record import Profile
from tests.factories import make_profile, make_record

RECORDS = tuple(make_record(dims=Dims(n_tokens=n)) for n in range(1, 7))


@given(st.permutations(RECORDS))
def test_the_order_of_measuring_never_matters(records):
    assert make_profile(*records) == make_profile(*RECORDS)


@given(st.lists(st.sets(st.sampled_from(range(6))), min_size=1, max_size=5), st.data())
def test_a_merge_is_independent_of_order_and_grouping(parts, data):
    profiles = [make_profile(*(RECORDS[i] for i in part)) for part in parts]
    shuffled = data.draw(st.permutations(profiles))

    merged = merge_profiles(*profiles)

    assert merged == merge_profiles(*shuffled)
    assert merged == merge_profiles(profiles[0], merge_profiles(*profiles))
    assert merged.keys == frozenset().union(*(p.keys for p in profiles))


def test_two_records_of_one_key_are_an_error():
    with pytest.raises(ProfileError, match=r"two records of exp .*: expected one"):
        make_profile(RECORDS[0], RECORDS[0])


def test_different_records_of_one_key_do_not_merge():
    other = make_profile(make_record(dims=RECORDS[0].dims, seed=7))

    with pytest.raises(ProfileError, match=r"two different records of exp"):
        merge_profiles(make_profile(*RECORDS), other)


def test_a_merge_of_deployments_names_the_first_difference():
    ours = make_profile()
    theirs = Profile(deployment=Deployment(protocol="semi2k", field_bits=32))

    with pytest.raises(ProfileError, match="field_bits is 64 in one, 32 in the other"):
        merge_profiles(ours, theirs)


def test_coefficients_survive_a_merge_only_where_all_agree():
    fitted = make_profile(RECORDS[0], extra='{"fit": 1}')
    again = make_profile(RECORDS[1], extra='{"fit": 1}')
    bare = make_profile(RECORDS[1])

    assert merge_profiles(fitted, again).extra == '{"fit": 1}'
    assert merge_profiles(fitted, bare).extra == "{}"


@pytest.mark.parametrize("extra", ["", "[]", "null", '{"deployment": 1}'])
def test_an_extra_is_a_json_object_of_its_own(extra):
    with pytest.raises(ProfileError, match="expected a JSON object without schema_ver"):
        make_profile(extra=extra)


def test_the_spacing_of_an_extra_makes_no_other_profile():
    assert make_profile(extra='{"b":1,"a":2}') == make_profile(extra='{"a": 2, "b": 1}')


def test_the_number_of_ranks_is_that_of_the_protocol():
    with pytest.raises(ProfileError, match="has 3 ranks: expected 2, as semi2k has"):
        make_profile(make_record(n_parties=3))


def test_what_was_measured_is_found_by_its_key():
    profile = make_profile(*RECORDS)

    assert all(profile.get(record.key) is record for record in RECORDS)
    assert all(record.key in profile for record in RECORDS)
    assert len(profile) == len(RECORDS) == len([*profile])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"workload": "exq"}, "no record of exq .*did you mean exp"),
        ({"dims": Dims(n_tokens=99)}, "exp was measured for 6 shapes: n_tokens=1;"),
        (
            {"dims": Dims(n_tokens=1), "network": NETWORKS["lan"]},
            "this case was measured on: 44MBps,40ms emulated",
        ),
    ],
)
def test_what_is_missing_is_said_with_what_is_there(overrides, message):
    with pytest.raises(MissingEntryError, match=message):
        make_profile(*RECORDS).get(make_record(**overrides).key)


def test_an_empty_profile_has_nothing():
    with pytest.raises(MissingEntryError, match="0 records on file"):
        make_profile().get(RECORDS[0].key)


def test_a_filter_keeps_the_named_workloads_and_refuses_unknown_ones():
    profile = make_profile(make_record(), make_record(workload="relu"))

    assert [r.workload for r in profile.filtered(("relu",))] == ["relu"]
    assert profile.filtered(()) == profile
    with pytest.raises(MissingEntryError, match="no record of workload 'rel'"):
        profile.filtered(("rel",))


def test_a_profile_is_equal_to_itself():
    profile = make_profile(*RECORDS)

    diff = diff_profiles(profile, profile, 0.0)

    assert not diff.has_regressions
    assert {entry.ratio for entry in diff.common} == {1.0}
    assert (diff.only_a, diff.only_b) == ((), ())


@pytest.mark.parametrize(
    ("overrides", "is_regression"),
    [
        ({"latencies_s": (1.05,)}, False),
        ({"latencies_s": (1.06,)}, True),
        ({"latencies_s": (0.1,)}, False),
        ({"hops": 18.0}, True),
        ({"hops": 18.0, "hops_basis": "measured"}, True),
        ({"hops": 17.4, "hops_basis": "measured"}, False),
        ({"bytes_sent_by_rank": (1_690_001, 1_690_000)}, True),
        # aby3's roles: the sum over ranks is what stays
        ({"bytes_sent_by_rank": (1_690_001, 1_689_999)}, False),
    ],
)
def test_a_regression_is_slower_or_other_bytes_or_hops(overrides, is_regression):
    a = make_profile(make_record(latencies_s=(1.0,)))
    b = make_profile(make_record(**({"latencies_s": (1.0,)} | overrides)))

    assert diff_profiles(a, b, 0.05).has_regressions is is_regression


def test_profiles_without_a_common_case_are_not_found_to_be_alike():
    with pytest.raises(MissingEntryError, match="none of the 1 cases of one profile"):
        diff_profiles(make_profile(RECORDS[0]), make_profile(RECORDS[1]), 0.05)


def test_cases_in_one_profile_only_are_listed():
    diff = diff_profiles(make_profile(*RECORDS[:2]), make_profile(*RECORDS[1:3]), 0.05)

    assert diff.only_a == (RECORDS[0].key,)
    assert diff.only_b == (RECORDS[2].key,)
    assert diff.summary == (
        "1 cases in both, 0 regressions at 5% tolerance; 1 only in a, 1 only in b"
    )


@pytest.mark.parametrize(("protocol", "call_s"), [("semi2k", 1.0), ("cheetah", 2.0)])
def test_a_call_costs_the_median_but_the_mean_where_some_calls_refill_a_stock(
    protocol, call_s
):
    record = make_record(latencies_s=(1.0, 1.0, 4.0))
    profile = Profile(deployment=make_deployment(protocol), records=(record,))

    assert profile.call_s(record) == call_s


@pytest.mark.parametrize(
    ("protocol", "is_regression"), [("cheetah", False), ("semi2k", True)]
)
def test_calls_that_refill_a_stock_are_compared_by_their_means(protocol, is_regression):
    refilled_second = make_record(
        latencies_s=(0.1, 0.5),
        total_bytes_sent_by_repeat=(100, 900),
        bytes_sent_by_rank=(60, 40),
    )
    refilled_first = replace(
        refilled_second,
        latencies_s=(0.5, 0.1),
        total_bytes_sent_by_repeat=(904, 100),
        bytes_sent_by_rank=(504, 400),
    )
    deployment = Deployment(protocol=protocol)
    a, b = (
        Profile(deployment=deployment, records=(one,))
        for one in (refilled_second, refilled_first)
    )

    assert diff_profiles(a, b, 0.05).has_regressions is is_regression


@pytest.mark.parametrize(("n_bytes", "is_equal"), [(19_000, True), (40_000, False)])
def test_ranges_of_a_program_that_differs_by_call_are_equal_where_they_meet(
    n_bytes, is_equal
):
    def drawn(*totals):
        return make_profile(
            make_record(
                bytes_sent_by_rank=(totals[0] // 2,) * 2,
                total_bytes_sent_by_repeat=totals,
                hops_by_repeat=tuple(n / 250 for n in totals),
                hops=totals[0] / 250,
            )
        )

    (entry,) = diff_profiles(drawn(18_000, 29_000), drawn(n_bytes), 0.01).common

    assert (entry.has_equal_bytes, entry.has_equal_hops) == (is_equal, is_equal)
