"""Training of one architecture as the loop sees it, with a teacher or without."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mpcvit.data.dataset import Dataset
from mpcvit.models.vit import VisionTransformer
from mpcvit.training.distillation import (
    KdTerm,
    check_terms,
    feature_distance,
    logits_divergence,
    soft_cross_entropy,
    weigh,
)
from mpcvit.training.evaluate import accuracy
from mpcvit.training.objective import Group, decayed_groups
from mpcvit.training.recipe import Recipe
from mpcvit.training.teacher import Teacher


class TrainingObjective:
    """Cross-entropy, and how far the model is from its teacher.

    Raises:
        UsageError: If the terms do not go with the teacher, or the lack of one.
    """

    def __init__(
        self,
        model: VisionTransformer,
        dataset: Dataset,
        recipe: Recipe,
        *,
        teacher: Teacher | None = None,
        kd: frozenset[KdTerm] = frozenset(),
    ) -> None:
        check_terms(kd, has_teacher=teacher is not None)
        self._model = model
        self._dataset = dataset
        self._recipe = recipe
        self._teacher = teacher
        self._kd = kd

    @property
    def module(self) -> nn.Module:
        """The model; the teacher does not change."""
        return self._model

    def groups(self) -> Sequence[Group]:
        """All weights under the recipe."""
        return decayed_groups(
            self._model.parameters(),
            learning_rate=self._recipe.learning_rate,
            min_learning_rate=self._recipe.min_learning_rate,
            weight_decay=self._recipe.weight_decay,
        )

    def to(self, device: torch.device) -> None:
        """Move the teacher."""
        if self._teacher is not None:
            self._teacher.to(device)

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """The terms ce, and logits and feature where they are asked for; their sum."""
        features = self._model.features(images)  # (B, N, D)
        logits = self._model.classify(features)  # (B, C)
        terms = {"ce": soft_cross_entropy(logits, targets)}
        if self._teacher is not None:
            taught_features, taught = self._teacher.teach(images)
            if "logits" in self._kd:
                temperature = self._recipe.distillation.temperature
                terms["logits"] = logits_divergence(logits, taught, temperature)
            if "feature" in self._kd:
                terms["feature"] = feature_distance(features, taught_features)
        return weigh(terms, self._recipe.distillation)

    def after_step(self) -> None:
        """Nothing to project."""

    def after_epoch(self) -> None:
        """Nothing to adapt."""

    def metrics(self) -> Mapping[str, float]:
        """Accuracy on the test images."""
        dataset = self._dataset
        share = accuracy(self._model, dataset.test, dataset.normalization)
        return {"accuracy": share}
