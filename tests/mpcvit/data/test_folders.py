"""Folders of images, Tiny-ImageNet among them, and a single image to infer on."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import get_model
from mpcprof.nn.preset import ModelPreset
from mpcvit.data.dataset import count_classes, load_dataset
from mpcvit.data.fitting import read_image

CIFAR = get_model("cifar")
DIGITS = get_model("digits")


def make_pixels(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_image(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_folder(root: Path, test: str = "val") -> None:
    """Two classes, 3 images each to train on and one each to test on."""
    for seed, name in enumerate(("cat", "dog")):
        for number in range(3):
            pixels = make_pixels(32, 32, 3, seed=seed * 10 + number)
            write_image(root / "train" / name / f"{number}.png", pixels)
        write_image(root / test / name / "9.png", make_pixels(32, 32, 3, seed=99))


@pytest.mark.parametrize("test", ["val", "test"])
def test_the_folders_of_an_image_folder_are_its_classes(
    test: str, tmp_path: Path
) -> None:
    write_folder(tmp_path, test)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")

    loaded = load_dataset(str(tmp_path), model=CIFAR)

    assert loaded.class_names == ("cat", "dog")
    assert count_classes(tmp_path) == 2
    assert loaded.name == tmp_path.name
    assert loaded.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert loaded.test.labels.tolist() == [0, 1]
    first_dog = make_pixels(32, 32, 3, seed=10).transpose(2, 0, 1)
    assert np.array_equal(loaded.train.images[3], first_dog)


def test_without_a_model_images_keep_their_size_and_a_limit_counts_per_class(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path)

    loaded = load_dataset(str(tmp_path), limit=4)

    assert loaded.train.images.shape == (4, 3, 32, 32)
    assert loaded.train.labels.tolist() == [0, 0, 1, 1]


def test_images_of_other_sizes_are_resized_and_a_line_says_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "train" / "cat" / "wide.png", make_pixels(40, 64, 3))

    loaded = load_dataset(str(tmp_path), model=CIFAR)

    assert loaded.train.images.shape == (7, 3, 32, 32)
    assert caplog.messages == ["1 of 7 images resized to 32 x 32 pixels (bicubic)"]


def test_a_damaged_image_is_named_in_one_line(tmp_path: Path) -> None:
    write_folder(tmp_path)
    path = tmp_path / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(UsageError, match=r"dog.1.png: not a whole image") as caught:
        load_dataset(str(tmp_path), model=CIFAR)
    assert "\n" not in str(caught.value)


def test_a_folder_of_images_is_read_from_no_other_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)

    with pytest.raises(UsageError, match=r"not read from .other.: leave out --data"):
        load_dataset(str(tmp_path), folder=Path("other"))


def test_a_class_that_is_only_tested_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "val" / "emu" / "1.png", make_pixels(32, 32, 3))

    with pytest.raises(UsageError, match=r"emu: .* not have: expected cat, dog$"):
        load_dataset(str(tmp_path))


def test_a_folder_laid_out_otherwise_says_what_is_expected(tmp_path: Path) -> None:
    for ask in (lambda: load_dataset(str(tmp_path)), lambda: count_classes(tmp_path)):
        with pytest.raises(UsageError, match=r"expected train/ and test/ or val/"):
            ask()

    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cat: no images: expected \.bmp"):
        load_dataset(str(tmp_path))


def write_tiny_imagenet(root: Path) -> None:
    for seed, code in enumerate(("n01", "n02", "n03")):
        for number in range(2):
            name = f"{code}_{number}.JPEG"
            pixels = make_pixels(64, 64, 3, seed=seed)
            write_image(root / "train" / code / "images" / name, pixels)
    for number in range(4):
        path = root / "val" / "images" / f"val_{number}.JPEG"
        write_image(path, make_pixels(64, 64, 3))
    notes = [
        f"val_{number}.JPEG\t{code}\t0\t0\t9\t9\n"
        for number, code in enumerate(("n03", "n01", "n02", "n03"))
    ]
    (root / "val" / "val_annotations.txt").write_text("".join(notes))
    words = "n00\tother\nn01\tcrane, a bird\nn02\tcrane\nn03\tjacamar, bird\n"
    (root / "words.txt").write_text(words)
    (root / "test" / "images").mkdir(parents=True)  # its labels were never published


def test_tiny_imagenet_is_tested_on_its_validation_images(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path / "tiny-imagenet-200")

    loaded = load_dataset("tiny-imagenet", folder=tmp_path)

    assert loaded.train.images.shape == (6, 3, 64, 64)
    assert loaded.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert loaded.test.labels.tolist() == [2, 0, 1, 2]
    assert loaded.class_names == ("crane (n01)", "crane (n02)", "jacamar")


def test_tiny_imagenet_with_sorted_validation_images_will_do(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path)
    (tmp_path / "val" / "val_annotations.txt").unlink()
    for path in (tmp_path / "val" / "images").iterdir():
        path.unlink()
    (tmp_path / "val" / "images").rmdir()
    for below in ("n02", "n03/images"):
        write_image(tmp_path / "val" / below / "a.JPEG", make_pixels(64, 64, 3))

    loaded = load_dataset("tiny-imagenet", folder=tmp_path)

    assert loaded.test.labels.tolist() == [1, 2]


@pytest.mark.parametrize("sorted_in", ["val", "val/images"])
def test_tiny_imagenet_sorted_with_its_annotations_left_will_do(
    sorted_in: str, tmp_path: Path
) -> None:
    write_tiny_imagenet(tmp_path)
    codes = ("n03", "n01", "n02", "n03")  # as the annotations say
    for number, code in enumerate(codes):
        target = tmp_path / sorted_in / code / f"val_{number}.JPEG"
        target.parent.mkdir(exist_ok=True)
        (tmp_path / "val" / "images" / target.name).rename(target)

    loaded = load_dataset("tiny-imagenet", folder=tmp_path)

    assert loaded.test.labels.tolist() == [0, 1, 2, 2]


def test_a_validation_image_that_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path)
    (tmp_path / "val" / "images" / "val_2.JPEG").unlink()

    with pytest.raises(UsageError, match=r"cannot read .*val_2.JPEG"):
        load_dataset("tiny-imagenet", folder=tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_text("a.JPEG\tn77\n")
    with pytest.raises(UsageError, match=r"val_annotations.txt line 1: .*3 classes"):
        load_dataset("tiny-imagenet", folder=tmp_path)


def test_no_tiny_imagenet_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected train/ of the unpacked"):
        load_dataset("tiny-imagenet", folder=tmp_path)


def test_an_image_of_the_right_kind_is_read_as_it_is(tmp_path: Path) -> None:
    colour, grey = make_pixels(32, 32, 3), make_pixels(8, 8)
    write_image(tmp_path / "colour.png", colour)
    write_image(tmp_path / "grey.png", grey)

    read_colour = read_image(tmp_path / "colour.png", CIFAR)
    read_grey = read_image(tmp_path / "grey.png", DIGITS)

    assert np.array_equal(read_colour, colour.transpose(2, 0, 1))
    assert np.array_equal(read_grey, grey[None])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("model", [CIFAR, DIGITS], ids=["cifar", "digits"])
def test_any_kind_of_picture_comes_in_the_size_and_colours_of_the_model(
    mode: str, model: ModelPreset, tmp_path: Path
) -> None:
    path = tmp_path / "image.tiff"
    Image.new(mode, (50, 20), 0 if mode != "CMYK" else (0, 0, 0, 255)).save(path)

    pixels = read_image(path, model)

    assert pixels.shape == (model.n_channels, model.image_size, model.image_size)
    assert int(pixels.max()) == 0  # black stays black


def test_16_bits_of_grey_become_8_without_clipping(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    write_image(tmp_path / "deep.png", values)  # type: ignore[arg-type]

    pixels = read_image(tmp_path / "deep.png", DIGITS)

    np.testing.assert_allclose(pixels[0], values / 257, atol=1)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    pixels = make_pixels(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)

    upright = read_image(tmp_path / "turned.png", DIGITS)

    assert np.array_equal(upright[0], pixels[::-1, ::-1])


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")

    with pytest.raises(UsageError, match=r"a.png: not a whole image \(PNG, JPEG"):
        read_image(tmp_path / "a.png", CIFAR)
    with pytest.raises(UsageError, match=r"cannot read image .*b.png': No such file"):
        read_image(tmp_path / "b.png", CIFAR)
