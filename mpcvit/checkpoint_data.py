"""The test images that a checkpoint is judged by."""

from pathlib import Path
from typing import Protocol

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcvit.data.dataset import DATASETS, Dataset, load_dataset


class Trained(Protocol):
    """What is known of a trained network: a checkpoint, or what is public of one."""

    @property
    def architecture(self) -> Architecture:
        """Its size and channels are those of the images."""

    @property
    def dataset(self) -> str:
        """Name of what it was trained on."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """One for each logit."""


def load_test_data(
    trained: Trained,
    name_or_folder: str | None,
    *,
    folder: Path | None = None,
    limit: int | None = None,
) -> Dataset:
    """The images as the network takes them, of the classes that it tells apart.

    Args:
        name_or_folder: As in `load_dataset`; what it was trained on if None.
        folder: Where the files of a named data set are.
        limit: At most so many images of each split.

    Raises:
        UsageError: If there are no such images, or they have other classes.
    """
    if name_or_folder is None:
        _check_known(trained.dataset)
    model = trained.architecture.model
    dataset = load_dataset(
        name_or_folder or trained.dataset, model=model, folder=folder, limit=limit
    )
    check_test_data(trained, dataset)
    return dataset


def check_test_data(trained: Trained, dataset: Dataset) -> None:
    """Pass if the network can take these images, and labels mean what its logits do.

    Raises:
        UsageError: If not.
    """
    dataset.check_fits(trained.architecture.model)
    dataset.check_classes(trained.class_names, "the checkpoint")


def _check_known(name: str) -> None:
    if name not in DATASETS and not Path(name).is_dir():
        raise UsageError(
            f"the checkpoint was trained on a folder {name!r}, of which it keeps the "
            "name alone: give --dataset FOLDER"
        )
