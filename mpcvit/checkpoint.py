"""A trained network in one safetensors file, and the test images it is judged by."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.files import check_writable, replace_file
from mpcvit.checkpoint_header import CheckpointHeader, header_of, open_checkpoint
from mpcvit.data.dataset import DATASETS, load_dataset
from mpcvit.data.image_set import Dataset
from mpcvit.models.vit import VisionTransformer, check_weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint(CheckpointHeader):
    """A trained network.

    Attributes:
        weights: Weights, named as in `mpcprof.nn.transformer.weight_shapes`.

    Raises:
        UsageError: If the parts do not fit each other.
    """

    weights: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        CheckpointHeader.__post_init__(self)  # super() misses classes with slots
        check_weights(self.architecture, self.weights)
        for name, weight in self.weights.items():
            if not weight.isfinite().all():
                raise UsageError(
                    f"weight {name} has entries that are not finite: the training "
                    "diverged; train with a lower learning rate"
                )

    def build_model(self) -> VisionTransformer:
        """Build the network, ready to be evaluated."""
        network = VisionTransformer(self.architecture)
        network.load_weights(self.weights)
        return network.eval()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file, whole or not at all.

    Raises:
        FileError: If it cannot be written.
    """
    weights = {
        name: weight.detach().to("cpu", torch.float32).contiguous()
        for name, weight in checkpoint.weights.items()
    }
    check_writable(path)
    replace_file(path, _in_order(save(weights, metadata=checkpoint.to_metadata())))


def _in_order(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file, so that equal networks are equal bytes.

    The library writes them at random; the header is JSON behind its length in 8 bytes.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    padded = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8
    return len(padded).to_bytes(8, "little") + padded + content[end:]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the network in a file, its weights on the CPU.

        >>> trained = mpcvit.read_checkpoint(folder / "run" / "model.safetensors")
        >>> trained.architecture.model.name
        'digits'

    Raises:
        UsageError: If there is none, or it is damaged or of another kind or version.
    """
    with open_checkpoint(path, "pt") as file:
        header = header_of(file)
        return Checkpoint(
            architecture=header.architecture,
            weights={name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118 - not a dict
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
) -> Dataset:
    """Load images as the network takes them, of the classes that it tells apart.

    Args:
        name_or_folder: As in `load_dataset`; what it was trained on if None.
        folder: Where the files of a named data set are.
        limit: Most images of each split.

    Raises:
        UsageError: If there are no such images, or they have other classes.
    """
    name = name_or_folder or trained.dataset
    if name_or_folder is None and name not in DATASETS and not Path(name).is_dir():
        raise UsageError(
            f"the checkpoint was trained on a folder {name!r}, of which it keeps the "
            "name alone: give --dataset FOLDER"
        )
    model = trained.architecture.model
    dataset = load_dataset(name, model=model, folder=folder, limit=limit)
    check_test_data(trained, dataset)
    return dataset


def check_test_data(trained: CheckpointHeader, dataset: Dataset) -> None:
    """Refuse images that the network cannot take, or that have other classes.

    Raises:
        UsageError: If they are such images.
    """
    dataset.check_fits(trained.architecture.model)
    dataset.check_classes(trained.class_names, "the checkpoint")
