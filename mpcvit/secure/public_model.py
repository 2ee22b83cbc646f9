"""What everybody may know of a model: all of a checkpoint but its weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from safetensors import SafetensorError, safe_open

from mpcprof.blocks import Architecture
from mpcprof.blocks.architecture import parse_architecture
from mpcprof.blocks.transformer import Shape, weight_shapes
from mpcprof.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_KIND: Final = "mpcvit checkpoint"
_WHITE: Final = 255  # of 8 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicModel:
    """A checkpoint without its weights.

    Attributes:
        path: The file, whose weights only the model owner's party reads.
        mean: Of each channel, in [0, 1].
        deviation: Likewise.
        dataset: Name of what it was trained on.
    """

    path: Path
    architecture: Architecture
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    class_names: tuple[str, ...]
    dataset: str

    def normalize(self, pixels: "Tensor") -> "Tensor":
        """uint8 images (n, c, S, S) as the model takes them."""
        from mpcvit.data.normalization import Normalization

        own = Normalization(mean=self.mean, deviation=self.deviation)
        return own.apply(pixels.float() / _WHITE)


def read_public_model(path: Path) -> PublicModel:
    """From the header of a checkpoint; no weight is read.

    Raises:
        UsageError: If it is no checkpoint, or a weight is missing or misshapen.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            shapes = {n: tuple(file.get_slice(n).get_shape()) for n in names}
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"cannot read checkpoint {str(path)!r}: {error}; expected a file that "
            "mpcvit train wrote"
        ) from None
    try:
        return _parse(path, metadata, shapes)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise type(error)(f"{path}: {error}") from None
        raise UsageError(
            f"{path}: damaged metadata ({type(error).__name__}: {error}); train again"
        ) from None


def _parse(
    path: Path, metadata: Mapping[str, str], shapes: Mapping[str, Shape]
) -> PublicModel:
    kind, version = metadata.get("kind"), metadata.get("schema_version")
    if kind != _KIND or version != "1":
        raise UsageError(
            f"kind={kind!r}, schema_version={version}: expected {_KIND!r}, 1; give a "
            "file that mpcvit train wrote"
        )
    architecture = parse_architecture(metadata["architecture"])
    _check_shapes(weight_shapes(architecture), shapes)
    normalization = json.loads(metadata["normalization"])
    return PublicModel(
        path=path,
        architecture=architecture,
        mean=tuple(map(float, normalization["mean"])),
        deviation=tuple(map(float, normalization["deviation"])),
        class_names=tuple(map(str, json.loads(metadata["class_names"]))),
        dataset=str(json.loads(metadata["dataset"])),
    )


def _check_shapes(expected: Mapping[str, Shape], given: Mapping[str, Shape]) -> None:
    for name, shape in expected.items():
        if given.get(name) != shape:
            raise UsageError(
                f"weight {name} has shape {given.get(name)}: expected {shape}; the "
                "file is not of its own architecture, train again"
            )
