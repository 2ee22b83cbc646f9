"""Experiments: trained alike, once only, compared fairly, reported whole."""

import csv
import io
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from training_runs import tiny_architecture, tiny_recipe

from mpcprof.blocks.presets import get_model
from mpcprof.costmodel import load_cost_model
from mpcprof.errors import EngineError, UsageError
from mpcprof.network import NETWORKS
from mpcprof.profile_io import read_profile
from mpcvit.cost import SearchCost
from mpcvit.experiments.choices import (
    draw_at_cost,
    spread_budgets_s,
    warn_of_indifference,
)
from mpcvit.experiments.comparison import compare_means
from mpcvit.experiments.jobs import run_jobs
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import TRAINED, run_trials, train_one
from mpcvit.experiments.setting import Setting
from mpcvit.experiments.trial import Outcome, SeedRun, Trial, standard_error
from mpcvit.search.baselines import evenly
from mpcvit.search.derive import derive_by_budget
from mpcvit.search.result import SearchResult
from mpcvit.search_space import SearchSpace
from mpcvit.training.hardware import Hardware
from mpcvit.training.loop import DivergedError
from mpcvit.training.run_request import RunRequest

ROOT = Path(__file__).parent.parent
PROFILE = ROOT / "profiles" / "semi2k.parquet"
QUICK = ("--limit", "40", "--epochs", "1", "--accelerator", "cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_setting(folder: Path, **changes: object) -> Setting:
    run = RunRequest(
        dataset="digits",
        recipe=tiny_recipe(epochs=1),
        output=folder,
        limit=40,
        hardware=Hardware(accelerator="cpu"),
    )
    setting = Setting(run=run, profile=PROFILE, teacher="none", seeds=(0, 1))
    return replace(setting, **changes)  # type: ignore[arg-type]


def make_trials(*names: str) -> list[Trial]:
    return [
        Trial(group="uniform", name=name, architecture=tiny_architecture(name))
        for name in names
    ]


def make_result(form: str = "additive", activation: str = "none") -> SearchResult:
    """As a search would leave it, with alpha at random."""
    model, space = get_model("digits"), SearchSpace(activation=activation)  # type: ignore[arg-type]
    cost_model = load_cost_model(read_profile(PROFILE))
    random = np.random.default_rng(0)
    shape = space.beta_shape(model)
    return SearchResult(
        model=model,
        space=space,
        dataset="digits",
        network=str(NETWORKS["wan"]),
        profile=PROFILE.name,
        records_digest=cost_model.records_digest,
        cost=SearchCost.from_model(cost_model, model, space, NETWORKS["wan"], form),  # type: ignore[arg-type]
        target_s=None,
        alpha=random.random(space.alpha_shape(model)),
        beta=None if shape is None else random.random(shape),
        lambda_per_s=0.01,
        eta_per_s=0.01,
        expected_latency_s=12.0,
        accuracy=0.5,
        n_epochs=1,
        duration_s=1.0,
    )


def make_outcome(*accuracies: float | None, name: str = "one") -> Outcome:
    return Outcome(
        trial=Trial(group="g", name=name, architecture=tiny_architecture()),
        predicted_s=10.0,
        n_test=360,
        runs=tuple(
            SeedRun(
                seed=seed,
                checkpoint=Path("x"),
                accuracy=accuracy,
                duration_s=1.0,
                n_resumed=0,
                failure="" if accuracy is not None else "not finite",
            )
            for seed, accuracy in enumerate(accuracies)
        ),
    )


def test_every_architecture_is_trained_with_every_seed_into_a_folder_of_its_own(
    tmp_path,
):
    setting = make_setting(tmp_path)

    scale, relu = run_trials(setting, make_trials("scale", "relu_softmax"))

    assert len(scale.accuracies) == 2
    assert scale.predicted_s < relu.predicted_s
    assert scale.n_test == 40
    assert {p.parent.name for p in (tmp_path / TRAINED).rglob("model.safetensors")} == {
        f"{name}-seed-{seed}" for name in ("scale", "relu_softmax") for seed in (0, 1)
    }


def test_what_is_trained_is_not_trained_again_and_more_seeds_add_to_it(tmp_path):
    trials = make_trials("scale")
    (first,) = run_trials(make_setting(tmp_path, seeds=(0,)), trials)

    (second,) = run_trials(make_setting(tmp_path), trials)

    assert [run.n_resumed for run in second.runs] == [1, 0]
    assert second.accuracies[0] == first.accuracies[0]
    assert second.runs[0].duration_s == first.runs[0].duration_s


def test_another_recipe_does_not_pass_for_what_is_there(tmp_path):
    setting = make_setting(tmp_path, seeds=(0,))
    run_trials(setting, make_trials("scale"))
    other = replace(setting, run=replace(setting.run, recipe=tiny_recipe(epochs=2)))

    with pytest.raises(UsageError, match=r"recipe\.epochs=1, not 2"):
        run_trials(other, make_trials("scale"))


def test_a_teacher_is_trained_first_and_teaches_all_that_do_not_refuse(tmp_path):
    taught, refusing = make_trials("scale", "relu_softmax")
    refusing = replace(refusing, kd=frozenset())
    (teacher,) = run_trials(
        make_setting(tmp_path / "t", seeds=(0,)), make_trials("softmax")
    )
    setting = make_setting(
        tmp_path, seeds=(0,), teacher=str(teacher.runs[0].checkpoint)
    )

    run_trials(setting, [taught, refusing])

    configs = [
        json.loads((tmp_path / TRAINED / t.folder_name(0) / "config.json").read_text())
        for t in (taught, refusing)
    ]
    assert [config["kd"] for config in configs] == [["feature", "logits"], []]
    assert configs[1]["teacher_sha256"] is None


def test_two_trials_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="uniform/scale: expected each once"):
        run_trials(make_setting(tmp_path), make_trials("scale", "scale"))


