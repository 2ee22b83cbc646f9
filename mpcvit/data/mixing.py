"""Mixup and CutMix: two images and their targets in one."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle of pixels: rows top to bottom, columns left to right."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Pixels."""
        return (self.bottom - self.top) * (self.right - self.left)


def draw_share(concentration: float) -> float:
    """How much of the first image stays: Beta(concentration, concentration)."""
    return float(Beta(concentration, concentration).sample())


def mixup(images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """share x + (1 - share) x', x' the batch backwards; targets (B, C) likewise.

    Source: Zhang et al. 2018.
    """
    return (
        share * images + (1 - share) * images.flip(0),
        share * targets + (1 - share) * targets.flip(0),
    )


def cutmix(images: Tensor, targets: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """The batch with that box of the batch backwards; targets by area.

    Source: Yun et al. 2019.
    """
    mixed = images.clone()
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    mixed[:, :, rows, columns] = images.flip(0)[:, :, rows, columns]
    share = 1 - box.area / math.prod(images.shape[2:])
    return mixed, share * targets + (1 - share) * targets.flip(0)


def draw_box(size: int, share: float) -> Box:
    """A square of 1 - share of the image around a random pixel, cut at the edges."""
    half = int(size * math.sqrt(1 - share)) // 2
    y, x = (int(centre) for centre in torch.randint(size, (2,)))
    return Box(
        top=max(y - half, 0),
        bottom=min(y + half, size),
        left=max(x - half, 0),
        right=min(x + half, size),
    )
