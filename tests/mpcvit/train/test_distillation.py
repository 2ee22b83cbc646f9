"""What a student pays for differing from the labels and from its teacher."""

import pytest
import torch
from torch.nn import functional

from mpcprof.errors import UsageError
from mpcvit.train.distillation import (
    choose_terms,
    feature_distance,
    logits_divergence,
    soft_cross_entropy,
    weigh,
)
from mpcvit.train.recipe import Distillation

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 0.1]], dtype=torch.float64)
TAUGHT = torch.tensor([[0.0, 1.0, 0.5], [2.0, 2.5, -1.0]], dtype=torch.float64)


def test_soft_cross_entropy_of_certain_targets_is_the_usual_one():
    labels = torch.tensor([2, 1])

    found = soft_cross_entropy(LOGITS, functional.one_hot(labels, 3).double())

    torch.testing.assert_close(found, functional.cross_entropy(LOGITS, labels))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_that_of_the_definition(temperature):
    p, q = (torch.softmax(x / temperature, -1) for x in (TAUGHT, LOGITS))
    expected = temperature**2 * (p * (p / q).log()).sum(-1).mean()

    found = logits_divergence(LOGITS, TAUGHT, temperature)

    torch.testing.assert_close(found, expected)


def test_a_student_that_says_what_its_teacher_says_pays_nothing():
    features = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))

    assert float(logits_divergence(TAUGHT + 7, TAUGHT, 2.0)) == pytest.approx(0)
    assert float(feature_distance(features, features)) == 0


def test_hot_gradients_are_the_difference_of_the_logits_over_the_classes():
    student = LOGITS.clone().requires_grad_()

    logits_divergence(student, TAUGHT, 1e4).backward()

    centred = (LOGITS - TAUGHT) - (LOGITS - TAUGHT).mean(-1, keepdim=True)
    torch.testing.assert_close(student.grad, centred / 3 / 2, atol=1e-4, rtol=0)


def test_features_of_every_token_count_alike():
    student, teacher = torch.zeros(2, 5, 4), torch.zeros(2, 5, 4)
    student[1, 3, 2] = 2.0

    assert float(feature_distance(student, teacher)) == pytest.approx(4 / 40)


def test_the_total_is_weighed_by_chi_beta_and_gamma():
    terms = {name: torch.tensor(1.0) for name in ("ce", "logits", "feature")}

    found = weigh(terms, Distillation(chi=1, beta=10, gamma=100))

    assert float(found["total"]) == 111
    assert found["feature"] is terms["feature"]


def test_a_teacher_gives_both_terms_unless_told_otherwise():
    assert choose_terms(None, has_teacher=True) == {"logits", "feature"}
    assert choose_terms(None, has_teacher=False) == frozenset()
    assert choose_terms(frozenset({"logits"}), has_teacher=True) == {"logits"}


@pytest.mark.parametrize(
    ("given", "has_teacher", "message"),
    [
        ({"logit"}, True, r"kd \['logit'\]: expected logits, feature"),
        ({"logits"}, False, "kd but no teacher"),
        (set(), True, "a teacher but no kd term"),
    ],
)
def test_terms_that_cannot_be_computed_are_refused(given, has_teacher, message):
    with pytest.raises(UsageError, match=message):
        choose_terms(frozenset(given), has_teacher=has_teacher)
