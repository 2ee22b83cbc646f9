"""The image owner's own process: from pictures to the patches that its party shares.

The command line never sees a picture: it starts this module, which writes the patches
to a private folder that only the image owner's party reads.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mpcprof.errors import FileError, UsageError
from mpcprof.nn.catalogue import AnyNetwork
from mpcprof.nn.efficientvit import EfficientViT
from mpcvit.checkpoint_header import CheckpointHeader, read_header
from mpcvit.secure.owner import answer_request, ask_owner

if TYPE_CHECKING:
    from torch import Tensor

    from mpcvit.data.image_set import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Images as the image owner's party reads them.

    Attributes:
        patches: A .npy file for each batch.
        labels: Class of each image by the data set; None if only its owner could tell,
            or the data set has other classes than the model.
    """

    patches: tuple[Path, ...]
    labels: tuple[int | None, ...]


def prepare_apart(
    images: Sequence[str],
    checkpoint: Path,
    *,
    data: Path | None,
    n_batch: int,
    folder: Path,
) -> Prepared:
    """Run `prepare_images` in a process of its own.

    Raises:
        UsageError: If an image cannot be read.
        EngineError: If its patches cannot be written, or the process fails.
    """
    request = {
        "images": list(images),
        "checkpoint": str(checkpoint),
        "data": str(data) if data else "",
        "n_batch": n_batch,
        "folder": str(folder),
    }
    answer = ask_owner(__name__, "image owner", request)
    return Prepared(
        patches=tuple(Path(path) for path in answer["patches"]),
        labels=tuple(answer["labels"]),
    )


def prepare_images(
    images: Sequence[str],
    header: CheckpointHeader,
    *,
    data: Path | None,
    n_batch: int,
    folder: Path,
) -> Prepared:
    """Write patches of image files, or of test images such as `digits:17`.

    Raises:
        UsageError: If one cannot be read.
    """
    import torch

    from mpcvit.data.dataset import load_dataset

    model = header.sizes
    load = cache(partial(load_dataset, model=model, folder=data))  # each name once
    read = [_read(image, header, load) for image in images]
    pixels = torch.stack([image for image, _ in read])  # (n, c, S, S)
    return Prepared(
        patches=write_patches(pixels, header, n_batch=n_batch, folder=folder),
        labels=tuple(label for _, label in read),
    )


def write_patches(
    pixels: "Tensor", header: CheckpointHeader, *, n_batch: int, folder: Path
) -> tuple[Path, ...]:
    """Write batches of what the network takes; zeros fill up the last.

    These are normalised patches (B, N - 1, P), or pixels (B, S S, c).

    Args:
        pixels: Images, uint8, (n, c, S, S).
    """
    patches = _to_input(header.normalize(pixels), header.architecture).numpy()
    paths = []
    for number, start in enumerate(range(0, len(patches), n_batch)):
        own = patches[start : start + n_batch]
        batch = np.zeros((n_batch, *own.shape[1:]), np.float32)
        batch[: len(own)] = own
        paths.append(folder.resolve() / f"patches-{number}.npy")
        content = io.BytesIO()
        np.save(content, batch)
        try:
            paths[-1].write_bytes(content.getvalue())
        except OSError as error:
            raise FileError(
                f"cannot write {str(folder)!r}: {error.strerror}; make room, or set "
                "TMPDIR to another folder"
            ) from None
    return tuple(paths)


def _to_input(images: "Tensor", network: AnyNetwork) -> "Tensor":
    """Return normalised images (B, c, S, S) as the network takes them."""
    from mpcvit.models.efficientvit import to_pixels
    from mpcvit.models.layers import to_patches

    if isinstance(network, EfficientViT):
        return to_pixels(images)
    return to_patches(images, network.model.input_patch)


def _read(
    image: str, header: CheckpointHeader, load: "Callable[[str], Dataset]"
) -> "tuple[Tensor, int | None]":
    from mpcvit.data.dataset import DATASETS
    from mpcvit.data.fitting import read_image

    name, _, index = image.rpartition(":")
    if name not in DATASETS or not index.isdigit():
        return read_image(Path(image), header.sizes), None
    dataset = load(name)
    test = dataset.test
    if int(index) >= len(test):
        raise UsageError(
            f"{image}: {name} has {len(test)} test images, from {name}:0 to "
            f"{name}:{len(test) - 1}"
        )
    has_label = dataset.class_names == header.class_names
    label = int(test.labels[int(index)]) if has_label else None
    return test.images[int(index)], label


def _answer(request: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    prepared = prepare_images(
        request["images"],
        read_header(Path(request["checkpoint"])),
        data=Path(request["data"]) if request["data"] else None,
        n_batch=request["n_batch"],
        folder=Path(request["folder"]),
    )
    return asdict(prepared)


if __name__ == "__main__":
    answer_request(_answer)
