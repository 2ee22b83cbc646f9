"""What each SPU build is let pass, and what it is told."""

import pytest

from mpcprof.builds import (
    DEFAULT_BUILD,
    ENVIRONMENTS,
    PAPER_BUILD,
    get_build,
    get_environment,
)
from mpcprof.deployment import make_deployment
from mpcprof.errors import UnknownNameError, UsageError

CURRENT, OLD = DEFAULT_BUILD, PAPER_BUILD


@pytest.mark.parametrize("kind", ["primitive", "steps", "block", "model", "function"])
def test_the_default_build_is_let_pass_nothing(kind):
    assert CURRENT.stray_share_of(kind) == 0
    assert CURRENT.slack_of("gelu_tanh", kind) == 1


@pytest.mark.parametrize("kind", ["steps", "block", "model", "function"])
def test_no_entry_may_stray_where_others_follow_from_it(kind):
    assert OLD.stray_share_of(kind) == 0


def test_few_entries_of_a_primitive_may_stray_on_the_papers_build():
    assert OLD.stray_share_of("primitive") == 1e-3


@pytest.mark.parametrize(
    ("name", "kind", "times"),
    [
        ("gelu_tanh", "primitive", 4),
        ("exp", "primitive", 1),
        ("vit.cifar.0df63541", "model", 1.5),
        ("attn.softmax", "block", 1),
    ],
)
def test_how_much_further_off_the_papers_build_may_be(name, kind, times):
    assert OLD.slack_of(name, kind) == times


@pytest.mark.parametrize(("typed", "meant"), [("spu-0.9", CURRENT), ("spu-0.3", OLD)])
def test_the_begin_of_one_name_stands_for_it_and_profiles_store_the_whole(typed, meant):
    assert get_build(typed) is meant
    assert make_deployment("semi2k", runtime=typed).runtime == meant.name


@pytest.mark.parametrize("name", ["spu", "spu-0", "spu-0.", "", "spu-0.9.5.1"])
def test_a_begin_of_several_names_or_of_none_is_no_name(name):
    with pytest.raises(UnknownNameError, match=f"no runtime {name!r}; "):
        get_build(name)


def test_every_environment_is_found_and_what_needs_none_says_so():
    for name, environment in ENVIRONMENTS.items():
        assert get_environment(name) is environment
        assert len(dict(environment.packages)) == len(environment.packages)
        assert {*environment.built} <= {*dict(environment.packages)}

    with pytest.raises(UsageError, match=r"spu-0\.9\.5 is in mpcprof's own Python"):
        get_environment("spu-0.9")
