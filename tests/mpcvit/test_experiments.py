"""Experiments: what is chosen, and the scripts as a person calls them."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.errors import UsageError
from mpcvit.experiments.choices import (
    draw_at_cost,
    spread_budgets_s,
    warn_of_indifference,
)
from mpcvit.experiments.family import FamilyRequest
from mpcvit.search.baselines import evenly
from mpcvit.search.derive import derive_by_budget
from mpcvit.search.objective import LAMBDA_PER_S
from tests.experiment_runs import PROFILE, QUICK, ROOT, make_result

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("form", ["additive", "grouped"])
@pytest.mark.parametrize("activation", ["none", "token"])
def test_random_choices_cost_the_same_and_all_differ(form, activation):
    result = make_result(form, activation)
    heads = "serial" if form == "additive" else "batched"
    budget_s = spread_budgets_s(result, 2, heads)[0]
    searched = derive_by_budget(result, budget_s, heads=heads)

    found = draw_at_cost(result, searched, n=4, tolerance=0.02, heads=heads)

    ratios = [one.predicted_s / searched.predicted_s for one in found]
    assert max(abs(ratio - 1) for ratio in ratios) <= 0.02
    accurate = {
        tuple(
            (sum(head == ("relu_softmax",) for head in heads), activation)
            for heads, activation in zip(
                one.architecture.attention, one.architecture.activation, strict=True
            )
        )
        for one in (searched, *found)
    }
    assert len(accurate) == 5
    assert [one.label for one in found] == [f"random-{n}" for n in (1, 2, 3, 4)]


def test_more_random_choices_than_there_are_is_said_so():
    result = make_result()
    quickest_s = float(result.cost.latency_s(0 * result.alpha))
    searched = derive_by_budget(result, quickest_s, heads="serial")

    with pytest.raises(
        UsageError, match=r"0 random choices within 1\.00% .*expected 2"
    ):
        draw_at_cost(result, searched, n=2, tolerance=0.01, heads="serial")


def test_an_even_choice_keeps_as_many_heads_in_every_layer():
    result = make_result()

    even = evenly(result, spread_budgets_s(result, 1, "serial")[0], heads="serial")

    accurate = [
        sum(head == ("relu_softmax",) for head in layer)
        for layer in even.architecture.attention
    ]
    assert accurate == [2, 2, 2]


def test_a_search_that_ranks_nothing_is_said_so():
    result = make_result()

    (warning,) = warn_of_indifference(replace(result, alpha=0 * result.alpha))

    assert "Every alpha of the search is 0" in warning
    assert "smaller --lambda" in warning
    assert warn_of_indifference(result) == ()


def test_numbers_that_nothing_can_be_drawn_by_are_refused():
    result = make_result()
    searched = derive_by_budget(result, 20.0, heads="serial")

    with pytest.raises(UsageError, match="n_budgets=-1: expected at least 1"):
        spread_budgets_s(result, -1, "serial")
    with pytest.raises(UsageError, match="n_random=0: expected at least 1"):
        draw_at_cost(result, searched, n=0, tolerance=0.1, heads="serial")
    with pytest.raises(UsageError, match=r"tolerance=nan: expected a share"):
        draw_at_cost(result, searched, n=1, tolerance=float("nan"), heads="serial")
    with pytest.raises(UsageError, match="n_budgets=0: expected at least 1"):
        FamilyRequest(search=Path("x"), n_budgets=0)
    with pytest.raises(UsageError, match=r"tolerance=-0\.1: expected a share"):
        FamilyRequest(search=Path("x"), tolerance=-0.1)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("family", ("search", "--n-budgets", "-1")),
        ("family", ("search", "--n-random", "-1")),
        ("family", ("search", "--tolerance", "1.5")),
        ("searched_and_random", ("search", "--n-random", "0")),
        ("searched_and_random", ("search", "--random-seed", "-1")),
        ("grouped_cost", ("--n-budgets", "0")),
        ("grouped_cost", ("--search-seed", "-1")),
        ("granularity", ("--search-epochs", "0")),
        ("granularity", ("--mu", "0.5,1.5")),
        ("extra_relu", ("--search-epochs", "-3")),
        ("lambda_sweep", ("--mu", "2")),
        ("distillation_terms", ("scale", "--mu", "-1")),
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_runs(name, arguments):
    main = runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"))[name]

    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == 2
    assert f"Invalid value for '{arguments[-2]}'" in done.stderr


@given(st.integers(1, 6))
def test_budgets_lie_between_the_extremes_and_fall(n_budgets):
    result = make_result()
    most_s = float(result.cost.latency_s(0 * result.alpha + 1))
    least_s = float(result.cost.latency_s(0 * result.alpha))

    budgets_s = spread_budgets_s(result, n_budgets, "serial")

    assert [*budgets_s] == sorted({*budgets_s}, reverse=True)
    assert least_s < budgets_s[-1]
    assert budgets_s[0] < most_s


def run_script(name: str, *arguments: object) -> dict:
    main = runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"))[name]
    given = [*arguments, "--cost-table", PROFILE, *QUICK, "--json"]
    done = CliRunner().invoke(main, [*map(str, given)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "arguments", "n_outcomes"),
    [
        ("granularity", ("--mu", "0.5", "--search-epochs", "1"), 3),
        ("grouped_cost", ("--n-budgets", "1", "--search-epochs", "1"), 2),
        ("extra_relu", ("--mu", "0.3", "--sigma", "1", "--search-epochs", "1"), 2),
        ("distillation_terms", ("scale",), 4),
        ("lambda_sweep", ("--lambda", "0,1", "--mu", "0.5", "--search-epochs", "1"), 2),
    ],
)
def test_an_ablation_searches_trains_and_reports(tmp_path, name, arguments, n_outcomes):
    document = run_script(name, *arguments, "--seeds", "0", "--output", tmp_path)

    assert len(document["outcomes"]) >= n_outcomes
    assert all(0 <= one["accuracy"] <= 1 for one in document["outcomes"])
    assert (tmp_path / "results.md").exists()


def test_a_report_has_every_option_and_no_path_that_was_not_typed(
    tmp_path, monkeypatch
):
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["benchmarks/granularity.py", "--output", "out"])
    main = runpy.run_path(str(ROOT / "benchmarks" / "granularity.py"))["granularity"]
    arguments = [*QUICK, "--mu", "0.5", "--search-epochs", "1", "--seeds", "0"]

    done = CliRunner().invoke(main, [*arguments, "--output", "out"])

    assert done.exit_code == 0, done.stderr
    texts = [(tmp_path / "out" / f"results.{x}").read_text() for x in ("md", "csv")]
    texts.append((tmp_path / "out" / "results.json").read_text())
    for text in (*texts, done.stdout):
        assert str(tmp_path) not in text
        assert str(ROOT) not in text
        assert str(Path.home()) + "/" not in text
    made = json.loads(texts[-1])["conditions"]
    assert {*made["options"]} == {
        max(one.opts, key=len).lstrip("-") for one in main.params
    } - {"json"}
    assert made["options"]["lambda"] == LAMBDA_PER_S
    assert made["options"]["mu"] == [0.5]
    assert made["options"]["search-epochs"] == 1
    assert made["options"]["learning-rate"] is None
    folders = [one["folder"] for one in made["searches"]]
    assert folders == [f"out/searches/by-{x}" for x in ("layer", "row", "head")]
    assert made["searches"][0]["config"]["recipe"]["epochs"] == 1
    assert made["searches"][0]["lambda_per_s"] == pytest.approx(LAMBDA_PER_S)
    assert "out/searches/by-head: lambda 0.005 per s, cost additive, by" in texts[0]


def test_one_lambda_does_not_fall_and_what_is_not_trained_is_said(tmp_path):
    document = run_script(
        *("lambda_sweep", "--lambda", "0", "--mu", "0.5", "--search-epochs", "1"),
        *("--seeds", "0,1", "--teacher", "none", "--output", tmp_path),
    )

    findings = " ".join(document["findings"])
    assert "as lambda grows" not in findings
    assert "what the search of seed 0 derives; what those of 1 derive is" in findings


def test_searches_and_trainings_take_the_recipe_that_is_named(tmp_path):
    document = run_script(
        *("lambda_sweep", "--lambda", "0", "--search-epochs", "1", "--recipe", "quick"),
        *("--teacher", "none", "--output", tmp_path),
    )

    conditions = document["conditions"]
    (search,) = conditions["searches"]
    for recipe in (conditions["recipe"], search["config"]["recipe"]):
        assert recipe["augmentation"]["horizontal_flip"] == 0.5
        assert recipe["epochs"] == 1


def test_terms_of_the_distillation_take_the_heads_of_a_search(tmp_path):
    search = tmp_path / "made" / "searches" / "lambda-0-seed-0"
    made = run_script(
        *("lambda_sweep", "--lambda", "0", "--heads", "batched"),
        *("--search-epochs", "1", "--output", tmp_path / "made"),
    )

    taught = run_script(
        *("distillation_terms", search, "--teacher", "scale", "--seeds", "0"),
        *("--output", tmp_path / "kd"),
    )

    assert made["conditions"]["searches"][0]["config"]["cost"] == "grouped"
    assert taught["conditions"]["heads"] == "batched"
    assert taught["conditions"]["model"]["name"] == "digits"


def test_a_family_of_batched_heads_has_its_extremes_without_random_ones(tmp_path):
    search = tmp_path / "made" / "searches" / "lambda-0-seed-0"
    run_script(
        *("lambda_sweep", "--lambda", "0", "--heads", "batched"),
        *("--search-epochs", "1", "--output", tmp_path / "made"),
    )

    family = run_script(
        *("family", search, "--teacher", "none", "--seeds", "0"),
        *("--output", tmp_path / "family"),
    )

    (missing,) = [one for one in family["findings"] if "Nothing random" in one]
    assert "0 random choices within 1.00%" in missing
    assert "random" in {one["group"] for one in family["outcomes"]}


def test_a_family_and_random_ones_come_of_one_search(tmp_path):
    search = tmp_path / "made" / "searches" / "lambda-0-seed-0"
    run_script(
        "lambda_sweep",
        *("--lambda", "0", "--search-epochs", "1", "--output", tmp_path / "made"),
    )

    family = run_script(
        *("family", search, "--n-budgets", "1", "--teacher", "none"),
        *("--output", tmp_path / "family"),
    )
    compared = run_script(
        *("searched_and_random", search, "--n-random", "2", "--teacher", "none"),
        *("--seeds", "0", "--output", tmp_path / "random"),
    )

    groups = {one["group"] for one in family["outcomes"]}
    assert {"searched", "per-layer", "even", "random", "softmax", "2quad"} < groups
    assert (tmp_path / "family" / "pareto.png").exists()
    searches = family["conditions"]["searches"]
    assert [one["folder"] for one in searches] == [
        str(search),
        str(tmp_path / "family" / "searches" / "per-layer"),
    ]
    assert searches[0]["config"]["recipe"] == searches[1]["config"]["recipe"]
    (again,) = [one for one in family["findings"] if "mpcvit pareto" in one]
    assert again.count("model.safetensors") == len(family["outcomes"])
    low, high = compared["values"]["latency_ratio_range"]
    assert 0.99 <= low <= high <= 1.01
    assert "Verdict: the searched one is" in compared["findings"][-1]
