"""Bytes of CIFAR files as arrays: the "python" and the "binary" version."""

import io
import pickle
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import UsageError

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
    """The images of data_batch_1, test_batch (CIFAR-10), train or test (CIFAR-100).

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, a pickle of Python 2. Arrays
        and plain values are all that is read from it.

    Raises:
        UsageError: If it is none.
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
    """The images of data_batch_1.bin, ..., train.bin or test.bin.

    Args:
        n_label_bytes: 1 in CIFAR-10, 2 in CIFAR-100: of these the last is read.

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
