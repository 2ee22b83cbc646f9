"""The header of a checkpoint: all that is known of a network before its weights.

It is read without torch and without a weight, which is what everybody may know of a
network in a private inference. `mpcvit.checkpoint` reads the weights.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from mpcprof.errors import UsageError
from mpcprof.files import decode_json
from mpcprof.nn.architecture import Architecture, parse_architecture
from mpcprof.nn.catalogue import AnyNetwork, network_shapes
from mpcprof.nn.efficientvit import EfficientViT, parse_efficientvit
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.transformer import check_weight_shapes
from mpcvit.data.normalization import WHITE, Normalization
from mpcvit.tensor_file import pack_tensors

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION: Final = 1
_KIND: Final = "mpcvit checkpoint"
_WEIGHTS, _WITHHELD = "weights", "withheld"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointHeader:
    """A trained network without its weights.

    Attributes:
        normalization: What images go through before the network.
        dataset: Name of the data set that it was trained on.
        class_names: One name for each logit.
        accuracy: Accuracy on the test images, in [0, 1]; None if it was not measured.

    Raises:
        UsageError: If the parts do not fit each other.
    """

    architecture: AnyNetwork
    normalization: Normalization
    dataset: str
    class_names: tuple[str, ...]
    accuracy: float | None = None

    def __post_init__(self) -> None:
        model, n_channels = self.sizes, len(self.normalization.mean)
        _check_count("class names", len(self.class_names), model.n_classes, "classes")
        _check_count("channels normalised", n_channels, model.n_channels, "channels")
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise UsageError(f"accuracy={self.accuracy}: expected a share in [0, 1]")

    @property
    def sizes(self) -> ModelPreset | EfficientViT:
        """What says the size of images and the number of classes."""
        own = self.architecture
        return own if isinstance(own, EfficientViT) else own.model

    @property
    def transformer(self) -> Architecture:
        """The architecture, where it is one of a Transformer.

        Raises:
            UsageError: If it is an EfficientViT.
        """
        if isinstance(self.architecture, EfficientViT):
            raise UsageError(
                f"{self.architecture.name}: an EfficientViT, which `mpcvit infer` "
                "takes and this command does not; `mpcprof predict` prices it"
            )
        return self.architecture

    def normalize(self, pixels: "Tensor") -> "Tensor":
        """Return uint8 images (n, c, S, S) as the network takes them."""
        return self.normalization.apply(pixels.float() / WHITE)

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of the file, each value but the kind a JSON text."""
        normalization = self.normalization
        return {
            "kind": _KIND,
            "schema_version": json.dumps(SCHEMA_VERSION),
            "architecture": self.architecture.to_json(),
            "normalization": json.dumps(
                {"mean": normalization.mean, "deviation": normalization.deviation}
            ),
            "dataset": json.dumps(self.dataset),
            "class_names": json.dumps(self.class_names),
            "accuracy": json.dumps(self.accuracy),
        }


def public_part(header: CheckpointHeader) -> bytes:
    """Return the file that an image owner gets: the header of a network, no weight."""
    return pack_tensors({}, {**header.to_metadata(), _WEIGHTS: _WITHHELD})


def has_weights(path: Path) -> bool:
    """Tell whether a file is more than a public part.

    Raises:
        UsageError: As `read_header`.
    """
    with open_checkpoint(path, "numpy") as file:
        return (file.metadata() or {}).get(_WEIGHTS) != _WITHHELD


def check_has_weights(path: Path) -> None:
    """Refuse a public part where weights are needed.

    Raises:
        UsageError: If the file is one.
    """
    if not has_weights(path):
        raise UsageError(
            f"{path} is the public part of a checkpoint, without weights: expected the "
            "file of its owner"
        )


def _check_count(what: str, given: int, expected: int, noun: str) -> None:
    if given != expected:
        raise UsageError(f"{given} {what}: the model has {expected} {noun}")


@contextmanager
def open_checkpoint(
    path: Path, framework: Literal["numpy", "pt"]
) -> Iterator[Any]:  # Any: the handle has no types
    """Open a safetensors file; what the block finds wrong with it names the path.

    Raises:
        UsageError: If it cannot be read, or the block raises one.
    """
    from safetensors import SafetensorError, safe_open

    with reading_errors(path):
        try:
            with safe_open(path, framework=framework) as file:
                yield file
        except SafetensorError as error:
            raise OSError(str(error)) from None


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Name the path in whatever the block finds wrong with a file.

    Raises:
        UsageError: If the block raises one, or cannot read.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot read checkpoint {str(path)!r}: {error}; expected a file that "
            "mpcvit train wrote"
        ) from None
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from None


def read_header(path: Path) -> CheckpointHeader:
    """Read the header of a file, and no weight.

    Raises:
        UsageError: If it is no checkpoint, it is damaged or of another version, or a
            weight is missing or misshapen.
    """
    with open_checkpoint(path, "numpy") as file:
        return header_of(file)


def header_of(file: Any) -> CheckpointHeader:  # Any: the handle has no types
    """Return the header of an open file; no weight is read.

    Raises:
        UsageError: As `read_header`.
    """
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
    return make_header(file.metadata() or {}, shapes)


def make_header(
    metadata: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> CheckpointHeader:
    """Return the header of a file with these texts and weights of these shapes.

    Raises:
        UsageError: As `read_header`.
    """
    header = _parse(metadata)
    if shapes or metadata.get(_WEIGHTS) != _WITHHELD:
        check_weight_shapes(network_shapes(header.architecture)[1], shapes)
    return header


def _parse(metadata: Mapping[str, str]) -> CheckpointHeader:
    kind, version = metadata.get("kind"), metadata.get("schema_version")
    if kind != _KIND:
        raise UsageError(
            f"kind={kind!r}: not a checkpoint of mpcvit train, whose kind is {_KIND!r};"
            " give a file that mpcvit train wrote"
        )
    if version != json.dumps(SCHEMA_VERSION):
        raise UsageError(
            f"schema_version={version}: expected {SCHEMA_VERSION}; it was written by "
            "another version of mpcvit, train again with this one"
        )

    # Any: a type, which a generic function could not take where it is a union
    def parse(name: str, expected: Any) -> Any:
        what = f"damaged metadata, train again: {name}"
        if name not in metadata:
            raise UsageError(f"{what} is missing")
        return decode_json(metadata[name], expected, what=what)

    text = metadata.get("architecture", "")
    return CheckpointHeader(
        architecture=parse_efficientvit(text) or parse_architecture(text),
        normalization=parse("normalization", Normalization),
        dataset=parse("dataset", str),
        class_names=parse("class_names", tuple[str, ...]),
        accuracy=parse("accuracy", float | None),
    )
