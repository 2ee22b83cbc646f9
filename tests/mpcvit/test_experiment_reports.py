"""Experiments: compared fairly, of one search, reported whole."""

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS
from mpcvit.experiments.comparison import compare_means
from mpcvit.experiments.layer_search import plan_layers
from mpcvit.experiments.random_comparison import judge
from mpcvit.experiments.report import Report
from mpcvit.experiments.search_config import recall_search
from mpcvit.experiments.searches import with_search
from mpcvit.experiments.trial import standard_error
from mpcvit.search.objective import Penalty
from mpcvit.search.result import TENSORS, SearchResult, write_settings
from mpcvit.search.run import SearchConfig
from mpcvit.search.space import SearchSpace
from tests.experiment_runs import (
    PROFILE,
    ROOT,
    make_outcome,
    make_result,
    make_setting,
)
from tests.training_runs import tiny_recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_difference_is_held_against_the_spread_of_both():
    first, second = [0.98, 0.97], [0.90, 0.91, 0.92]

    found = compare_means(first, second, n_test=360)

    welch = ttest_ind(first, second, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    assert found.difference == pytest.approx(0.065)
    assert found.p_value == pytest.approx(welch.pvalue)
    assert found.interval == pytest.approx((low, high))
    assert found.is_certain


def test_a_group_of_one_is_taken_to_vary_as_the_other():
    one, others = [0.98], [0.90, 0.91, 0.92]

    found = compare_means(one, others, n_test=360)

    assert found.standard_error == pytest.approx((1e-4 * (1 + 1 / 3)) ** 0.5)
    assert found.degrees_of_freedom == 2
    assert compare_means(others, one, n_test=360).p_value == found.p_value
    assert compare_means([0.98], [0.9], n_test=360).interval is None


def test_equal_accuracies_of_two_seeds_are_no_certainty():
    found = compare_means([0.95, 0.95], [0.947, 0.947], n_test=360)

    assert found.standard_error == pytest.approx(1 / 360 / 12**0.5)
    assert not found.is_certain
    assert str(found) == (
        "+0.30 points, 95% interval -0.05 to +0.65 (p = 0.065, chance may explain it)"
    )


@given(
    st.lists(st.integers(0, 360), min_size=2, max_size=5),
    st.lists(st.integers(0, 360), min_size=2, max_size=5),
)
def test_the_interval_lacks_0_where_chance_hardly_explains_the_difference(a, b):
    found = compare_means([n / 360 for n in a], [n / 360 for n in b], n_test=360)
    low, high = found.interval

    assert found.is_certain == (not low <= 0 <= high)
    assert min(len(a), len(b)) - 1 <= found.degrees_of_freedom + 1e-9
    assert found.degrees_of_freedom <= len(a) + len(b) - 2 + 1e-9


def test_the_standard_error_is_that_of_a_share_of_so_many_images():
    assert standard_error(0.9, 360) == pytest.approx(0.0158, abs=1e-4)


def test_a_report_has_every_seed_and_what_it_was_made_under(tmp_path):
    report = Report(
        title="Title",
        setting=make_setting(tmp_path),
        outcomes=(make_outcome(0.9, 0.8), make_outcome(None, name="lost")),
        findings=("A finding.",),
        values={"n": 1},
        command="python benchmarks/x.py",
        options={"lambda": 0.005, "mu": [0.5, 0.7], "limit": None},
    )

    report.write(tmp_path)

    text = (tmp_path / "results.md").read_text()
    assert "| g | one |  | 85.00% | 7.07% | 2 | 10 s |  |" in text
    assert "360 test images: one image is 0.28%" in text
    assert "Diverged, and left out of the means: g/lost seed 0." in text
    assert (
        "Options, durations in seconds: lambda 0.005, mu 0.5 0.7; none: limit" in text
    )
    rows = [*csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text()))]
    assert [row["accuracy"] for row in rows] == ["0.9", "0.8", ""]
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["outcomes"][0]["accuracy"] == pytest.approx(0.85)
    made = document["conditions"]
    assert made["command"] == "python benchmarks/x.py"
    assert made["deployment"].startswith("spu-0.9.5 semi2k")
    assert made["network"] == "44MBps,40ms"
    assert len(made["records_sha256"]) == 64


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
    setting = make_setting(tmp_path)

    same = with_search(setting, tmp_path / "search")
    with pytest.raises(UsageError) as caught:
        with_search(replace(setting, profile=cheetah), tmp_path / "search")

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
        run=replace(make_setting(folder).run, recipe=recipe, limit=24),
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
    setting = make_setting(tmp_path / "family")

    layers, notes = plan_layers(setting, given.run.output, result)

    made = asdict(layers.settings(result.model, result.records_digest))
    asked = asdict(given.settings(result.model, result.records_digest))
    assert made["space"].pop("granularity") == "layer"
    assert made["space"].pop("activation") == "layer"
    for name in ("granularity", "activation"):
        asked["space"].pop(name)
    assert made == asked
    assert notes == ()
    assert layers.run.output == tmp_path / "family" / "searches" / "per-layer"


def test_a_fixed_lambda_and_eta_are_the_same_numbers_by_layer(tmp_path):
    given = request_search(
        tmp_path / "search", Penalty(lambda_per_s=0.01, eta_per_s="paper")
    )
    result = replace(make_result("additive", "token"), eta_per_s=0.03)
    leave_search(given.run.output, result)
    leave_config(given, result)

    layers, _ = plan_layers(make_setting(tmp_path), given.run.output, result)

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

    layers, (note,) = plan_layers(make_setting(tmp_path), tmp_path / "search", result)

    assert reason in note
    assert "seed, batch size, learning rates and images may differ" in note
    assert layers.penalty == Penalty(lambda_per_s=None, target_s=15.0)
    line = recall_search(tmp_path / "search", result).line()
    assert line.endswith("seed, batch size and rates unknown")


def test_one_random_choice_is_held_against_by_its_own_seeds():
    (_, random, verdict), values = judge(
        make_outcome(0.7, 0.72), [make_outcome(0.71, 0.71)]
    )

    assert "sd" not in random
    assert "above 0 of them and level with 1" in random
    assert "+0.00 points" in verdict
    assert values["random_spread"] is None
