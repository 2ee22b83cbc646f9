"""What is derived can be made anew; what was measured stays."""

from dataclasses import replace

import pytest

from benchmarks.recalibrate import recalibrated
from mpcprof.dims import Dims
from mpcprof.pricing import Calibration
from tests.factories import make_profile, make_record

HERE = "a 2-core machine"
NEW = Calibration(loopback_s_per_hop=1e-3, loopback_s_per_byte=0.0)


def test_compute_follows_from_the_raw_repeats_and_nothing_measured_changes():
    record = make_record(loopbacks_s=(0.05, 0.04, 0.06), hidden_s=0.004, hops=17.0)

    (anew,) = recalibrated(make_profile(record), NEW, host=HERE)

    assert anew.compute_s == pytest.approx(0.05 - 0.004 - 0.017)
    assert anew.loopback_s_per_hop == 1e-3
    same = {"compute_s": 0.0, "loopback_s_per_hop": 0.0, "loopback_s_per_byte": 0.0}
    assert replace(anew, **same) == replace(record, **same)


def test_records_of_other_hosts_and_priced_ones_keep_theirs():
    elsewhere = make_record(host="another machine")
    priced = make_record(mode="priced", emulation="none", dims=Dims(n_tokens=3))

    anew = recalibrated(make_profile(elsewhere, priced), NEW, host=HERE)

    assert {*anew} == {elsewhere, priced}
