"""A training step as the official MPCViT repository takes it, to compare ours with."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mpcprof.nn.preset import ModelPreset
from mpcvit.train.distillation import soft_cross_entropy


class OfficialLayer(nn.Module):
    """A layer as the official repository trains it: both attentions, mixed by alpha.

    Source: order and names as `mpcvit/importing/layout.py` reads its checkpoints;
    dropout of the paper's recipe.
    Differs: no stochastic depth.
    """

    def __init__(self, model: ModelPreset) -> None:
        super().__init__()
        width, hidden = model.width, model.hidden
        self.n_heads, self.head_dim = model.n_heads, model.head_dim
        self.pre_norm, self.norm1 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.alpha = nn.Parameter(torch.ones(model.n_heads, 1, 1))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N, D) of (B, N, D)."""
        b, n, d = x.shape
        qkv = self.qkv(self.pre_norm(x)).view(b, n, 3, self.n_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
        positive = scores.relu() + 1e-5
        weights = self.alpha * positive / positive.sum(-1, keepdim=True)
        weights = weights + (1 - self.alpha) * scores / n
        mixed = (self.dropout(weights) @ v).transpose(1, 2).reshape(b, n, d)
        x = self.norm1(x + self.projection(mixed))
        hidden = self.dropout(nn.functional.gelu(self.linear1(x)))
        made: Tensor = x + self.dropout(self.linear2(hidden))
        return made


def make_official_step(model: ModelPreset, batch_size: int) -> Callable[[], None]:
    """Return a step of the official loop on the CPU, on images of noise."""
    patches = nn.Conv2d(model.n_channels, model.width, model.patch, model.patch)
    layers = [OfficialLayer(model) for _ in range(model.n_layers)]
    body = nn.Sequential(*layers, nn.LayerNorm(model.width))
    head = nn.Linear(model.width, model.n_classes)
    class_token = nn.Parameter(torch.zeros(1, 1, model.width))
    parts = nn.ModuleList([patches, body, head])
    optimizer = torch.optim.AdamW([class_token, *parts.parameters()], foreach=False)
    pixels = torch.rand(batch_size, model.n_channels, *[model.image_size] * 2)
    targets = torch.rand(batch_size, model.n_classes).softmax(-1)

    def step() -> None:
        tokens = patches(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat((class_token.expand(batch_size, -1, -1), tokens), 1)
        loss = soft_cross_entropy(head(body(tokens)[:, 0]), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step
