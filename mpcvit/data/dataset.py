"""Data sets by name, or from a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.nn.efficientvit import EfficientViT
from mpcprof.nn.preset import ModelPreset
from mpcvit.data.fitting import ImageShape, fit_pixels, shape_of
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly
from mpcvit.data.normalization import measure_normalization

if TYPE_CHECKING:
    from mpcvit.data.parquet import Files


DATASETS: Final = ("digits", "cifar10", "cifar100", "tiny-imagenet")


def load_dataset(
    name_or_folder: str,
    *,
    model: ModelPreset | EfficientViT | None = None,
    folder: Path | None = None,
    limit: int | None = None,
) -> Dataset:
    """Load a data set into memory.

    Args:
        name_or_folder: One of `DATASETS`, or a folder: train/ and val/ or test/ with a
            folder of images for each class, or parquet files.
        model: Whose size and channels the images are brought to; without one they
            stay as they are.
        folder: Where the files of a named data set are; data/NAME otherwise.
        limit: At most so many images of each split, classes in equal shares.

    Raises:
        UsageError: If there is no such data, or it is damaged.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit}: expected at least 1 image")
    shape = None if model is None else shape_of(model)
    place = folder or Path("data", name_or_folder)
    # each source brings a library of its own: only the one that is asked for loads
    match name_or_folder:
        case "digits":
            if folder is not None:
                raise UsageError(
                    f"digits come with scikit-learn, not from {str(folder)!r}: leave "
                    "out --data"
                )
            return _load_digits(shape, limit)
        case "cifar10" | "cifar100" as name:
            from mpcvit.data.cifar import load_cifar

            return load_cifar(name, place, shape, limit)
        case "tiny-imagenet":
            from mpcvit.data.image_folder import load_tiny_imagenet

            return load_tiny_imagenet(place, shape, limit)
    check_dataset(name_or_folder)
    if folder is not None:
        raise UsageError(
            f"{name_or_folder!r} is a folder of images, which are not read from "
            f"{str(folder)!r}: leave out --data"
        )
    return _load_folder(Path(name_or_folder), shape, limit)


def check_dataset(name_or_folder: str) -> None:
    """Refuse what is neither the name of a data set nor a folder.

    Raises:
        UnknownNameError: If it is neither.
    """
    if name_or_folder not in DATASETS and not Path(name_or_folder).is_dir():
        raise UnknownNameError(
            f"no data set and no folder {name_or_folder!r}; "
            f"{did_you_mean(name_or_folder, [*DATASETS])}"
        )


def _load_folder(folder: Path, shape: ImageShape | None, limit: int | None) -> Dataset:
    from mpcvit.data.image_folder import load_image_folder
    from mpcvit.data.parquet import load_parquet_folder

    files = _find_files(folder)
    if files:
        return load_parquet_folder(folder, files, shape, limit)
    return load_image_folder(folder, shape, limit)


def count_classes(folder: Path) -> int:
    """Count the classes of the images in a folder, without reading one.

    Raises:
        UsageError: If there are no such images.
    """
    from mpcvit.data.image_folder import find_classes
    from mpcvit.data.parquet import count_classes as count_labels

    files = _find_files(folder)
    return count_labels(files) if files else len(find_classes(folder))


def _find_files(folder: Path) -> "Files | None":
    from mpcvit.data.parquet import find_parquet

    return None if (folder / "train").is_dir() else find_parquet(folder)


_BRIGHTEST: Final = 16  # values are counts of 4x4 pixels
_N_TEST: Final = 360
_SPLIT_SEED: Final = 0  # one split for everyone, so that accuracies compare


def _load_digits(shape: ImageShape | None, limit: int | None) -> Dataset:
    """Return 1,437 images to train on and 360 to test on, classes in equal shares."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / _BRIGHTEST)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=_N_TEST,
        random_state=_SPLIT_SEED,
        stratify=labels,
    )
    sets = []
    for rows in (train, test):
        kept = rows[choose_evenly(labels[rows], limit)]
        images = fit_pixels(pixels[kept, None], shape)  # (n, c, S, S)
        sets.append(
            ImageSet(
                images=torch.from_numpy(images), labels=torch.from_numpy(labels[kept])
            )
        )
    return Dataset(
        name="digits",
        train=sets[0],
        test=sets[1],
        class_names=tuple(str(name) for name in bunch.target_names),
        normalization=measure_normalization(sets[0].images),
    )
