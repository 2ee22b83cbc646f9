"""RandAugment: a few operations on each image, drawn by chance at one magnitude."""

import math
from collections.abc import Callable
from typing import Final

import torch
from kornia import enhance
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

_GREY: Final = 0.5  # what comes in where an image was moved away
_MOST: Final = 10.0  # the scale of magnitudes
_N_OPERATIONS: Final = 2  # on each image
_PROBABILITY: Final = 0.5  # that one of them is carried out

Level = Tensor  # (b,), 0 to 1
Operation = Callable[[Tensor, Level], Tensor]  # images (b, c, S, S), kept


class RandAugment:
    """Two of 15 operations on each image (14 on grey), each with probability 1/2.

    The magnitude of each is normal around `magnitude` (0 to 10). Each image has its
    own operations; the images of one operation are computed together.

    Source: Cubuk et al. 2020; "rand-m9-mstd0.5-inc1" of the paper's recipe.
    Differs: grey of 0.5 comes in at the edges, not the mean of the data.
    """

    def __init__(self, magnitude: float, deviation: float) -> None:
        self._magnitude = magnitude
        self._deviation = deviation

    def __call__(self, images: Tensor) -> Tensor:
        """Return varied images, (B, c, S, S) in [0, 1]."""
        operations = [*OPERATIONS]
        if images.shape[1] == 3:
            operations.append(saturate)
        n_operations = len(operations) + _N_MOVES
        for _ in range(_N_OPERATIONS):
            choice, level = self._draw(len(images), n_operations)
            images = self._operate(images, choice, level, operations)
        return images

    def _draw(self, n_images: int, n_operations: int) -> tuple[Tensor, Level]:
        # always on the CPU: one seed, one sequence, whatever the device
        choice = torch.randint(n_operations, (n_images,))
        choice[torch.rand(n_images) >= _PROBABILITY] = -1
        spread = torch.randn(n_images) * self._deviation
        return choice, (self._magnitude + spread).clamp(0, _MOST) / _MOST

    def _operate(
        self, images: Tensor, choice: Tensor, level: Level, operations: list[Operation]
    ) -> Tensor:
        varied = images.clone()
        groups = [(choice == number, op) for number, op in enumerate(operations)]
        moves = choice - len(operations)
        groups.append((moves >= 0, lambda some, by: move(some, by, moves[moves >= 0])))
        for is_chosen, operation in groups:
            rows = is_chosen.nonzero()[:, 0]
            if len(rows):
                place = rows.to(images.device)
                by = level[rows].to(images.device, images.dtype)
                varied[place] = operation(images[place], by)
        return varied


_N_MOVES: Final = 5  # rotate, shear along x and y, shift along x and y


def move(images: Tensor, level: Level, kind: Tensor) -> Tensor:
    """Move each image in one of five ways, one resampling for all: (b, c, S, S).

    Rotation to 30 degrees, shear to 0.3, shift to 0.45 of the side, either way.
    """
    sign = (torch.randint(2, (len(images),)) * 2 - 1).to(level)
    by, kind = level * sign, kind.to(level.device)
    angle = torch.where(kind == 0, by * math.radians(30), 0.0)
    matrix = torch.zeros(len(images), 2, 3).to(images)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 0, 1] = torch.where(kind == 1, by * 0.3, angle.sin())
    matrix[:, 1, 0] = torch.where(kind == 2, by * 0.3, -angle.sin())
    # coordinates run from -1 to 1: a whole side is 2
    matrix[:, 0, 2] = torch.where(kind == 3, by * 0.9, 0.0)
    matrix[:, 1, 2] = torch.where(kind == 4, by * 0.9, 0.0)
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images - _GREY, grid, align_corners=False) + _GREY


def _signed(level: Level) -> Tensor:
    """Return factors from 0.1 to 1.9, as far from 1 as the level says."""
    sign = (torch.randint(2, (len(level),)) * 2 - 1).to(level)
    return 1 + 0.9 * sign * level


def saturate(images: Tensor, level: Level) -> Tensor:
    """Make images more or less colourful.

    Differs: grey is the mean of the channels, where Pillow weighs them by brightness.
    """
    grey = images.mean(1, keepdim=True)
    factor = _signed(level).view(-1, 1, 1, 1)
    return (grey + (images - grey) * factor).clamp(0, 1)


def _enhance_brightness(images: Tensor, level: Level) -> Tensor:
    return (images * _signed(level).view(-1, 1, 1, 1)).clamp(0, 1)


def _enhance_contrast(images: Tensor, level: Level) -> Tensor:
    return enhance.adjust_contrast_with_mean_subtraction(images, _signed(level))


def _enhance_sharpness(images: Tensor, level: Level) -> Tensor:
    return enhance.sharpness(images, _signed(level))


def _stretch(images: Tensor, _: Level) -> Tensor:
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = high - low  # (b, c, 1, 1)
    is_flat = spread == 0
    return torch.where(is_flat, images, (images - low) / (spread + is_flat))


def _equalize(images: Tensor, _: Level) -> Tensor:
    return enhance.equalize(images.clamp(0, 1))


def _invert(images: Tensor, _: Level) -> Tensor:
    return 1 - images


def _posterize(images: Tensor, level: Level) -> Tensor:
    n_levels = 2 ** (4 - (level * 4).floor()).view(-1, 1, 1, 1)  # 16 down to 1
    step = 256 / n_levels
    return ((images * 255) / step).floor() * step / 255


def _solarize(images: Tensor, level: Level) -> Tensor:
    threshold = 1 - level.view(-1, 1, 1, 1)
    return torch.where(images < threshold, images, 1 - images)


def _solarize_add(images: Tensor, level: Level) -> Tensor:
    more = level.view(-1, 1, 1, 1) * (110 / 255)
    return torch.where(images < _GREY, (images + more).clamp(0, 1), images)


OPERATIONS: Final[tuple[Operation, ...]] = (
    _stretch,
    _equalize,
    _invert,
    _posterize,
    _solarize,
    _solarize_add,
    _enhance_contrast,
    _enhance_brightness,
    _enhance_sharpness,
)
