"""What the image owner prepares, and what everybody may read of a checkpoint."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mpcprof.errors import FileError, UsageError
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.preset import MODELS
from mpcvit.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from mpcvit.checkpoint_header import open_checkpoint, read_header
from mpcvit.data import dataset as datasets
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.secure.image_owner import prepare_apart, prepare_images, write_patches

MODEL = replace(MODELS["digits"], n_layers=1)
NAMES = tuple("0123456789")


@pytest.fixture
def checkpoint(tmp_path):
    architecture = uniform_architecture(MODEL, attention="scale")
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, make_checkpoint(architecture, NAMES))
    return path


def make_checkpoint(architecture, class_names):
    return Checkpoint(
        architecture=architecture,
        weights=VisionTransformer(architecture).weights(),
        normalization=Normalization(mean=(0.5,), deviation=(0.25,)),
        dataset="digits",
        class_names=class_names,
    )


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(pixels).save(path)
    return path


def test_everybody_may_know_all_of_a_checkpoint_but_its_weights(checkpoint):
    public = read_header(checkpoint)

    assert public.architecture == uniform_architecture(MODEL, attention="scale")
    assert public.normalization == Normalization(mean=(0.5,), deviation=(0.25,))
    assert (public.dataset, public.class_names) == ("digits", NAMES)


class HeaderOnly:
    """A safetensors file of which only the header can be read."""

    def __init__(self, path, framework):
        self._file = safe_open(path, framework=framework)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def metadata(self):
        return self._file.metadata()

    def keys(self):
        return self._file.keys()

    def get_slice(self, name):
        shape = self._file.get_slice(name).get_shape()
        return SimpleNamespace(get_shape=lambda: shape)


def test_no_weight_is_read_for_what_everybody_may_know(checkpoint, monkeypatch):
    expected = read_header(checkpoint)
    monkeypatch.setattr("safetensors.safe_open", HeaderOnly)

    assert read_header(checkpoint) == expected
    with open_checkpoint(checkpoint, "numpy") as file:
        assert not hasattr(file, "get_tensor")


def test_the_model_owner_loads_no_torch():
    code = "import sys, mpcvit.secure.model_owner; print('torch' in sys.modules)"

    out = subprocess.check_output([sys.executable, "-c", code], text=True)

    assert out.strip() == "False"


def rewritten(path, weights=None, **metadata):
    with safe_open(path, framework="numpy") as file:
        old = file.metadata()
    save_file(weights or load_file(path), path, metadata={**old, **metadata})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"kind": "search"}, "kind='search': not a checkpoint of mpcvit train"),
        ({"schema_version": "2"}, "schema_version=2: expected 1"),
        ({"architecture": "{"}, "architecture: not JSON"),
        ({"normalization": "[1]"}, "damaged metadata"),
        ({"class_names": '["a"]'}, "1 class names: the model has 10 classes"),
        ({"accuracy": "97.5"}, r"accuracy=97.5: expected a share in \[0, 1\]"),
    ],
)
@pytest.mark.parametrize("read", [read_header, read_checkpoint])
def test_whoever_reads_damaged_metadata_is_told_the_same(
    read, metadata, message, checkpoint
):
    rewritten(checkpoint, **metadata)

    with pytest.raises(UsageError, match=rf"model\.safetensors: {message}") as caught:
        read(checkpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_header, read_checkpoint])
def test_a_checkpoint_that_lacks_a_weight_of_its_architecture_is_refused(
    read, checkpoint
):
    weights = load_file(checkpoint)
    del weights["head.bias"]
    rewritten(checkpoint, weights)

    with pytest.raises(UsageError, match=r"weights: 1 missing \(head\.bias\)"):
        read(checkpoint)


def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": np.zeros(3, np.float32)}, foreign)

    with pytest.raises(UsageError, match=r"foreign\.safetensors: kind=None.*train"):
        read_header(foreign)
    with pytest.raises(UsageError, match=r"cannot read checkpoint .*absent"):
        read_header(tmp_path / "absent.safetensors")


def test_a_truncated_checkpoint_is_refused_before_any_party_starts(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])

    with pytest.raises(UsageError, match=r"cannot read checkpoint"):
        read_header(checkpoint)


def test_patches_are_normalised_pixels_row_by_row(checkpoint, picture, tmp_path):
    public = read_header(checkpoint)

    prepared = prepare_images(
        [str(picture)], public, data=None, n_batch=1, folder=tmp_path
    )

    (path,) = prepared.patches
    patches = np.load(path)
    first = np.array([0, 4, 32, 36]) / 255  # the upper left 2 x 2 pixels
    assert patches.shape == (1, 16, 4)
    assert patches.dtype == np.float32
    assert patches[0, 0] == pytest.approx((first - 0.5) / 0.25, abs=1e-6)
    assert prepared.labels == (None,)


def test_the_last_batch_is_filled_up_to_the_size_of_the_others(checkpoint, tmp_path):
    public = read_header(checkpoint)
    pixels = torch.full((5, 1, 8, 8), 255, dtype=torch.uint8)

    paths = write_patches(pixels, public, n_batch=3, folder=tmp_path)

    batches = [np.load(path) for path in paths]
    assert [batch.shape for batch in batches] == [(3, 16, 4)] * 2
    assert batches[1][:2] == pytest.approx(2.0)  # (1 - 0.5) / 0.25
    assert not batches[1][2].any()


def test_the_image_owners_own_process_prepares_the_same(checkpoint, picture, tmp_path):
    images = ["digits:17", str(picture)]
    here, apart = tmp_path / "here", tmp_path / "apart"
    here.mkdir()
    apart.mkdir()

    expected = prepare_images(
        images, read_header(checkpoint), data=None, n_batch=2, folder=here
    )
    prepared = prepare_apart(images, checkpoint, data=None, n_batch=2, folder=apart)

    assert prepared.labels == expected.labels
    assert prepared.labels[1] is None
    assert np.array_equal(np.load(prepared.patches[0]), np.load(expected.patches[0]))
    assert prepared.patches[0].parent == apart


@pytest.mark.parametrize("class_names", [("a", "b", "c"), (*NAMES[:-1], "ten")])
def test_a_label_of_other_classes_than_the_models_is_none(class_names, tmp_path):
    model = replace(MODEL, n_classes=len(class_names))
    architecture = uniform_architecture(model, attention="scale")
    path = tmp_path / "other.safetensors"
    write_checkpoint(path, make_checkpoint(architecture, class_names))

    prepared = prepare_images(
        ["digits:17"], read_header(path), data=None, n_batch=1, folder=tmp_path
    )

    assert prepared.labels == (None,)


def test_images_of_one_data_set_are_loaded_once(checkpoint, tmp_path, monkeypatch):
    loaded = []
    load = datasets.load_dataset

    def load_counting(name, **options):
        loaded.append(name)
        return load(name, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_counting)
    public = read_header(checkpoint)

    prepared = prepare_images(
        ["digits:0", "digits:1", "digits:2"],
        public,
        data=None,
        n_batch=3,
        folder=tmp_path,
    )

    assert loaded == ["digits"]
    assert None not in prepared.labels


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("digits:360", r"digits:360: digits has 360 test images, .* digits:359"),
        ("nowhere.png", r"cannot read image 'nowhere\.png'"),
        ("digits:last", r"cannot read image 'digits:last'"),
    ],
)
def test_an_image_that_is_not_there_is_one_line(image, reason, checkpoint, tmp_path):
    public = read_header(checkpoint)

    with pytest.raises(UsageError, match=reason) as seen:
        prepare_images([image], public, data=None, n_batch=1, folder=tmp_path)

    assert "\n" not in str(seen.value)


def test_what_goes_wrong_in_the_image_owners_process_is_said_here(checkpoint, tmp_path):
    with pytest.raises(UsageError, match=r"^cannot read image 'nowhere\.png'"):
        prepare_apart(
            ["nowhere.png"], checkpoint, data=None, n_batch=1, folder=tmp_path
        )


def test_patches_that_find_no_place_name_their_folder(checkpoint, tmp_path):
    header, images = read_header(checkpoint), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    with pytest.raises(FileError, match=r"cannot write '.*/none': No such .* TMPDIR"):
        write_patches(images, header, n_batch=1, folder=tmp_path / "none")
