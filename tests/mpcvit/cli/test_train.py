"""`mpcvit train` from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mpcprof.errors import EngineError, UsageError
from mpcprof.nn.architecture import read_architecture
from mpcvit.checkpoint import read_checkpoint
from mpcvit.cli.train import command
from mpcvit.data.dataset import load_dataset
from mpcvit.train.evaluate import evaluate_plain
from tests.image_folders import write_image_folder, write_parquet_folder
from tests.training_runs import (
    StopAfter,
    free_architecture,
    interrupt,
    tiny_architecture,
)

QUICK = ("--limit", "40", "--epochs", "1", "--accelerator", "cpu", "--json")


pytestmark = pytest.mark.usefixtures("one_thread")


def call(*arguments: object) -> str:
    given = [str(argument) for argument in (*arguments, *QUICK)]
    result = CliRunner().invoke(command, given, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def write_architecture(folder: Path, attention: str) -> Path:
    path = folder / f"{attention}.json"
    path.write_text(tiny_architecture(attention).to_json())
    return path


def test_a_student_learns_from_the_checkpoint_that_its_teacher_left(tmp_path):
    teacher = write_architecture(tmp_path, "relu_softmax")
    student = write_architecture(tmp_path, "scale")

    taught = json.loads(call(teacher, "--output", tmp_path / "teacher"))
    text = call(
        *(student, "--output", tmp_path / "student", "--gamma", "0.5"),
        *("--teacher", taught["checkpoint"]),
    )

    document = json.loads(text)
    losses = document["losses"]
    assert losses["total"] == pytest.approx(
        losses["ce"] + losses["logits"] + 0.5 * losses["feature"], rel=1e-4
    )
    checkpoint = read_checkpoint(Path(document["checkpoint"]))
    assert checkpoint.architecture == tiny_architecture("scale")
    dataset = load_dataset("digits", model=checkpoint.architecture.model, limit=40)
    assert evaluate_plain(checkpoint, dataset) == document["accuracy"]


def write_own(folder: Path, **changes: object) -> Path:
    sizes = {"n_layers": 1, "n_heads": 3, "width": 24, "mlp_ratio": 2, "n_classes": 10}
    images = {"image_size": 8, "patch": 4, "n_channels": 1, "pooling": "mean"}
    choices = {"attention": [["scale"] * 3], "activation": ["relu"]}
    path = folder / "own.json"
    text = {"model": "own"} | sizes | images | choices | changes
    path.write_text(json.dumps({k: v for k, v in text.items() if v is not None}))
    return path


def test_a_network_of_a_users_own_sizes_is_trained(tmp_path):
    given = write_own(tmp_path, qkv_bias=True)

    document = json.loads(call(given, "--output", tmp_path / "run"))

    checkpoint = read_checkpoint(Path(document["checkpoint"]))
    assert checkpoint.architecture == read_architecture(given)
    dataset = load_dataset("digits", model=checkpoint.architecture.model, limit=40)
    assert evaluate_plain(checkpoint, dataset) == document["accuracy"]


def test_what_keeps_squares_in_range_is_asked_for_and_kept(tmp_path):
    given = tmp_path / "free.json"
    given.write_text(free_architecture().to_json())

    text = call(
        *(given, "--mlp-norm", "--gradual-norm", "0.5", "--gradual-activation", "0.5"),
        *("--range-penalty", "0.1", "--range-bound", "0.5", "--clip-batchnorm"),
        *("--frozen-norm", "0.25"),
        *("--teacher", "cnn", "--output", tmp_path / "run"),
    )

    document = json.loads(text)
    assert {"ce", "logits", "range"} <= {*document["losses"]}
    recipe = json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]
    asked = ("mlp_norm", "gradual_norm", "gradual_activation", "range_penalty")
    assert [recipe[name] for name in asked] == [True, 0.5, 0.5, 0.1]
    assert (recipe["range_bound"], recipe["frozen_norm"]) == (0.5, 0.25)
    assert recipe["clip_batchnorm"]
    trained = read_checkpoint(Path(document["checkpoint"]))
    dataset = load_dataset("digits", model=trained.architecture.model, limit=40)
    assert evaluate_plain(trained, dataset) == document["accuracy"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_classes": 9}, r"channels, pixels and classes .* model own expects"),
        (
            {"image_size": None, "patch": None, "n_channels": None, "n_tokens": 5},
            "model own takes 5 embedded tokens and no images: .* give image_size",
        ),
    ],
)
def test_sizes_that_no_image_fits_are_one_line(tmp_path, changes, message):
    given = write_own(tmp_path, **changes)

    with pytest.raises(UsageError, match=message) as error:
        call(given, "--output", tmp_path / "run")

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("write", [write_parquet_folder, write_image_folder])
def test_a_folder_of_images_says_how_many_classes_a_variant_has(write, tmp_path):
    classes = 3 if write is write_parquet_folder else ("a", "b", "c")
    folder = write(tmp_path / "images", classes)

    text = call(
        *("relu_softmax", "--model", "digits", "--dataset", folder),
        *("--recipe", "digits", "--batch-size", "4", "--output", tmp_path / "run"),
    )

    trained = read_checkpoint(Path(json.loads(text)["checkpoint"]))
    assert trained.architecture.model.n_classes == 3


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    options = ("--model", "digits", "--recipe", "digits", "--batch-size", "4")
    for name, classes in (("pets", ("cat", "dog")), ("beasts", ("cat", "wolf"))):
        write_image_folder(tmp_path / name, classes)
    taught = call(
        *("relu_softmax", "--dataset", tmp_path / "pets", *options),
        *("--output", tmp_path / "teacher"),
    )

    with pytest.raises(UsageError, match=r"'wolf' as class 1, the teacher 'dog'"):
        call(
            *("scale", "--dataset", tmp_path / "beasts", *options),
            *("--output", tmp_path / "student"),
            *("--teacher", json.loads(taught)["checkpoint"]),
        )


def test_what_an_architecture_file_says_is_not_passed_over(tmp_path):
    path = write_architecture(tmp_path, "scale")

    with pytest.raises(UsageError, match=r"quad: .*scale.json has gelu_tanh; leave"):
        call(path, "--activation", "quad", "--output", tmp_path / "refused")
    same = call(path, "--activation", "gelu_tanh", "--output", tmp_path / "same")
    batched = call(path, "--heads", "batched", "--output", tmp_path / "batched")

    heads = [
        read_checkpoint(Path(json.loads(text)["checkpoint"])).architecture.heads
        for text in (same, batched)
    ]
    assert heads == ["serial", "batched"]


def test_ctrl_c_leaves_a_line_that_says_how_to_go_on(tmp_path, monkeypatch):
    class Impatient(StopAfter):
        def __init__(self, title: str) -> None:
            super().__init__(1, interrupt)

        def __enter__(self) -> "Impatient":
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("mpcvit.cli.train.progress_bar", Impatient)

    with pytest.raises(EngineError) as raised:
        call(write_architecture(tmp_path, "scale"), "--output", tmp_path / "run")

    assert str(raised.value) == (
        f"stopped; finished epochs are in {tmp_path / 'run'}, the same command goes on "
        "there"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("softmx",), "neither a file nor a variant; did you mean softmax"),
        (("softmax", "--kd", "logits"), "kd but no teacher: give --teacher and --kd"),
        (("softmax", "--teacher", "none.st"), r"none\.st"),
        (
            ("softmax", "--dataset", "digit"),
            "no data set and no folder .digit.; did you",
        ),
        (("softmax", "--model", "digit"), "no model 'digit'; did you mean digits"),
        (("softmax", "--recipe", "quik"), "no recipe 'quik'; did you mean quick"),
        (
            ("softmax", "--learning-rate", "1e-9"),
            "min_learning_rate=1e-05: expected from 0 to the peak",
        ),
        (("softmax", "--model", "cifar", "--chi", "-1"), "weights of at least 0"),
        (("softmax", "--gradual-norm", "2"), "gradual_norm=2.0: expected a share"),
        (("softmax", "--chi", "nan"), "chi=nan.*all finite"),
        (("softmax", "--temperature", "inf"), "temperature=inf.*all finite"),
        (("softmax", "--learning-rate", "inf"), "learning_rate=inf: expected .*finite"),
        (("softmax", "--beta", "2"), "--beta is of the teacher.s logits: give --tea"),
        (("softmax", "--temperature", "2"), "--temperature is of the teacher.s logits"),
        (
            ("softmax", "--teacher", "cnn", "--gamma", "0.5"),
            "--gamma is of the teacher.s feature: give --teacher and --kd feature, or",
        ),
        (("softmax", "--range-bound", "3"), "--range-bound is of --range-penalty: add"),
        (
            ("softmax", "--recipe", "cifar100", "--no-clip-batchnorm"),
            "--clip-batchnorm is of --clip-norm: add that or leave it out",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(arguments, message, tmp_path):
    with pytest.raises(UsageError, match=message) as raised:
        call(*arguments, "--output", tmp_path)

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("accelerator", "message"),
    [
        ("gpux", r"accelerator 'gpux': expected auto, cpu, cuda, gpu$"),
        ("cuda", r"accelerator 'cuda': torch finds no GPU here; give --accelerator"),
    ],
)
def test_a_device_that_is_not_there_is_said_before_images_are_read(
    accelerator, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    nowhere = ("--dataset", "cifar10", "--data", tmp_path / "nowhere")
    words = ["softmax", *nowhere, "--accelerator", accelerator]

    with pytest.raises(UsageError, match=message) as raised:
        CliRunner().invoke(command, [*map(str, words)], catch_exceptions=False)

    assert "\n" not in str(raised.value)


def test_help_needs_no_torch():
    code = (
        "import sys, mpcvit.cli.train as t; "
        "print({'torch', 'lightning_fabric', 'kornia'} & {*sys.modules})"
    )

    found = subprocess.check_output([sys.executable, "-c", code], text=True)

    assert found.strip() == "set()"
