"""Somebody else's file into a checkpoint, and what was assumed on the way."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.files import check_apart, check_writable, replace_file
from mpcprof.nn.architecture import get_model
from mpcprof.nn.catalogue import AnyNetwork
from mpcprof.nn.efficientvit import EfficientViT
from mpcprof.nn.preset import Embedding, ModelPreset
from mpcvit.checkpoint import Checkpoint, write_checkpoint, write_network
from mpcvit.checkpoint_header import CheckpointHeader
from mpcvit.data.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES
from mpcvit.data.normalization import Normalization
from mpcvit.importing.efficientvit import (
    SOURCE,
    convert_efficientvit,
    holds_efficientvit,
)
from mpcvit.importing.layout import Layout
from mpcvit.importing.network import Hints, ImportedNetwork, convert_network
from mpcvit.importing.settings import Settings, read_settings
from mpcvit.importing.weights_file import read_weights_file

_CONFIG: Final = "config.json"
_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")  # of a folder
_SUFFIXES: Final = re.compile(r"(\.(pth|pt|bin|ckpt|tar|safetensors))+$")
_GREY: Final = 0.5  # mean and deviation of timm's and Hugging Face's own ViTs
_SIZES: Final = ("n_layers", "n_heads", "width", "hidden", "image_size", "patch")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Images:
    """Images that MPCViT was published for, by their pixels a side and classes."""

    dataset: str
    normalization: Normalization
    class_names: tuple[str, ...] = ()


def _pixels(mean: tuple[float, ...], deviation: tuple[float, ...]) -> Normalization:
    return Normalization(mean=mean, deviation=deviation)


# Source: PKU-SEC-Lab/mpcvit, configs/datasets/*.yml; SHI-Labs/Compact-Transformers
_PUBLISHED: Final = {
    (32, 10): _Images(
        dataset="cifar10",
        normalization=_pixels((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        class_names=CIFAR10_CLASSES,
    ),
    (32, 100): _Images(
        dataset="cifar100",
        normalization=_pixels((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        class_names=CIFAR100_CLASSES,
    ),
    (64, 200): _Images(
        dataset="tiny-imagenet",
        normalization=_pixels((0.480, 0.448, 0.397), (0.272, 0.265, 0.274)),
    ),
}


# Source: IMAGENET_DEFAULT_MEAN and _STD, timm/models/efficientvit_msra.py
_IMAGENET: Final = _pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """What to import, and what its file does not say.

    Attributes:
        source: File of weights, or a folder as Hugging Face has it.
        output: Checkpoint to write; its architecture goes beside it, as `.json`.
        settings: File config.json; None for the one beside the weights, if there is.
        model: Preset or file of sizes that the network must have; its heads are taken.
        n_heads: Number of heads, where nothing else says it.
        n_tokens: Number of words of a text; None for as many as there are positions.
        embedding: Who embeds words; None for the client.
        image_size: Pixels a side of an EfficientViT's images; None for 224, or for the
            one that the file fits.
        mean: Mean of each channel of images, pixels from 0 to 1; None as in the
            settings, or as the framework usually has it.
        deviation: Deviation of each channel, given with the mean.
        dataset: Name, or folder of images, whose classes the logits are.
        data: Folder of a named data set.
    """

    source: Path
    output: Path
    settings: Path | None = None
    model: str | None = None
    n_heads: int | None = None
    n_tokens: int | None = None
    embedding: Embedding | None = None
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None
    dataset: str | None = None
    data: Path | None = None

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.deviation is None):
            raise UsageError("--mean without --std, or the other way: give both")
        if not self.output.name:
            raise UsageError(
                f"-o {str(self.output)!r} is a folder; expected a name such as "
                "vit.safetensors"
            )
        for path in (self.output, self.architecture_file):
            check_apart(path, weights=self.weights_file, settings=self.settings_file)
        if self.output == self.architecture_file:
            raise UsageError(
                f"-o {self.output}: expected a name such as vit.safetensors"
            )

    @property
    def architecture_file(self) -> Path:
        """File of the architecture, beside the checkpoint."""
        return self.output.with_suffix(".json")

    @property
    def weights_file(self) -> Path:
        """File of the weights: in a folder, the one of a usual name."""
        if not self.source.is_dir():
            return self.source
        found = [self.source / name for name in _WEIGHTS]
        found = [path for path in found if path.is_file()]
        if not found:
            raise UsageError(
                f"no {' or '.join(_WEIGHTS)} in the folder {str(self.source)!r}; give "
                "the file of weights itself"
            )
        return found[0]

    @property
    def settings_file(self) -> Path | None:
        """File of the settings, if there is one."""
        beside = self.weights_file.with_name(_CONFIG)
        return self.settings or (beside if beside.is_file() else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What was written.

    Attributes:
        source: Framework and network that the file is of.
        assumed: What neither the file nor its owner said.
        unused: Names of tensors that a classification does not read, or that the
            client keeps to look words up.
    """

    checkpoint: Path
    architecture_file: Path
    source: str
    architecture: AnyNetwork
    n_weights: int
    normalization: Normalization
    dataset: str
    assumed: tuple[str, ...]
    unused: tuple[str, ...]

    def to_json(self) -> str:
        """Return one JSON document."""
        own = self.architecture
        tokens = None if isinstance(own, EfficientViT) else own.model.n_tokens
        return json.dumps(
            {
                "checkpoint": str(self.checkpoint),
                "architecture_file": str(self.architecture_file),
                "source": self.source,
                "architecture": json.loads(own.to_json()),
                "n_tokens": tokens,
                "n_weights": self.n_weights,
                "mean": self.normalization.mean,
                "deviation": self.normalization.deviation,
                "dataset": self.dataset,
                "assumed": self.assumed,
                "unused": self.unused,
            }
        )

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [
            f"{self.source} of {self.n_weights:,} weights: "
            + _describe_network(self.architecture),
            *(f"assumed: {text}" for text in self.assumed),
            *(f"no weight of the network: {name}" for name in self.unused),
            f"{self.checkpoint}, and its architecture in {self.architecture_file}",
            f"price it: mpcprof predict PROFILE --attention {self.architecture_file}",
        ]


