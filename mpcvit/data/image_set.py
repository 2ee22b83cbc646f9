"""Images with labels, in memory."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import ModelPreset

_WHITE: Final = 255  # of 8 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """(x - mean) / deviation by channel, for x in [0, 1].

    Raises:
        UsageError: If a value is not finite, a deviation not positive, or the two
            differ in length.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        values = (*self.mean, *self.deviation)
        is_usable = all(map(math.isfinite, values)) and all(
            value > 0 for value in self.deviation
        )
        if not is_usable or not self.mean or len(self.mean) != len(self.deviation):
            raise UsageError(
                f"mean={self.mean}, deviation={self.deviation}: expected one finite "
                "number per channel each, deviations above 0"
            )

    def apply(self, images: Tensor) -> Tensor:
        """Normalised images, (..., c, S, S) in and out.

        Raises:
            UsageError: If the channels are not as many as the means.
        """
        if images.ndim < 3 or images.shape[-3] != len(self.mean):
            raise UsageError(
                f"images of shape {tuple(images.shape)}: expected {len(self.mean)} "
                "channels, (..., c, S, S)"
            )
        mean, deviation = self._by_channel(images)
        return (images - mean) / deviation

    def undo(self, images: Tensor) -> Tensor:
        """What `apply` made these from, (..., c, S, S) in and out."""
        mean, deviation = self._by_channel(images)
        return images * deviation + mean

    def _by_channel(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = images.new_tensor(self.mean).view(-1, 1, 1)  # (c, 1, 1)
        deviation = images.new_tensor(self.deviation).view(-1, 1, 1)  # (c, 1, 1)
        return mean, deviation


def measure_normalization(images: Tensor) -> Normalization:
    """The mean and deviation of uint8 images (n, c, S, S), exact from their counts."""
    levels = torch.arange(_WHITE + 1, dtype=torch.float64) / _WHITE
    means, deviations = [], []
    for channel in images.unbind(1):  # (n, S, S)
        counts = torch.bincount(channel.flatten(), minlength=_WHITE + 1).double()
        mean = float((counts * levels).sum() / counts.sum())
        variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
        means.append(mean)
        # a channel of one value has no deviation: one step of 8 bits stands for it
        deviations.append(max(math.sqrt(variance), 1 / _WHITE))
    return Normalization(mean=tuple(means), deviation=tuple(deviations))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSet:
    """Images and their classes.

    Attributes:
        images: uint8, (n, c, S, S).
        labels: int64, (n,).

    Raises:
        UsageError: If types or shapes are others.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        is_fitting = (
            self.images.dtype == torch.uint8
            and self.labels.dtype == torch.int64
            and len(shape) == 4
            and shape[2] == shape[3]
            and tuple(self.labels.shape) == shape[:1]
        )
        if not is_fitting:
            raise UsageError(
                f"images {self.images.dtype} {shape}, labels {self.labels.dtype} "
                f"{tuple(self.labels.shape)}: expected uint8 (n, c, S, S), int64 (n,)"
            )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same set on that device."""
        return ImageSet(images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Images to train on and images to judge by.

    Attributes:
        class_names: One for each label.
        normalization: Of the training images.

    Raises:
        UsageError: If a set is empty or a label has no class name.
    """

    name: str
    train: ImageSet
    test: ImageSet
    class_names: tuple[str, ...]
    normalization: Normalization

    def __post_init__(self) -> None:
        for split, images in (("train", self.train), ("test", self.test)):
            if not len(images):
                raise UsageError(f"dataset {self.name}: no images to {split}")
            least, most = int(images.labels.min()), int(images.labels.max())
            if least < 0 or most >= len(self.class_names):
                raise UsageError(
                    f"dataset {self.name}: {split} labels {least} to {most}: expected "
                    f"0 to {len(self.class_names) - 1}"
                )

    def check_fits(self, model: ModelPreset) -> None:
        """Pass if that model can take these images and tell these classes apart.

        Raises:
            UsageError: If not.
        """
        given = (*self.train.images.shape[1:3], len(self.class_names))
        expected = (model.n_channels, model.image_size, model.n_classes)
        if given != expected:
            raise UsageError(
                f"dataset {self.name}: channels, pixels and classes {given}: model "
                f"{model.name} expects {expected}"
            )

    def check_classes(self, class_names: tuple[str, ...], whose: str) -> None:
        """Pass if labels count these classes, in this order.

        Args:
            whose: What a message calls the one that has these.

        Raises:
            UsageError: If not; the message names the first that differs.
        """
        own = self.class_names
        if own == class_names:
            return
        if len(own) != len(class_names):
            difference = f"{len(own)} classes, {whose} {len(class_names)}"
        else:
            pairs = enumerate(zip(own, class_names, strict=True))
            index = next(index for index, (ours, theirs) in pairs if ours != theirs)
            difference = (
                f"{own[index]!r} as class {index}, {whose} {class_names[index]!r}"
            )
        raise UsageError(
            f"dataset {self.name} has {difference}: expected the same classes in the "
            "same order; give another data set or checkpoint"
        )


def choose_evenly(labels: NDArray[np.int64], limit: int | None) -> NDArray[np.int64]:
    """Positions of `limit` labels, as many of each class as there are; in order.

    Source: the first of each class, then the second of each, and so on.

    Raises:
        UsageError: If the limit is below 1.
    """
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    if limit < 1:
        raise UsageError(f"limit={limit}: expected at least 1 image")
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    rank = np.empty_like(by_class)
    rank[by_class] = np.arange(len(labels)) - starts
    return np.sort(np.lexsort((labels, rank))[:limit])
