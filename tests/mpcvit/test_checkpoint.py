"""A checkpoint comes back as it went, or not at all."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import save_file

from mpcprof.errors import FileError, UsageError
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.preset import MODELS
from mpcvit.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from mpcvit.checkpoint_header import has_weights
from mpcvit.cli.public import command as public
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.secure.evaluate import plain_logits

MODEL = replace(MODELS["digits"], n_layers=1, n_classes=3)


def make_checkpoint(model=MODEL, **overrides) -> Checkpoint:
    torch.manual_seed(0)
    architecture = uniform_architecture(model, attention="linformer", heads="batched")
    values = {
        "architecture": architecture,
        "weights": VisionTransformer(architecture).weights(),
        "normalization": Normalization(mean=(0.3,), deviation=(0.1,)),
        "dataset": "digits",
        "class_names": ("none", "één", "two"),
        "accuracy": 0.975,
    }
    return Checkpoint(**(values | overrides))


def saved(folder: Path, **overrides) -> Path:
    path = folder / "runs" / "model.safetensors"
    write_checkpoint(path, make_checkpoint(**overrides))
    return path


@pytest.mark.parametrize("accuracy", [0.975, 0.0, None])
def test_a_checkpoint_comes_back_as_it_went(tmp_path, accuracy):
    checkpoint = make_checkpoint(accuracy=accuracy)

    found = read_checkpoint(saved(tmp_path, accuracy=accuracy))

    for name in ("architecture", "normalization", "dataset", "class_names", "accuracy"):
        assert getattr(found, name) == getattr(checkpoint, name)
    assert {*found.weights} == {*checkpoint.weights}
    for name, weight in checkpoint.weights.items():
        assert torch.equal(found.weights[name], weight)


def test_the_network_in_a_checkpoint_gives_the_same_logits(tmp_path):
    architecture = make_checkpoint().architecture
    network = VisionTransformer(architecture).eval()
    images = torch.rand(2, 1, 8, 8)

    found = read_checkpoint(saved(tmp_path, weights=network.weights())).build_model()

    assert not found.training
    assert torch.equal(found(images), network(images))


def test_the_plain_model_takes_some_images_at_a_time(monkeypatch):
    monkeypatch.setattr("mpcvit.secure.evaluate._N_AT_A_TIME", 2)
    checkpoint, seen = make_checkpoint(), []
    images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    watched = checkpoint.build_model()
    watched.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    monkeypatch.setattr(Checkpoint, "build_model", lambda _: watched)

    logits = plain_logits(checkpoint, images)

    assert seen == [2, 2, 1]
    expected = watched(checkpoint.normalize(images)).detach().double().numpy()
    assert logits == pytest.approx(expected, abs=1e-5)


def test_equal_networks_are_equal_bytes(tmp_path):
    """The library orders metadata at random; a teacher is known by its digest."""
    paths = [tmp_path / f"{number}.safetensors" for number in range(8)]

    for path in paths:
        write_checkpoint(path, make_checkpoint())

    assert len({path.read_bytes() for path in paths}) == 1


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = saved(tmp_path, accuracy=0.1)

    write_checkpoint(path, make_checkpoint(accuracy=0.2))

    assert [*path.parent.iterdir()] == [path]
    assert read_checkpoint(path).accuracy == 0.2


def test_the_public_part_does_not_take_the_place_of_the_weights(tmp_path):
    path = saved(tmp_path)
    given = [str(path), "-o", f"{path.parent}/../{path.parent.name}/{path.name}"]

    with pytest.raises(UsageError, match="would write over the checkpoint"):
        CliRunner().invoke(public, given, catch_exceptions=False)

    assert has_weights(path)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = saved(tmp_path, accuracy=0.1)

    def stop(descriptor):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(FileError, match=r"cannot write .*no space left"):
        write_checkpoint(path, make_checkpoint(accuracy=0.2))

    assert [*path.parent.iterdir()] == [path]
    assert read_checkpoint(path).accuracy == 0.1


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 32},
        {"name": "own", "pooling": "mean"},
        {"name": "own", "has_qkv_bias": True, "own_head_dim": 5, "mlp_ratio": 0.5},
    ],
)
def test_sizes_of_its_own_are_read_back(tmp_path, changes):
    own = replace(MODEL, **changes)

    read = read_checkpoint(saved(tmp_path, model=own))

    assert read.architecture.model == own
    assert set(read.weights) == set(read.build_model().weights())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"weights": {}}, "missing"),
        ({"class_names": ("a", "b")}, "2 class names: the model has 3 classes"),
        (
            {"normalization": Normalization(mean=(0.0,) * 3, deviation=(1.0,) * 3)},
            "3 channels normalised: the model has 1",
        ),
        ({"accuracy": 97.5}, r"accuracy=97.5: expected a share in \[0, 1\]"),
    ],
)
def test_parts_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(UsageError, match=message):
        make_checkpoint(**overrides)


def test_a_network_that_diverged_is_refused():
    weights = {k: v.clone() for k, v in make_checkpoint().weights.items()}
    weights["head.bias"][1] = float("nan")

    with pytest.raises(UsageError, match=r"head\.bias has entries that are not finite"):
        make_checkpoint(weights=weights)


@pytest.mark.parametrize("n_bytes", [0, 5, 100, 3000])
def test_a_file_cut_off_is_one_line(tmp_path, n_bytes):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:n_bytes])

    with pytest.raises(UsageError, match=r"cannot read checkpoint .*model") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda p: None, lambda p: p.write_text("")]
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, make):
    make(tmp_path / "model")

    with pytest.raises(UsageError, match=r"cannot read checkpoint .*mpcvit train"):
        read_checkpoint(tmp_path / "model")


def rewritten(folder: Path, **metadata: str | None) -> Path:
    path = saved(folder)
    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    kept = {k: v for k, v in {**old, **metadata}.items() if v is not None}
    save_file(dict(make_checkpoint().weights), path, metadata=kept)
    return path


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"kind": None}, "not a checkpoint of mpcvit train"),
        ({"schema_version": "2"}, "schema_version=2: expected 1"),
        ({"architecture": "{"}, "not JSON"),
        ({"architecture": None}, "not JSON"),
        ({"normalization": None}, "damaged metadata, .*: normalization is missing"),
        ({"normalization": "[1]"}, "damaged metadata"),
        ({"normalization": '{"mean": "1", "deviation": [1]}'}, "mean='1': expected"),
        ({"normalization": '{"mean": [1], "deviation": [1, 1]}'}, "expected one fin"),
        ({"normalization": '{"mean": [1e999], "deviation": [1]}'}, "a finite number"),
        (
            {"normalization": f'{{"mean": [{10**400}], "deviation": [1]}}'},
            "damaged metadata, .*a finite number",
        ),
        ({"class_names": "3"}, "damaged metadata"),
        ({"class_names": '"abc"'}, "'abc': expected list"),
        ({"class_names": "[" * 100_000}, "damaged metadata, .*recursion"),
        ({"accuracy": '"high"'}, "damaged metadata"),
        ({"class_names": json.dumps(["a"])}, "1 class names: the model has 3"),
    ],
)
def test_foreign_or_damaged_metadata_is_refused(tmp_path, metadata, message):
    path = rewritten(tmp_path, **metadata)

    with pytest.raises(UsageError, match=rf"model\.safetensors: .*{message}"):
        read_checkpoint(path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    other = uniform_architecture(MODEL, attention="softmax")

    path = rewritten(tmp_path, architecture=other.to_json())

    with pytest.raises(
        UsageError, match=r"unknown \(layers\.0\.attention\.linformer\.0"
    ):
        read_checkpoint(path)
