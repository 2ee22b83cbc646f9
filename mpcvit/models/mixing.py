"""Mixers: what brings tokens together where a layer has no attention.

Each is the function of the same name in `mpcprof.nn.mixing`, in as few kernels as torch
has for it. Weights have the names and shapes that are priced and deployed; a norm in
front of one is folded into its weights.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpcprof.nn.mixing import get_mixer
from mpcprof.nn.preset import ModelPreset
from mpcvit.models.algebra import OPS
from mpcvit.models.norm import Branch, ByChannel


class TokenMix(Branch):
    """M x + b over the tokens, one M for all channels.

    Source: ResMLP, Touvron et al. 2021 (arXiv 2105.03404), equation 2.
    """

    def __init__(self, model: ModelPreset) -> None:
        super().__init__()
        n_tokens = model.n_tokens
        weight = nn.init.xavier_uniform_(torch.empty(n_tokens, n_tokens))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_tokens, model.width))

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, N, D) to the same shape."""
        return torch.baddbmm(self.bias, self.weight.expand(len(x), -1, -1), x)


class GridMixer(Branch):
    """A mixer of tokens that are a square, by rows."""

    def __init__(self, model: ModelPreset) -> None:
        super().__init__()
        self.side = model.grid_side

    def to_grid(self, x: Tensor) -> Tensor:
        """Arrange (B, N, D) as (B, D, row, column), without moving an entry."""
        n_batch, _, width = x.shape
        return x.view(n_batch, self.side, self.side, width).permute(0, 3, 1, 2)

    def to_tokens(self, grid: Tensor) -> Tensor:
        """Return (B, N, D) of (B, D, row, column)."""
        return grid.permute(0, 2, 3, 1).flatten(1, 2)


class ConvolutionMixer(GridMixer):
    """A 3x3 convolution, zeros around the grid, and b of each token."""

    def __init__(self, model: ModelPreset) -> None:
        super().__init__(model)
        width = model.width
        weight = nn.init.xavier_uniform_(torch.empty(9 * width, width))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(model.n_tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, N, D) to the same shape."""
        kernel = to_kernel(self.weight)  # (D, D, 3, 3)
        return self.to_tokens(functional.conv2d(self.to_grid(x), kernel, padding=1)) + (
            self.bias
        )

    def fold(self, norm: ByChannel | None) -> dict[str, Tensor]:
        """Return the weights that take over a norm in front, exact at the edges."""
        if norm is None:
            return {}
        return {
            "weight": norm.scale.repeat(9)[:, None] * self.weight.detach(),
            "bias": _answer(self, norm.shift),
        }


class DepthwiseMixer(GridMixer):
    """A 3x3 convolution of each channel, zeros around the grid, and b of each token."""

    def __init__(self, model: ModelPreset) -> None:
        super().__init__(model)
        width = model.width
        self.weight = nn.Parameter(torch.empty(9, width).uniform_(-1 / 3, 1 / 3))
        self.bias = nn.Parameter(torch.zeros(model.n_tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, N, D) to the same shape."""
        grid, width = self.to_grid(x), x.shape[-1]
        kernel = self.weight.T.reshape(width, 1, 3, 3)
        mixed = functional.conv2d(grid, kernel, padding=1, groups=width)
        return self.to_tokens(mixed) + self.bias

    def fold(self, norm: ByChannel | None) -> dict[str, Tensor]:
        """Return the weights that take over a norm in front, exact at the edges."""
        if norm is None:
            return {}
        return {
            "weight": norm.scale * self.weight.detach(),
            "bias": _answer(self, norm.shift),
        }


class ShiftMixer(GridMixer):
    """What moves a twelfth of the channels by a token in each of four directions."""

    def __init__(self, model: ModelPreset) -> None:
        super().__init__(model)
        self.function = get_mixer("shift").function

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to (B, N, D)."""
        assert self.function is not None  # that of another mixer is
        moved: Tensor = self.function(OPS, x, self.side)
        return moved


class PoolMixer(GridMixer):
    """The mean of a token's 3x3 neighbours, less the token.

    Source: PoolFormer, Yu et al. 2022 (arXiv 2111.11418), equation 4.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, N, D) to the same shape."""
        means = functional.avg_pool2d(self.to_grid(x), 3, stride=1, padding=1)
        return self.to_tokens(means) - x


_KINDS: Final = {
    "shift": ShiftMixer,
    "pool": PoolMixer,
    "token_mix": TokenMix,
    "convolution": ConvolutionMixer,
    "depthwise": DepthwiseMixer,
}


def make_mixer(name: str, model: ModelPreset) -> Branch | None:
    """Return the mixer of that name in `mpcprof.nn.mixing.MIXERS`; None for no branch.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    return None if get_mixer(name).function is None else _KINDS[name](model)


@torch.no_grad()
def _answer(mixer: nn.Module, shift: Tensor) -> Tensor:
    """Return what a mixer makes of the same value in every token: (N, D)."""
    bias = mixer.get_parameter("bias")
    answer: Tensor = mixer(shift.expand(1, len(bias), -1))[0]
    return answer


def to_kernel(weight: Tensor) -> Tensor:
    """Return torch's kernel (out, in, 3, 3) of a matrix (9 in, out), in rows by tap."""
    return weight.view(3, 3, -1, weight.shape[1]).permute(3, 2, 0, 1)
