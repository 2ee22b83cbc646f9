"""A whole search over layers on few images, and what is derived from it."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import read_architecture
from mpcprof.predict import predict_architecture
from mpcprof.profile.io import read_profile
from mpcprof.progress import Silent
from mpcvit.cli.derive import command as derive_command
from mpcvit.cli.search import command as search_command
from mpcvit.pareto import ParetoConfig, gather
from mpcvit.search.layers.result import (
    FINALISTS,
    budget_lines,
    find_within,
    layer_family,
    read_layer_result,
)
from mpcvit.search.layers.run import LayerSearchConfig, layer_recipe, search_layers
from mpcvit.search.layers.space import LayerSpace, Sizes
from mpcvit.train.config import Hardware, RunConfig
from mpcvit.train.log import read_log
from tests.committed import small_profile

pytestmark = pytest.mark.usefixtures("one_thread")
SPACE = LayerSpace(
    name="small",
    mixing=("scale", "token_mix", "none"),
    norm=("batchnorm", "layernorm"),
    activation=("relu", "quad_linear"),
    mlp_ratio=(0, 1),
    models=(Sizes(n_layers=2), Sizes(n_layers=3, pooling="mean")),
)


def make_request(output: Path, **changes: object) -> LayerSearchConfig:
    recipe = layer_recipe("digits").with_changes(
        epochs=4, warmup_epochs=0, cooldown_epochs=0, batch_size=20
    )
    request = LayerSearchConfig(
        profile=small_profile(),
        run=RunConfig(
            dataset="digits",
            recipe=recipe,
            output=output,
            limit=40,
            hardware=Hardware(accelerator="cpu"),
        ),
        network=NETWORKS["wan"],
        space=SPACE,
        budgets_s=(2.0, 1.0),
        target_s=0.8,
        n_finalists=2,
        finalist_epochs=1,
    )
    return replace(request, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    search_layers(make_request(folder))
    return folder


def test_every_finalist_is_within_its_budget_and_trained(finished):
    result = read_layer_result(finished)

    cost_model = fit_cost_model(read_profile(small_profile()))
    assert len(result.finalists) >= 3
    for one in result.finalists:
        budget_s = float(one.label.split("-")[1].removesuffix("s"))
        priced = predict_architecture(cost_model, one.architecture)
        assert one.predicted_s == pytest.approx(priced.latency_s)
        assert one.predicted_s <= budget_s
        assert 0 <= one.accuracy <= 1
        assert (finished / one.label / "model.safetensors").exists()


@pytest.mark.parametrize("is_finished", [True, False])
def test_finalists_are_no_networks_whose_accuracy_is_that_of_test_images(
    is_finished, finished, tmp_path
):
    shutil.copytree(finished, tmp_path / "run")
    if is_finished:  # and went on with another budget
        label = read_layer_result(finished).finalists[0].label
        (tmp_path / "run" / label).rename(tmp_path / "run" / "budget-9s-1")
    else:
        (tmp_path / "run" / FINALISTS).unlink()
    config = ParetoConfig(
        runs=(str(tmp_path),), profile=small_profile(), network=NETWORKS["wan"]
    )

    with pytest.raises(UsageError, match=r"no model\.safetensors in or below"):
        gather(config)


def test_the_first_stage_logs_its_terms_and_chooses_after_a_quarter(finished):
    epochs = read_log(finished / "log.jsonl")

    assert all({*one.losses} == {"total", "ce"} for one in epochs)
    assert epochs[-1].metrics["expected_latency_s"] == pytest.approx(0.8, rel=0.1)
    likeliest = [one.metrics["mean_likeliest"] for one in epochs]
    assert likeliest[0] < likeliest[-1]


class Interrupted(Exception):  # noqa: N818 - no error
    pass


class Interrupting(Silent):
    """Stops when told so many lines."""

    def __init__(self, n_lines: int) -> None:
        self._left = n_lines

    def say(self, line: str) -> None:
        self._left -= 1
        if not self._left:
            raise Interrupted


def test_a_search_stopped_in_both_stages_ends_as_one_that_was_not(finished, tmp_path):
    for n_lines in (1, 6):  # the second epoch's line is the second, then networks'
        with pytest.raises(Interrupted):
            search_layers(make_request(tmp_path), Interrupting(n_lines))

    resumed = search_layers(make_request(tmp_path))

    whole = read_layer_result(finished)
    assert resumed.n_resumed == 4
    assert replace(resumed.result, duration_s=0) == replace(whole, duration_s=0)


def test_the_best_within_a_budget_is_the_most_accurate_then_the_quickest(finished):
    result = read_layer_result(finished)
    first, second, *_ = result.finalists
    alike = [
        replace(first, accuracy=0.5, predicted_s=1.5),
        replace(second, accuracy=0.5, predicted_s=1.2),
        replace(second, label="c", accuracy=0.9, predicted_s=1.9),
        replace(second, label="d", accuracy=None, predicted_s=0.4),
    ]
    made = replace(result, finalists=tuple(alike))

    assert find_within(made, 1.6).finalist == second.label
    assert find_within(made, 2.0).finalist == "c"
    assert find_within(made, 2.0).n_compared == 3
    with pytest.raises(UsageError, match=r"budget 100ms: expected at least 400ms"):
        find_within(made, 0.1)


def test_a_budget_whose_trainings_all_diverged_is_said_so_and_hides_no_other(finished):
    result = read_layer_result(finished)
    quick, other = (
        replace(one, accuracy=accuracy, predicted_s=predicted_s)
        for one, accuracy, predicted_s in zip(
            result.finalists, (None, 0.5), (0.9, 1.8), strict=False
        )
    )
    made = replace(result, finalists=(quick, other))

    with pytest.raises(UsageError, match=r"each of the 1 networks .* a lower"):
        find_within(made, 1.0)
    first, second = budget_lines(made)

    assert other.label in first
    assert second.startswith("budget 1s: the training of each")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lambda_per_s": -1.0, "target_s": None}, "lambda=-1.0: expected loss per"),
        ({"lambda_per_s": math.nan, "target_s": None}, "lambda=nan: expected loss per"),
        ({"target_s": 0.0}, "budget 0 s: expected above 0"),
        ({"budgets_s": (1.0000001, 1.0000002)}, "budget-1s asked for twice"),
    ],
)
def test_seconds_that_make_no_sense_are_refused(changes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        make_request(tmp_path, **changes)


def test_what_a_search_over_layers_has_not_is_one_clear_line(finished, tmp_path):
    result = read_layer_result(finished)
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / FINALISTS).write_text('{"model": 3}')

    with pytest.raises(UsageError, match="has no alpha; give --budget"):
        layer_family(result, mus=[0.5])
    with pytest.raises(UsageError, match="budget-2s asked for twice, to six digits"):
        layer_family(result, budgets_s=[2.0000001, 2.0000002])
    with pytest.raises(UsageError, match="seconds of the search are of heads batched"):
        layer_family(result, heads="serial")
    with pytest.raises(UsageError, match="cannot read search over layers"):
        read_layer_result(tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--space", "free", "--granularity", "row"], "--granularity does not go with"),
        (["--finalists", "3"], "--finalists does not go with the space mpcvit"),
        (["--eta", "0.1"], "--eta is of a searched activation: add --activation"),
        (["--linear", "identity"], "--linear is of a searched activation"),
        (["--space", "fre"], "no space 'fre'; did you mean free"),
        (["--space", "free", "--plan", "plan.json"], "expected rewrites or none"),
    ],
)
def test_options_of_another_space_are_refused(words, said, tmp_path):
    profile = str(small_profile())
    given = ["--cost-table", profile, "--output", str(tmp_path / "run"), *words]

    printed = CliRunner().invoke(search_command, given)

    assert isinstance(printed.exception, UsageError)
    assert said in str(printed.exception)


def test_the_commands_search_a_space_and_derive_from_it(tmp_path):
    space, run = tmp_path / "mine.json", tmp_path / "run"
    space.write_text(json.dumps({**SPACE.to_json(), "name": "mine"}))
    words = ["--space", str(space), "--budget", "1.5s", "--finalists", "1"]
    words += ["--epochs", "2", "--limit", "30", "--output", str(run), "--json"]
    profile = str(small_profile())

    searched = CliRunner().invoke(
        search_command, ["--cost-table", profile, *words], catch_exceptions=False
    )
    derived = CliRunner().invoke(
        derive_command, [str(run), "--json"], catch_exceptions=False
    )

    assert json.loads(searched.stdout)["space"]["name"] == "mine"
    (one,) = json.loads(derived.stdout)["architectures"]
    assert one["label"] == "budget-1.5s"
    assert one["predicted_s"] <= 1.5
    text = read_architecture(Path(one["path"])).to_json()
    assert json.loads(text) == one["architecture"]
