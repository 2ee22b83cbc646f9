"""Tiny-ImageNet: 200 classes, 64x64 RGB, as its archive unpacks."""

from collections import Counter
from pathlib import Path
from typing import Final

from mpcprof.errors import UsageError
from mpcvit.data.fitting import ImageShape, shape_of_images
from mpcvit.data.image_folder import (
    Listing,
    list_classes,
    list_images,
    read_listing,
)
from mpcvit.data.image_set import Dataset
from mpcvit.data.locating import read_bytes
from mpcvit.data.normalization import measure_normalization

_INNER: Final = "tiny-imagenet-200"  # what it unpacks to


def load_tiny_imagenet(
    folder: Path, shape: ImageShape | None, limit: int | None
) -> Dataset:
    """The training images, and those of val/ to test on: test/ has no labels.

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
    notes = folder / "val_annotations.txt"
    if not notes.is_file():  # some sort val/ into folders like those of train/
        return list_images(folder, classes)
    label_of = {name: label for label, name in enumerate(classes)}
    paths, labels = [], []
    for number, line in enumerate(_read_lines(notes), 1):
        columns = line.split("\t")
        if len(columns) < 2 or columns[1] not in label_of:
            raise UsageError(
                f"{notes} line {number}: {line[:60]!r}: expected a file, a tab and one "
                f"of the {len(classes)} classes of train/"
            )
        paths.append(folder / "images" / columns[0])
        labels.append(label_of[columns[1]])
    return Listing(paths=tuple(paths), labels=tuple(labels))


def _read_words(path: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The first word for each class; its code where there is none or it is shared."""
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
