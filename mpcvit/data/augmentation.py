"""How training images are varied, and the targets that go with them."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.distributions import Beta
from torch.nn.functional import one_hot, pad

from mpcprof.errors import UsageError

_RATIO: Final = (3 / 4, 4 / 3)  # of width to height


def crop(images: Tensor, padding: int) -> Tensor:
    """Move each image by up to `padding` pixels either way, black at the edges."""
    n_images, _, size, _ = images.shape
    padded = pad(images, [padding] * 4)  # (B, c, S + 2p, S + 2p)
    offsets = torch.randint(2 * padding + 1, (2, n_images, 1)).to(images.device)
    rows, columns = offsets + torch.arange(size, device=images.device)  # (B, S) each
    number = torch.arange(n_images, device=images.device)
    moved = padded[number[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # from (B, S, S, c)


def crop_and_resize(images: Tensor, least_share: float) -> Tensor:
    """Bring a random box of each image, (B, c, S, S), back to S x S.

    The box has `least_share` to 1 of the area and a width of 3/4 to 4/3 of its height.

    Source: Szegedy et al. 2015; `RandomResizedCrop` of timm, scale (0.8, 1.0), in the
        public configurations for CIFAR.
    Differs: always bilinear, the corners of box and image aligned; timm draws bilinear
        or bicubic for each image ("random").
    """
    from kornia.augmentation import RandomResizedCrop

    size = images.shape[-1]
    # one resampling for the batch; kornia's other mode crops image by image
    resized: Tensor = RandomResizedCrop(
        (size, size), scale=(least_share, 1.0), ratio=_RATIO, cropping_mode="resample"
    )(images)
    return resized


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle of pixels: rows top to bottom, columns left to right."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return (self.bottom - self.top) * (self.right - self.left)


def draw_share(concentration: float) -> float:
    """Draw the share of the first image that stays: Beta(concentration, same)."""
    return float(Beta(concentration, concentration).sample())


def mixup(images: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return share x + (1 - share) x', x' the batch backwards; so targets (B, C).

    Source: Zhang et al. 2018.
    """
    return (
        share * images + (1 - share) * images.flip(0),
        share * targets + (1 - share) * targets.flip(0),
    )


