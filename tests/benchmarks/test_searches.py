"""Searches of a study: alike, of one profile, recalled with what was asked."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.numpy

from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS
from mpcvit.search.alpha.objective import Penalty
from mpcvit.search.alpha.result import TENSORS, SearchResult, write_settings
from mpcvit.search.alpha.run import SearchConfig
from mpcvit.search.alpha.space import SearchSpace
from searches import plan_layers, recall_search, warn_of_indifference, with_search
from tests import ROOT
from tests.studies import PROFILE, make_result, make_study
from tests.training_runs import tiny_recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def leave_search(folder: Path, result: SearchResult) -> None:
    folder.mkdir(parents=True)
    arrays = {"alpha": result.alpha}
    if result.beta is not None:
        arrays["beta"] = result.beta
    (folder / TENSORS).write_bytes(safetensors.numpy.save(arrays))
    write_settings(folder, result)


def test_a_search_under_other_seconds_is_not_priced_by_these(tmp_path):
    cheetah = ROOT / "profiles" / "cheetah.parquet"
    leave_search(tmp_path / "search", make_result())
    study = make_study(tmp_path)

    same = with_search(study, tmp_path / "search")
    with pytest.raises(UsageError) as caught:
        with_search(replace(study, profile=cheetah), tmp_path / "search")

    assert same.model == "digits"
    said = str(caught.value)
    assert "was searched under semi2k.parquet (records " in said
    assert f"--cost-table {cheetah} has records " in said
    assert "give --cost-table the profile of the search" in said
    assert "\n" not in said


def request_search(folder: Path, penalty: Penalty) -> SearchConfig:
    recipe = tiny_recipe(epochs=2, seed=3, batch_size=8, learning_rate=1e-3)
    return SearchConfig(
        profile=PROFILE,
        run=replace(make_study(folder).run, recipe=recipe, limit=24),
        network=NETWORKS["wan"],
        space=SearchSpace(activation="token"),
        penalty=penalty,
        alpha_learning_rate=0.07,
    )


def leave_config(request: SearchConfig, result: SearchResult) -> None:
    values = asdict(request.settings(result.model, result.records_digest))
    (request.run.output / "config.json").write_text(json.dumps(values))


def test_the_search_by_layer_is_the_given_one_but_for_that(tmp_path):
    penalty = Penalty(lambda_per_s=None, eta_per_s="paper", target_s=15.0)
    given = request_search(tmp_path / "search", penalty)
    result = replace(make_result("additive", "token"), target_s=15.0, n_epochs=2)
    leave_search(given.run.output, result)
    leave_config(given, result)
    study = make_study(tmp_path / "family")

    layers, notes = plan_layers(study, recall_search(given.run.output))

    made = asdict(layers.settings(result.model, result.records_digest))
    asked = asdict(given.settings(result.model, result.records_digest))
    assert made["space"].pop("granularity") == "layer"
    assert made["space"].pop("activation") == "layer"
    for name in ("granularity", "activation"):
        asked["space"].pop(name)
    assert made == asked
    assert notes == []
    assert layers.run.output == tmp_path / "family" / "searches" / "per-layer"


def test_a_fixed_lambda_and_eta_are_the_same_numbers_by_layer(tmp_path):
    given = request_search(
        tmp_path / "search", Penalty(lambda_per_s=0.01, eta_per_s="paper")
    )
    result = replace(make_result("additive", "token"), eta_per_s=0.03)
    leave_search(given.run.output, result)
    leave_config(given, result)

    layers, _ = plan_layers(make_study(tmp_path), recall_search(given.run.output))

    assert layers.penalty == Penalty(lambda_per_s=0.01, eta_per_s=0.03)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "expected object"),
        ('{"command": "train"}', "command='train': expected search"),
        ('{"command": "search"}', "the key 'model' is missing"),
    ],
)
def test_where_a_search_does_not_say_what_it_was_the_report_says_so(
    tmp_path, text, reason
):
    result = replace(make_result(), target_s=15.0)
    leave_search(tmp_path / "search", result)
    if text is not None:
        (tmp_path / "search" / "config.json").write_text(text)

    layers, (note,) = plan_layers(
        make_study(tmp_path), recall_search(tmp_path / "search")
    )

    assert reason in note
    assert "seed, batch size, learning rates and images may differ" in note
    assert layers.penalty == Penalty(lambda_per_s=None, target_s=15.0)
    line = recall_search(tmp_path / "search", result).line()
    assert line.endswith("seed, batch size and rates unknown")


def test_a_search_that_ranks_nothing_is_said_so():
    result = make_result()

    (warning,) = warn_of_indifference(replace(result, alpha=0 * result.alpha))

    assert "Every alpha of the search is 0" in warning
    assert "smaller --lambda" in warning
    assert warn_of_indifference(result) == ()
