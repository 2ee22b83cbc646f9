"""Images in batches, in an order that only the seed and the epoch decide."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.errors import UsageError
from mpcvit.data.image_set import ImageSet


def count_batches(n_images: int, *, batch_size: int, world_size: int = 1) -> int:
    """Batches of an epoch, the same on every rank.

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
    """This rank's part of every batch: (B, c, S, S) in [0, 1] and labels (B,).

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
        yield pixels.float() / 255, images.labels[index].to(device)
