"""Images with labels in memory, and batches of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.nn.efficientvit import EfficientViT
from mpcprof.nn.preset import ModelPreset
from mpcvit.data.normalization import WHITE, Normalization


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageSet:
    """Images and their classes.

    Attributes:
        images: uint8, (n, c, S, S).
        labels: int64, (n,).

    Raises:
        UsageError: If types or shapes differ from these.
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
        """Return the number of images."""
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set on that device."""
        return ImageSet(images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Images to train on and images to judge by.

    Attributes:
        class_names: One name for each label.
        normalization: Normalisation by the training images.

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

    def check_fits(self, model: ModelPreset | EfficientViT) -> None:
        """Refuse a model that cannot take these images or tell these classes apart.

        Raises:
            UsageError: If it is such a model.
        """
        given = (*self.train.images.shape[1:3], len(self.class_names))
        expected = (model.n_channels, model.image_size, model.n_classes)
        if given != expected:
            raise UsageError(
                f"dataset {self.name}: channels, pixels and classes {given}: model "
                f"{model.name} expects {expected}"
            )

    def check_classes(self, class_names: tuple[str, ...], whose: str) -> None:
        """Refuse other classes than the labels count, or another order.

        Args:
            whose: The owner of `class_names`, for the message.

        Raises:
            UsageError: If one differs; the message names the first.
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
    """Return the positions of `limit` labels, spread evenly over classes, in order.

    Chosen are the first of each class, then the second of each, and so on.

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


def count_batches(n_images: int, *, batch_size: int, world_size: int = 1) -> int:
    """Return the number of batches of an epoch, the same on every rank.

    Raises:
        UsageError: If a rank would get no image.
    """
    if batch_size < world_size or n_images < world_size or world_size < 1:
        raise UsageError(
            f"batch_size={batch_size} of n_images={n_images} over world_size="
            f"{world_size}: expected at least one image for each process"
        )
    n_whole, n_left = divmod(n_images, batch_size)
    # what is left cannot be shared by all ranks: the last batch takes it as well
    return n_whole + (n_left >= world_size)


def batches(
    images: ImageSet,
    *,
    batch_size: int,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    is_shuffled: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this rank's part of every batch: (B, c, S, S) in [0, 1], labels (B,).

    The seed and the epoch alone decide the order.

    Each image comes once in an epoch over all ranks. A batch holds the same images
    whatever the number of ranks, which take every world_size-th of them.

    Args:
        batch_size: Images of a step over all ranks.

    Raises:
        UsageError: If a rank would get no image.
    """
    n_images = len(images)
    n_batches = count_batches(n_images, batch_size=batch_size, world_size=world_size)
    if not 0 <= rank < world_size:
        raise UsageError(f"rank={rank}: expected 0 to {world_size - 1}")
    order = np.arange(n_images)
    if is_shuffled:
        order = np.random.default_rng((seed, epoch)).permutation(n_images)
    return _batches(images, order, n_batches, batch_size, rank, world_size, device)


def _batches(
    images: ImageSet,
    order: NDArray[np.int64],
    n_batches: int,
    batch_size: int,
    rank: int,
    world_size: int,
    device: torch.device | str,
) -> Iterator[tuple[Tensor, Tensor]]:
    for number in range(n_batches):
        end = len(order) if number == n_batches - 1 else (number + 1) * batch_size
        rows = order[number * batch_size : end][rank::world_size]
        index = torch.from_numpy(rows).to(images.labels.device)
        pixels = images.images[index].to(device)  # (B, c, S, S), a byte each till here
        yield pixels.float() / WHITE, images.labels[index].to(device)
