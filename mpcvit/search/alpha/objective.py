"""The loss of a search: cross-entropy, and the seconds of alpha and beta."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from mpcprof.errors import UsageError
from mpcprof.units import format_duration
from mpcvit.data.image_set import Dataset
from mpcvit.search.alpha.cost import SearchCost
from mpcvit.search.alpha.supernet import Supernet
from mpcvit.search.base import too_quick
from mpcvit.train.distillation import soft_cross_entropy
from mpcvit.train.evaluate import accuracy
from mpcvit.train.loop import ParameterGroup, decayed_groups
from mpcvit.train.recipe import Recipe

# of digits, with its 20 epochs: half of the attentions stay; docs/experiments.md
LAMBDA_PER_S: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """Weights of CE + lambda attention_s + eta activation_s.

    Attributes:
        lambda_per_s: Loss per second of attention; None where a target finds it.
        eta_per_s: Loss per second of the MLPs; None is lambda, both being of seconds.
            `paper`: lambda / eta = Lat(ATTN) / Lat(GeLU), section 4.5.
        target_s: Expected latency that lambda is adapted to, eta along with it.

    Raises:
        UsageError: If a number is negative, or lambda and a target are given.
    """

    lambda_per_s: float | None = LAMBDA_PER_S
    eta_per_s: float | Literal["paper"] | None = None
    target_s: float | None = None

    def __post_init__(self) -> None:
        if (self.lambda_per_s is None) == (self.target_s is None):
            raise UsageError(
                "lambda and target: expected one of the two; a target finds lambda"
            )
        if self.target_s is not None:
            if self.target_s <= 0:
                raise UsageError(f"target {self.target_s} s: expected above 0")
            if isinstance(self.eta_per_s, float):
                raise UsageError(
                    f"eta={self.eta_per_s} and a target of "
                    f"{format_duration(self.target_s)}: expected eta=paper or none, "
                    "since a target changes both"
                )
        given = (self.lambda_per_s, self.eta_per_s)
        if any(isinstance(x, float) and not 0 <= x < float("inf") for x in given):
            raise UsageError(
                f"lambda={self.lambda_per_s}, eta={self.eta_per_s}: expected loss per "
                "second, 0 or more"
            )


def parse_eta(text: str) -> float | Literal["paper"]:
    """Read a number, or `paper`.

    Raises:
        UsageError: If it is neither.
    """
    if text == "paper":
        return "paper"
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"eta {text!r}: expected loss per second such as 0.01, or paper"
        ) from None


def choose_penalty(
    lambda_per_s: float | None,
    eta_per_s: float | Literal["paper"] | None,
    target_s: float | None,
) -> Penalty:
    """Return the given weights, with the default lambda where no target is given."""
    if lambda_per_s is None and target_s is None:
        lambda_per_s = LAMBDA_PER_S
    return Penalty(lambda_per_s=lambda_per_s, eta_per_s=eta_per_s, target_s=target_s)


FIRST_LAMBDA_PER_S: Final = 1e-3  # of a target; it grows tenfold within few epochs
_LAMBDA_RANGE_PER_S: Final = (1e-5, 1e2)
_DESCENT_SHARE: Final = 0.6  # of the steps, until the target is due
_DECADES_PER_EPOCH: Final = 1.0  # at most, that lambda moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """The way of the expected seconds from those at the start down to a target.

    It is a line, and at the target from 60 % of the steps on. Lambda is the multiplier
    of dual ascent in its logarithm: it grows while the seconds are above that line, and
    shrinks while they are below.
    """

    start_s: float
    target_s: float
    n_steps: int
    n_steps_per_epoch: int

    def next_lambda(
        self, lambda_per_s: float, expected_s: float, n_done: float
    ) -> float:
        """Return lambda after so many steps."""
        progress = n_done / (self.n_steps * _DESCENT_SHARE)
        span_s = max(self.start_s - self.target_s, 1e-9)
        due_s = self.target_s + span_s * max(1 - progress, 0.0)
        excess = (expected_s - due_s) / (0.1 * span_s)
        decades = _DECADES_PER_EPOCH / self.n_steps_per_epoch
        factor: float = 10.0 ** (decades * min(max(excess, -1.0), 1.0))
        least, most = _LAMBDA_RANGE_PER_S
        return min(max(lambda_per_s * factor, least), most)


class SearchModule(nn.Module):
    """The supernet and what else a resume needs.

    Attributes:
        multipliers: (2,), lambda and eta now, loss per second.
        n_steps: (), steps done.
    """

    multipliers: Tensor
    n_steps: Tensor

    def __init__(self, supernet: Supernet, multipliers: tuple[float, float]) -> None:
        super().__init__()
        self.supernet = supernet
        self.register_buffer("multipliers", torch.tensor(multipliers))
        self.register_buffer("n_steps", torch.zeros(()))


class SearchObjective:
    """CE + lambda attention_s(alpha) + eta activation_s(beta); both in [0, 1].

    With a target, lambda follows `Descent`. The seconds are those of the relaxed model,
    which are those of the derived one as far as alpha and beta end at 0 and 1; a budget
    in `mpcvit derive` is kept exactly.

    Source: MPCViT sections 4.3 and 4.5, one-level optimisation.

    Raises:
        UsageError: If a target is below what the cheapest choice costs.
    """

    def __init__(
        self,
        supernet: Supernet,
        cost: SearchCost,
        penalty: Penalty,
        dataset: Dataset,
        recipe: Recipe,
        *,
        alpha_learning_rate: float,
        n_steps_per_epoch: int,
    ) -> None:
        self._cost = cost
        self._penalty = penalty
        self._dataset = dataset
        self._recipe = recipe
        self._alpha_learning_rate = alpha_learning_rate
        self._n_steps_per_epoch = n_steps_per_epoch
        self._start_s = self._uniform_s(supernet, 1.0)
        least_s, target_s = self._uniform_s(supernet, 0.0), penalty.target_s
        if target_s is not None and target_s < least_s:
            ending = "what the cheapest choice costs"
            raise too_quick("target", target_s, least_s, ending)
        first = penalty.lambda_per_s
        lambda_per_s = FIRST_LAMBDA_PER_S if first is None else first
        self._module = SearchModule(supernet, (lambda_per_s, self._eta(lambda_per_s)))

    def _uniform_s(self, supernet: Supernet, share: float) -> float:
        shares = (torch.full_like(x, share) for x in supernet.architecture_parameters())
        return float(self._cost.latency_s(*shares))

    def _eta(self, lambda_per_s: float) -> float:
        given = self._penalty.eta_per_s
        if given == "paper":
            return lambda_per_s * self._cost.gelu_layer_s / self._cost.attention_layer_s
        return lambda_per_s if given is None else given

    @property
    def module(self) -> SearchModule:
        """Supernet, multipliers and steps."""
        return self._module

    def groups(self) -> Sequence[ParameterGroup]:
        """Return alpha and beta apart: weight decay alone would shrink them."""
        supernet = self._module.supernet
        choices = ParameterGroup(
            parameters=tuple(supernet.architecture_parameters()),
            learning_rate=self._alpha_learning_rate,
            min_learning_rate=0.0,
            weight_decay=0.0,
        )
        weights = decayed_groups(supernet, self._recipe, apart=choices.parameters)
        return (*weights, choices)

    def to(self, device: torch.device) -> None:
        """Move nothing: costs are plain numbers."""

    def begin_step(self, progress: float) -> None:
        """Change nothing: lambda follows the steps."""

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return `ce`, `attention` and `activation`, weighted as in `total`."""
        supernet = self._module.supernet
        multipliers = self._module.multipliers
        terms = {
            "ce": soft_cross_entropy(supernet(images), targets),
            "attention": multipliers[0] * self._cost.attention_s(supernet.alpha),
        }
        if supernet.beta is not None:
            activation_s = self._cost.activation_s(supernet.beta)
            terms["activation"] = multipliers[1] * activation_s
        return {"total": torch.stack([*terms.values()]).sum(), **terms}

    def after_step(self) -> None:
        """Project alpha and beta; adapt lambda to a target."""
        self._module.supernet.clamp()
        self._module.n_steps += 1
        if self._penalty.target_s is not None:
            self._adapt(self._penalty.target_s)

    def _adapt(self, target_s: float) -> None:
        descent = Descent(
            start_s=self._start_s,
            target_s=target_s,
            n_steps=self._recipe.epochs * self._n_steps_per_epoch,
            n_steps_per_epoch=self._n_steps_per_epoch,
        )
        module = self._module
        lambda_per_s = descent.next_lambda(
            float(module.multipliers[0]), self._expected_s(), float(module.n_steps)
        )
        module.multipliers[0] = lambda_per_s
        module.multipliers[1] = self._eta(lambda_per_s)

    @torch.no_grad()
    def _expected_s(self) -> float:
        supernet = self._module.supernet
        return float(self._cost.latency_s(supernet.alpha, supernet.beta))

    @torch.no_grad()
    def metrics(self) -> Mapping[str, float]:
        """Return accuracy, expected seconds, multipliers and mean choices."""
        module, dataset = self._module, self._dataset
        supernet = module.supernet
        values = {
            "accuracy": accuracy(supernet, dataset.test, dataset.normalization),
            "expected_latency_s": self._expected_s(),
            "attention_s": float(self._cost.attention_s(supernet.alpha)),
            "lambda_per_s": float(module.multipliers[0]),
            "alpha_mean": float(supernet.alpha.mean()),
        }
        if supernet.beta is not None:
            values["activation_s"] = float(self._cost.activation_s(supernet.beta))
            values["eta_per_s"] = float(module.multipliers[1])
            values["beta_mean"] = float(supernet.beta.mean())
        return values
