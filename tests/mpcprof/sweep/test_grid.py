"""Laws of the grid: which cases a sweep measures."""

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.sweep.grid import PRESETS, Grid, choose_workloads, get_preset, grid_config
from mpcprof.workloads.registry import all_workloads, get_workload

NAMES = [field.name for field in fields(Grid)]
WORKLOADS = all_workloads()

size_lists = st.lists(st.integers(1, 4096), min_size=1, max_size=3, unique=True)
grids = st.builds(
    lambda **sizes: Grid(**{name: tuple(found) for name, found in sizes.items()}),
    **dict.fromkeys(NAMES, size_lists)  # a patch embedding has at least two tokens
    | {"n_tokens": st.lists(st.integers(2, 4096), min_size=1, max_size=3, unique=True)},
)


@given(grid=grids, workload=st.sampled_from(WORKLOADS))
def test_a_workload_has_every_combination_of_its_sizes_once(grid, workload):
    found = grid.dims_of(workload)

    n_sizes = [len(getattr(grid, name)) for name in workload.dim_names]
    assert len({*found}) == len(found) == math.prod(n_sizes)
    for dims in found:
        workload.input_shapes(dims)
        for name, size in dims.items():
            assert size in getattr(grid, name)


@given(grid=grids, name=st.sampled_from(NAMES), sizes=size_lists.map(tuple))
def test_an_override_changes_the_dimension_given_and_no_other(grid, name, sizes):
    others = dict.fromkeys(set(NAMES) - {name})

    found = grid.override(**{name: sizes}, **others)

    assert getattr(found, name) == sizes
    assert replace(found, **{name: getattr(grid, name)}) == grid


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [(), (0,), (4, -1), (4, 4)])
def test_sizes_that_make_no_grid_are_refused_by_name(name, sizes):
    with pytest.raises(UsageError, match=f"{name}=.*expected different whole numbers"):
        PRESETS["quick"].override(**{name: sizes})


def test_a_larger_preset_measures_all_that_a_smaller_one_does():
    quick, paper, full = (get_preset(name) for name in ("quick", "paper", "full"))

    for workload in choose_workloads(""):
        assert {*quick.dims_of(workload)} <= {*full.dims_of(workload)}
        assert {*paper.dims_of(workload)} <= {*full.dims_of(workload)}


def test_the_quick_preset_tells_how_hops_grow_with_the_length_of_a_row():
    def tokens(**asked):
        return {
            c.dims.n_tokens
            for c in grid_config(protocol="semi2k", only="max", **asked).cases
        }

    assert tokens() == {17, 65}
    assert tokens(n_tokens=(33,)) == {33}


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no preset 'papers'.*paper"):
        get_preset("papers")


def test_naming_no_workload_means_all_primitives():
    assert choose_workloads("") == all_workloads("primitive")


def test_named_workloads_come_once_each_in_the_order_named():
    expected = tuple(get_workload(name) for name in ("max", "exp"))

    assert choose_workloads(" max, exp,max,") == expected


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_every_workload_can_be_chosen_by_its_name(workload):
    assert workload in choose_workloads(workload.name)


def test_the_name_of_a_family_means_all_its_members():
    names = [workload.name for workload in choose_workloads("gelu")]

    assert names == ["gelu_exact", "gelu_tanh"]


@pytest.mark.parametrize(
    "name", ["attn.softmax", "attn.relu_softmax", "mlp.gelu_exact"]
)
def test_an_exact_name_means_that_workload_alone(name):
    assert [workload.name for workload in choose_workloads(name)] == [name]


def test_a_pattern_means_all_that_it_fits():
    names = [workload.name for workload in choose_workloads("attn.softmax_p*,exp")]

    assert {*names} == {"attn.softmax_puma", "exp"}


def test_an_unknown_workload_is_refused():
    with pytest.raises(UnknownNameError, match=r"no workload 'expp'.*exp"):
        choose_workloads("exp,expp")
