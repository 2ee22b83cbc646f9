"""The tensors in somebody else's file, read without running a line of its code."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

import torch
from torch import Tensor

from mpcprof.errors import UsageError

_EXPECTED: Final = "expected a safetensors file, or one that torch.save wrote"
_TORCH_STARTS: Final = (b"PK\x03\x04", b"\x80")  # a zip archive; a pickle of old
_INSIDE: Final = ("state_dict", "model", "model_state_dict", "state_dict_ema")
_WRAPPERS: Final = ("module.", "_orig_mod.", "model.")  # of all names, or of none


def read_weights_file(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by their names, floats as float32, on the CPU.

    What training scripts keep beside the weights (an epoch, settings, an optimizer) is
    left out, as are the prefixes of wrappers such as `module.`.

    Raises:
        UsageError: If the file cannot be read, is damaged, holds anything but data, or
            holds no tensors by name.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        _refuse(path, error.strerror or str(error))
    is_torch = start.startswith(_TORCH_STARTS)
    content = _read_torch(path) if is_torch else _read_safetensors(path)
    tensors = _find_tensors(path, content)
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in _unwrapped(tensors).items()
    }


def _refuse(path: Path, reason: str) -> NoReturn:
    raise UsageError(f"cannot read {str(path)!r}: {reason}; {_EXPECTED}") from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        _refuse(path, f"not a whole safetensors file: {error}")


def _read_torch(path: Path) -> object:
    """Return what torch.save wrote; of objects, settings of a command line alone."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            _refuse(path, "a damaged pickle")
        raise UsageError(
            f"{path}: it holds {found[1]}, which is code and no tensor, and none of it "
            "was run; save model.state_dict() alone with torch.save and import that"
        ) from None
    except Exception as error:  # a damaged file raises whatever it comes across
        _refuse(path, str(error).partition("\n")[0] or type(error).__name__)


def _find_tensors(path: Path, content: object) -> dict[str, Tensor]:
    """Return the dict of tensors in what a training script saved."""
    for key in _INSIDE:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        _refuse(path, f"it holds {type(content).__name__} and no tensors by name")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            _refuse(path, f"{str(name)!r} is {type(value).__name__} and no tensor")
    return {str(name): tensor.detach() for name, tensor in content.items()}


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}
    return tensors
