"""A trained network in one safetensors file, with all that its user has to know."""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture, parse_architecture
from mpcvit.checkpoint_header import CheckpointHeader, header_of, open_checkpoint
from mpcvit.data.image_set import Normalization
from mpcvit.models.vit import VisionTransformer, check_weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A trained network.

    Attributes:
        weights: Named as in `mpcprof.nn.transformer.weight_shapes`.
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
        check_weights(self.architecture, self.weights)
        for name, weight in self.weights.items():
            if not weight.isfinite().all():
                raise UsageError(
                    f"weight {name} has entries that are not finite: the training "
                    "diverged; train with a lower learning rate"
                )
        _ = self.header  # checks the rest

    @property
    def header(self) -> CheckpointHeader:
        """All of it but the weights."""
        return CheckpointHeader(
            architecture=self.architecture,
            mean=self.normalization.mean,
            deviation=self.normalization.deviation,
            dataset=self.dataset,
            class_names=self.class_names,
            accuracy=self.accuracy,
        )

    def build_model(self) -> VisionTransformer:
        """The network, ready to be evaluated."""
        network = VisionTransformer(self.architecture)
        network.load_weights(self.weights)
        return network.eval()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file, whole or not at all.

    Raises:
        UsageError: If it cannot be written, or the model is not one of the presets,
            which are all that can be read back.
    """
    architecture = checkpoint.architecture
    if parse_architecture(architecture.to_json()) != architecture:
        raise UsageError(
            f"model {architecture.model.name!r} differs from the preset of "
            "that name in more than layers and classes: expected a preset"
        )
    weights = {
        name: weight.detach().to("cpu", torch.float32).contiguous()
        for name, weight in checkpoint.weights.items()
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = save(weights, metadata=checkpoint.header.to_metadata())
        beside.write_bytes(_in_order(content))
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot write checkpoint {str(path)!r}: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _in_order(content: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: equal networks, equal bytes.

    The library writes them at random; the header is JSON behind its length in 8 bytes.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    padded = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8
    return len(padded).to_bytes(8, "little") + padded + content[end:]


def read_checkpoint(path: Path) -> Checkpoint:
    """The network in a file, its weights on the CPU.

    Raises:
        UsageError: If there is none, or it is damaged or of another kind or version.
    """
    with open_checkpoint(path, "pt") as file:
        header = header_of(file)
        return Checkpoint(
            architecture=header.architecture,
            weights={name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 - not a dict
            normalization=Normalization(mean=header.mean, deviation=header.deviation),
            dataset=header.dataset,
            class_names=header.class_names,
            accuracy=header.accuracy,
        )
