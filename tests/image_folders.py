"""Folders of grey images of 8 x 8 pixels, for tests that train or judge on them."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image


def _pixels(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (8, 8)).astype(np.uint8)


def write_image_folder(root: Path, class_names: tuple[str, ...]) -> Path:
    """4 images of each class to train on, 2 to test on."""
    for label, name in enumerate(class_names):
        for split, n_images in (("train", 4), ("test", 2)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(n_images):
                image = Image.fromarray(_pixels(10 * label + number))
                image.save(folder / f"{number}.png")
    return root


def write_parquet_folder(root: Path, n_classes: int) -> Path:
    """The same in two parquet files, whose classes have numbers alone."""
    root.mkdir(parents=True, exist_ok=True)
    for split, n_images in (("train", 4), ("test", 2)):
        labels = [*range(n_classes)] * n_images
        images = [_png(_pixels(seed)) for seed in range(len(labels))]
        table = pa.table({"image": images, "label": labels})
        pq.write_table(table, root / f"{split}.parquet")
    return root


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
