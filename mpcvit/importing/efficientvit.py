"""An EfficientViT out of a file of timm's `efficientvit_msra`, its BatchNorms folded.

Source: timm/models/efficientvit_msra.py; sizes of Liu et al. 2023 (arXiv 2305.07027).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.nn.efficientvit import EFFICIENTVITS, EfficientViT
from mpcvit.models.efficientvit import EfficientViTMSRA

SOURCE: Final = "timm EfficientViT"
_MARK: Final = "patch_embed.conv4.conv.weight"
_STAGES: Final = range(3)
_IMAGE_SIZES: Final = range(32, 513, 16)
_USUAL_SIZE: Final = 224


def holds_efficientvit(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether these are the parameters of an EfficientViT."""
    return _MARK in tensors


def convert_efficientvit(
    tensors: Mapping[str, Tensor], image_size: int | None = None
) -> tuple[EfficientViT, dict[str, Tensor]]:
    """Return the network, and its weights as `efficientvit_shapes` has them.

    Args:
        image_size: Pixels a side; None for 224, or for the one that fits.

    Raises:
        UsageError: If a tensor is missing, or is of another network or image size.
    """
    network = _with_image(_find_sizes(tensors), tensors, image_size)
    module = EfficientViTMSRA(network)
    module.load_weights(tensors)
    return network, module.eval().weights()


def _find_sizes(tensors: Mapping[str, Tensor]) -> EfficientViT:
    """Return the network of these shapes, by the name of its preset if there is one."""
    heads = [_count(tensors, f"{_attention(stage)}.qkvs.") for stage in _STAGES]
    longest = heads.index(max(heads))
    kernels = [
        _shape(tensors, f"{_attention(longest)}.dws.{head}.conv.weight")[-1]
        for head in range(max(heads))
    ]
    widths = [
        _shape(tensors, f"stages.{stage}.blocks.0.dw0.m.conv.weight")[0]
        for stage in _STAGES
    ]
    depths = [_count(tensors, f"stages.{stage}.blocks.") for stage in _STAGES]
    found = EfficientViT(
        name="efficientvit-imported",
        widths=(widths[0], widths[1], widths[2]),
        depths=(depths[0], depths[1], depths[2]),
        n_heads=(heads[0], heads[1], heads[2]),
        kernels=tuple(kernels),
        n_channels=_shape(tensors, "patch_embed.conv1.conv.weight")[1],
        n_classes=_shape(tensors, "head.linear.weight")[0],
    )
    for preset in EFFICIENTVITS.values():
        own = replace(preset, n_channels=found.n_channels, n_classes=found.n_classes)
        same = replace(found, name=own.name, kernels=own.kernels)
        if own == same and own.kernels[: len(kernels)] == found.kernels:
            return own
    return found


def _with_image(
    network: EfficientViT, tensors: Mapping[str, Tensor], asked: int | None
) -> EfficientViT:
    """Return the network for images of the size that its position biases are of."""
    shapes = [
        _shape(tensors, f"{_attention(stage)}.attention_biases") for stage in _STAGES
    ]
    windows = [math.isqrt(shape[-1]) for shape in shapes]
    fitting = [size for size in _IMAGE_SIZES if _windows(network, size) == windows]
    if asked is None and _USUAL_SIZE in fitting:
        asked = _USUAL_SIZE
    if asked is None and len(fitting) == 1:
        (asked,) = fitting
    if asked is None or _windows(network, asked) != windows:
        given = "no --image" if asked is None else f"--image {asked}"
        raise UsageError(
            f"{given}: windows of {', '.join(map(str, windows))} places a side are of "
            f"images of {_listed(fitting)} pixels; give that --image"
        )
    return replace(network, image_size=asked)


def _windows(network: EfficientViT, size: int) -> list[int]:
    sized = replace(network, image_size=size)
    return [sized.window_side(stage) for stage in _STAGES]


def _listed(sizes: Iterable[int]) -> str:
    return " or ".join(map(str, sizes)) or "no known number of"


def _attention(stage: int) -> str:
    return f"stages.{stage}.blocks.0.mixer.m.attn"


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many numbers follow a prefix of names."""
    pattern = re.compile(rf"{re.escape(prefix)}(\d+)\.")
    return len({match[1] for name in tensors if (match := pattern.match(name))})


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise UsageError(f"{name} is missing: expected all of an EfficientViT of timm")
    return tuple(tensors[name].shape)