def _describe_network(network: AnyNetwork) -> str:
    if isinstance(network, EfficientViT):
        return (
            f"{network.name}, {network.image_size} pixels, {network.n_classes} "
            "classes; BatchNorms are folded into the convolutions"
        )
    model = network.model
    variants = {row for layer in network.attention for head in layer for row in head}
    activations = {token for layer in network.activation for token in layer}
    return (
        f"{model.n_layers} layers, {model.n_heads} heads, width {model.width}, hidden "
        f"{model.hidden}, {model.n_tokens} tokens, {model.n_classes} classes\n"
        f"attention {', '.join(sorted(variants))}; activation "
        f"{', '.join(sorted(activations))}; layernorm epsilon "
        f"{model.norm_epsilon:g}, order {model.norm_order}"
    )


def import_checkpoint(config: ImportConfig) -> ImportResult:
    """Write the checkpoint of somebody else's network, and its architecture beside it.

    Raises:
        UsageError: If the file cannot be read, or holds what cannot be expressed.
        FileError: If the checkpoint cannot be written.
    """
    for path in (config.output, config.architecture_file):
        check_writable(path)
    settings = read_settings(file) if (file := config.settings_file) else Settings()
    source = config.weights_file
    tensors = read_weights_file(source)
    if holds_efficientvit(tensors):
        return _import_efficientvit(config, settings, tensors)
    if config.image_size is not None:
        raise UsageError(
            f"--image {config.image_size} says the images of an EfficientViT, and "
            f"{source} holds none; leave it out"
        )
    try:
        network = convert_network(tensors, _hints(config, settings, source))
        _check_model(config, network.architecture.model)
    except UsageError as error:
        raise type(error)(f"{source}: {error}") from None
    checkpoint, assumed = _checkpoint(config, settings, network)
    write_checkpoint(config.output, checkpoint)
    replace_file(config.architecture_file, network.architecture.to_json())
    return ImportResult(
        checkpoint=config.output,
        architecture_file=config.architecture_file,
        source=network.layout.name,
        architecture=network.architecture,
        n_weights=sum(weight.numel() for weight in network.weights.values()),
        normalization=checkpoint.normalization,
        dataset=checkpoint.dataset,
        assumed=assumed,
        unused=network.unused,
    )


