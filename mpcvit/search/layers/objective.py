"""The loss of a search over layers: cross-entropy, and the expected seconds."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from mpcvit.data.image_set import Dataset
from mpcvit.search.layers.cost import LayerCost
from mpcvit.search.layers.mixture import Mixture
from mpcvit.search.layers.space import FACTORS
from mpcvit.train.distillation import soft_cross_entropy
from mpcvit.train.evaluate import accuracy
from mpcvit.train.loop import ParameterGroup, decayed_groups
from mpcvit.train.recipe import Recipe

_WEIGHTS_ALONE: Final = 0.25  # of the steps, before the first option is judged
_DUE: Final = 0.5  # of the steps, when the target is due
_ROUNDS: Final = 2
_HALVINGS: Final = 14
_STEEPEST_PER_S: Final = 100.0  # a price: options 0.1 s apart differ e^10 times


class MixtureObjective:
    """CE, and lambda seconds(shares); or CE with seconds that are kept by a toll.

    Logits are learned after the weights had some time, so that an option is not judged
    by weights at random; in that time, options that need it are blended in.

    With a target, logits follow CE alone and say what an option is worth. Each step
    subtracts price times the seconds that an option adds, at the price with which
    networks cost on average what is due. That falls in a line from what they cost at
    the start to the target, due half-way. A penalty would not do: an optimiser that
    divides gradients by their size makes small and large seconds count alike.

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
        self._start_s = self._expected_s()

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
        own = decayed_groups(mixture, self._recipe, apart=logits.parameters)
        return (*own, logits)

    def to(self, device: torch.device) -> None:
        """Move nothing: costs are plain numbers."""

    def begin_step(self, progress: float) -> None:
        """Set what gives way, and tolls; learn the logits after the weights."""
        mixture = self._module
        mixture.begin_step(progress)
        for logits in mixture.logits.values():
            logits.requires_grad_(progress >= _WEIGHTS_ALONE)
        if self._target_s is not None:
            left = max(1 - progress / _DUE, 0.0)
            above_s = max(self._start_s - self._target_s, 0.0) * left
            self._set_tolls(self._target_s + above_s)

    @torch.no_grad()
    def _set_tolls(self, due_s: float) -> None:
        """Set the tolls at which networks cost `due_s` on average, or less for none.

        An option adds seconds that depend on the other factors' shares, so that these
        are computed anew with the first tolls.
        """
        mixture = self._module
        mixture.tolls = {}
        for _ in range(_ROUNDS):
            seconds = self._cost.marginal_s(mixture.shares())
            low, high = 0.0, _STEEPEST_PER_S
            for _ in range(_HALVINGS):
                price = (low + high) / 2
                self._charge(price, seconds)
                low, high = (
                    (price, high) if self._expected_s() > due_s else (low, price)
                )
            self._charge(high if low else 0.0, seconds)

    def _charge(self, price: float, seconds: Sequence[Tensor]) -> None:
        tolls = (price * own for own in seconds)
        self._module.tolls = dict(zip(FACTORS, tolls, strict=True))

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return `ce`, and `seconds` under a lambda, weighted as in `total`."""
        terms = {"ce": soft_cross_entropy(self._module(images), targets)}
        if self._lambda_per_s:
            seconds = self._cost.expected_s(self._module.shares())
            terms["seconds"] = self._lambda_per_s * seconds
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
