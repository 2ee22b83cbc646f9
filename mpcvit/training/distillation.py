"""The loss of MPCViT section 4.4: labels, the teacher's logits and features."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional

from mpcprof.errors import UsageError

if TYPE_CHECKING:
    from mpcvit.training.recipe import Distillation

KdTerm: TypeAlias = Literal["logits", "feature"]


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-sum targets * log softmax(logits), mean over images; both (B, C)."""
    return -(targets * functional.log_softmax(logits, dim=-1)).sum(-1).mean()


def logits_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), mean over images.

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
    """Mean of (student - teacher)^2 over images, tokens and width; both (B, N, D).

    Differs: MPCViT prints the norm; its public code has this mean, which does not grow
        with the model.
    """
    return functional.mse_loss(student, teacher)


def choose_terms(
    given: frozenset[str] | None, *, has_teacher: bool
) -> frozenset[KdTerm]:
    """The terms that are given; without any, all that a teacher can give.

    Raises:
        UsageError: If one is not known, or they do not fit the teacher.
    """
    chosen = frozenset(get_args(KdTerm)) if has_teacher else frozenset()
    chosen = chosen if given is None else given
    check_terms(chosen, has_teacher=has_teacher)
    return cast("frozenset[KdTerm]", chosen)  # as just checked


def check_terms(kd: frozenset[str], *, has_teacher: bool) -> None:
    """Pass if these terms can be computed.

    Raises:
        UsageError: If not.
    """
    unknown = {*kd} - {*get_args(KdTerm)}
    if unknown:
        raise UsageError(f"kd {sorted(unknown)}: expected logits, feature or both")
    if bool(kd) != has_teacher:
        given = "a teacher but no kd term" if has_teacher else "kd but no teacher"
        raise UsageError(f"{given}: give --teacher and --kd together, or neither")


def weigh(terms: Mapping[str, Tensor], weights: "Distillation") -> dict[str, Tensor]:
    """The terms and their sum under the paper's weights, as "total"."""
    by_name = {"ce": weights.chi, "logits": weights.beta, "feature": weights.gamma}
    total = torch.stack([by_name[name] * term for name, term in terms.items()]).sum()
    return {"total": total, **terms}
