"""Images cut into patches, as their owner does in the clear.

Patches go row by row over the image; inside a patch entries go by row, column, channel.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.errors import UsageError


def to_patches(images: Tensor, patch: int) -> Tensor:
    """(B, c, S, S) to (B, N - 1, P), P = patch^2 c.

    Raises:
        UsageError: If patches do not fill the image.
    """
    n_batch, n_channels, n_rows, n_columns = _axes(tuple(images.shape), patch)
    grid = images.reshape(
        n_batch, n_channels, n_rows, patch, n_columns, patch
    )  # (B, c, row, p, column, p)
    entries = grid.permute(0, 2, 4, 3, 5, 1)  # (B, row, column, p, p, c)
    return entries.reshape(n_batch, n_rows * n_columns, patch * patch * n_channels)


def to_patches_numpy(images: NDArray[Any], patch: int) -> NDArray[Any]:
    """The same of a numpy array, of any kind of number.

    Raises:
        UsageError: If patches do not fill the image.
    """
    n_batch, n_channels, n_rows, n_columns = _axes(images.shape, patch)
    grid = images.reshape(n_batch, n_channels, n_rows, patch, n_columns, patch)
    entries = np.transpose(grid, (0, 2, 4, 3, 5, 1))  # (B, row, column, p, p, c)
    return entries.reshape(n_batch, n_rows * n_columns, patch * patch * n_channels)


def _axes(shape: tuple[int, ...], patch: int) -> tuple[int, int, int, int]:
    """Images, channels, and rows and columns of patches."""
    if len(shape) != 4 or shape[2] % patch or shape[3] % patch:
        raise UsageError(
            f"images of shape {tuple(shape)}: expected (images, channels, height, "
            f"width), height and width multiples of patch={patch}; resize them"
        )
    return shape[0], shape[1], shape[2] // patch, shape[3] // patch
