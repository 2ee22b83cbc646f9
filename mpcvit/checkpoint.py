"""A trained network in one safetensors file, and the test images it is judged by."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.files import check_writable, replace_file
from mpcprof.nn.architecture import Architecture
from mpcvit.checkpoint_header import CheckpointHeader, make_header, reading_errors
from mpcvit.models.vit import VisionTransformer, check_weights
from mpcvit.tensor_file import pack_tensors, unpack_tensors

if TYPE_CHECKING:
    from mpcvit.data.image_set import Dataset


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint(CheckpointHeader):
    """A trained network.

    Attributes:
        weights: Weights, named as in `mpcprof.nn.transformer.weight_shapes`.

    Raises:
        UsageError: If the parts do not fit each other.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        CheckpointHeader.__post_init__(self)  # super() misses classes with slots
        check_weights(self.architecture, self.weights)
        _check_finite(self.weights)

    def build_model(self) -> VisionTransformer:
        """Build the network, ready to be evaluated."""
        network = VisionTransformer(self.architecture)
        network.load_weights(self.weights)
        return network.eval()


def _check_finite(weights: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise UsageError(
                f"weight {name} has entries that are not finite: the training "
                "diverged; train with a lower learning rate"
            )


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file, whole or not at all.

    Raises:
        FileError: If it cannot be written.
    """
    write_network(path, checkpoint, checkpoint.weights)


def write_network(
    path: Path, header: CheckpointHeader, weights: Mapping[str, Tensor]
) -> None:
    """Write a network of any kind, whole or not at all.

    Raises:
        UsageError: If a weight is not finite, in float32.
        FileError: If it cannot be written.
    """
    narrow = {name: weight.float() for name, weight in weights.items()}
    _check_finite(narrow)
    check_writable(path)
    replace_file(path, pack_tensors(narrow, header.to_metadata()))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the network in a file, its weights on the CPU.

        >>> trained = mpcvit.read_checkpoint(folder / "run" / "model.safetensors")
        >>> trained.architecture.model.name
        'digits'

    Raises:
        UsageError: If there is none, or it is damaged or of another kind or version.
    """
    with reading_errors(path):
        weights, metadata = unpack_tensors(path.read_bytes())
        shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        header = make_header(metadata, shapes)
        if not weights:
            raise UsageError(
                "it is the public part of a checkpoint: expected one with weights"
            )
        return Checkpoint(
            architecture=header.transformer,
            weights=weights,
            normalization=header.normalization,
            dataset=header.dataset,
            class_names=header.class_names,
            accuracy=header.accuracy,
        )


def load_test_data(
    trained: CheckpointHeader,
    name_or_folder: str | None,
    *,
    folder: Path | None = None,
    limit: int | None = None,
) -> "Dataset":
    """Load images as the network takes them, of the classes that it tells apart.

    Args:
        name_or_folder: As in `load_dataset`; what it was trained on if None.
        folder: Where the files of a named data set are.
        limit: Most images of each split.

    Raises:
        UsageError: If there are no such images, or they have other classes.
    """
    from mpcvit.data.dataset import DATASETS, load_dataset  # brings other packages

    name = name_or_folder or trained.dataset
    if name_or_folder is None and name not in DATASETS and not Path(name).is_dir():
        raise UsageError(
            f"the checkpoint was trained on a folder {name!r}, of which it keeps the "
            "name alone: give --dataset FOLDER"
        )
    model = trained.sizes
    dataset = load_dataset(name, model=model, folder=folder, limit=limit)
    check_test_data(trained, dataset)
    return dataset


def check_test_data(trained: CheckpointHeader, dataset: "Dataset") -> None:
    """Refuse images that the network cannot take, or that have other classes.

    Raises:
        UsageError: If they are such images.
    """
    dataset.check_fits(trained.sizes)
    dataset.check_classes(trained.class_names, "the checkpoint")
