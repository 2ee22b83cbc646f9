"""What each SPU build is let pass, and what it is told."""

import pytest

from mpcprof.builds import BUILDS

CURRENT, OLD = BUILDS.values()


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
