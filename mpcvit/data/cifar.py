"""CIFAR-10 and CIFAR-100: the three forms in which they are passed around."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from mpcprof.errors import UsageError
from mpcvit.data.cifar_batches import parse_binary_batch, parse_python_batch
from mpcvit.data.cifar_names import CIFAR10_CLASSES, CIFAR100_CLASSES
from mpcvit.data.fitting import ImageShape, fit_pixels
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly
from mpcvit.data.locating import read_members
from mpcvit.data.normalization import measure_normalization
from mpcvit.data.parquet import find_parquet, read_splits


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One version of the archive.

    Attributes:
        inner: The folder that it unpacks to.
        n_label_bytes: Of a record; 0 in the python version.
    """

    archive: str
    inner: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    n_label_bytes: int


_CIFAR10_TRAIN: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
_FORMS: Final = {
    "cifar10": (
        Form(
            archive="cifar-10-python.tar.gz",
            inner="cifar-10-batches-py",
            train=_CIFAR10_TRAIN,
            test=("test_batch",),
            n_label_bytes=0,
        ),
        Form(
            archive="cifar-10-binary.tar.gz",
            inner="cifar-10-batches-bin",
            train=tuple(f"{name}.bin" for name in _CIFAR10_TRAIN),
            test=("test_batch.bin",),
            n_label_bytes=1,
        ),
    ),
    "cifar100": (
        Form(
            archive="cifar-100-python.tar.gz",
            inner="cifar-100-python",
            train=("train",),
            test=("test",),
            n_label_bytes=0,
        ),
        Form(
            archive="cifar-100-binary.tar.gz",
            inner="cifar-100-binary",
            train=("train.bin",),
            test=("test.bin",),
            n_label_bytes=2,
        ),
    ),
}
_CLASSES: Final = {"cifar10": CIFAR10_CLASSES, "cifar100": CIFAR100_CLASSES}


def load_cifar(
    name: Literal["cifar10", "cifar100"],
    folder: Path,
    shape: ImageShape | None,
    limit: int | None,
) -> Dataset:
    """The set in that folder (or archive), whichever form it has there.

    Raises:
        UsageError: If it is not there, or damaged.
    """
    parquet = find_parquet(folder)
    if parquet:
        train, test = read_splits(parquet, shape, limit)
    else:
        place, form = _find_form(name, folder)
        read = partial(_read_split, place, form, shape=shape, limit=limit)
        train, test = read(form.train), read(form.test)
    return Dataset(
        name=name,
        train=train,
        test=test,
        class_names=_CLASSES[name],
        normalization=measure_normalization(train.images),
    )


def _find_form(name: str, folder: Path) -> tuple[Path, Form]:
    for form in _FORMS[name]:
        for place in (folder, folder / form.inner):
            if (place / form.train[0]).is_file():
                return place, form
        for place in (folder, folder / form.archive):
            if place.is_file() and place.name == form.archive:
                return place, form
    archives = " or ".join(form.archive for form in _FORMS[name])
    raise UsageError(
        f"no {name} in {str(folder)!r}: expected {archives}, unpacked or not, or "
        "train.parquet and test.parquet; give the folder that holds them"
    )


def _read_split(
    place: Path,
    form: Form,
    names: tuple[str, ...],
    *,
    shape: ImageShape | None,
    limit: int | None,
) -> ImageSet:
    parse = (
        partial(parse_binary_batch, n_label_bytes=form.n_label_bytes)
        if form.n_label_bytes
        else parse_python_batch
    )
    parts = [parse(data, source) for source, data in read_members(place, names)]
    pixels = np.concatenate([part for part, _ in parts])  # (n, 3, 32, 32)
    labels = np.concatenate([part for _, part in parts])  # (n,)
    kept = choose_evenly(labels, limit)
    images = fit_pixels(pixels[kept], shape)
    return ImageSet(
        images=torch.from_numpy(images), labels=torch.from_numpy(labels[kept])
    )
