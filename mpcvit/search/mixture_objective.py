"""The loss of a search over layers: cross-entropy, and the expected seconds."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mpcvit.data.image_set import Dataset
from mpcvit.search.layer_cost import LayerCost
from mpcvit.search.mixture import Mixture
from mpcvit.train.distillation import soft_cross_entropy
from mpcvit.train.evaluate import accuracy
from mpcvit.train.loop import ParameterGroup, decayed_groups
from mpcvit.train.recipe import Recipe

_WEIGHTS_ALONE: Final = 0.25  # of the steps, before the first option is judged
_DUE: Final = 2 / 3  # of the steps, when the target is due
_PRESSURE: Final = 3.0  # loss of twice the seconds that are due


class MixtureObjective:
    """CE + lambda seconds(shares); the shares are the softmax of the logits.

    Weights are learned alone at first, so that an option is not judged by weights at
    random; in that time, options that need it are blended in. With a target, seconds
    count as far as they are above what is due: it falls in a line from those at the
    start to the target, which it is for the last third of the steps.

    Args:
        lambda_per_s: Loss per second; None where a target is given.
        target_s: Expected seconds to come down to; None for none.
        logit_rate: Peak learning rate of the logits.
    """

    def __init__(
        self,
        mixture: Mixture,
        cost: LayerCost,
        dataset: Dataset,
        recipe: Recipe,
        *,
        lambda_per_s: float | None,
        target_s: float | None,
        logit_rate: float,
    ) -> None:
        self._module = mixture
        self._cost = cost
        self._dataset = dataset
        self._recipe = recipe
        self._logit_rate = logit_rate
        self._target_s = target_s
        self._lambda_per_s = lambda_per_s or 0.0
        if target_s is not None:
            self._lambda_per_s = _PRESSURE / target_s
        self._start_s = self._expected_s()
        self._due_s = 0.0

    @property
    def module(self) -> Mixture:
        """Mixture of all networks."""
        return self._module

    def groups(self) -> Sequence[ParameterGroup]:
        """Return the logits apart: they have a rate of their own and no decay."""
        mixture = self._module
        logits = ParameterGroup(
            parameters=tuple(mixture.logits.values()),
            learning_rate=self._logit_rate,
            min_learning_rate=0.0,
            weight_decay=0.0,
        )
        return (*decayed_groups(mixture.weight_parameters(), self._recipe), logits)

    def to(self, device: torch.device) -> None:
        """Move nothing: costs are plain numbers."""

    def begin_step(self, progress: float) -> None:
        """Set what gives way, and what is due; learn the logits after the weights."""
        self._module.begin_step(progress)
        for logits in self._module.logits.values():
            logits.requires_grad_(progress >= _WEIGHTS_ALONE)
        if self._target_s is not None:
            left = (_DUE - progress) / (_DUE - _WEIGHTS_ALONE)
            above_s = (self._start_s - self._target_s) * min(max(left, 0.0), 1.0)
            self._due_s = self._target_s + above_s

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return `ce` and `seconds`, weighted as in `total`."""
        seconds = self._cost.expected_s(self._module.shares())
        terms = {
            "ce": soft_cross_entropy(self._module(images), targets),
            "seconds": self._lambda_per_s * functional.relu(seconds - self._due_s),
        }
        return {"total": torch.stack([*terms.values()]).sum(), **terms}

    def after_step(self) -> None:
        """Project nothing."""

    @torch.no_grad()
    def _expected_s(self) -> float:
        return float(self._cost.expected_s(self._module.shares()))

    @torch.no_grad()
    def metrics(self) -> Mapping[str, float]:
        """Return the likeliest network's accuracy, expected seconds, and certainty."""
        dataset = self._dataset
        likeliest = [shares.amax(-1).mean() for shares in self._module.shares()]
        return {
            "accuracy": accuracy(self._module, dataset.test, dataset.normalization),
            "expected_latency_s": self._expected_s(),
            "mean_likeliest": float(torch.stack(likeliest).mean()),
        }
