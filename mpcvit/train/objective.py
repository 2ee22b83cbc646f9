"""What a loop minimises, and with which parameters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that share a learning rate; `least` is where its cosine ends."""

    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    min_learning_rate: float
    weight_decay: float


class Objective(Protocol):
    """A loss over images, and the module that it trains.

    Attributes:
        module: All that a resume needs: parameters, and as buffers whatever else
            changes while training (a multiplier, say). Teachers do not belong here.
    """

    @property
    def module(self) -> nn.Module:
        """What is trained and saved."""

    def groups(self) -> Sequence[Group]:
        """Every trained parameter, once, in an order that never changes."""

    def to(self, device: torch.device) -> None:
        """Move what is not part of the module: a teacher, a table of costs."""

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Scalars by name; "total" is minimised, the others are logged.

        Args:
            images: (B, c, S, S), augmented and normalised.
            targets: (B, C), probabilities.
        """

    def after_step(self) -> None:
        """Called after each step of the optimiser: project, clamp."""

    def after_epoch(self) -> None:
        """Called after each epoch, before `metrics`: adapt a multiplier, say."""

    def metrics(self) -> Mapping[str, float]:
        """What to log of the epoch that just ended; must not change anything."""


def decayed_groups(
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    min_learning_rate: float,
    weight_decay: float,
) -> tuple[Group, Group]:
    """Matrices, which decay, and the rest (norms, biases, positions), which do not."""
    parameters = [*parameters]
    matrices = tuple(p for p in parameters if p.ndim == 2)
    others = tuple(p for p in parameters if p.ndim != 2)
    first = Group(
        parameters=matrices,
        learning_rate=learning_rate,
        min_learning_rate=min_learning_rate,
        weight_decay=weight_decay,
    )
    return first, Group(
        parameters=others,
        learning_rate=learning_rate,
        min_learning_rate=min_learning_rate,
        weight_decay=0.0,
    )
