"""Tensors and texts in one safetensors file, written and read with torch alone.

The format: the length of the header in 8 bytes, the header as JSON, all bytes.
"""

import json
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

_NAMES: Final = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TYPES: Final = {name: dtype for dtype, name in _NAMES.items()}
_METADATA: Final = "__metadata__"


def pack_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the content of a file; equal tensors and texts are equal bytes."""
    header: dict[str, object] = {_METADATA: dict(sorted(metadata.items()))}
    parts, end = [], 0
    # as the library orders them: wide types first, so that none is misaligned
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name]
        parts.append(_to_bytes(tensor))
        start, end = end, end + len(parts[-1])
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": [*tensor.shape],
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    padded = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8
    return b"".join([len(padded).to_bytes(8, "little"), padded, *parts])


def _to_bytes(tensor: Tensor) -> bytes:
    data = bytearray(tensor.numel() * tensor.element_size())
    if data:  # torch makes no view of nothing
        view = torch.frombuffer(data, dtype=tensor.dtype).view(tensor.shape)
        view.copy_(tensor.detach())
    return bytes(data)


def unpack_tensors(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, on the CPU, and the texts of a file.

    Raises:
        OSError: If the content is damaged, or has a type that nothing here writes.
    """
    length = int.from_bytes(content[:8], "little")
    data = bytearray(content[8 + length :])  # torch warns of memory that is read-only
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop(_METADATA, {})
        return {n: _to_tensor(data, **entry) for n, entry in header.items()}, metadata
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise OSError(f"not a whole safetensors file: {error}") from None


def _to_tensor(
    data: bytearray, *, dtype: str, shape: list[int], data_offsets: list[int]
) -> Tensor:
    start, end = data_offsets
    own = data[start:end]  # a copy: tensors share no memory
    kind = _TYPES[dtype]
    if not own:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(own, dtype=kind).view(shape)
