"""CIFAR-10 and CIFAR-100: the three forms in which they are passed around."""

import codecs
import gzip
import io
import pickle
import tarfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

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
_LABEL_KEYS: Final = ("fine_labels", "labels")  # the first that is there
_SHAPES: Final = f"(n, {_N_VALUES}), (n, 3, 32, 32) or (n, 32, 32, 3)"

Pixels = NDArray[np.uint8]  # (n, 3, 32, 32)
Labels = NDArray[np.int64]  # (n,)


def _from_buffer(
    buffer: bytes,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    order: Literal["C", "F"],
) -> NDArray[Any]:
    """Build an array as numpy's pickle of protocol 5 asks for."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _from_scalar(dtype: np.dtype[Any], data: bytes) -> Any:  # a number of that type
    return np.frombuffer(data, dtype, count=1)[0]


# all that an array consists of; anything else in such a file is not data
_ADMITTED: Final[dict[tuple[str, str], object]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
    ("collections", "OrderedDict"): OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = np.empty(0).__reduce__()[0]
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _from_scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays and plain values; imports and runs nothing."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return _ADMITTED[module, name]


def parse_python_batch(data: bytes, source: str) -> tuple[Pixels, Labels]:
    """Parse data_batch_1, test_batch (CIFAR-10), train or test (CIFAR-100).

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, a pickle of Python 2, or saved
        again by Python 3. Arrays and plain values are all that is read from it.

    Raises:
        UsageError: If it is no such file.
    """
    try:
        content = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises whatever it comes across
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{source}: not a CIFAR batch: {reason}") from None
    try:
        return _find_arrays(content)
    except UsageError as error:
        raise UsageError(f"{source}: not a CIFAR batch: {error}") from None


def _find_arrays(content: object) -> tuple[Pixels, Labels]:
    if not isinstance(content, dict):
        raise UsageError(f"{_describe(content)}: expected a dict of data and labels")
    fields = {
        key.decode("latin-1") if isinstance(key, bytes) else str(key): value
        for key, value in content.items()
    }
    key = next((key for key in _LABEL_KEYS if key in fields), None)
    if key is None or "data" not in fields:
        raise UsageError(
            f"keys {', '.join(fields)[:60] or 'none'}: expected data and "
            f"{' or '.join(_LABEL_KEYS)}"
        )
    pixels, labels = _read_pixels(fields["data"]), _read_labels(fields[key], key)
    if len(pixels) != len(labels):
        raise UsageError(f"{len(labels)} {key} for {len(pixels)} images")
    return pixels, labels


def _read_pixels(data: object) -> Pixels:
    """Return pixels (n, 3, 32, 32) from any of three shapes."""
    if isinstance(data, np.ndarray) and data.dtype == np.uint8:
        if data.shape[1:] == (_SIZE, _SIZE, _N_CHANNELS):
            return np.ascontiguousarray(data.transpose(0, 3, 1, 2))
        if data.shape[1:] in ((_N_VALUES,), (_N_CHANNELS, _SIZE, _SIZE)):
            return _to_images(data)
    raise UsageError(f"data is {_describe(data)}: expected uint8 of {_SHAPES}")


def _read_labels(values: object, key: str) -> Labels:
    """Return labels (n,) from a list or an array, as (n,) or (n, 1)."""
    found: object = values
    if isinstance(values, list | tuple):
        others = [v for v in values if not isinstance(v, int | np.integer)]
        if others:
            kind = _describe(others[0])
            raise UsageError(f"{key} hold {kind}: expected whole numbers")
        found = np.asarray(values) if values else np.empty(0, np.int64)
    if (
        isinstance(found, np.ndarray)
        and found.dtype.kind in "iu"
        and found.ndim in (1, 2)
        and found.shape[1:] in ((), (1,))
    ):
        return found.reshape(-1).astype(np.int64)
    raise UsageError(f"{key} are {_describe(found)}: expected n whole numbers")


def _describe(value: object) -> str:
    """Name the type of a value, and of an array its type and shape."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of {value.shape}"
    return type(value).__name__


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
