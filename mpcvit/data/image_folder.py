"""A folder of images: train/ and val/ or test/, with a folder for each class."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from mpcprof.errors import UsageError
from mpcvit.data.fitting import ImageShape, decode_images, read_bytes, shape_of_images
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly
from mpcvit.data.normalization import measure_normalization

_SUFFIXES: Final = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_TEST_FOLDERS: Final = ("test", "val", "valid", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Image files and their classes."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def load_image_folder(
    folder: Path, shape: ImageShape | None, limit: int | None
) -> Dataset:
    """Load a folder of images; the folders of train/ name the classes.

    Raises:
        UsageError: If the folder is laid out otherwise, or an image is damaged.
    """
    test_folder = _find_test(folder)
    class_names = find_classes(folder)
    train = read_listing(list_images(folder / "train", class_names), shape, limit)
    own_shape = shape_of_images(train.images)
    return Dataset(
        name=folder.resolve().name,
        train=train,
        test=read_listing(list_images(test_folder, class_names), own_shape, limit),
        class_names=class_names,
        normalization=measure_normalization(train.images),
    )


def find_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes, without reading an image.

    Raises:
        UsageError: If the folder is laid out otherwise.
    """
    _find_test(folder)
    return list_classes(folder / "train")


def _find_test(folder: Path) -> Path:
    if (folder / "train").is_dir():
        for name in _TEST_FOLDERS:
            if (folder / name).is_dir():
                return folder / name
    raise UsageError(
        f"{folder}: expected train/ and test/ or val/, with a folder of images for "
        "each class"
    )


def list_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted.

    Raises:
        UsageError: If there is none.
    """
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and not (path.name == "images" and not any(path.iterdir()))  # emptied
    )
    if not names:
        raise UsageError(f"{folder}: expected a folder of images for each class")
    return tuple(names)


def list_images(folder: Path, class_names: tuple[str, ...]) -> Listing:
    """List the image files of each class, sorted; other files are passed over.

    They lie in the folder of the class, or in a folder images/ there.

    Raises:
        UsageError: If a class is not one of those, or has no images.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    paths: list[Path] = []
    labels: list[int] = []
    for name in list_classes(folder):
        if name not in label_of:
            raise UsageError(
                f"{folder / name}: a class that train/ does not have: expected "
                f"{', '.join(class_names[:5])}{', ...' * (len(class_names) > 5)}"
            )
        found = _list_files(folder / name)
        paths += found
        labels += [label_of[name]] * len(found)
    return Listing(paths=tuple(paths), labels=tuple(labels))


def _list_files(folder: Path) -> list[Path]:
    inner = folder / "images"  # as in Tiny-ImageNet
    found = sorted(
        path
        for path in (inner if inner.is_dir() else folder).iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        raise UsageError(
            f"{folder}: no images: expected {', '.join(sorted(_SUFFIXES))}"
        )
    return found


def read_listing(
    listing: Listing, shape: ImageShape | None, limit: int | None
) -> ImageSet:
    """Read the listed images, as large as the first without a shape.

    Raises:
        UsageError: If one is damaged; the message names it.
    """
    labels = np.asarray(listing.labels, dtype=np.int64)
    kept = choose_evenly(labels, limit)
    files = ((str(listing.paths[i]), read_bytes(listing.paths[i])) for i in kept)
    images = decode_images(files, shape, n_images=len(kept))
    return ImageSet(
        images=torch.from_numpy(images), labels=torch.from_numpy(labels[kept])
    )


_INNER: Final = "tiny-imagenet-200"  # what it unpacks to


def load_tiny_imagenet(
    folder: Path, shape: ImageShape | None, limit: int | None
) -> Dataset:
    """Load the training images, and val/ to test on: test/ has no labels.

    Raises:
        UsageError: If it is not there, or damaged.
    """
    root = folder / _INNER if (folder / _INNER / "train").is_dir() else folder
    for name in ("train", "val"):
        if not (root / name).is_dir():
            raise UsageError(
                f"no tiny-imagenet in {str(folder)!r}: expected {name}/ of the "
                f"unpacked {_INNER}.zip; give the folder that holds it"
            )
    classes = list_classes(root / "train")
    train = read_listing(list_images(root / "train", classes), shape, limit)
    own_shape = shape_of_images(train.images)
    return Dataset(
        name="tiny-imagenet",
        train=train,
        test=read_listing(_list_val(root / "val", classes), own_shape, limit),
        class_names=_read_words(root / "words.txt", classes),
        normalization=measure_normalization(train.images),
    )


def _list_val(folder: Path, classes: tuple[str, ...]) -> Listing:
    """List val/ by its annotations, or by class where it was sorted into folders.

    Many sort it, in place or below images/, and leave the annotations behind.
    """
    notes = folder / "val_annotations.txt"
    noted = _list_noted(notes, classes) if notes.is_file() else None
    if noted and any(path.is_file() for path in noted.paths):
        return noted
    for root in (folder, folder / "images"):
        if any((root / name).is_dir() for name in classes):
            return list_images(root, classes)
    return noted or list_images(folder, classes)


def _list_noted(notes: Path, classes: tuple[str, ...]) -> Listing:
    """List the images that the annotations name, in images/ beside them."""
    label_of = {name: label for label, name in enumerate(classes)}
    paths, labels = [], []
    for number, line in enumerate(_read_lines(notes), 1):
        columns = line.split("\t")
        if len(columns) < 2 or columns[1] not in label_of:
            raise UsageError(
                f"{notes} line {number}: {line[:60]!r}: expected a file, a tab and one "
                f"of the {len(classes)} classes of train/"
            )
        paths.append(notes.parent / "images" / columns[0])
        labels.append(label_of[columns[1]])
    return Listing(paths=tuple(paths), labels=tuple(labels))


def _read_words(path: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return a word for each class; its code where there is none or it is shared."""
    lines = _read_lines(path) if path.is_file() else []
    columns = [line.split("\t", 1) for line in lines if "\t" in line]
    words = {code: text.split(",")[0].strip() for code, text in columns}
    names = [words.get(code, code) for code in classes]
    n_uses = Counter(names)
    return tuple(
        name if n_uses[name] == 1 else f"{name} ({code})"
        for code, name in zip(classes, names, strict=True)
    )


def _read_lines(path: Path) -> list[str]:
    try:
        return read_bytes(path).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file") from None
