"""Seconds of a layer's choices, and of any architecture that they make."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.costmodel.model import CostModel
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.architecture import Architecture, Heads
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.plan import REWRITES, Planner, choose_planner
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.steps import Step
from mpcvit.search.layers.space import (
    NO_MIXING,
    LayerChoice,
    LayerSpace,
    Mixing,
    make_architecture,
)

_LAYER = "layer 1/"  # of the networks of one layer that branches are priced in


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerCost:
    """Seconds of a space's layers in one model.

    Attributes:
        mixing_s: Of each mixing behind each norm, (M, N).
        mlp_s: Of each MLP behind each norm, (N, A, R): norm, activation, ratio.
        rest_s: Of all but the layers, by the norm of the last one, (N,).
    """

    mixing_s: NDArray[np.float64]
    mlp_s: NDArray[np.float64]
    rest_s: NDArray[np.float64]

    def expected_s(self, shares: Sequence[Tensor]) -> Tensor:
        """Return the mean seconds of networks drawn by these shares; differentiable.

        Exact where every share is 0 or 1, but for what a call pays once and a plan
        that depends on several layers.

        Args:
            shares: Of each factor (L, O): mixing, norm, activation and MLP ratio.
        """
        mixing, norm, activation, ratio = shares
        mixing_s, mlp_s, rest_s = (
            torch.as_tensor(x, dtype=norm.dtype, device=norm.device)
            for x in (self.mixing_s, self.mlp_s, self.rest_s)
        )
        mixed_s = torch.einsum("lm,ln,mn->", mixing, norm, mixing_s)
        mlps_s = torch.einsum("ln,la,lr,nar->", norm, activation, ratio, mlp_s)
        return mixed_s + mlps_s + norm[-1] @ rest_s

    def marginal_s(self, shares: Sequence[Tensor]) -> list[Tensor]:
        """Return the seconds that each option adds, by the other factors' shares.

        They are the derivatives of `expected_s`, (L, O) of each factor.
        """
        with torch.enable_grad():
            own = [share.detach().requires_grad_() for share in shares]
            return [*torch.autograd.grad(self.expected_s(own), own)]

    def layer_s(self, space: LayerSpace) -> NDArray[np.float64]:
        """Return the seconds of each of the space's choices, (K,)."""
        seconds = []
        for one in space.choices:
            m, n, a, r = (
                options.index(name)
                for options, name in zip(space.options, one, strict=True)
            )
            seconds.append(self.mixing_s[m, n] + self.mlp_s[n, a, r])
        return np.array(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricer:
    """Seconds of networks: one image, on one network between the parties.

    Attributes:
        heads: How private inference runs the heads.
        plan: `rewrites` for networks with every exact rewrite; None for none.

    Raises:
        UsageError: If the plan is a file, which holds for one network.
    """

    cost_model: CostModel
    network: Network
    heads: Heads = "batched"
    plan: str | None = None

    def __post_init__(self) -> None:
        if self.plan not in (None, REWRITES):
            raise UsageError(
                f"plan {self.plan!r}: expected {REWRITES} or none, since a file's plan "
                "holds for one network and not for every one of a space"
            )

    def price_s(self, architecture: Architecture) -> float:
        """Return the predicted seconds of an architecture.

        Raises:
            MissingEntryError: If the profile lacks an operation of it.
        """
        return self.cost_model.predict(
            self._steps(architecture), self.network
        ).latency_s

    def layer_cost(self, model: ModelPreset, space: LayerSpace) -> LayerCost:
        """Return the seconds of the space's layers in that model.

        Raises:
            MissingEntryError: If the profile lacks an operation of the space.
        """
        mixings, norms, activations, ratios = space.options
        some = max(ratios)

        def mixing_s(mixing: Mixing, norm: str) -> float:
            one = LayerChoice(mixing, norm, activations[0], 0.0)
            return 0.0 if mixing == NO_MIXING else self._layer_s(model, one)

        def mlp_s(norm: str, activation: str, ratio: float) -> float:
            one = LayerChoice(NO_MIXING, norm, activation, ratio)
            return self._layer_s(model, one) if ratio else 0.0

        return LayerCost(
            mixing_s=np.array([[mixing_s(m, n) for n in norms] for m in mixings]),
            mlp_s=np.array(
                [[[mlp_s(n, a, r) for r in ratios] for a in activations] for n in norms]
            ),
            rest_s=np.array(
                [self._rest_s(model, n, activations[0], some) for n in norms]
            ),
        )

    def _steps(self, architecture: Architecture) -> tuple[Step, ...]:
        planner = self._planner(architecture.model)
        return trace_model(architecture, 1, planner(architecture) if planner else None)

    def _planner(self, model: ModelPreset) -> Planner | None:
        deployment = self.cost_model.deployment
        return choose_planner(
            self.plan, model, deployment=deployment, network=self.network
        )

    def _layer_s(self, model: ModelPreset, one: LayerChoice) -> float:
        steps = self._steps(make_architecture(model, [one], self.heads))
        own = [step for step in steps if step.part.startswith(_LAYER)]
        return self.cost_model.predict(own, self.network, is_call=False).latency_s

    def _rest_s(
        self, model: ModelPreset, norm: str, activation: str, ratio: float
    ) -> float:
        one = LayerChoice(NO_MIXING, norm, activation, ratio or 1.0)
        whole_s = self.price_s(make_architecture(model, [one], self.heads))
        return whole_s - self._layer_s(model, one)
