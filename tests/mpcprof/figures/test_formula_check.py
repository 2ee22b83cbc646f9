"""The formula is judged on the records themselves."""

import pytest

from mpcprof.dims import Dims
from mpcprof.errors import MissingEntryError
from mpcprof.figures.agreement import check_formula, formula_error
from mpcprof.network import LOOPBACK
from mpcprof.profile.record import Record
from tests.factories import make_profile, make_record


def explained(n_tokens: int, error: float):
    cost_s = 0.1 + 10 * 0.020 + 4.4e6 / 44e6
    return make_record(
        dims=Dims(n_heads=1, n_tokens=n_tokens),
        compute_s=0.1,
        hidden_s=0.0,
        hops=10.0,
        wire_bytes=4.4e6,
        latencies_s=(cost_s / (1 + error),),
    )


def signed_error(record: Record) -> float:
    return formula_error(make_profile(record), record)


def test_the_error_is_relative_to_the_emulated_time_and_signed():
    assert signed_error(explained(1, 0.25)) == pytest.approx(0.25)
    assert signed_error(explained(1, -0.25)) == pytest.approx(-0.25)


def test_hidden_compute_counts_where_the_network_is_faster_than_it():
    record = make_record(compute_s=0.1, hidden_s=9.0, latencies_s=(9.1,))

    assert signed_error(record) == pytest.approx(0.0)


def test_summaries_are_over_all_records_first_and_then_by_workload():
    errors = (0.01, -0.02, 0.03)
    profile = make_profile(*(explained(n, e) for n, e in enumerate(errors, 1)))

    everything, exp = check_formula(profile)

    assert (everything.name, exp.name) == ("all", "exp")
    assert everything.n_records == exp.n_records == 3
    assert exp.median == pytest.approx(0.02)
    assert exp.largest == pytest.approx(0.03)
    assert exp.worst.dims.n_tokens == 3


def test_a_profile_without_a_network_explains_nothing():
    record = make_record(network=LOOPBACK, emulation="none")

    with pytest.raises(MissingEntryError, match="no emulated record"):
        check_formula(make_profile(record))
