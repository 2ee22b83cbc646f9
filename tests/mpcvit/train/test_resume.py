"""A training may be stopped at any moment: its end is that of an unbroken one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mpcprof.errors import FileBusyError, UsageError
from mpcprof.files import locked
from mpcvit.data.augmentation import Augmentation
from mpcvit.data.dataset import load_dataset
from mpcvit.train.log import read_log
from mpcvit.train.run import train
from tests.training_runs import (
    N_EPOCHS,
    N_IMAGES,
    N_STEPS,
    StopAfter,
    assert_same_run,
    free_architecture,
    interrupt,
    losses,
    tiny_recipe,
    tiny_request,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, one_thread) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    train(tiny_request(folder))
    return folder


@pytest.mark.parametrize("n_steps", [1, N_STEPS, N_STEPS + 2, 3 * N_STEPS])
def test_an_interrupted_run_resumes_to_the_same_bits(n_steps, tmp_path, unbroken):
    with pytest.raises(KeyboardInterrupt):
        train(tiny_request(tmp_path), StopAfter(n_steps, interrupt))

    result = train(tiny_request(tmp_path))

    assert result.n_resumed == (n_steps - 1) // N_STEPS
    assert_same_run(tmp_path, unbroken)


def test_what_was_logged_but_not_saved_is_logged_once(tmp_path, unbroken):
    with pytest.raises(KeyboardInterrupt):
        train(tiny_request(tmp_path), StopAfter(N_STEPS + 1, interrupt))
    log = tmp_path / "log.jsonl"
    record = json.loads(log.read_text().splitlines()[0])
    unsaved = json.dumps({**record, "epoch": 2, "losses": {"total": 9.0, "ce": 9.0}})
    log.write_text(f'{log.read_text()}{unsaved}\n{{"epoch": 3, "lea')

    train(tiny_request(tmp_path))

    assert losses(tmp_path) == losses(unbroken)


def test_a_finished_run_is_only_read_again(tmp_path, unbroken):
    again = train(tiny_request(unbroken))

    assert again.n_resumed == len(again.epochs) == N_EPOCHS
    assert again.accuracy == read_log(unbroken / "log.jsonl")[-1].metrics["accuracy"]


def test_a_run_that_mixes_in_its_first_epoch_alone_resumes_to_the_same_bits(tmp_path):
    first, always = (
        tiny_recipe(augmentation=Augmentation(mixup=1.0, mixing_epochs=n_epochs))
        for n_epochs in (1, None)
    )
    train(tiny_request(tmp_path / "first", first))
    train(tiny_request(tmp_path / "always", always))
    with pytest.raises(KeyboardInterrupt):
        train(tiny_request(tmp_path / "stopped", first), StopAfter(5, interrupt))

    train(tiny_request(tmp_path / "stopped", first))

    assert_same_run(tmp_path / "stopped", tmp_path / "first")
    assert losses(tmp_path / "first")[0] == losses(tmp_path / "always")[0]
    assert losses(tmp_path / "first")[1] != losses(tmp_path / "always")[1]


def test_statistics_and_what_is_gradual_resume_to_the_same_bits(tmp_path):
    recipe = tiny_recipe(
        mlp_norm=True,
        gradual_norm=0.8,
        gradual_activation=0.8,
        frozen_norm=0.2,
        range_penalty=0.1,
        range_bound=0.5,
    )
    unbroken, stopped = (
        tiny_request(tmp_path / name, recipe, architecture=free_architecture())
        for name in ("unbroken", "stopped")
    )
    train(unbroken)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, StopAfter(N_STEPS + 2, interrupt))

    train(stopped)

    assert_same_run(tmp_path / "stopped", tmp_path / "unbroken")
    assert losses(tmp_path / "stopped")[-1]["range"] > 0


def test_a_finished_run_whose_log_is_gone_is_refused_in_one_line(tmp_path):
    recipe = tiny_recipe(epochs=1)
    train(tiny_request(tmp_path, recipe))
    (tmp_path / "log.jsonl").unlink()

    with pytest.raises(UsageError, match=r"lacks epoch 1, .*--fresh"):
        train(tiny_request(tmp_path, recipe))


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_log_that_lost_an_epoch_is_refused_and_stays_as_it_is(
    lost, tmp_path, unbroken
):
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    log = tmp_path / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    left = "".join(line for number, line in enumerate(lines) if number != lost)
    log.write_text(left)

    with pytest.raises(UsageError, match=rf"lacks epoch {lost + 1}, .* put its line"):
        train(tiny_request(tmp_path))

    assert log.read_text() == left


def test_a_log_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe\n")

    with pytest.raises(UsageError, match=r"log\.jsonl' is not a log of epochs"):
        read_log(tmp_path / "log.jsonl")


def test_another_seed_ends_elsewhere(tmp_path, unbroken):
    train(tiny_request(tmp_path, tiny_recipe(seed=1)))

    assert losses(tmp_path) != losses(unbroken)


def test_a_run_with_other_settings_is_not_continued(unbroken):
    with pytest.raises(UsageError, match=r"recipe.epochs=3, not 4: start anew with"):
        train(tiny_request(unbroken, tiny_recipe(epochs=4)))


def test_a_run_says_where_its_images_lie_and_goes_on_where_they_lie_elsewhere(tmp_path):
    request = tiny_request(tmp_path, tiny_recipe(epochs=1))
    first, other = (
        replace(request, run=replace(request.run, data_folder=Path(name)))
        for name in ("first", "other")
    )
    images = load_dataset("digits", limit=N_IMAGES)
    train(first, dataset=images)

    assert train(other, dataset=images).n_resumed == 1
    assert json.loads((tmp_path / "config.json").read_text())["data"] == "first"


def test_a_fresh_run_replaces_what_is_there(tmp_path, unbroken):
    train(tiny_request(tmp_path, tiny_recipe(epochs=1)))

    train(tiny_request(tmp_path, is_fresh=True))

    assert_same_run(tmp_path, unbroken)


def test_one_process_writes_a_folder_at_a_time(tmp_path):
    with (
        locked(tmp_path / "run"),
        pytest.raises(FileBusyError, match="written by another process"),
    ):
        train(tiny_request(tmp_path))


@pytest.mark.parametrize("n_bytes", [0, 7, 200, -1])
def test_a_damaged_state_is_refused_in_one_line(n_bytes, tmp_path):
    recipe = tiny_recipe(epochs=1)
    train(tiny_request(tmp_path, recipe))
    state = tmp_path / "last.safetensors"
    state.write_bytes(state.read_bytes()[:n_bytes])

    with pytest.raises(UsageError, match=r"cannot resume from .*--fresh") as raised:
        train(tiny_request(tmp_path, recipe))

    assert "\n" not in str(raised.value)
