"""Reads what a party owns: arrays in its own file, .npy or safetensors."""

import json
import struct
from typing import Any, Dict, List

import numpy as np

_TENSORS_LENGTH = struct.Struct("<Q")
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_owned(header: Dict[str, Any]) -> List[Any]:
    """Read the float32 arrays of a file: one .npy, or `entries` of a safetensors file.

    Raises:
        ValueError: If an array is missing or has another shape than `shapes` says.
    """
    path = header["path"]
    if header["entries"]:
        arrays = _read_safetensors(path, header["entries"])
    else:
        arrays = [np.load(path, allow_pickle=False)]
    for array, shape in zip(arrays, header["shapes"]):
        if list(array.shape) != shape:
            raise ValueError(f"{path} has {list(array.shape)}: expected {shape}")
    return [np.ascontiguousarray(array, np.float32) for array in arrays]


def _read_safetensors(path: str, names: List[str]) -> List[Any]:
    with open(path, "rb") as file:  # noqa: PTH123 - the same call on every Python
        (length,) = _TENSORS_LENGTH.unpack(file.read(_TENSORS_LENGTH.size))
        known = json.loads(file.read(length).decode())
        start = _TENSORS_LENGTH.size + length
        return [_read_entry(file, start, name, known) for name in names]


def _read_entry(file: Any, start: int, name: str, known: Dict[str, Any]) -> Any:
    if name not in known or known[name]["dtype"] not in _DTYPES:
        kinds = ", ".join(_DTYPES)
        raise ValueError(f"{file.name} has no entry {name} of {kinds}")
    begin, end = known[name]["data_offsets"]
    file.seek(start + begin)
    values = np.frombuffer(file.read(end - begin), _DTYPES[known[name]["dtype"]])
    return values.reshape(known[name]["shape"])
