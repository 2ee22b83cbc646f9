"""A whole search on few images, and architectures from what it leaves."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mpcprof.errors import FileBusyError, UsageError
from mpcprof.files import locked
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import get_model, read_architecture
from mpcprof.progress import Silent
from mpcvit.cli.derive import command as derive_command
from mpcvit.cli.search import command as search_command
from mpcvit.search.alpha.objective import Penalty
from mpcvit.search.alpha.result import SETTINGS, TENSORS, read_result
from mpcvit.search.alpha.run import SearchConfig, search
from mpcvit.search.alpha.space import SearchSpace
from mpcvit.search.base import search_recipe
from mpcvit.train.config import Hardware, RunConfig
from mpcvit.train.log import read_log
from tests.committed import small_profile
from tests.image_folders import write_parquet_folder


def make_request(output: Path, **changes: object) -> SearchConfig:
    recipe = search_recipe("digits").with_changes(
        epochs=2, warmup_epochs=0, cooldown_epochs=0, batch_size=20
    )
    request = SearchConfig(
        profile=small_profile(),
        run=RunConfig(
            dataset="digits",
            recipe=recipe,
            output=output,
            limit=60,
            hardware=Hardware(accelerator="cpu"),
        ),
        network=NETWORKS["wan"],
        alpha_learning_rate=0.2,
    )
    return replace(request, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a search over heads and layers."""
    folder = tmp_path_factory.mktemp("finished")
    search(make_request(folder, space=SearchSpace(activation="layer")))
    return folder


@pytest.mark.parametrize("form", ["additive", "grouped"])
def test_the_more_a_second_costs_the_fewer_are_expected(tmp_path, form):
    latencies_s = [
        search(
            make_request(
                tmp_path / str(lambda_per_s),
                form=form,
                penalty=Penalty(lambda_per_s=lambda_per_s),
            )
        ).result.expected_latency_s
        for lambda_per_s in (0.0, 0.01, 1.0)
    ]

    assert latencies_s == sorted(latencies_s, reverse=True)
    assert latencies_s[0] > 1.1 * latencies_s[-1]


def test_a_search_by_a_plan_expects_fewer_seconds_and_resumes_by_no_other(tmp_path):
    plain = search(make_request(tmp_path / "plain")).result

    planned = search(make_request(tmp_path / "planned", plan="rewrites")).result

    assert planned.cost.rest_s < plain.cost.rest_s
    with pytest.raises(UsageError, match="holds a run with plan='rewrites', not ''"):
        search(make_request(tmp_path / "planned"))


def test_a_result_is_read_as_it_was_written(tmp_path):
    space = SearchSpace(granularity="row", activation="token")

    report = search(make_request(tmp_path, space=space))

    result = read_result(tmp_path)
    assert result.to_json() == report.result.to_json()
    np.testing.assert_array_equal(result.alpha, report.result.alpha)
    np.testing.assert_array_equal(result.beta, report.result.beta)
    assert result.alpha.shape == (3, 4, 17)
    expected_s = result.cost.latency_s(result.alpha, result.beta)
    assert result.expected_latency_s == pytest.approx(float(expected_s), rel=1e-5)


def test_every_term_of_the_loss_and_the_expected_seconds_are_logged(finished):
    for epoch in read_log(finished / "log.jsonl"):
        assert {*epoch.losses} == {"total", "ce", "attention", "activation"}
        assert {"accuracy", "expected_latency_s", "lambda_per_s"} < {*epoch.metrics}
        assert all(map(math.isfinite, epoch.metrics.values()))


class Interrupted(Exception):  # noqa: N818 - no error
    pass


class Interrupting(Silent):
    def say(self, line):
        raise Interrupted


def test_a_search_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    penalty = Penalty(lambda_per_s=None, target_s=12.0)
    whole = search(make_request(tmp_path / "whole", penalty=penalty))
    request = make_request(tmp_path / "stopped", penalty=penalty)
    with pytest.raises(Interrupted):
        search(request, Interrupting())

    resumed = search(request)

    assert resumed.n_resumed == 1
    np.testing.assert_array_equal(resumed.result.alpha, whole.result.alpha)
    assert resumed.result.lambda_per_s == whole.result.lambda_per_s
    assert (tmp_path / "stopped" / TENSORS).read_bytes() == (
        tmp_path / "whole" / TENSORS
    ).read_bytes()


def test_a_search_says_in_which_folder_its_images_were(tmp_path):
    request = make_request(tmp_path)
    run = replace(request.run, data_folder=Path("images"))

    settings = replace(request, run=run).settings(get_model("digits"), "0")

    assert settings.data == "images"


def test_a_folder_with_another_search_is_not_overwritten(finished):
    before = (finished / TENSORS).read_bytes()

    with pytest.raises(UsageError, match=r"penalty.lambda_per_s=.*--fresh"):
        search(make_request(finished, penalty=Penalty(lambda_per_s=0.7)))

    assert (finished / TENSORS).read_bytes() == before


