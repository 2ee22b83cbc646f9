"""The scripts that search and train, as a person calls them, at a tiny size."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.networks import NAMED, families
from benchmarks.searched_and_random import compare
from mpcprof.nn.architecture import get_model, read_architecture
from mpcvit.cli.search import command as search_command
from mpcvit.search.alpha.objective import LAMBDA_PER_S
from tests import ROOT
from tests.committed import small_profile
from tests.studies import QUICK, make_outcome

pytestmark = pytest.mark.usefixtures("one_thread")
Folders = pytest.TempPathFactory
ONE_EPOCH = ("--search-epochs", "1")
UNTAUGHT = ("--teacher", "none")


def run_study(name: str, *arguments: object) -> dict:
    main = importlib.import_module(f"benchmarks.{name}").main
    given = [*arguments, "--cost-table", small_profile(), *QUICK, "--json"]
    done = CliRunner().invoke(main, [*map(str, given)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def one_lambda(tmp_path_factory: Folders) -> dict:
    """Report of searches under one lambda by two seeds, of which one is trained."""
    return run_study(
        *("fig9_lambda", "--lambda", "0", "--mu", "0.5", "--search-epochs", "1"),
        *("--seeds", "0,1", *UNTAUGHT, "--recipe", "quick"),
        *("--output", tmp_path_factory.mktemp("serial")),
    )


@pytest.fixture(scope="module")
def search(one_lambda: dict) -> Path:
    """Folder of a finished search."""
    return Path(one_lambda["conditions"]["searches"][0]["folder"])


@pytest.fixture(scope="module")
def batched_search(tmp_path_factory: Folders) -> Path:
    """Folder of a finished search with heads batched."""
    folder = tmp_path_factory.mktemp("batched")
    made = run_study(
        *("fig9_lambda", "--lambda", "0", "--search-epochs", "1"),
        *("--heads", "batched", *UNTAUGHT, "--output", folder),
    )
    assert made["conditions"]["searches"][0]["config"]["cost"] == "grouped"
    return folder / "searches" / "lambda-0-seed-0"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("pareto_family", ("search", "--n-budgets", "-1")),
        ("pareto_family", ("search", "--n-random", "-1")),
        ("pareto_family", ("search", "--tolerance", "1.5")),
        ("searched_and_random", ("search", "--n-random", "0")),
        ("searched_and_random", ("search", "--random-seed", "-1")),
        ("grouped_cost", ("--n-budgets", "0")),
        ("grouped_cost", ("--search-seed", "-1")),
        ("table3_granularity", ("--search-epochs", "0")),
        ("table3_granularity", ("--mu", "0.5,1.5")),
        ("table5_extra_relu", ("--search-epochs", "-3")),
        ("fig9_lambda", ("--mu", "2")),
        ("table4_distillation", ("scale", "--mu", "-1")),
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_runs(name, arguments):
    main = importlib.import_module(f"benchmarks.{name}").main

    done = CliRunner().invoke(main, arguments)

    assert done.exit_code == 2
    assert f"Invalid value for '{arguments[-2]}'" in done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "n_outcomes"),
    [
        ("grouped_cost", ("--n-budgets", "1", *ONE_EPOCH, *UNTAUGHT), 2),
        (
            "table5_extra_relu",
            ("--mu", "0.3", "--sigma", "1", *ONE_EPOCH, *UNTAUGHT),
            2,
        ),
        ("table4_distillation", ("scale",), 4),
        ("fig9_lambda", ("--lambda", "0,1", "--mu", "0.5", *ONE_EPOCH, *UNTAUGHT), 2),
    ],
)
def test_an_ablation_searches_trains_and_reports(tmp_path, name, arguments, n_outcomes):
    document = run_study(name, *arguments, "--seeds", "0", "--output", tmp_path)

    check_outcomes(document, n_outcomes)
    assert (tmp_path / "results.md").exists()


def check_outcomes(document: dict, n_outcomes: int) -> None:
    assert len(document["outcomes"]) >= n_outcomes
    assert all(0 <= one["accuracy"] <= 1 for one in document["outcomes"])


def test_a_report_has_every_option_and_no_path_that_was_not_typed(
    tmp_path, monkeypatch
):
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["benchmarks/table3_granularity.py", "--output", "out"]
    )
    main = importlib.import_module("benchmarks.table3_granularity").main
    arguments = [*QUICK, "--mu", "0.5", "--search-epochs", "1", "--seeds", "0"]

    done = CliRunner().invoke(main, [*arguments, "--output", "out"])

    assert done.exit_code == 0, done.stderr
    texts = [(tmp_path / "out" / f"results.{x}").read_text() for x in ("md", "csv")]
    texts.append((tmp_path / "out" / "results.json").read_text())
    for text in (*texts, done.stdout):
        assert str(tmp_path) not in text
        assert str(ROOT) not in text
        assert str(Path.home()) + "/" not in text
    document = json.loads(texts[-1])
    check_outcomes(document, 3)
    made = document["conditions"]
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


def test_one_lambda_does_not_fall_and_what_is_not_trained_is_said(one_lambda):
    findings = " ".join(one_lambda["findings"])
    assert "As lambda grows" not in findings
    assert "Trained, with every seed: what the search of seed 0 derives." in findings


def test_searches_and_trainings_take_the_recipe_that_is_named(one_lambda):
    conditions = one_lambda["conditions"]
    searched = [one["config"]["recipe"] for one in conditions["searches"]]

    assert len(searched) == 2
    for recipe in (conditions["recipe"], *searched):
        assert recipe["augmentation"]["horizontal_flip"] == 0.5
        assert recipe["epochs"] == 1


def test_terms_of_the_distillation_take_the_heads_of_a_search(tmp_path, batched_search):
    taught = run_study(
        *("table4_distillation", batched_search, "--teacher", "scale"),
        *("--seeds", "0", "--output", tmp_path),
    )

    assert taught["conditions"]["heads"] == "batched"
    assert taught["conditions"]["model"]["name"] == "digits"


def test_a_family_of_batched_heads_has_its_extremes_without_random_ones(
    tmp_path, batched_search
):
    family = run_study(
        *("pareto_family", batched_search, *UNTAUGHT, "--seeds", "0"),
        *("--output", tmp_path),
    )

    (missing,) = [one for one in family["findings"] if "Nothing random" in one]
    assert "0 random choices within 1.00%" in missing
    assert "random" in {one["group"] for one in family["outcomes"]}


def test_a_family_has_every_baseline_and_a_picture(tmp_path, search):
    family = run_study(
        *("pareto_family", search, "--n-budgets", "1", *UNTAUGHT),
        *("--output", tmp_path),
    )

    groups = {one["group"] for one in family["outcomes"]}
    assert {"searched", "per-layer", "even", "random", "softmax", "2quad"} < groups
    assert (tmp_path / "pareto.png").exists()
    searches = family["conditions"]["searches"]
    assert [one["folder"] for one in searches] == [
        str(search),
        str(tmp_path / "searches" / "per-layer"),
    ]
    assert searches[0]["config"]["recipe"] == searches[1]["config"]["recipe"]
    (again,) = [one for one in family["findings"] if "mpcvit pareto" in one]
    assert again.count("model.safetensors") == len(family["outcomes"])


def test_random_choices_cost_what_the_searched_one_does(tmp_path, search):
    compared = run_study(
        *("searched_and_random", search, "--n-random", "2", *UNTAUGHT),
        *("--seeds", "0", "--output", tmp_path),
    )

    low, high = compared["values"]["latency_ratio_range"]
    assert 0.99 <= low <= high <= 1.01
    assert "Searched less the mean of the random ones: " in compared["findings"][-1]


def test_random_networks_of_a_space_of_layers_cost_what_the_found_one_does(tmp_path):
    space, search = tmp_path / "space.json", tmp_path / "search"
    options = {"mixing": ["scale", "token_mix", "none"], "activation": ["relu"]}
    options |= {"norm": ["batchnorm"], "mlp_ratio": [0, 1, 2], "name": "mine"}
    space.write_text(json.dumps(options))
    words = ["--space", space, "--budget", "2s", "--finalists", "1", *QUICK]
    words += ["--cost-table", small_profile(), "--output", search]
    CliRunner().invoke(search_command, [*map(str, words)], catch_exceptions=False)

    compared = run_study(
        *("searched_and_random", search, "--n-random", "2", *UNTAUGHT),
        *("--seeds", "0", "--tolerance", "0.2", "--output", tmp_path / "compared"),
    )

    low, high = compared["values"]["latency_ratio_range"]
    assert 0.8 <= low <= high <= 1.2
    assert compared["conditions"]["heads"] == "batched"
    assert compared["conditions"]["recipe"]["mlp_norm"] is True
    assert compared["conditions"]["searches"][0]["space"]["name"] == "mine"
    assert {one["group"] for one in compared["outcomes"]} == {"searched", "random"}


def test_families_and_a_found_network_are_trained_alike_and_drawn(tmp_path):
    found = families(get_model("digits"))["ResMLP", "squares"]
    (tmp_path / "a.json").write_text(found.to_json())

    document = run_study(
        *("pareto_spaces", "--only", "CNN", "--also", f"found={tmp_path / 'a.json'}"),
        *(*UNTAUGHT, "--seeds", "0,1", "--output", tmp_path),
    )

    named = [(one["group"], one["name"]) for one in document["outcomes"]]
    assert named == [("CNN", "relu"), ("CNN", "squares"), ("found", "a")]
    assert document["conditions"]["recipe"]["mlp_norm"] is True
    assert [len(one["runs"]) for one in document["outcomes"]] == [2, 2, 2]
    written = tmp_path / "architectures" / "CNN-relu.json"
    assert read_architecture(written).model.stem[6].channels == 64
    assert (tmp_path / "pareto.png").exists()


@pytest.mark.parametrize("name", ["digits", "cifar-small", "cifar"])
def test_families_fit_every_model_and_those_of_cifar_are_the_ones_that_were_measured(
    name,
):
    found = families(get_model(name))

    assert len(found) == 13
    if name == "cifar":
        names = {"cnn": ("CNN", "relu"), "stem-squares": ("conv-stem", "squares")}
        for own, key in names.items():
            sizes = {"model": replace(found[key].model, name=NAMED[own].model.name)}
            assert replace(found[key], **sizes) == NAMED[own]


def test_one_random_choice_is_held_against_by_its_own_seeds():
    (_, random, difference), values = compare(
        make_outcome(0.7, 0.72), [make_outcome(0.71, 0.71)]
    )

    assert "sd" not in random
    assert "above 0 of them and level with 1" in random
    assert "+0.00 points" in difference
    assert values["random_spread"] is None
