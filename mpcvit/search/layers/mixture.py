"""The network of a search over layers: every option of every layer, two of them a step.

Each of a layer's four factors (mixing, norm, activation, MLP ratio) has logits over its
options. A step draws two options of each factor, the likelier the more often, and mixes
them: it costs two paths instead of all of them, and weights stay near those of one
network. In evaluation the likeliest option of each factor is alone.

Source: two drawn paths, ProxylessNAS (arXiv 1812.00332), section 3.2; drawn by Gumbel
    noise with a falling temperature, Jang et al. 2016 (arXiv 1611.01144); a mask for
    widths, FBNetV2 (arXiv 2004.05565), section 3.2.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.preset import ModelPreset
from mpcvit.models.attention import MultiHeadAttention
from mpcvit.models.layers import DropPath, Linear, Regularization, TrainedForm
from mpcvit.models.mixing import make_mixer
from mpcvit.models.mlp import Activate
from mpcvit.models.norm import BatchNorm, Gradual, make_norm
from mpcvit.models.stem import Stem
from mpcvit.models.vit import Classifier
from mpcvit.search.layers.space import FACTORS, NO_MIXING, LayerSpace, Mixing

_N_DRAWN: Final = 2  # options of a factor in a step
_TEMPERATURES: Final = (1.0, 0.2)  # at the beginning and at the end
_IGNORED: Final = 1e-2  # a smaller share is none: its path is not computed


class LayerShares(NamedTuple):
    """Shares of each factor's options in one layer, each (O,) with sum 1."""

    mixing: Tensor
    norm: Tensor
    activation: Tensor
    mlp_ratio: Tensor


def _blend(shares: Tensor, options: Sequence[Callable[[], Tensor]]) -> Tensor:
    """Return the sum of the options with a share, each times its share."""
    is_used = (shares.detach() > 0).tolist()
    parts = [
        option() if sum(is_used) == 1 else share * option()
        for share, option, is_one in zip(shares, options, is_used, strict=True)
        if is_one
    ]
    return functools.reduce(operator.add, parts)


class MixtureLayer(nn.Module):
    """A layer that mixes the options of its factors."""

    is_in_ratio: Tensor
    is_left_out: Tensor

    def __init__(
        self,
        model: ModelPreset,
        space: LayerSpace,
        form: TrainedForm,
        regularization: Regularization,
        path_dropout: float,
    ) -> None:
        super().__init__()
        self.space = space
        names = dict.fromkeys(
            name
            for mixing in space.mixing
            for name in ((mixing,) if isinstance(mixing, str) else mixing)
        )
        variants = [name for name in names if name in ATTENTIONS]
        made = {name: make_mixer(name, model) for name in names if name in MIXERS}
        self.mixers = nn.ModuleDict({n: own for n, own in made.items() if own})
        self.attention = (
            MultiHeadAttention(
                model,
                variants,
                regularization.attention_dropout,
                has_bias="none" in space.norm,
            )
            if variants
            else None
        )
        self.norm1, self.norm2 = (_norms(model, space, form) for _ in range(2))
        hidden = [round(ratio * model.width) for ratio in space.mlp_ratio]
        self.linear1 = Linear(model.width, max(hidden))
        self.norm = BatchNorm(max(hidden)) if form.has_mlp_norm else None
        self.linear2 = Linear(max(hidden), model.width)
        self.activations = nn.ModuleDict(
            {name: Activate(name, form) for name in space.activation}
        )
        units = torch.arange(max(hidden))
        is_in = units < torch.tensor(hidden)[:, None]  # (R, F)
        self.register_buffer("is_in_ratio", is_in.float(), persistent=False)
        is_left_out = torch.tensor(hidden) == 0  # (R,)
        self.register_buffer("is_left_out", is_left_out.float(), persistent=False)
        self.drop_path = DropPath(path_dropout)

    def forward(self, x: Tensor, shares: LayerShares) -> Tensor:
        """Add the mixed branches to (B, N, D)."""
        x = x + self.drop_path(self._mixing(x, shares))
        out: Tensor = x + self.drop_path(self._mlp(x, shares))
        return out

    def _mixing(self, x: Tensor, shares: LayerShares) -> Tensor:
        normed = functools.cache(lambda: self._normed(self.norm1, x, shares.norm))
        qkv = functools.cache(lambda: self._attention.queries_keys_values(normed()))

        def option(mixing: Mixing) -> Tensor:
            if mixing == NO_MIXING:
                return torch.zeros_like(x)
            if isinstance(mixing, str) and mixing in MIXERS:
                is_scaled = MIXERS[mixing].takes_scale
                out: Tensor = self.mixers[mixing](normed() if is_scaled else x)
                return out
            return self._attention.project(self._attend(mixing, qkv()))

        return _blend(
            shares.mixing, [functools.partial(option, n) for n in self.space.mixing]
        )

    def _attend(self, mixing: Mixing, qkv: Tensor) -> Tensor:
        """Attend with one variant, or one by head: (3, H, B, N, K) to (H, B, N, K)."""
        if isinstance(mixing, str):
            return self._attention.attend(mixing, qkv)
        attended = [
            self._attention.attend(name, qkv[:, head : head + 1])
            for head, name in enumerate(mixing)
        ]
        return torch.cat(attended)

    @property
    def _attention(self) -> MultiHeadAttention:
        assert self.attention is not None  # called for an attention variant alone
        return self.attention

    def _mlp(self, x: Tensor, shares: LayerShares) -> Tensor:
        left_out = shares.mlp_ratio @ self.is_left_out  # ()
        if float(left_out.detach()) == 1.0:
            return torch.zeros_like(x)
        hidden = self.linear1(self._normed(self.norm2, x, shares.norm))  # (B, N, F)
        hidden = hidden if self.norm is None else self.norm(hidden)
        activated = _blend(
            shares.activation,
            [functools.partial(one, hidden) for one in self.activations.values()],
        )
        kept = activated * (shares.mlp_ratio @ self.is_in_ratio)  # a mask of (F,)
        bias = self.linear2.bias * (1 - left_out)
        return functional.linear(kept, self.linear2.weight.T, bias)

    def _normed(self, norms: nn.ModuleDict, x: Tensor, shares: Tensor) -> Tensor:
        return _blend(shares, [functools.partial(norm, x) for norm in norms.values()])


