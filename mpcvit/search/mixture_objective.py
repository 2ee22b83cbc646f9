"""The loss of a search over layers: cross-entropy, and the expected seconds."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from mpcvit.data.image_set import Dataset
from mpcvit.search.layer_cost import LayerCost
from mpcvit.search.mixture import Mixture
from mpcvit.search.objective import FIRST_LAMBDA_PER_S, Descent
from mpcvit.train.distillation import soft_cross_entropy
from mpcvit.train.evaluate import accuracy
from mpcvit.train.loop import ParameterGroup, decayed_groups
from mpcvit.train.recipe import Recipe

_WEIGHTS_ALONE: Final = 0.25  # of the steps, before the first option is judged


class MixtureModule(nn.Module):
    """The mixture and what else a resume needs.

    Attributes:
        lambda_per_s: (), loss per second now.
    """

    lambda_per_s: Tensor

    def __init__(self, mixture: Mixture, lambda_per_s: float) -> None:
        super().__init__()
        self.mixture = mixture
        self.register_buffer("lambda_per_s", torch.tensor(lambda_per_s))


class MixtureObjective:
    """CE + lambda seconds(shares); the shares are the softmax of the logits.

    Weights are learned alone at first, so that an option is not judged by weights at
    random; in that time, options that need it are blended in. With a target, lambda
    follows `Descent`.

    Args:
        lambda_per_s: Loss per second; None where a target finds it.
        target_s: Expected seconds to come down to; None for a fixed lambda.
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
        n_steps_per_epoch: int,
    ) -> None:
        self._cost = cost
        self._dataset = dataset
        self._recipe = recipe
        self._logit_rate = logit_rate
        first = FIRST_LAMBDA_PER_S if lambda_per_s is None else lambda_per_s
        self._module = MixtureModule(mixture, first)
        self._n_steps = recipe.epochs * n_steps_per_epoch
        self._progress = 0.0
        self._descent = None
        if target_s is not None:
            self._descent = Descent(
                start_s=self._expected_s(),
                target_s=target_s,
                n_steps=self._n_steps,
                n_steps_per_epoch=n_steps_per_epoch,
            )

    @property
    def module(self) -> MixtureModule:
        """Mixture, lambda and steps."""
        return self._module

    def groups(self) -> Sequence[ParameterGroup]:
        """Return the logits apart: they have a rate of their own and no decay."""
        mixture = self._module.mixture
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
        """Set what gives way; learn the logits, too, after the weights' first share."""
        self._progress = progress
        mixture = self._module.mixture
        mixture.begin_step(progress)
        for logits in mixture.logits.values():
            logits.requires_grad_(progress >= _WEIGHTS_ALONE)

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return `ce` and `seconds`, weighted as in `total`."""
        module = self._module
        seconds = self._cost.expected_s(module.mixture.shares())
        terms = {
            "ce": soft_cross_entropy(module.mixture(images), targets),
            "seconds": module.lambda_per_s * seconds,
        }
        return {"total": torch.stack([*terms.values()]).sum(), **terms}

    def after_step(self) -> None:
        """Adapt lambda to a target."""
        if self._descent is None or self._progress < _WEIGHTS_ALONE:
            return
        now = self._module.lambda_per_s
        n_done = self._progress * self._n_steps + 1
        now.fill_(self._descent.next_lambda(float(now), self._expected_s(), n_done))

    @torch.no_grad()
    def _expected_s(self) -> float:
        return float(self._cost.expected_s(self._module.mixture.shares()))

    @torch.no_grad()
    def metrics(self) -> Mapping[str, float]:
        """Return accuracy of the likeliest network, expected seconds and lambda."""
        module, dataset = self._module, self._dataset
        likeliest = [shares.amax(-1).mean() for shares in module.mixture.shares()]
        return {
            "accuracy": accuracy(module.mixture, dataset.test, dataset.normalization),
            "expected_latency_s": self._expected_s(),
            "lambda_per_s": float(module.lambda_per_s),
            "mean_likeliest": float(torch.stack(likeliest).mean()),
        }
