"""Random crops, of the size of the image."""

from typing import Final

import torch
from kornia.augmentation import RandomResizedCrop
from torch import Tensor
from torch.nn.functional import pad

_RATIO: Final = (3 / 4, 4 / 3)  # of width to height


def crop(images: Tensor, padding: int) -> Tensor:
    """Each image moved by up to `padding` pixels either way, black at the edges."""
    n_images, _, size, _ = images.shape
    padded = pad(images, [padding] * 4)  # (B, c, S + 2p, S + 2p)
    offsets = torch.randint(2 * padding + 1, (2, n_images, 1)).to(images.device)
    rows, columns = offsets + torch.arange(size, device=images.device)  # (B, S) each
    number = torch.arange(n_images, device=images.device)
    moved = padded[number[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # from (B, S, S, c)


def crop_and_resize(images: Tensor, least_share: float) -> Tensor:
    """A box of each image, (B, c, S, S), brought back to S x S.

    The box has `least_share` to 1 of the area and a width of 3/4 to 4/3 of its height.

    Source: Szegedy et al. 2015; `RandomResizedCrop` of timm, scale (0.8, 1.0), in the
        public configurations for CIFAR.
    Differs: always bilinear, the corners of box and image aligned; timm draws bilinear
        or bicubic for each image ("random").
    """
    size = images.shape[-1]
    # one resampling for the batch; kornia's other mode crops image by image
    resized: Tensor = RandomResizedCrop(
        (size, size), scale=(least_share, 1.0), ratio=_RATIO, cropping_mode="resample"
    )(images)
    return resized
