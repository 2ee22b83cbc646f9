"""SPU's options as a table: whole, consistent, and with the risk in numbers."""

import numpy as np
import pytest

from mpcprof.deployment import make_deployment
from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.spu_options import (
    MEASURED_AT,
    SPU_OPTIONS,
    expected_failures,
    failure_probability,
    failure_size,
    get_option,
    truncated_entries,
)

LOCAL = ("trunc_allow_msb_error=true",)


@pytest.mark.parametrize("option", SPU_OPTIONS, ids=str)
def test_every_entry_is_a_deployment_and_has_every_effect(option):
    deployment = option.deployment()

    assert {*option.effects} == {*MEASURED_AT}
    assert min(effect.hops for effect in option.effects.values()) >= 1
    is_default = deployment == make_deployment("semi2k")
    assert is_default == (str(option) == "defaults")
    assert option.changes


def test_what_an_option_may_break_is_said_of_those_that_may():
    risky = {str(option) for option in SPU_OPTIONS if option.risk}

    assert {str(o) for o in SPU_OPTIONS if LOCAL[0] in o.settings} <= risky
    assert "enable_optimize_denominator_with_broadcast=true" not in risky


def test_an_option_that_is_not_in_the_table_is_one_line():
    with pytest.raises(UnknownNameError, match="no SPU option 'fxp_exp_iters=3'; did"):
        get_option("fxp_exp_iters=3")


@pytest.mark.parametrize(("bits", "fraction_bits"), [(64, 18), (64, 14), (128, 26)])
def test_failures_are_as_many_as_shares_that_pass_the_end_of_the_ring(
    bits, fraction_bits
):
    deployment = make_deployment(
        "semi2k", field_bits=bits, fraction_bits=fraction_bits, options=LOCAL
    )
    x = 2.0 ** (bits - 2 * fraction_bits - 5)
    n = 100_000

    # r and X - r of a ring of 64 bits, X = 2**59 whatever the fraction
    big = int(x * 2.0 ** (2 * fraction_bits)) >> (bits - 64)
    r = np.random.default_rng(0).integers(-(2**63), 2**63, n, dtype=np.int64)
    other = np.int64(big) - r
    shifted = (r >> fraction_bits) + (other >> fraction_bits)
    n_wrong = np.count_nonzero(np.abs(shifted - (big >> fraction_bits)) > 1)

    expected = expected_failures(deployment, x, n)
    assert expected == n / 32
    assert abs(n_wrong - expected) < 5 * expected**0.5
    assert failure_size(deployment) == 32 * x


@pytest.mark.parametrize(("protocol", "options"), [("semi2k", ()), ("aby3", LOCAL)])
def test_nothing_fails_without_the_option_or_where_it_changes_nothing(
    protocol, options
):
    deployment = make_deployment(protocol, options=options)

    assert expected_failures(deployment, 100.0, 1e9) == 0


def test_sizes_below_0_are_refused_and_a_probability_is_at_most_1():
    deployment = make_deployment("semi2k", options=LOCAL)

    assert failure_probability(deployment, 1e30) == 1
    with pytest.raises(UsageError, match=r"magnitude=-1: expected a size, 0 or more"):
        failure_probability(deployment, -1)
    with pytest.raises(UsageError, match=r"n_truncations=-1: expected 0 or more"):
        expected_failures(deployment, 1, -1)


def test_what_the_option_saves_tells_how_many_entries_are_truncated():
    usual = get_option("defaults").effects
    local = get_option(LOCAL[0]).effects

    entries = {
        name: truncated_entries(usual[name].bytes_sent - local[name].bytes_sent)
        for name in usual
    }

    assert entries["matmul"] == 65 * 64
    assert entries["exp"] == 9 * 4 * 65 * 65  # a scale and eight squarings
