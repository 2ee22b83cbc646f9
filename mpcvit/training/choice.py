"""What a person leaves out of `mpcvit train`, chosen from what is given."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from mpcprof.blocks.architecture import (
    Architecture,
    Heads,
    read_architecture,
    uniform_architecture,
)
from mpcprof.blocks.attention import ATTENTIONS
from mpcprof.blocks.presets import MODELS, ModelPreset, get_model
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcvit.data.image_folder import list_classes

_MODELS: Final = {  # of a dataset: the paper's preset and the classes
    "digits": ("digits", 10),
    "cifar10": ("cifar", 10),
    "cifar100": ("cifar", 100),
    "tiny-imagenet": ("tiny-imagenet", 200),
}


def choose_model(name: str | None, dataset: str) -> ModelPreset:
    """The preset, with as many classes as the dataset has.

    Args:
        name: Of the preset; the dataset's own without.

    Raises:
        UsageError: If it is not known, or a folder of images is given without one.
    """
    own, n_classes = _MODELS.get(dataset, (None, None))
    chosen = name or own
    if chosen is None:
        raise UsageError(
            f"dataset {dataset!r} has no model of its own: give --model "
            f"{', '.join(MODELS)}"
        )
    model = get_model(chosen)
    classes = Path(dataset, "train")
    if n_classes is None and classes.is_dir():
        n_classes = len(list_classes(classes))
    return replace(model, n_classes=n_classes or model.n_classes)


def choose_architecture(
    text: str,
    *,
    model: str | None,
    dataset: str,
    activation: str = "gelu_tanh",
    heads: Heads = "serial",
) -> Architecture:
    """From a file, or one variant in every head.

    Raises:
        UsageError: If the text is neither, or the rest does not fit.
    """
    path = Path(text)
    if text in ATTENTIONS:
        return uniform_architecture(
            choose_model(model, dataset),
            attention=text,
            activation=activation,
            heads=heads,
        )
    if not path.exists():
        raise UnknownNameError(
            f"{text!r} is neither a file nor a variant; "
            f"{did_you_mean(text, [*ATTENTIONS])}"
        )
    architecture = read_architecture(path)
    if model not in (None, architecture.model.name):
        raise UsageError(
            f"--model {model}: {text} is of model {architecture.model.name}; leave "
            "--model out"
        )
    return architecture


def default_output(text: str, dataset: str) -> Path:
    """runs/DATASET-ARCHITECTURE, by names alone."""
    return Path("runs", f"{Path(dataset).name}-{Path(text).stem}")
