"""What a person leaves out of `mpcvit train`, chosen from what is given."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.nn.architecture import (
    MODELS,
    Architecture,
    Heads,
    ModelPreset,
    get_model,
    read_architecture,
    uniform_architecture,
)
from mpcprof.nn.attention import ATTENTIONS
from mpcvit.data.dataset import count_classes

_ACTIVATION: Final = "gelu_tanh"
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
        UsageError: If it is not known, or a folder of images is given without one, or
            holds none.
    """
    own, n_classes = _MODELS.get(dataset, (None, None))
    chosen = name or own
    if chosen is None:
        raise UsageError(
            f"dataset {dataset!r} has no model of its own: give --model "
            f"{', '.join(MODELS)}"
        )
    model = get_model(chosen)
    if n_classes is None and Path(dataset).is_dir():
        n_classes = count_classes(Path(dataset))
    return replace(model, n_classes=n_classes or model.n_classes)


def choose_architecture(
    text: str,
    *,
    model: str | None,
    dataset: str,
    activation: str | None = None,
    heads: Heads | None = None,
) -> Architecture:
    """From a file, or one variant in every head.

    Args:
        activation: GeLU by tanh without, or what the file says.
        heads: One by one without, or as the file says.

    Raises:
        UsageError: If the text is neither, or the rest does not fit.
    """
    path = Path(text)
    if text in ATTENTIONS:
        return uniform_architecture(
            choose_model(model, dataset),
            attention=text,
            activation=activation or _ACTIVATION,
            heads=heads or "serial",
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
    _check_activation(text, architecture, activation)
    return replace(architecture, heads=heads or architecture.heads)


def _check_activation(
    text: str, architecture: Architecture, activation: str | None
) -> None:
    own = sorted({name for layer in architecture.activation for name in layer})
    if activation is not None and own != [activation]:
        raise UsageError(
            f"--activation {activation}: {text} has {', '.join(own)}; leave "
            "--activation out"
        )


def default_output(text: str, dataset: str) -> Path:
    """runs/DATASET-ARCHITECTURE, by names alone."""
    return Path("runs", f"{Path(dataset).name}-{Path(text).stem}")