def test_processes_of_their_own_give_the_weights_that_one_process_gives(tmp_path):
    trials = make_trials("scale", "2quad")
    run_trials(make_setting(tmp_path / "here", seeds=(0,)), trials)

    run_trials(make_setting(tmp_path / "apart", seeds=(0,), n_jobs=2), trials)

    for trial in trials:
        here, apart = (
            load_file(
                tmp_path / where / TRAINED / trial.folder_name(0) / "model.safetensors"
            )
            for where in ("here", "apart")
        )
        assert {*here} == {*apart}
        assert all(torch.equal(here[name], apart[name]) for name in here)


def test_an_error_in_a_process_of_its_own_is_raised_here(tmp_path):
    setting = make_setting(tmp_path)
    architecture = tiny_architecture()
    requests = [
        setting.train_request(
            architecture, tmp_path / str(seed), seed=seed, teacher=None, kd=frozenset()
        )
        for seed in (0, 1)
    ]
    missing = [replace(one, teacher=Path("none.st")) for one in requests]

    with pytest.raises(UsageError, match="teacher but no kd"):
        run_jobs(train_one, missing, n_jobs=2)


def die(job, observer):
    raise SystemExit(3)


def test_a_process_that_dies_is_said_so(tmp_path):
    setting = make_setting(tmp_path)
    request = setting.train_request(
        tiny_architecture(), tmp_path, seed=0, teacher=None, kd=frozenset()
    )

    with pytest.raises(EngineError, match="ended with 3; finished epochs are kept"):
        run_jobs(die, [request, request], n_jobs=2)


def test_one_that_diverges_does_not_stop_the_others(tmp_path):
    def work(job, observer):
        if job.run.recipe.seed == 0:
            raise DivergedError("not finite")
        return job.run.recipe.seed

    setting = make_setting(tmp_path)
    requests = [
        setting.train_request(
            tiny_architecture(), tmp_path, seed=seed, teacher=None, kd=frozenset()
        )
        for seed in (0, 1)
    ]

    diverged, one = run_jobs(work, requests)

    assert isinstance(diverged, DivergedError)
    assert one == 1


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


@given(st.integers(1, 6))
def test_budgets_lie_between_the_extremes_and_fall(n_budgets):
    result = make_result()
    most_s = float(result.cost.latency_s(0 * result.alpha + 1))
    least_s = float(result.cost.latency_s(0 * result.alpha))

    budgets_s = spread_budgets_s(result, n_budgets, "serial")

    assert [*budgets_s] == sorted({*budgets_s}, reverse=True)
    assert least_s < budgets_s[-1]
    assert budgets_s[0] < most_s


def test_a_difference_is_held_against_the_spread_of_both():
    clear = compare_means([0.98, 0.97], [0.90, 0.91, 0.92])
    alone = compare_means([0.98], [0.96, 0.98])

    assert clear.difference == pytest.approx(0.065)
    assert clear.standard_error == pytest.approx((5e-5 / 2 + 1e-4 / 3) ** 0.5)
    assert clear.is_certain
    assert not alone.is_certain
    assert compare_means([0.98], [0.9]).standard_error is None


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
    )

    report.write(tmp_path)

    text = (tmp_path / "results.md").read_text()
    assert "| g | one |  | 85.00% | 7.07% | 2 | 10 s |  |" in text
    assert "360 test images: one image is 0.28%" in text
    assert "Diverged, and left out of the means: g/lost seed 0." in text
    rows = [*csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text()))]
    assert [row["accuracy"] for row in rows] == ["0.9", "0.8", ""]
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["outcomes"][0]["accuracy"] == pytest.approx(0.85)
    made = document["conditions"]
    assert made["command"] == "python benchmarks/x.py"
    assert made["deployment"].startswith("spu-0.9.5 semi2k")
    assert made["network"] == "44MBps,40ms"
    assert len(made["records_sha256"]) == 64


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
    low, high = compared["values"]["latency_ratio_range"]
    assert 0.99 <= low <= high <= 1.01
    assert "Verdict: the searched one is" in compared["findings"][-1]
