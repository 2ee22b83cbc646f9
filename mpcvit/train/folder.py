"""The folder of one run: its settings, log, result, and the state to resume from."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mpcprof.errors import FileError, UsageError
from mpcprof.files import check_writable, locked, read_json, replace_file
from mpcvit.tensor_file import pack_tensors, unpack_tensors

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SCHEMA_VERSION: Final = 1
MODEL: Final = "model.safetensors"  # checkpoint of the trained model
NO_RUN: Final = -1  # instead of a number of epochs, where a process sees no run
# Values that runs had before these settings had a name; a folder without them resumes.
_BEFORE: Final = {
    "n_processes": 1,
    "recipe.augmentation.crop_scale": 0.0,
    "model.n_embeddings": 0,
    "model.pooling": "class_token",
    "model.has_qkv_bias": False,
    "model.own_head_dim": 0,
    "model.stem": [],
    "plan": "",
    "recipe.clip_batchnorm": False,
    "recipe.mlp_norm": False,
    "recipe.gradual_norm": 0.0,
    "recipe.gradual_activation": 0.0,
    "recipe.frozen_norm": 0.0,
    "recipe.range_penalty": 0.0,
    "recipe.range_bound": 4.0,
}
_BEGUN_WITH: Final = ("data", "n_processes")  # others may go on, on other machines
_STATE_VERSION: Final = "1"
_MODULE: Final = "module."
_OPTIMIZER: Final = "optimizer."


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """File names of a run, and the right to write them.

    Attributes:
        settings: All that decides the result, as JSON values; a run is resumed only
            under the very same ones, but by any number of processes.
        results: Names of the files that are written there once the run is done.
    """

    path: Path
    settings: Mapping[str, Any]  # Any: JSON, compared and never read
    results: tuple[str, ...] = ()

    @property
    def config(self) -> Path:
        """File of the settings."""
        return self.path / "config.json"

    @property
    def log(self) -> Path:
        """File with a line for each epoch."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def state(self) -> Path:
        """File that a stopped run resumes from."""
        return self.path / "last.safetensors"

    @property
    def model(self) -> Path:
        """Checkpoint of the trained model."""
        return self.path / MODEL

    @contextlib.contextmanager
    def opened(self, *, is_fresh: bool) -> Iterator[None]:
        """Be the only writer of the folder until the end of the block.

        Args:
            is_fresh: Whether to remove what an earlier run left there.

        Raises:
            UsageError: If a run with other settings is there.
            FileBusyError: If another process writes it.
        """
        try:
            check_writable(self.path / "run")
        except FileError as error:
            raise UsageError(str(error)) from None
        with locked(self.path / "run"):
            if is_fresh:
                self._clear()
            self._claim()
            yield

    def _clear(self) -> None:
        results = (self.path / name for name in self.results)
        for path in (*results, self.model, self.config, self.log, self.state):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)

    def _claim(self) -> None:
        """Write the settings, or compare them with those of an earlier run."""
        given = {"schema_version": SCHEMA_VERSION, **self.settings}
        text = json.dumps(given, indent=2, sort_keys=True, allow_nan=False)
        if not self.config.exists():
            replace_file(self.config, text)
            return
        there = deciding_settings(_read_json(self.config))
        asked = deciding_settings(json.loads(text))
        for name in sorted({*there, *asked}):
            if there.get(name) != asked.get(name):
                raise UsageError(
                    f"{str(self.path)!r} holds a run with {name}={there.get(name)!r}, "
                    f"not {asked.get(name)!r}: start anew with --fresh, or choose "
                    "another folder with --output"
                )


def _read_json(path: Path) -> Any:  # Any: JSON
    try:
        return read_json(path, dict, what="settings")
    except UsageError as error:
        raise UsageError(
            f"{error}; start anew with --fresh, or choose another folder with --output"
        ) from None


# Any: JSON, compared and never read
def deciding_settings(settings: dict[str, Any]) -> dict[str, object]:
    """Return what decides the result of a run, of any version, by dotted name."""
    named = {**_BEFORE, **_flatten(settings)}
    return {name: value for name, value in named.items() if name not in _BEGUN_WITH}


def _flatten(value: Any, name: str = "") -> dict[str, object]:  # Any: JSON
    """Return the leaves by dotted name; a list is a leaf."""
    if not isinstance(value, dict):
        return {name: value}
    leaves: dict[str, object] = {}
    for key, inner in value.items():
        leaves |= _flatten(inner, f"{name}.{key}" if name else key)
    return leaves


def check_shared(fabric: "Fabric", folder: Path, n_done: int) -> None:
    """Refuse a folder in which the processes see different numbers of epochs done.

    Raises:
        UsageError: In every process, if they differ.
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


def write_state(
    path: Path, module: nn.Module, optimizer: Optimizer, *, n_epochs: int
) -> None:
    """Replace the file of the state at once; it never holds half a state.

    Raises:
        FileError: If the folder or the disk does not allow it.
    """
    tensors = {_MODULE + name: value for name, value in module.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            tensors[f"{_OPTIMIZER}{index}.{key}"] = value
    metadata = {"schema_version": _STATE_VERSION, "n_epochs": str(n_epochs)}
    replace_file(path, pack_tensors(tensors, metadata))


def read_state(path: Path, module: nn.Module, optimizer: Optimizer) -> int:
    """Load the stored state into both, and return the number of epochs done.

    Raises:
        UsageError: If the file is damaged, or holds the state of something else.
    """
    tensors, n_epochs = _read_tensors(path)
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


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], int]:
    try:
        tensors, metadata = unpack_tensors(path.read_bytes())
        version, n_epochs = metadata["schema_version"], int(metadata["n_epochs"])
    except (OSError, KeyError, ValueError) as error:
        raise _unusable(path, getattr(error, "strerror", None) or str(error)) from None
    if version != _STATE_VERSION:
        raise _unusable(path, f"schema_version {version}")
    return tensors, n_epochs


def _unusable(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"cannot resume from {str(path)!r}: {reason}; start anew with --fresh, or "
        "choose another place with --output"
    )
