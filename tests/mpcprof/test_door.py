"""`import mpcprof` offers what a user needs, each with an example that runs."""

import doctest
from pathlib import Path

import pytest

import mpcprof
from tests import ROOT

BY_PARTIES = ("measure_function",)


def run_examples(owner: object, name: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner()
    names = {"mpcprof": mpcprof, "Path": Path}
    for test in finder.find(owner, name, globs=names):
        runner.run(test)
    assert runner.summarize().failed == 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.spu if name in BY_PARTIES else ())
        for name in mpcprof.__all__
    ],
)
def test_the_example_of_every_name_is_right(monkeypatch, request, name):
    monkeypatch.chdir(ROOT)
    if name in BY_PARTIES:
        request.getfixturevalue("stay")
    offered = getattr(mpcprof, name)

    assert ">>> " in (offered.__doc__ or "")
    run_examples(offered, name)


def test_the_example_of_the_package_is_right(monkeypatch):
    monkeypatch.chdir(ROOT)

    run_examples(mpcprof, "mpcprof")


def test_every_name_has_one_home():
    homes = [name for names in mpcprof._HOMES.values() for name in names]

    assert sorted(homes) == mpcprof.__all__ == dir(mpcprof)
    with pytest.raises(AttributeError, match="no attribute 'predict_everything'"):
        mpcprof.predict_everything  # noqa: B018
