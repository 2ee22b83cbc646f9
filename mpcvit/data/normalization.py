"""What images go through before a network; a checkpoint keeps it, without torch."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpcprof.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

WHITE: Final = 255  # of 8 bits


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

    def apply(self, images: "Tensor") -> "Tensor":
        """Return normalised images, (..., c, S, S) in and out.

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

    def undo(self, images: "Tensor") -> "Tensor":
        """Return what `apply` made these images from, (..., c, S, S) in and out."""
        mean, deviation = self._by_channel(images)
        return images * deviation + mean

    def _by_channel(self, images: "Tensor") -> "tuple[Tensor, Tensor]":
        mean = images.new_tensor(self.mean).view(-1, 1, 1)  # (c, 1, 1)
        deviation = images.new_tensor(self.deviation).view(-1, 1, 1)  # (c, 1, 1)
        return mean, deviation


def measure_normalization(images: "Tensor") -> Normalization:
    """Return the mean and deviation of uint8 images (n, c, S, S), exact from counts."""
    import torch

    levels = torch.arange(WHITE + 1, dtype=torch.float64) / WHITE
    means, deviations = [], []
    for channel in images.unbind(1):  # (n, S, S)
        counts = torch.bincount(channel.flatten(), minlength=WHITE + 1).double()
        mean = float((counts * levels).sum() / counts.sum())
        variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
        means.append(mean)
        # a channel of one value has no deviation: one step of 8 bits stands for it
        deviations.append(max(math.sqrt(variance), 1 / WHITE))
    return Normalization(mean=tuple(means), deviation=tuple(deviations))
