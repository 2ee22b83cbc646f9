"""How long the first command of a new user takes, and in which order."""

import math

import pytest

from mpcprof.dims import Dims
from mpcprof.engine.measure import Case
from mpcprof.network import NETWORKS
from mpcprof.profile.io import read_profile
from mpcprof.sweep.estimate import call_s, measuring_s
from mpcprof.sweep.grid import grid_config
from mpcprof.workloads.registry import all_workloads, get_workload

WAN = NETWORKS["wan"]


def test_the_quick_sweep_of_cheetah_has_all_its_cases_and_under_200_s_of_calls():
    config = grid_config(protocol="cheetah")

    assert len(config.cases) == 37
    assert measuring_s(config.cases, config.plan()) < 200


def test_asking_for_repeats_gets_them_however_slow():
    usual, asked = (
        measuring_s(config.cases, config.plan())
        for config in (
            grid_config(protocol="cheetah"),
            grid_config(protocol="cheetah", repeats=2),
        )
    )

    assert asked > 2 * usual


@pytest.mark.parametrize(
    ("protocol", "is_sorted"), [("cheetah", True), ("aby3", False)]
)
def test_the_longest_cases_come_last_where_calls_take_minutes(protocol, is_sorted):
    cases = grid_config(protocol=protocol).cases

    found = [call_s(case) for case in cases]
    assert (found == sorted(found)) is is_sorted


def test_every_primitive_has_a_rough_cost():
    for workload in all_workloads("primitive"):
        sizes = dict.fromkeys(workload.dim_names, 2)
        assert call_s(Case(workload=workload, dims=Dims(**sizes)), WAN) < 10


def test_a_block_is_unknown():
    dims = Dims(n_tokens=17, width=64, hidden=64)
    block = Case(workload=get_workload("mlp.relu"), dims=dims)

    assert call_s(block) == math.inf


def test_the_longest_calls_on_file_are_within_a_factor_of_three():
    for record in read_profile("profiles/cheetah.parquet"):
        case = Case(workload=get_workload(record.workload), dims=record.dims)
        measured_s = min(record.latencies_s)
        if record.mode == "emulated" and record.network == WAN and measured_s > 3:
            assert 1 / 3 < call_s(case, WAN) / measured_s < 3, case
