"""The loss of MPCViT section 4.4: labels, the teacher's logits and features."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcvit.checkpoint import Checkpoint
from mpcvit.data.image_set import Dataset
from mpcvit.models.vit import VisionTransformer, last_norm
from mpcvit.train.evaluate import accuracy
from mpcvit.train.loop import ParameterGroup, decayed_groups
from mpcvit.train.recipe import Distillation, Recipe

KdTerm: TypeAlias = Literal["logits", "feature"]


class Teacher:
    """The network of a checkpoint; it never changes.

    Args:
        student: Whose features are held against the teacher's, where `kd` says so.
        dataset: That of the student, whose images come normalised by its own numbers.

    Raises:
        UsageError: If the teacher has other classes, or features of another shape.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        student: VisionTransformer,
        dataset: Dataset,
        kd: frozenset[KdTerm],
    ) -> None:
        _check_shapes(checkpoint, student, kd)
        dataset.check_classes(checkpoint.class_names, "the teacher")
        self._model = checkpoint.build_model().requires_grad_(False)
        self._own = checkpoint.normalization
        self._given = dataset.normalization

    def to(self, device: torch.device) -> None:
        """Move the network."""
        self._model.to(device)

    @torch.no_grad()
    def teach(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, N, D) and logits (B, C) of the student's images.

        Images (B, c, S, S) are normalised anew if the teacher's normalisation differs.
        """
        if self._own != self._given:
            images = self._own.apply(self._given.undo(images))
        features = self._model.features(images)
        return features, self._model.classify(features)


def _check_shapes(
    checkpoint: Checkpoint, student: VisionTransformer, kd: frozenset[KdTerm]
) -> None:
    _check_features(checkpoint.architecture, kd)
    ours, theirs = student.architecture.model, checkpoint.architecture.model
    inputs = ("image_size", "n_channels", "n_classes")
    shapes = ("n_tokens", "width") if "feature" in kd else ()
    for name in (*inputs, *shapes):
        if getattr(ours, name) != getattr(theirs, name):
            remedy = "--kd logits, or another teacher" if name in shapes else "another"
            raise UsageError(
                f"the teacher has {name}={getattr(theirs, name)}, the model "
                f"{getattr(ours, name)}: expected the same; give {remedy}"
            )


def _check_features(teacher: Architecture, kd: frozenset[KdTerm]) -> None:
    if "feature" in kd and last_norm(teacher) != "layernorm":
        raise UsageError(
            f"the teacher's last norm, {last_norm(teacher)!r}, is folded into its "
            "classifier, and its features are of no known size: give --kd logits, or "
            "a teacher with a layernorm"
        )


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute -sum targets * log softmax(logits), mean over images; both (B, C)."""
    return -(targets * functional.log_softmax(logits, dim=-1)).sum(-1).mean()


def logits_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over images.

    Source: Hinton et al. 2015, whose T^2 keeps the gradient's size whatever T.
    Differs: MPCViT writes no T^2; at its T = 1 the two are the same.
    """
    return temperature**2 * functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),  # (B, C)
        functional.log_softmax(teacher / temperature, dim=-1),  # (B, C)
        reduction="batchmean",
        log_target=True,
    )


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the mean of (student - teacher)^2; both (B, N, D).

    Differs: MPCViT prints the norm; its public code has this mean, which does not grow
        with the model.
    """
    return functional.mse_loss(student, teacher)


def choose_terms(
    given: frozenset[str] | None, *, has_teacher: bool, has_features: bool = True
) -> frozenset[KdTerm]:
    """Return the given terms; without any, all that a teacher can give.

    Args:
        has_features: Whether it has a feature for each token of the student.

    Raises:
        UsageError: If one is not known, or they do not fit the teacher.
    """
    terms = get_args(KdTerm) if has_features else ("logits",)
    chosen = frozenset(terms) if has_teacher else frozenset()
    chosen = chosen if given is None else given
    check_terms(chosen, has_teacher=has_teacher)
    return cast("frozenset[KdTerm]", chosen)  # as just checked


def check_terms(kd: frozenset[str], *, has_teacher: bool) -> None:
    """Refuse terms that cannot be computed.

    Raises:
        UsageError: If one is not known, or they do not fit the teacher.
    """
    unknown = {*kd} - {*get_args(KdTerm)}
    if unknown:
        raise UsageError(f"kd {sorted(unknown)}: expected logits, feature or both")
    if bool(kd) != has_teacher:
        given = "a teacher but no kd term" if has_teacher else "kd but no teacher"
        raise UsageError(f"{given}: give --teacher and --kd together, or neither")


def weigh(
    terms: Mapping[str, Tensor], weights: Distillation, range_penalty: float = 0.0
) -> dict[str, Tensor]:
    """Return the terms, and their sum under the paper's weights as "total".

    Args:
        range_penalty: Weight of the term "range".
    """
    by_name = {"ce": weights.chi, "logits": weights.beta, "feature": weights.gamma}
    by_name["range"] = range_penalty
    total = torch.stack([by_name[name] * term for name, term in terms.items()]).sum()
    return {"total": total, **terms}


class TrainingObjective:
    """Cross-entropy, the model's distance from its teacher, and squares out of range.

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

    def groups(self) -> Sequence[ParameterGroup]:
        """Return all weights under the recipe."""
        return decayed_groups(self._model, self._recipe)

    def to(self, device: torch.device) -> None:
        """Move the teacher."""
        if self._teacher is not None:
            self._teacher.to(device)

    def begin_step(self, progress: float) -> None:
        """Set how much is left of what gives way in the model."""
        self._model.begin_step(progress)

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return ce, logits, feature and range where asked for, and their sum."""
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
        if self._recipe.range_penalty:
            terms["range"] = self._model.excess()
        return weigh(terms, self._recipe.distillation, self._recipe.range_penalty)

    def after_step(self) -> None:
        """Project nothing."""

    def metrics(self) -> Mapping[str, float]:
        """Return the accuracy on the test images."""
        dataset = self._dataset
        share = accuracy(self._model, dataset.test, dataset.normalization)
        return {"accuracy": share}
