"""scikit-learn's 1,797 handwritten digits, 8x8 grey: inside every installation."""

from typing import Final

import numpy as np
import torch
from sklearn.datasets import load_digits as load_sklearn_digits
from sklearn.model_selection import train_test_split

from mpcvit.data.fitting import ImageShape, fit_pixels
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly
from mpcvit.data.normalization import measure_normalization

_BRIGHTEST: Final = 16  # values are counts of 4x4 pixels
_N_TEST: Final = 360
_SPLIT_SEED: Final = 0  # one split for everyone, so that accuracies compare


def load_digits(shape: ImageShape | None, limit: int | None) -> Dataset:
    """1,437 images to train on and 360 to test on, classes in equal shares."""
    bunch = load_sklearn_digits()
    pixels = np.rint(bunch.images * (255 / _BRIGHTEST)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=_N_TEST,
        random_state=_SPLIT_SEED,
        stratify=labels,
    )
    sets = []
    for rows in (train, test):
        kept = rows[choose_evenly(labels[rows], limit)]
        images = fit_pixels(pixels[kept, None], shape)  # (n, c, S, S)
        sets.append(
            ImageSet(
                images=torch.from_numpy(images), labels=torch.from_numpy(labels[kept])
            )
        )
    return Dataset(
        name="digits",
        train=sets[0],
        test=sets[1],
        class_names=tuple(str(name) for name in bunch.target_names),
        normalization=measure_normalization(sets[0].images),
    )