def _import_efficientvit(
    config: ImportConfig, settings: Settings, tensors: Mapping[str, Tensor]
) -> ImportResult:
    """Write an EfficientViT, and the file that `predict --model` reads beside it."""
    for option, given in (
        ("--model", config.model),
        ("--heads", config.n_heads),
        ("--tokens", config.n_tokens),
        ("--embedding", config.embedding),
    ):
        if given is not None:
            raise UsageError(f"{option} {given}: an EfficientViT says it; leave it out")
    try:
        network, weights = convert_efficientvit(tensors, config.image_size)
    except UsageError as error:
        raise type(error)(f"{config.weights_file}: {error}") from None
    grey = (_GREY,) * network.n_channels
    usual = _IMAGENET if network.n_channels == 3 else _pixels(grey, grey)
    known = _Images(dataset="imported", normalization=usual)
    images, assumed = _images_of(config, settings, known, network.n_classes)
    header = CheckpointHeader(
        architecture=network,
        normalization=images.normalization,
        dataset=images.dataset,
        class_names=images.class_names,
    )
    write_network(config.output, header, weights)
    replace_file(config.architecture_file, network.to_json())
    return ImportResult(
        checkpoint=config.output,
        architecture_file=config.architecture_file,
        source=SOURCE,
        architecture=network,
        n_weights=sum(weight.numel() for weight in weights.values()),
        normalization=header.normalization,
        dataset=header.dataset,
        assumed=(
            f"images of {network.image_size} pixels"
            + " a side; --image says another size" * (config.image_size is None),
            *assumed,
        ),
        unused=(),
    )


def _hints(config: ImportConfig, settings: Settings, source: Path) -> Hints:
    own = get_model(config.model) if config.model else None
    name = own.name if own else settings.name or _SUFFIXES.sub("", source.name)
    return Hints(
        name=re.sub(r"[^\w.-]", "-", name, flags=re.ASCII)[:40],
        n_heads=config.n_heads or (own.n_heads if own else settings.n_heads),
        activation=settings.activation,
        norm_epsilon=settings.norm_epsilon,
        pooling=settings.pooling,
        n_tokens=config.n_tokens,
        embedding=config.embedding,
    )


def _check_model(config: ImportConfig, found: ModelPreset) -> None:
    if config.model is None:
        return
    expected = get_model(config.model)
    for key in _SIZES:
        if getattr(found, key) != getattr(expected, key):
            raise UsageError(
                f"{key}={getattr(found, key)}: model {expected.name} has "
                f"{getattr(expected, key)}; leave out --model, or give another"
            )


def _checkpoint(
    config: ImportConfig, settings: Settings, network: ImportedNetwork
) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return the checkpoint, and what was assumed for want of being told."""
    model = network.architecture.model
    usual = _usual_images(network.layout, model)
    images, assumed = _images_of(
        config, settings, usual, model.n_classes, has_pixels=not model.n_embeddings
    )
    checkpoint = Checkpoint(
        architecture=network.architecture,
        weights=network.weights,
        normalization=images.normalization,
        dataset=images.dataset,
        class_names=images.class_names,
    )
    return checkpoint, assumed


def _images_of(
    config: ImportConfig,
    settings: Settings,
    known: _Images,
    n_classes: int,
    *,
    has_pixels: bool = True,
) -> tuple[_Images, tuple[str, ...]]:
    """Return the images by what was told, then by what is usual; what was assumed."""
    assumed = []
    normalization = settings.normalization
    if config.mean is not None and config.deviation is not None:
        normalization = _pixels(config.mean, config.deviation)
    if normalization is None:
        normalization = known.normalization
        if has_pixels:
            assumed.append(f"images with {_describe(normalization)}")
    names = settings.class_names or known.class_names
    if config.dataset:
        names = _classes_of(config.dataset, config.data)
    elif len(names) != n_classes:
        names = tuple(map(str, range(n_classes)))
        assumed.append("classes are called by their numbers; --dataset gives names")
    found = _Images(
        dataset=config.dataset or known.dataset,
        normalization=normalization,
        class_names=names,
    )
    return found, tuple(assumed)


def _usual_images(layout: Layout, model: ModelPreset) -> _Images:
    """Return what the framework usually gets as images."""
    published = _PUBLISHED.get((model.image_size, model.n_classes))
    if layout.name == "MPCViT" and published and model.n_channels == 3:
        return published
    if model.n_embeddings:  # a text has no pixels
        channels = range(model.n_channels)
        nothing = tuple(0.0 for _ in channels), tuple(1.0 for _ in channels)
        return _Images(dataset="imported", normalization=_pixels(*nothing))
    grey = (_GREY,) * model.n_channels
    return _Images(dataset="imported", normalization=_pixels(grey, grey))


def _classes_of(dataset: str, data: Path | None) -> tuple[str, ...]:
    if dataset in ("cifar10", "cifar100"):
        return CIFAR10_CLASSES if dataset == "cifar10" else CIFAR100_CLASSES
    from mpcvit.data.dataset import load_dataset  # brings other packages

    return load_dataset(dataset, folder=data, limit=1).class_names


def _describe(normalization: Normalization) -> str:
    mean, deviation = (
        ", ".join(f"{value:g}" for value in values)
        for values in (normalization.mean, normalization.deviation)
    )
    return f"mean {mean}, deviation {deviation}"
