"""A teacher sees what it was trained to see, or is refused."""

from dataclasses import replace

import pytest
import torch

from mpcprof.errors import UsageError
from mpcvit.checkpoint import Checkpoint
from mpcvit.data.dataset import load_dataset
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.train.distillation import Teacher
from tests.training_runs import tiny_architecture

ARCHITECTURE = tiny_architecture()
DIGITS = load_dataset("digits", limit=20)
OTHER = Normalization(mean=(0.9,), deviation=(0.1,))
KD = frozenset({"logits", "feature"})


def make_checkpoint(**changes: object) -> Checkpoint:
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        architecture=ARCHITECTURE,
        weights=VisionTransformer(ARCHITECTURE).weights(),
        normalization=DIGITS.normalization,
        dataset="digits",
        class_names=DIGITS.class_names,
    )
    return replace(checkpoint, **changes)


def make_teacher(checkpoint: Checkpoint) -> Teacher:
    return Teacher(checkpoint, VisionTransformer(ARCHITECTURE), DIGITS, KD)


def pixels() -> torch.Tensor:
    return DIGITS.test.images.float() / 255


@pytest.mark.parametrize("normalization", [DIGITS.normalization, OTHER])
def test_a_teacher_sees_images_as_it_saw_them_when_it_was_trained(normalization):
    checkpoint = make_checkpoint(normalization=normalization)
    given = DIGITS.normalization.apply(pixels())

    features, logits = make_teacher(checkpoint).teach(given)

    expected = checkpoint.build_model()
    own = normalization.apply(pixels())
    torch.testing.assert_close(features, expected.features(own), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits, expected(own), atol=1e-4, rtol=1e-4)
    assert not logits.requires_grad


def test_under_the_same_normalization_images_are_the_very_same():
    checkpoint = make_checkpoint()
    given = DIGITS.normalization.apply(pixels())

    _, logits = make_teacher(checkpoint).teach(given)

    assert torch.equal(logits, checkpoint.build_model()(given))


def test_a_teacher_whose_classes_are_in_another_order_is_refused_in_one_line():
    names = (*DIGITS.class_names[:-2], "9", "8")

    with pytest.raises(UsageError, match=r"'8' as class 8, the teacher '9'") as raised:
        make_teacher(make_checkpoint(class_names=names))

    assert "\n" not in str(raised.value)
