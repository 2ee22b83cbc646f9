"""The MLP of a layer, whose tokens may have different activations."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from mpcprof.nn.activation import get_activation
from mpcprof.nn.architecture import LayerActivation
from mpcprof.nn.preset import ModelPreset
from mpcvit.models.algebra import OPS
from mpcvit.models.layers import Linear, TrainedForm, Watch
from mpcvit.models.norm import BatchNorm, Branch, ByChannel, Gradual


def activate(name: str, hidden: Tensor) -> Tensor:
    """Apply the activation of that name to each entry."""
    activated: Tensor = get_activation(name).function(OPS, hidden)
    return activated


FIRST_ACTIVATION: Final = "gelu_tanh"  # what a square begins as


class Activate(Gradual):
    """An activation; a square may begin as another one, and its inputs are watched."""

    def __init__(self, name: str, form: TrainedForm | None = None) -> None:
        is_square = get_activation(name).fold is not None
        watched = form if form is not None and is_square else TrainedForm()
        super().__init__(watched.activation_until)
        self.name = name
        self.watch = Watch(watched.range_bound)

    def forward(self, x: Tensor) -> Tensor:
        """Activate each entry."""
        self.watch(x)
        activated = activate(self.name, x)
        if not self.training or self.share == 0:
            return activated
        return torch.lerp(activated, activate(FIRST_ACTIVATION, x), self.share)


class ReluBehind(nn.Module):
    """A ReLU for the tokens whose activation has one behind the MLP."""

    mask: Tensor

    def __init__(self, names: LayerActivation) -> None:
        super().__init__()
        behind = [get_activation(name).has_relu_behind for name in names]
        self.is_needed = any(behind)
        self.register_buffer("mask", _mask(behind), persistent=False)  # (N or 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Cut off what is below 0 in the masked tokens of (B, N, D)."""
        return torch.where(self.mask, torch.relu(x), x) if self.is_needed else x


class FixedMlp(Branch):
    """W2 act(W1 x + b1) + b2, each token with its activation.

    Every activation is computed for all tokens, which keep their own: computing entries
    twice is cheaper than sorting them. In training a BatchNorm may stand in front of
    the activation.

    Args:
        hidden: Width between the linear layers; None for the model's.
    """

    masks: Tensor

    def __init__(
        self,
        model: ModelPreset,
        names: LayerActivation,
        hidden: int | None = None,
        form: TrainedForm | None = None,
    ) -> None:
        super().__init__()
        hidden = hidden or model.hidden
        different = tuple(dict.fromkeys(names))
        self.linear1 = Linear(model.width, hidden)
        self.norm: BatchNorm | None = None
        if form is not None and form.has_mlp_norm:
            self.norm = BatchNorm(hidden, frozen=form.frozen)
        self.linear2 = Linear(hidden, model.width)
        self.activations = nn.ModuleList(Activate(name, form) for name in different)
        masks = torch.stack([_mask([n == name for n in names]) for name in different])
        self.register_buffer("masks", masks, persistent=False)  # (A, N, 1)
        self.relu_behind = ReluBehind(names)

    def forward(self, x: Tensor) -> Tensor:
        """Activate each token: (B, N, D) to the same shape."""
        hidden = self.linear1(x)  # (B, N, F)
        hidden = hidden if self.norm is None else self.norm(hidden)
        first, *others = self.activations
        activated = first(hidden)
        for activation, mask in zip(others, self.masks[1:], strict=True):
            activated = torch.where(mask, activation(hidden), activated)
        out: Tensor = self.relu_behind(self.linear2(activated))  # (B, N, D)
        return out

    def fold(self, norm: ByChannel | None) -> dict[str, Tensor]:
        """Return the first linear layer with both norms."""
        weight, bias = self.linear1.weight.detach(), self.linear1.bias.detach()
        if norm is not None:
            weight, bias = norm.before(weight, bias)
        if self.norm is not None:
            weight, bias = self.norm.by_channel().behind(weight, bias)
        return {"linear1.weight": weight, "linear1.bias": bias}


class FusedMlp(Branch):
    """W x + b: a layer whose tokens are all linear.

    Source: MPCViT section 4.5.
    """

    def __init__(self, model: ModelPreset, names: LayerActivation) -> None:
        super().__init__()
        self.fused = Linear(model.width, model.width)
        self.relu_behind = ReluBehind(names)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, D) to the same shape."""
        out: Tensor = self.relu_behind(self.fused(x))
        return out

    def fold(self, norm: ByChannel | None) -> dict[str, Tensor]:
        """Return the linear layer with a norm in front."""
        weight, bias = self.fused.weight.detach(), self.fused.bias.detach()
        if norm is not None:
            weight, bias = norm.before(weight, bias)
        return {"fused.weight": weight, "fused.bias": bias}


class MixedMlp(nn.Module):
    """W2 (beta gelu(h) + (1 - beta) h) + b2, h = W1 x + b1.

    A ReLU behind the linear choice is mixed in with the share 1 - beta.

    Source: MPCViT section 4.5.
    """

    def __init__(self, model: ModelPreset, gelu: str, linear: str) -> None:
        super().__init__()
        self.gelu = gelu
        self.linear = linear
        self.has_relu_behind = get_activation(linear).has_relu_behind
        self.linear1 = Linear(model.width, model.hidden)
        self.linear2 = Linear(model.hidden, model.width)

    def forward(self, x: Tensor, beta: Tensor) -> Tensor:
        """Mix the two activations, (B, N, D) to the same shape.

        Args:
            beta: () for the layer, or (N,).
        """
        share = beta if beta.ndim == 0 else beta[:, None]  # (N, 1)
        hidden = self.linear1(x)  # (B, N, F)
        curved, straight = activate(self.gelu, hidden), activate(self.linear, hidden)
        out: Tensor = self.linear2(share * curved + (1 - share) * straight)
        if not self.has_relu_behind:
            return out
        return share * out + (1 - share) * torch.relu(out)


def _mask(values: Sequence[bool]) -> Tensor:
    return torch.tensor(values)[:, None]
