"""Tensors and texts in one safetensors file, written by torch or by numpy alone.

It is how every such file of the package is written; a machine with torch alone reads it
here as well. The format: the length of the header in 8 bytes, the header as JSON, all
bytes.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Union

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Array: TypeAlias = Union["Tensor", "NDArray[Any]"]  # Any: one of the types below
_NAMES: Final = {  # by the names that torch and numpy have in common
    "float32": "F32",
    "float64": "F64",
    "bfloat16": "BF16",
    "float16": "F16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}
_TYPES: Final = {name: dtype for dtype, name in _NAMES.items()}
_METADATA: Final = "__metadata__"


def pack_tensors(
    tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return the content of a file; equal tensors and texts are equal bytes."""
    header: dict[str, object] = {}
    if metadata:
        header[_METADATA] = dict(sorted(metadata.items()))
    parts, end = [], 0
    # as the library orders them: wide types first, so that none is misaligned
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):
        tensor = tensors[name]
        parts.append(_to_bytes(tensor))
        start, end = end, end + len(parts[-1])
        header[name] = {
            "dtype": _NAMES[str(tensor.dtype).removeprefix("torch.")],
            "shape": [*tensor.shape],
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    padded = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8
    return b"".join([len(padded).to_bytes(8, "little"), padded, *parts])


def _to_bytes(tensor: Array) -> bytes:
    if hasattr(tensor, "tobytes"):  # numpy's
        return bytes(tensor.tobytes())
    import torch

    data = bytearray(tensor.numel() * tensor.element_size())
    if data:  # torch makes no view of nothing
        view = torch.frombuffer(data, dtype=tensor.dtype).view(tensor.shape)
        view.copy_(tensor.detach())
    return bytes(data)


def unpack_tensors(content: bytes) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Return the tensors, on the CPU, and the texts of a file.

    Raises:
        OSError: If the content is damaged, or has a type that nothing here writes.
    """
    length = int.from_bytes(content[:8], "little")
    data = bytearray(content[8 + length :])  # torch warns of memory that is read-only
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop(_METADATA, {})
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if end != len(data):  # cut behind a tensor, the others would seem whole
            raise ValueError(f"{len(data)} bytes of tensors, expected {end}")
        return {n: _to_tensor(data, **entry) for n, entry in header.items()}, metadata
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise OSError(f"not a whole safetensors file: {error}") from None


def _to_tensor(
    data: bytearray, *, dtype: str, shape: list[int], data_offsets: list[int]
) -> "Tensor":
    import torch

    start, end = data_offsets
    own = data[start:end]  # a copy: tensors share no memory
    kind = getattr(torch, _TYPES[dtype])
    if not own:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(own, dtype=kind).view(shape)
