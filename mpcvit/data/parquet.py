"""Parquet files with the bytes of images and their labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from mpcprof.errors import UsageError
from mpcvit.data.fitting import ImageShape, decode_images, shape_of_images
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly
from mpcvit.data.normalization import measure_normalization

_IMAGE_COLUMNS: Final = ("img", "image")
_LABEL_COLUMNS: Final = ("fine_label", "label", "labels")
_N_ROWS: Final = 1024  # held at a time
_TEST_NAMES: Final = ("test", "val", "valid", "validation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Parquet files to train on and to test on."""

    train: tuple[Path, ...]
    test: tuple[Path, ...]


def load_parquet_folder(
    folder: Path, files: Files, shape: ImageShape | None, limit: int | None
) -> Dataset:
    """Load the images of parquet files; their classes have numbers, no names.

    Raises:
        UsageError: If a file holds no such images.
    """
    train, test = read_splits(files, shape, limit)
    return Dataset(
        name=folder.resolve().name,
        train=train,
        test=test,
        class_names=tuple(str(label) for label in range(count_classes(files))),
        normalization=measure_normalization(train.images),
    )


def count_classes(files: Files) -> int:
    """Return one more than the largest label, whatever limit images have.

    Raises:
        UsageError: If a file holds no labels.
    """
    return 1 + max(
        int(_read_labels(path).max(initial=0)) for path in (*files.train, *files.test)
    )


def read_splits(
    files: Files, shape: ImageShape | None, limit: int | None
) -> tuple[ImageSet, ImageSet]:
    """Read images to train on, and images of the same shape to test on.

    Raises:
        UsageError: If a file holds no such images.
    """
    train = read_parquet(files.train, shape, limit)
    return train, read_parquet(files.test, shape_of_images(train.images), limit)


def find_parquet(folder: Path) -> Files | None:
    """Find files to train on and to test on below a folder; None if there are none.

    Examples are train.parquet and test.parquet, data/train-00000-of-00002.parquet.

    Raises:
        UsageError: If there are only files to train on.
    """
    files = sorted(folder.rglob("*.parquet")) if folder.is_dir() else []
    train = _of_split("train", files)
    if not train:
        return None
    for name in _TEST_NAMES:
        test = _of_split(name, files)
        if test:
            return Files(train=train, test=test)
    raise UsageError(f"{folder}: {train[0].name}, but no test.parquet beside it")


def _of_split(name: str, files: list[Path]) -> tuple[Path, ...]:
    return tuple(p for p in files if p.stem == name or p.stem.startswith(f"{name}-"))


def read_parquet(
    paths: tuple[Path, ...], shape: ImageShape | None, limit: int | None
) -> ImageSet:
    """Read the images of parquet files, in order.

    Columns: img or image, a struct with `bytes` or bytes; label or fine_label, whole
    numbers. This is the layout of the public parquet versions.

    Raises:
        UsageError: If a file is laid out otherwise.
    """
    labels = np.concatenate([_read_labels(path) for path in paths])
    kept = choose_evenly(labels, limit)
    images = decode_images(_read_images(paths, kept), shape, n_images=len(kept))
    return ImageSet(
        images=torch.from_numpy(images), labels=torch.from_numpy(labels[kept])
    )


def _read_labels(path: Path) -> NDArray[np.int64]:
    table = _open(path)
    column = _find_column(path, table, _LABEL_COLUMNS)
    try:
        values = table.read(columns=[column])[column]
        is_whole = pa.types.is_integer(values.type) and not values.null_count
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    if not is_whole:
        raise UsageError(f"{path}: column {column}: expected whole numbers, none empty")
    return np.asarray(values.to_numpy(), dtype=np.int64)


def _read_images(
    paths: tuple[Path, ...], kept: NDArray[np.int64]
) -> Iterator[tuple[str, bytes]]:
    wanted = {*kept.tolist()}
    row = 0  # over all files
    for path in paths:
        table = _open(path)
        column = _find_column(path, table, _IMAGE_COLUMNS)
        start = row
        for value in _values(path, table, column):
            if row in wanted:
                data = value.get("bytes") if isinstance(value, dict) else value
                source = f"{path} row {row - start}"
                if not isinstance(data, bytes):
                    raise UsageError(f"{source}: column {column}: no bytes of an image")
                yield source, data
            row += 1


# Any: pyarrow has no types, and a row is whatever the column holds
def _values(path: Path, table: Any, column: str) -> Iterator[Any]:
    try:
        for rows in table.iter_batches(batch_size=_N_ROWS, columns=[column]):
            yield from rows.column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _open(path: Path) -> Any:  # a ParquetFile
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _find_column(path: Path, table: Any, names: tuple[str, ...]) -> str:
    present = table.schema_arrow.names
    for name in names:
        if name in present:
            return name
    raise UsageError(
        f"{path}: columns {', '.join(present)}: expected {' or '.join(names)}"
    )


def _damaged(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path}: not a whole parquet file: {str(error).splitlines()[0]}")