def cutmix(images: Tensor, targets: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Replace a box of the batch by that of the batch backwards; targets by area.

    Source: Yun et al. 2019.
    """
    mixed = images.clone()
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    mixed[:, :, rows, columns] = images.flip(0)[:, :, rows, columns]
    share = 1 - box.area / math.prod(images.shape[2:])
    return mixed, share * targets + (1 - share) * targets.flip(0)


def draw_box(size: int, share: float) -> Box:
    """Draw a square of 1 - share of the image around a pixel, cut at the edges."""
    half = int(size * math.sqrt(1 - share)) // 2
    y, x = (int(centre) for centre in torch.randint(size, (2,)))
    return Box(
        top=max(y - half, 0),
        bottom=min(y + half, size),
        left=max(x - half, 0),
        right=min(x + half, size),
    )


_MOST_MAGNITUDE: Final = 10.0
_LARGEST: Final = sys.float_info.max
_PROBABILITIES: Final = (
    "mixing_probability",
    "cutmix_share",
    "random_erasing",
    "horizontal_flip",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Steps that vary training images; 0 leaves a step out.

    Attributes:
        randaugment_magnitude: Magnitude of RandAugment, 0 to 10.
        randaugment_std: Standard deviation of that magnitude over images.
        mixup: Concentration of the Beta distribution of mixup's shares.
        cutmix: Concentration of the Beta distribution of CutMix's shares.
        mixing_probability: Probability that a batch is mixed at all.
        cutmix_share: Share of CutMix among mixed batches, where both ways are on.
        mixing_epochs: Number of first epochs in which batches are mixed; None for all.
        random_erasing: Probability that a rectangle of an image is erased.
        horizontal_flip: Probability that an image is mirrored.
        crop_padding: Pixels around the image that a random crop may reach.
        crop_scale: Least share of the area that a random crop keeps, before it is
            brought back to the size of the image.
        rotation_degrees: Largest rotation either way.
        shift: Largest shift either way, as a share of the side.
        zoom: Largest change of size either way, as a share.

    Raises:
        UsageError: If a value is out of its range.
    """

    randaugment_magnitude: float = 0.0
    randaugment_std: float = 0.5
    mixup: float = 0.0
    cutmix: float = 0.0
    mixing_probability: float = 1.0
    cutmix_share: float = 0.5
    mixing_epochs: int | None = None
    random_erasing: float = 0.0
    horizontal_flip: float = 0.0
    crop_padding: int = 0
    crop_scale: float = 0.0
    rotation_degrees: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0

    def __post_init__(self) -> None:
        most = {
            **dict.fromkeys((*_PROBABILITIES, "crop_scale", "shift"), 1.0),
            "randaugment_magnitude": _MOST_MAGNITUDE,
            "zoom": 0.9,  # of 1: at 1 nothing would be left
            "rotation_degrees": 180.0,
        }
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is None:
                continue  # mixing_epochs alone
            if not 0 <= value <= most.get(name, _LARGEST):
                limit = f" to {most[name]:g}" if name in most else " or more, finite"
                raise UsageError(f"augmentation {name}={value}: expected 0{limit}")


NO_AUGMENTATION: Final = Augmentation()
# MPCViT section 5.1 after Hassani et al. 2021 [19], and the public configurations.
# Differs: for Tiny-ImageNet, where the paper names the same augmentations, the public
# code flips, erases and has torchvision's AutoAugment, without a crop.
PAPER_AUGMENTATION: Final = Augmentation(
    randaugment_magnitude=9.0,
    randaugment_std=0.5,
    mixup=0.8,
    cutmix=1.0,
    cutmix_share=0.5,
    random_erasing=0.25,
    horizontal_flip=0.5,
    crop_scale=0.8,
)
LIGHT_AUGMENTATION: Final = Augmentation(horizontal_flip=0.5, crop_padding=4)
# Written digits change their meaning when mirrored, and 8 pixels leave no room to cut.
# Moving them twice as far cost 1.7 points (2 seeds, 320 held-out training images).
DIGITS_AUGMENTATION: Final = Augmentation(rotation_degrees=5.0, shift=0.05, zoom=0.05)


class Augment:
    """Varies batches; draws from torch's global generator on the CPU alone.

    The steps are crop, affine, mirror, RandAugment, erase, mix.

    Args:
        n_classes: C.
        label_smoothing: Weight that is spread over all classes.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        *,
        n_classes: int,
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise UsageError(
                f"label_smoothing={label_smoothing}: expected 0 to less than 1"
            )
        self._given = augmentation
        self._n_classes = n_classes
        self._label_smoothing = label_smoothing
        self._steps = _make_steps(augmentation)

    def __call__(
        self, images: Tensor, labels: Tensor, *, epoch: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return varied images (B, c, S, S) in [0, 1] and soft targets (B, C).

        Args:
            epoch: The first is 1; targets are as soft in every one, mixed or not.
        """
        with torch.no_grad():
            targets = soften(labels, self._n_classes, self._label_smoothing)
            if self._given.crop_padding:
                images = crop(images, self._given.crop_padding)
            if self._given.crop_scale:
                images = crop_and_resize(images, self._given.crop_scale)
            for step in self._steps:
                images = step(images)
            n_epochs = self._given.mixing_epochs
            if n_epochs is None or epoch <= n_epochs:
                images, targets = self._mix(images, targets)
            return images.clamp(0, 1), targets

    def _mix(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        given = self._given
        if not (given.mixup or given.cutmix):
            return images, targets
        is_mixed, is_cut = torch.rand(2) < torch.tensor(
            [given.mixing_probability, given.cutmix_share]
        )
        if not is_mixed:
            return images, targets
        if given.cutmix and (is_cut or not given.mixup):
            box = draw_box(images.shape[-1], draw_share(given.cutmix))
            return cutmix(images, targets, box)
        return mixup(images, targets, draw_share(given.mixup))


Step = Callable[[Tensor], Tensor]


def _make_steps(given: Augmentation) -> list[Step]:
    # here, since the other functions of this file need torch alone
    from kornia.augmentation import RandomAffine, RandomErasing, RandomHorizontalFlip

    from mpcvit.data.randaugment import RandAugment

    steps: list[Step] = []
    if given.rotation_degrees or given.shift or given.zoom:
        steps.append(
            RandomAffine(
                given.rotation_degrees,
                translate=(given.shift, given.shift),
                scale=(1 - given.zoom, 1 + given.zoom),
                p=1.0,
            )
        )
    if given.horizontal_flip:
        steps.append(RandomHorizontalFlip(p=given.horizontal_flip))
    if given.randaugment_magnitude:
        steps.append(RandAugment(given.randaugment_magnitude, given.randaugment_std))
    if given.random_erasing:
        # Differs from the recipe: grey, where it fills in noise
        steps.append(RandomErasing(p=given.random_erasing, value=0.5))
    return steps


def soften(labels: Tensor, n_classes: int, smoothing: float) -> Tensor:
    """Return (1 - s) one-hot + s / C for labels (B,): (B, C)."""
    return one_hot(labels, n_classes).float() * (1 - smoothing) + smoothing / n_classes
