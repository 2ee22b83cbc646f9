"""Whether all processes of a run see the same folder."""

from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from mpcprof.errors import UsageError
from mpcprof.files import replace_file

NO_RUN: Final = -1  # instead of epochs, where a process sees no run at all


def check_shared(fabric: Fabric, folder: Path, n_done: int) -> None:
    """Pass if every process sees as many epochs done; all are told, or none is.

    Raises:
        UsageError: If not.
    """
    own = torch.tensor(n_done, device=fabric.device)
    gathered: Any = fabric.all_gather(own)  # Any: Fabric gathers more than tensors
    found = gathered.flatten().tolist()
    if len({*found}) > 1:
        seen = ", ".join("no run" if n == NO_RUN else f"{n} epochs done" for n in found)
        raise UsageError(
            f"{str(folder)!r}: the processes see {seen} there; the run's folder must "
            "be one that all nodes share, choose it with --output"
        )


SCHEMA_VERSION: Final = "1"
_MODULE: Final = "module."
_OPTIMIZER: Final = "optimizer."


def write_state(
    path: Path, module: nn.Module, optimizer: Optimizer, *, n_epochs: int
) -> None:
    """Replace the file at once; it never holds half a state.

    Raises:
        FileError: If the folder or the disk does not let us.
    """
    tensors = {_MODULE + name: value for name, value in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            tensors[f"{_OPTIMIZER}{index}.{key}"] = value
    metadata = {"schema_version": SCHEMA_VERSION, "n_epochs": str(n_epochs)}
    packed = {name: _pack(value) for name, value in tensors.items()}
    replace_file(path, safetensors.torch.save(packed, metadata))


def _pack(value: Tensor) -> Tensor:
    # A copy: safetensors refuses tensors that share memory.
    return value.detach().to("cpu", copy=True).contiguous()


def read_state(path: Path, module: nn.Module, optimizer: Optimizer) -> int:
    """Put the stored state into both; returns the number of epochs done.

    Raises:
        UsageError: If the file is damaged, or holds the state of something else.
    """
    tensors, n_epochs = _read(path)
    own = {
        name.removeprefix(_MODULE): value
        for name, value in tensors.items()
        if name.startswith(_MODULE)
    }
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(_OPTIMIZER):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    try:
        module.load_state_dict(own)
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (RuntimeError, ValueError) as error:
        raise _unusable(path, str(error).splitlines()[0]) from None
    return n_epochs


def _read(path: Path) -> tuple[dict[str, Tensor], int]:
    # A handle of safetensors has no stubs.
    try:
        file: Any
        with safetensors.safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["schema_version"] != SCHEMA_VERSION:
            raise _unusable(path, f"schema_version {metadata['schema_version']}")
        return tensors, int(metadata["n_epochs"])
    except UsageError:
        raise
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise _unusable(path, str(error)) from None


def _unusable(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"cannot resume from {str(path)!r}: {reason}; start anew with --fresh, or "
        "choose another place with --output"
    )