def fresh(request: SearchConfig) -> SearchConfig:
    return replace(request, run=replace(request.run, is_fresh=True))


def test_a_fresh_search_that_is_refused_leaves_the_finished_one(tmp_path):
    request = make_request(tmp_path)
    search(request)

    with locked(tmp_path / "run"), pytest.raises(FileBusyError):
        search(fresh(request))

    assert read_result(tmp_path).n_epochs == 2


def test_a_fresh_search_that_is_stopped_leaves_no_result_of_the_former(tmp_path):
    request = make_request(tmp_path)
    search(request)

    with pytest.raises(Interrupted):
        search(fresh(request), Interrupting())

    with pytest.raises(UsageError, match=r"has no search"):
        read_result(tmp_path)


def test_a_search_takes_its_classes_from_a_folder_of_parquet_files(tmp_path):
    folder = write_parquet_folder(tmp_path / "images", 3)
    request = make_request(tmp_path / "run", model="digits")
    run = replace(request.run, dataset=str(folder), limit=None)

    search(replace(request, run=run))

    assert read_result(tmp_path / "run").model.n_classes == 3


@pytest.mark.parametrize("name", [SETTINGS, TENSORS])
@pytest.mark.parametrize("content", [None, b"{", b"[1]", b"\xff" * 20])
def test_a_search_that_is_not_whole_is_one_clear_line(
    tmp_path, finished, name, content
):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    if content is not None:
        (tmp_path / "run" / name).write_bytes(content)

    with pytest.raises(UsageError, match=r"has no search|cannot read the search"):
        read_result(tmp_path / "run")


@pytest.mark.parametrize("key", ["model", "space", "cost", "schema_version"])
def test_a_search_with_a_value_of_another_type_is_one_clear_line(
    key, tmp_path, finished
):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / SETTINGS
    values = json.loads(path.read_text())

    for other in (None, 3, "x", [1], {}, {"name": []}):
        path.write_text(json.dumps(values | {key: other}))

        with pytest.raises(UsageError) as caught:
            read_result(tmp_path / "run")
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"[1]", b"{"])
def test_settings_that_are_no_object_say_how_to_go_on(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(UsageError, match=r"config.json': .*start anew with --fresh"):
        search(make_request(tmp_path))


def test_the_commands_search_derive_and_write_what_can_be_read(tmp_path):
    run = tmp_path / "run"
    words = ["--cost-table", str(small_profile()), "--epochs", "7", "--limit", "20"]
    searched = CliRunner().invoke(
        search_command, [*words, "--output", str(run), "--json"], catch_exceptions=False
    )
    derived = CliRunner().invoke(
        derive_command,
        [str(run), "--mu", "0.5,0.25", "--budget", "12s", "--json"],
        catch_exceptions=False,
    )

    assert json.loads(searched.stdout)["n_epochs"] == 7
    documents = json.loads(derived.stdout)["architectures"]
    assert [one["n_accurate"] for one in documents[:2]] == [6, 3]
    assert documents[2]["predicted_s"] <= 12
    for one in documents:
        text = read_architecture(Path(one["path"])).to_json()
        assert json.loads(text) == one["architecture"]


def test_the_space_of_the_papers_plus_has_a_beta_for_each_token(tmp_path):
    words = ["--cost-table", str(small_profile()), "--epochs", "1", "--limit", "20"]
    words += ["--space", "mpcvit+", "--output", str(tmp_path), "--json"]

    searched = CliRunner().invoke(search_command, words, catch_exceptions=False)

    assert np.shape(json.loads(searched.stdout)["beta"]) == (3, 17)


def test_a_named_recipe_is_that_of_no_data_set_and_has_its_own_epochs():
    quick = search_recipe("cifar10", "quick")

    assert search_recipe("cifar10").epochs == 300
    assert quick == search_recipe("digits", "quick")
    assert (quick.epochs, quick.augmentation.mixup) == (8, 0.0)


def test_a_budget_alone_is_enough_and_its_seconds_are_printed(finished, tmp_path):
    path = tmp_path / "one.json"

    printed = CliRunner().invoke(
        derive_command,
        [str(finished), "--budget", "12s", "-o", str(path)],
        catch_exceptions=False,
    )

    assert printed.stdout.startswith("budget-12s: ")
    assert "predicted 1" in printed.stdout
    assert read_architecture(path).heads == "serial"


def test_a_threshold_of_beta_without_a_share_of_alpha_is_refused(finished):
    words = [str(finished), "--budget", "12s", "--sigma", "0.5"]

    printed = CliRunner().invoke(derive_command, words)

    assert isinstance(printed.exception, UsageError)
    assert str(printed.exception) == ("--sigma is of --mu: add that or leave it out")
