"""Pictures of any size and colour, as the model takes them."""

import io
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from mpcprof.errors import UsageError
from mpcprof.nn.efficientvit import EfficientViT
from mpcprof.nn.preset import ModelPreset

_logger = logging.getLogger(__name__)
_MODES: Final = {1: "L", 3: "RGB"}  # of Pillow, by channels
_DEEP_GREY: Final = ("I;16", "I;16B", "I;16L", "I")  # 16 bits: converting would clip

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageShape:
    """Channels and side of a square image.

    Raises:
        UsageError: If it is neither grey nor RGB.
    """

    n_channels: int
    size: int

    def __post_init__(self) -> None:
        if self.n_channels not in _MODES or self.size < 1:
            raise UsageError(
                f"n_channels={self.n_channels}, size={self.size}: expected 1 (grey) or "
                "3 (RGB), and at least one pixel"
            )

    @property
    def mode(self) -> str:
        """Pillow's name of the channels."""
        return _MODES[self.n_channels]


def shape_of(model: ModelPreset | EfficientViT) -> ImageShape:
    """Return the shape of the images that a model takes.

    Raises:
        UsageError: If it takes no images.
    """
    if isinstance(model, ModelPreset):
        model.check_takes_images()
    return ImageShape(n_channels=model.n_channels, size=model.image_size)


def shape_of_images(images: Tensor) -> ImageShape:
    """Return the shape of images (n, c, S, S)."""
    _, n_channels, size, _ = images.shape
    return ImageShape(n_channels=n_channels, size=size)


def read_image(path: Path, model: ModelPreset | EfficientViT) -> Tensor:
    """Read the image in a file as the model takes it: uint8, (c, S, S).

    Raises:
        UsageError: If the file holds none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read image {str(path)!r}: {error.strerror}") from None
    shape = shape_of(model)
    return torch.from_numpy(fit_image(decode_image(data, str(path)), shape))


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from None


def decode_image(data: bytes, source: str) -> Image.Image:
    """Decode the bytes of an image file.

    Args:
        source: Name of the file in messages.

    Raises:
        UsageError: If there is none, or only a part.
    """
    try:
        with warnings.catch_warnings():  # a bomb of pixels is refused, not warned of
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _no_image(source, error) from None
    except Image.DecompressionBombWarning as error:
        raise _no_image(source, error) from None
    return ImageOps.exif_transpose(picture)


def _no_image(source: str, error: Exception) -> UsageError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UsageError(f"{source}: not a whole image (PNG, JPEG, ...): {reason}")


def fit_image(picture: Image.Image, shape: ImageShape) -> Pixels:
    """Return the middle square, bicubic at that size, in those channels: (c, S, S)."""
    if picture.mode in _DEEP_GREY:
        values: Any = np.asarray(picture)  # whichever width the mode has
        picture = Image.fromarray((values.clip(0, 65535) // 257).astype(np.uint8))
    picture = picture.convert(shape.mode)
    if picture.size != (shape.size, shape.size):
        picture = ImageOps.fit(
            picture, (shape.size, shape.size), Image.Resampling.BICUBIC
        )
    pixels: Pixels = np.asarray(picture, dtype=np.uint8)  # (S, S) or (S, S, c)
    pixels = pixels.reshape(shape.size, shape.size, shape.n_channels)
    # Pillow keeps its memory read-only, which torch does not take
    return np.array(pixels.transpose(2, 0, 1), order="C")


def decode_images(
    files: Iterable[tuple[str, bytes]], shape: ImageShape | None, *, n_images: int
) -> Pixels:
    """Decode image files into one array, (n, c, S, S); sized as the first if shapeless.

    Raises:
        UsageError: If one of them is no image; the message names it.
    """
    pixels: Pixels = np.empty((0, 1, 1, 1), dtype=np.uint8)
    n_resized = 0
    for index, (source, data) in enumerate(files):
        picture = decode_image(data, source)
        shape = shape or _own_shape(picture, source)
        if index == 0:
            pixels = np.empty(
                (n_images, shape.n_channels, shape.size, shape.size), dtype=np.uint8
            )
        n_resized += picture.size != (shape.size, shape.size)
        pixels[index] = fit_image(picture, shape)
    if n_resized and shape:
        _log_resized(n_resized, n_images, shape)
    return pixels


def _own_shape(picture: Image.Image, source: str) -> ImageShape:
    width, height = picture.size
    if width != height:
        raise UsageError(
            f"{source}: {width} x {height} pixels: expected a square image, or a model "
            "that says what size to bring it to"
        )
    n_channels = 1 if picture.mode in ("1", "L", *_DEEP_GREY) else 3
    return ImageShape(n_channels=n_channels, size=width)


def fit_pixels(pixels: Pixels, shape: ImageShape | None) -> Pixels:
    """Bring images (n, c, S, S) to another shape, where it differs."""
    _, n_channels, size, _ = pixels.shape
    if shape is None or (shape.n_channels, shape.size) == (n_channels, size):
        return pixels
    own = ImageShape(n_channels=n_channels, size=size)
    pictures = pixels.transpose(0, 2, 3, 1)  # (n, S, S, c)
    if own.n_channels == 1:
        pictures = pictures[..., 0]  # (n, S, S)
    if own.size != shape.size:
        _log_resized(len(pixels), len(pixels), shape)
    return np.stack(
        [
            fit_image(Image.fromarray(np.ascontiguousarray(picture)), shape)
            for picture in pictures
        ]
    )


def _log_resized(n_resized: int, n_images: int, shape: ImageShape) -> None:
    _logger.warning(
        "%d of %d images resized to %d x %d pixels (bicubic)",
        n_resized,
        n_images,
        shape.size,
        shape.size,
    )
