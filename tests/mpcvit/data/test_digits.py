"""The digits of scikit-learn, and what is said of any data set in memory."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits as load_sklearn_digits

from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.nn.architecture import get_model
from mpcvit.data.dataset import load_dataset
from mpcvit.data.image_set import Dataset, ImageSet, choose_evenly


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", model=get_model("digits"))


def test_digits_come_from_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="come with scikit-learn, not from"):
        load_dataset("digits", folder=tmp_path)


def test_every_digit_is_in_exactly_one_of_the_two_sets(digits: Dataset) -> None:
    images = torch.cat([digits.train.images, digits.test.images])

    found = sorted(image.numpy().tobytes() for image in images)

    given = np.rint(load_sklearn_digits().images * 255 / 16).astype(np.uint8)
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert found == sorted(image.tobytes() for image in given)


def test_both_sets_hold_the_classes_in_equal_shares(digits: Dataset) -> None:
    train = digits.train.labels.bincount() / len(digits.train)
    test = digits.test.labels.bincount() / len(digits.test)

    torch.testing.assert_close(train, test, rtol=0, atol=2 / 360)


def test_the_split_is_the_same_everywhere(digits: Dataset) -> None:
    digest = hashlib.sha256(digits.test.images.numpy().tobytes()).hexdigest()

    assert digest[:16] == "ac6ada28192bd51a"


def test_digits_fit_their_preset_and_no_other(digits: Dataset) -> None:
    digits.check_fits(get_model("digits"))

    with pytest.raises(UsageError, match=r"\(1, 8, 10\): model cifar expects"):
        digits.check_fits(get_model("cifar"))


def test_another_model_gets_digits_in_its_size_and_colours_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    resized = load_dataset("digits", model=get_model("cifar"), limit=20)

    resized.check_fits(get_model("cifar"))
    assert [len(resized.train), len(resized.test)] == [20, 20]
    assert "20 of 20 images resized to 32 x 32 pixels" in caplog.messages[0]


def test_a_limit_takes_as_many_of_each_class(digits: Dataset) -> None:
    few = load_dataset("digits", limit=30)

    assert few.train.labels.bincount().tolist() == [3] * 10
    assert few.test.labels.bincount().tolist() == [3] * 10


def test_an_even_choice_keeps_the_order_and_takes_what_a_small_class_has() -> None:
    labels = np.array([2, 0, 0, 0, 1, 0, 2, 1, 2])

    assert choose_evenly(labels, 7).tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert choose_evenly(labels, 2).tolist() == [1, 4]
    assert choose_evenly(labels, 99).tolist() == [*range(9)]


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="limit=0: expected at least 1"):
        load_dataset("digits", limit=0)


def test_an_unknown_name_is_told_with_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match=r"'cifar1'; did you mean .*cifar10"):
        load_dataset("cifar1")


def test_images_and_labels_must_belong_together() -> None:
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)

    with pytest.raises(UsageError, match=r"expected uint8 \(n, c, S, S\)"):
        ImageSet(images=images, labels=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(UsageError, match=r"torch.float32 \(3, 1, 4, 4\)"):
        ImageSet(images=images.float(), labels=torch.zeros(3, dtype=torch.int64))


def test_a_label_without_a_class_is_refused(digits: Dataset) -> None:
    with pytest.raises(UsageError, match="train labels 0 to 9: expected 0 to 8"):
        replace(digits, class_names=digits.class_names[:9])
