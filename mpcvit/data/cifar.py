"""CIFAR-10 and CIFAR-100: the three forms in which they are passed around."""

import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mpcprof.errors import UsageError
from mpcvit.data.fitting import ImageShape, fit_pixels, read_bytes
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly
from mpcvit.data.normalization import measure_normalization
from mpcvit.data.parquet import find_parquet, read_splits

CIFAR10_CLASSES: Final = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

_CIFAR100: Final = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle
bowl boy bridge bus butterfly camel can castle caterpillar cattle
chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES: Final = tuple(_CIFAR100.split())


_N_CHANNELS: Final = 3
_SIZE: Final = 32
_N_VALUES: Final = _N_CHANNELS * _SIZE**2
# all that an array consists of; anything else in such a file is not data
_ADMITTED: Final = frozenset(
    {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }
)

Pixels = NDArray[np.uint8]  # (n, 3, 32, 32)
Labels = NDArray[np.int64]  # (n,)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain values; runs nothing."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module, name)


def parse_python_batch(data: bytes, source: str) -> tuple[Pixels, Labels]:
    """Parse data_batch_1, test_batch (CIFAR-10), train or test (CIFAR-100).

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, a pickle of Python 2. Arrays
        and plain values are all that is read from it.

    Raises:
        UsageError: If it is no such file.
    """
    try:
        content = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises whatever it comes across
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{source}: not a CIFAR batch: {reason}") from None
    arrays = _find_arrays(content)
    if arrays is None:
        raise UsageError(
            f"{source}: not a CIFAR batch: expected data, uint8 of (n, {_N_VALUES}), "
            "and n labels"
        )
    return arrays


def _find_arrays(content: object) -> tuple[Pixels, Labels] | None:
    if not isinstance(content, dict):
        return None
    pixels = content.get(b"data")
    labels = content.get(b"fine_labels", content.get(b"labels"))
    if not isinstance(pixels, np.ndarray) or not isinstance(labels, list):
        return None
    is_whole = (
        pixels.dtype == np.uint8
        and pixels.shape == (len(labels), _N_VALUES)
        and all(isinstance(label, int) for label in labels)
    )
    return (_to_images(pixels), np.asarray(labels, np.int64)) if is_whole else None


def parse_binary_batch(
    data: bytes, source: str, *, n_label_bytes: int
) -> tuple[Pixels, Labels]:
    """Parse data_batch_1.bin, ..., train.bin or test.bin.

    Args:
        n_label_bytes: 1 in CIFAR-10, 2 in CIFAR-100, where the last one is read.

    Raises:
        UsageError: If it does not hold whole records.
    """
    n_bytes = n_label_bytes + _N_VALUES
    if not data or len(data) % n_bytes:
        raise UsageError(
            f"{source}: {len(data)} bytes: expected records of {n_bytes}; the file is "
            "damaged"
        )
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, n_bytes)
    labels = records[:, n_label_bytes - 1].astype(np.int64)
    return _to_images(records[:, n_label_bytes:]), labels


def _to_images(values: NDArray[np.uint8]) -> Pixels:
    return values.reshape(-1, _N_CHANNELS, _SIZE, _SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One version of the archive.

    Attributes:
        inner: The folder that it unpacks to.
        n_label_bytes: Bytes of labels in a record; 0 in the python version.
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
    """Load the set from a folder or an archive, whichever form it has there.

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
    parts = [parse(data, source) for source, data in _read_members(place, names)]
    pixels = np.concatenate([part for part, _ in parts])  # (n, 3, 32, 32)
    labels = np.concatenate([part for _, part in parts])  # (n,)
    kept = choose_evenly(labels, limit)
    images = fit_pixels(pixels[kept], shape)
    return ImageSet(
        images=torch.from_numpy(images), labels=torch.from_numpy(labels[kept])
    )


def _read_members(place: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield where each named file lies, for messages, and its bytes, in that order.

    Args:
        place: A folder, or a tar archive of any compression.

    Raises:
        UsageError: If one is missing, or the archive is damaged.
    """
    if place.is_dir():
        yield from ((str(place / name), read_bytes(place / name)) for name in names)
        return
    found = {}
    try:
        with tarfile.open(place) as archive:
            for member in archive:
                name = Path(member.name).name
                file = archive.extractfile(member) if name in names else None
                if file is not None:
                    found[name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
        raise UsageError(f"{place}: not a whole archive: {error}") from None
    for name in names:
        if name not in found:
            raise UsageError(f"{place}: no {name} in it: expected {', '.join(names)}")
        yield f"{place}:{name}", found[name]
