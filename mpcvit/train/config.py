"""What searching and training are both asked: images, model, recipe, device, folder."""

import os
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lightning_fabric import Fabric

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import get_model
from mpcprof.nn.preset import MODELS, ModelPreset
from mpcvit.data.dataset import check_dataset, count_classes, load_dataset
from mpcvit.data.image_set import Dataset
from mpcvit.train.recipe import Precision, Recipe

_GPUS: Final = ("cuda", "gpu")  # two names for one thing
_ACCELERATORS: Final = ("auto", "cpu", *_GPUS)
_MODELS: Final = {  # by data set: the paper's preset and the number of classes
    "digits": ("digits", 10),
    "cifar10": ("cifar", 10),
    "cifar100": ("cifar", 100),
    "tiny-imagenet": ("tiny-imagenet", 200),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Where a loop runs; under torchrun its environment says on how many devices.

    Attributes:
        accelerator: cpu, cuda, or auto for whichever device there is.

    Raises:
        UsageError: If this machine has no such device.
    """

    accelerator: str = "auto"

    def __post_init__(self) -> None:
        if self.accelerator not in _ACCELERATORS:
            raise UsageError(
                f"accelerator {self.accelerator!r}: expected {', '.join(_ACCELERATORS)}"
            )
        if self.accelerator in _GPUS and not torch.cuda.is_available():
            raise UsageError(
                f"accelerator {self.accelerator!r}: torch finds no GPU here; give "
                "--accelerator cpu, or auto for whichever device there is"
            )

    def launch(self, precision: Precision) -> Fabric:
        """Join the other processes that torchrun started, if there are any."""
        fabric = Fabric(
            accelerator=self.accelerator,
            devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
            precision=precision,
        )
        fabric.launch()
        return fabric


def seed_all(*entropy: int) -> None:
    """Make every random number from here on follow from these numbers."""
    words = np.random.SeedSequence(entropy).generate_state(2)
    torch.manual_seed(int(words[0]))
    random.seed(int(words[1]))
    np.random.seed(int(words[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """One run of the loop.

        >>> mpcvit.RunConfig(dataset="digits", recipe=recipe, output=folder).limit

    Attributes:
        dataset: A name, or a folder of images.
        output: Folder of the run.
        data_folder: Where a named data set lies; None for its own default.
        limit: Number of images of each split; None for all.
        is_fresh: Whether to remove what is in the folder instead of resuming it.
    """

    dataset: str
    recipe: Recipe
    output: Path
    data_folder: Path | None = None
    limit: int | None = None
    hardware: Hardware = field(default_factory=Hardware)
    is_fresh: bool = False

    def load_dataset(self, model: ModelPreset) -> Dataset:
        """Load the images in the model's size.

        Raises:
            UsageError: If there are none, or they are damaged.
        """
        return load_dataset(
            self.dataset, model=model, folder=self.data_folder, limit=self.limit
        )


def make_run_config(
    recipe: Recipe,
    *,
    dataset: str,
    data_folder: Path | None,
    limit: int | None,
    accelerator: str,
    output: Path,
    is_fresh: bool,
    **changes: Any,  # Any: as `Recipe.with_changes`
) -> RunConfig:
    """Combine what was typed with the recipe, which fills in what was left out.

    Raises:
        UsageError: If a number is out of range.
    """
    return RunConfig(
        dataset=dataset,
        recipe=recipe.with_changes(**changes),
        output=output,
        data_folder=data_folder,
        limit=limit,
        hardware=Hardware(accelerator=accelerator),
        is_fresh=is_fresh,
    )


def choose_model(name: str | None, dataset: str) -> ModelPreset:
    """Return the preset, with as many classes as the data set has.

    Args:
        name: Name of the preset; None for the data set's own.

    Raises:
        UsageError: If it is not known, or a folder of images is given without one, or
            holds none.
        UnknownNameError: If there is no such data set and no such folder.
    """
    check_dataset(dataset)
    own, n_classes = _MODELS.get(dataset, (None, None))
    chosen = name or own
    if chosen is None:
        raise UsageError(
            f"dataset {dataset!r} has no model of its own: give --model "
            f"{', '.join(name for name in MODELS if not MODELS[name].n_words)}, or a "
            "file of sizes"
        )
    model = get_model(chosen)
    if n_classes is None and Path(dataset).is_dir():
        n_classes = count_classes(Path(dataset))
    return replace(model, n_classes=n_classes or model.n_classes)
