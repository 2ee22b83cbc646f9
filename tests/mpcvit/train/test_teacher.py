"""A teacher sees what it was trained to see, or is refused."""

from dataclasses import replace

import pytest
import torch

from mpcprof.errors import UsageError
from mpcvit.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from mpcvit.data.dataset import load_dataset
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.train.distillation import Teacher
from mpcvit.train.run import OWN_TEACHER, train
from tests.training_runs import tiny_architecture, tiny_recipe, tiny_request

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


def test_features_that_no_norm_keeps_in_size_are_not_taught():
    architecture = replace(ARCHITECTURE, norm=("batchnorm",))
    weights = VisionTransformer(architecture).weights()
    teacher = make_checkpoint(architecture=architecture, weights=weights)

    with pytest.raises(UsageError, match=r"'batchnorm', is folded .* --kd logits"):
        make_teacher(teacher)


def test_a_teacher_of_its_own_is_trained_before_the_student(tmp_path):
    request = replace(
        tiny_request(tmp_path, tiny_recipe(epochs=1)),
        teacher=OWN_TEACHER,
        kd=frozenset({"logits"}),
    )

    result = train(request)

    teacher = read_checkpoint(tmp_path / "teacher" / "model.safetensors")
    assert teacher.architecture.n_layers == 0
    assert result.epochs[0].losses["logits"] > 0
    assert train(request).n_resumed == 1


def test_a_fresh_student_does_not_take_the_place_of_its_teacher(tmp_path):
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, make_checkpoint())
    request = tiny_request(tmp_path, tiny_recipe(epochs=1), is_fresh=True)

    with pytest.raises(UsageError, match="would write over the teacher"):
        train(replace(request, teacher=path, kd=KD))

    assert read_checkpoint(path).architecture == ARCHITECTURE


def test_a_teacher_whose_classes_are_in_another_order_is_refused_in_one_line():
    names = (*DIGITS.class_names[:-2], "9", "8")

    with pytest.raises(UsageError, match=r"'8' as class 8, the teacher '9'") as raised:
        make_teacher(make_checkpoint(class_names=names))

    assert "\n" not in str(raised.value)
