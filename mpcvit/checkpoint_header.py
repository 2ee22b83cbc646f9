"""The header of a checkpoint: all that is known of a network before its weights."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from safetensors import SafetensorError, safe_open

from mpcprof.errors import UsageError
from mpcprof.nn.algebra import Shape
from mpcprof.nn.architecture import Architecture, parse_architecture
from mpcprof.nn.transformer import weight_shapes

SCHEMA_VERSION: Final = 1
_KIND: Final = "mpcvit checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointHeader:
    """What a checkpoint says of the network whose weights it holds.

    Attributes:
        mean: Of each channel, in [0, 1].
        deviation: Likewise.
        dataset: Name of what it was trained on.
        accuracy: On the test images, in [0, 1]; None if it was not measured.

    Raises:
        UsageError: If the parts do not fit each other.
    """

    architecture: Architecture
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    dataset: str
    class_names: tuple[str, ...]
    accuracy: float | None

    def __post_init__(self) -> None:
        model = self.architecture.model
        _check_count("class names", len(self.class_names), model.n_classes, "classes")
        for numbers in (self.mean, self.deviation):
            n_channels = model.n_channels
            _check_count("channels normalised", len(numbers), n_channels, "channels")
        is_finite = all(map(math.isfinite, (*self.mean, *self.deviation)))
        if not is_finite or min(self.deviation) <= 0:
            raise UsageError(
                f"mean={self.mean}, deviation={self.deviation}: expected one finite "
                "number per channel each, deviations above 0"
            )
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            raise UsageError(f"accuracy={self.accuracy}: expected a share in [0, 1]")

    def to_metadata(self) -> dict[str, str]:
        """The metadata of the safetensors file, each value a JSON text but the kind."""
        return {
            "kind": _KIND,
            "schema_version": json.dumps(SCHEMA_VERSION),
            "architecture": self.architecture.to_json(),
            "normalization": json.dumps(
                {"mean": self.mean, "deviation": self.deviation}
            ),
            "dataset": json.dumps(self.dataset),
            "class_names": json.dumps(self.class_names),
            "accuracy": json.dumps(self.accuracy),
        }


def _check_count(what: str, given: int, expected: int, noun: str) -> None:
    if given != expected:
        raise UsageError(f"{given} {what}: the model has {expected} {noun}")


@contextmanager
def open_checkpoint(
    path: Path, framework: Literal["numpy", "pt"]
) -> Iterator[Any]:  # Any: the handle has no types
    """The open safetensors file; what the block finds wrong with it names the path.

    Raises:
        UsageError: If it cannot be read, or the block raises one.
    """
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"cannot read checkpoint {str(path)!r}: {error}; expected a file that "
            "mpcvit train wrote"
        ) from None
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from None


def read_header(path: Path) -> CheckpointHeader:
    """The header of a file; no weight is read.

    Raises:
        UsageError: If it is no checkpoint, it is damaged or of another version, or a
            weight is missing or misshapen.
    """
    with open_checkpoint(path, "numpy") as file:
        return header_of(file)


def header_of(file: Any) -> CheckpointHeader:  # Any: the handle has no types
    """The header of an open file; no weight is read.

    Raises:
        UsageError: As `read_header`.
    """
    header = _parse(file.metadata() or {})
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - not a dict
    _check_shapes(weight_shapes(header.architecture), shapes)
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
    architecture = parse_architecture(metadata.get("architecture", ""))
    try:
        return _parse_rest(architecture, metadata)
    except UsageError:
        raise
    except (
        ArithmeticError,  # a number too large
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise UsageError(
            f"damaged metadata ({type(error).__name__}: {error}); train again"
        ) from None


def _parse_rest(
    architecture: Architecture, metadata: Mapping[str, str]
) -> CheckpointHeader:
    normalization = json.loads(metadata["normalization"])
    accuracy = json.loads(metadata["accuracy"])
    return CheckpointHeader(
        architecture=architecture,
        mean=tuple(map(float, _checked_list(normalization["mean"]))),
        deviation=tuple(map(float, _checked_list(normalization["deviation"]))),
        dataset=str(json.loads(metadata["dataset"])),
        class_names=tuple(map(str, _checked_list(json.loads(metadata["class_names"])))),
        accuracy=None if accuracy is None else float(accuracy),
    )


def _checked_list(value: Any) -> list[Any]:  # Any: JSON
    """A text would be taken apart letter by letter."""
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _check_shapes(expected: Mapping[str, Shape], given: Mapping[str, Shape]) -> None:
    for name, shape in expected.items():
        if given.get(name) != shape:
            raise UsageError(
                f"weight {name} has shape {given.get(name)}: expected {shape}; the "
                "file is not of its own architecture, train again"
            )
