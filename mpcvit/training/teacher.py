"""A trained network that another one learns from."""

import torch
from torch import Tensor

from mpcprof.errors import UsageError
from mpcvit.checkpoint import Checkpoint
from mpcvit.data.dataset import Dataset
from mpcvit.models.vit import VisionTransformer
from mpcvit.training.distillation import KdTerm


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
        """Move it."""
        self._model.to(device)

    @torch.no_grad()
    def teach(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, D) and logits (B, C) of the student's images (B, c, S, S).

        They are normalised anew if the teacher was trained with other numbers.
        """
        if self._own != self._given:
            images = self._own.apply(self._given.undo(images))
        features = self._model.features(images)
        return features, self._model.classify(features)


def _check_shapes(
    checkpoint: Checkpoint, student: VisionTransformer, kd: frozenset[KdTerm]
) -> None:
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
