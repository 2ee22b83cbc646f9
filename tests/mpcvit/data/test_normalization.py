"""Normalisation: mean 0 and deviation 1 by channel, and what it refuses."""

import numpy as np
import pytest
import torch

from mpcprof.errors import UsageError
from mpcvit.data.normalization import Normalization, measure_normalization


def test_measured_values_are_those_of_numpy_over_all_pixels_of_a_channel() -> None:
    images = torch.randint(256, (7, 3, 5, 5)).to(torch.uint8)

    measured = measure_normalization(images)

    pixels = images.numpy() / 255
    np.testing.assert_allclose(measured.mean, pixels.mean((0, 2, 3)))
    np.testing.assert_allclose(measured.deviation, pixels.std((0, 2, 3)))


def test_undoing_gives_the_images_back() -> None:
    images = torch.rand(4, 2, 5, 5, dtype=torch.float64)
    given = Normalization(mean=(0.3, 0.6), deviation=(0.2, 0.1))

    torch.testing.assert_close(given.undo(given.apply(images)), images)


def test_normalised_images_have_mean_0_and_deviation_1_in_each_channel() -> None:
    images = torch.randint(256, (50, 3, 8, 8)).to(torch.uint8)

    normalised = measure_normalization(images).apply(images.double() / 255)

    zeros, ones = torch.zeros(3).double(), torch.ones(3).double()
    torch.testing.assert_close(normalised.mean((0, 2, 3)), zeros)
    torch.testing.assert_close(normalised.std((0, 2, 3), correction=0), ones)


def test_black_images_can_still_be_normalised() -> None:
    black = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)

    normalised = measure_normalization(black).apply(black.float())

    assert torch.equal(normalised, torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [((), ()), ((0.5,), (0.0,)), ((0.5, 0.5), (1.0,)), ((float("nan"),), (1.0,))],
)
def test_values_that_cannot_divide_images_are_refused(
    mean: tuple[float, ...], deviation: tuple[float, ...]
) -> None:
    with pytest.raises(UsageError, match="deviations above 0"):
        Normalization(mean=mean, deviation=deviation)


def test_images_of_other_channels_are_refused() -> None:
    grey = Normalization(mean=(0.5,), deviation=(0.5,))

    with pytest.raises(UsageError, match=r"\(2, 3, 4, 4\): expected 1 channels"):
        grey.apply(torch.zeros(2, 3, 4, 4))
