"""A trained network in one safetensors file, with all that its user has to know."""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mpcprof.blocks.architecture import Architecture, parse_architecture
from mpcprof.errors import UsageError
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer, check_weights

SCHEMA_VERSION: Final = 1
_KIND: Final = "mpcvit checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A trained network.

    Attributes:
        weights: Named as in `mpcprof.blocks.transformer.weight_shapes`.
        normalization: What images go through before the network.
        dataset: Name of what it was trained on.
        accuracy: On the test images, in [0, 1]; None if it was not measured.

    Raises:
        UsageError: If the parts do not fit each other.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    normalization: Normalization
    dataset: str
    class_names: tuple[str, ...]
    accuracy: float | None = None

    def __post_init__(self) -> None:
        model = self.architecture.model
        check_weights(self.architecture, self.weights)
        for name, weight in self.weights.items():
            if not weight.isfinite().all():
                raise UsageError(
                    f"weight {name} has entries that are not finite: the training "
                    "diverged; train with a lower learning rate"
                )
        _check_count("class names", len(self.class_names), model.n_classes, "classes")
        n_means = len(self.normalization.mean)
        _check_count("channels normalised", n_means, model.n_channels, "channels")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise UsageError(f"accuracy={self.accuracy}: expected a share in [0, 1]")

    def build_model(self) -> VisionTransformer:
        """The network, ready to be evaluated."""
        network = VisionTransformer(self.architecture)
        network.load_weights(self.weights)
        return network.eval()


def _check_count(what: str, given: int, expected: int, noun: str) -> None:
    if given != expected:
        raise UsageError(f"{given} {what}: the model has {expected} {noun}")


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file, whole or not at all.

    Raises:
        UsageError: If it cannot be written, or the model is not one of the presets,
            which are all that can be read back.
    """
    text = checkpoint.architecture.to_json()
    if parse_architecture(text) != checkpoint.architecture:
        raise UsageError(
            f"model {checkpoint.architecture.model.name!r} differs from the preset of "
            "that name in more than layers and classes: expected a preset"
        )
    weights = {
        name: weight.detach().to("cpu", torch.float32).contiguous()
        for name, weight in checkpoint.weights.items()
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, beside, metadata=_metadata(checkpoint, text))
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot write checkpoint {str(path)!r}: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _metadata(checkpoint: Checkpoint, architecture: str) -> dict[str, str]:
    normalization = checkpoint.normalization
    return {
        "kind": _KIND,
        "schema_version": json.dumps(SCHEMA_VERSION),
        "architecture": architecture,
        "normalization": json.dumps(
            {"mean": normalization.mean, "deviation": normalization.deviation}
        ),
        "dataset": json.dumps(checkpoint.dataset),
        "class_names": json.dumps(checkpoint.class_names),
        "accuracy": json.dumps(checkpoint.accuracy),
    }


def read_checkpoint(path: Path) -> Checkpoint:
    """The network in a file, its weights on the CPU.

    Raises:
        UsageError: If there is none, or it is damaged or of another kind or version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"cannot read checkpoint {str(path)!r}: {error}; expected a file that "
            "mpcvit train wrote"
        ) from None
    try:
        return _parse(metadata, weights)
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from None


def _parse(metadata: Mapping[str, str], weights: Mapping[str, Tensor]) -> Checkpoint:
    if metadata.get("kind") != _KIND:
        raise UsageError("not a checkpoint of mpcvit train: no such metadata")
    version = metadata.get("schema_version")
    if version != json.dumps(SCHEMA_VERSION):
        raise UsageError(
            f"schema_version={version}: expected {SCHEMA_VERSION}; it was written by "
            "another version of mpcvit"
        )
    architecture = parse_architecture(metadata.get("architecture", ""))
    try:
        accuracy = json.loads(metadata["accuracy"])
        return Checkpoint(
            architecture=architecture,
            weights=weights,
            normalization=_parse_normalization(json.loads(metadata["normalization"])),
            dataset=str(json.loads(metadata["dataset"])),
            class_names=tuple(map(str, json.loads(metadata["class_names"]))),
            accuracy=None if accuracy is None else float(accuracy),
        )
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"damaged metadata ({type(error).__name__}: {error}); train again"
        ) from None


def _parse_normalization(values: Any) -> Normalization:  # Any: as JSON has it
    return Normalization(
        mean=tuple(map(float, values["mean"])),
        deviation=tuple(map(float, values["deviation"])),
    )