def _norms(model: ModelPreset, space: LayerSpace, form: TrainedForm) -> nn.ModuleDict:
    width, epsilon = model.width, model.norm_epsilon
    made = {name: make_norm(name, width, form, epsilon) for name in space.norm}
    return nn.ModuleDict({name: one or nn.Identity() for name, one in made.items()})


class Mixture(Classifier):
    """A mixture of all networks of a space of layers.

    Attributes:
        logits: Of each factor (L, O), 0 at first: what an option is worth.
        tolls: What its seconds take off each logit, (L, O) by factor; none at first.
    """

    def __init__(
        self,
        model: ModelPreset,
        space: LayerSpace,
        form: TrainedForm,
        regularization: Regularization,
    ) -> None:
        layers = [
            MixtureLayer(
                model,
                space,
                form,
                regularization,
                regularization.path_dropout_of(layer, model.n_layers),
            )
            for layer in range(model.n_layers)
        ]
        super().__init__(model, layers, Stem(model, form) if model.stem else None)
        self.norm = None  # one of the norms stands there
        self.space = space
        self.norms = _norms(model, space, form)
        self.logits = nn.ParameterDict(
            {
                factor: nn.Parameter(torch.zeros(model.n_layers, len(options)))
                for factor, options in zip(FACTORS, space.options, strict=True)
            }
        )
        self.tolls: dict[str, Tensor] = {}
        self._temperature = _TEMPERATURES[0]
        self._gradual = [m for m in self.modules() if isinstance(m, Gradual)]

    def train(self, mode: bool = True) -> "Mixture":
        """Draw options or take the likeliest; BatchNorms use the batch either way.

        Their running means are of many paths, and so of none.
        """
        super().train(mode)
        for module in self._gradual:
            module.train()
        return self

    def begin_step(self, progress: float) -> None:
        """Set the temperature, and how much is left of what gives way."""
        first, last = _TEMPERATURES
        self._temperature = first + (last - first) * progress
        for module in self._gradual:
            module.begin_step(progress)

    def features(self, images: Tensor) -> Tensor:
        """Return all tokens behind the last norm: (B, c, S, S) to (B, N, D)."""
        drawn = [self._draw(logits) for logits in self.tolled()]
        shares = [LayerShares(*one) for one in zip(*drawn, strict=True)]
        tokens = self.embed(images)
        for layer, own in zip(self.layers, shares, strict=True):
            tokens = layer(tokens, own)
        last = [functools.partial(norm, tokens) for norm in self.norms.values()]
        return _blend(shares[-1].norm, last)

    def _draw(self, logits: Tensor) -> Tensor:
        """Return shares (L, O), two of a layer above 0; the likeliest in evaluation."""
        if not self.training:
            hard = functional.one_hot(logits.argmax(-1), logits.shape[-1])
            return hard.to(logits.dtype)
        noise = -torch.empty_like(logits).exponential_().log()  # Gumbel's
        drawn = (logits + noise).topk(min(_N_DRAWN, logits.shape[-1]), dim=-1)
        shares = functional.softmax(drawn.values / self._temperature, dim=-1)
        kept = torch.where(shares < _IGNORED, torch.zeros_like(shares), shares)
        kept = kept / kept.sum(-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, drawn.indices, kept)

    def tolled(self) -> list[Tensor]:
        """Return the logits of each factor less their tolls, (L, O)."""
        return [self.logits[name] - self.tolls.get(name, 0.0) for name in FACTORS]

    def shares(self) -> list[Tensor]:
        """Return the probability of each factor's options, (L, O), differentiable."""
        return [functional.softmax(logits, -1) for logits in self.tolled()]

    def worths(self) -> list[Tensor]:
        """Return the probability that options would have if all took no seconds."""
        return [functional.softmax(self.logits[name], -1) for name in FACTORS]
