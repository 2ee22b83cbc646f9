"""`import mpcvit` offers what a user needs, each with an example that runs."""

import doctest
from pathlib import Path

import pytest

import mpcprof
import mpcvit
from tests import ROOT
from tests.training_runs import tiny_recipe

BY_PARTIES = ("infer",)


@pytest.fixture(scope="module")
def names(tmp_path_factory, one_thread) -> dict[str, object]:
    """What the examples use, and the runs that they read."""
    folder = tmp_path_factory.mktemp("door")
    recipe = tiny_recipe(epochs=1)
    model = mpcprof.get_model("digits")
    architecture = mpcprof.uniform_architecture(model, attention="scale")
    searched, trained = (
        mpcvit.RunConfig(
            dataset="digits", recipe=recipe, output=folder / name, limit=40
        )
        for name in ("search", "run")
    )
    network = mpcprof.parse_network("wan")
    profile = ROOT / "profiles" / "semi2k.parquet"
    mpcvit.run_search(
        mpcvit.SearchConfig(profile=profile, network=network, run=searched)
    )
    mpcvit.run_training(mpcvit.TrainConfig(run=trained, architecture=architecture))
    return {
        "mpcprof": mpcprof,
        "mpcvit": mpcvit,
        "Path": Path,
        "folder": folder,
        "recipe": recipe,
        "architecture": architecture,
    }


def run_examples(owner: object, name: str, names: dict[str, object]) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner()
    for test in finder.find(owner, name, globs=dict(names)):
        runner.run(test)
    assert runner.summarize().failed == 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.spu if name in BY_PARTIES else ())
        for name in mpcvit.__all__
    ],
)
def test_the_example_of_every_name_is_right(monkeypatch, request, name, names):
    monkeypatch.chdir(ROOT)
    if name in BY_PARTIES:
        request.getfixturevalue("stay")
    offered = getattr(mpcvit, name)

    assert ">>> " in (offered.__doc__ or "")
    run_examples(offered, name, names)


def test_the_example_of_the_package_is_right(monkeypatch, names):
    monkeypatch.chdir(ROOT)

    run_examples(mpcvit, "mpcvit", names)


def test_every_name_has_one_home():
    assert [*mpcvit._HOMES] == mpcvit.__all__ == dir(mpcvit)
    with pytest.raises(AttributeError, match="no attribute 'search_everything'"):
        mpcvit.search_everything  # noqa: B018
