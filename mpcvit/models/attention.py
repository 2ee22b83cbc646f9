"""Multi-head attention whose heads, or rows of them, have different variants.

Every variant is the very function that is priced and run privately.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpcprof.nn.architecture import Head, LayerHeads
from mpcprof.nn.attention import get_attention
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.transformer import layer_variants
from mpcvit.models.algebra import OPS
from mpcvit.models.layers import Linear, Watch
from mpcvit.models.norm import Branch, ByChannel


class MultiHeadAttention(Branch):
    """What all variants share: qkv and the projection; and their own weights.

    Args:
        has_bias: Whether queries, keys and values have a bias whatever the model says.
        bound: Magnitude of queries, keys and values that is watched in training.
    """

    def __init__(
        self,
        model: ModelPreset,
        variants: Sequence[str],
        dropout: float,
        *,
        has_bias: bool = False,
        bound: float | None = None,
    ) -> None:
        super().__init__()
        width = model.width
        self.n_heads = model.n_heads
        shape = (width, model.heads_width)
        thirds = [nn.init.xavier_uniform_(torch.empty(shape)) for _ in range(3)]
        self.qkv = nn.Parameter(torch.cat(thirds, dim=1))  # (D, 3 D)
        bias = torch.zeros(3 * model.heads_width)
        self.qkv_bias = nn.Parameter(bias) if model.has_qkv_bias or has_bias else None
        self.watch = Watch(bound)
        for name in variants:
            shapes = get_attention(name).weight_shapes(model.n_tokens)
            if shapes:
                own = [nn.init.xavier_uniform_(torch.empty(s)) for s in shapes]
                self.add_module(name, nn.ParameterList(own))
        # on what heads give, not on an attention map: ScaleAttn and XNorm have none
        self.dropout = nn.Dropout(dropout)
        self.projection = Linear(model.heads_width, width)

    def queries_keys_values(self, x: Tensor) -> Tensor:
        """Project (B, N, D) to (3, H, B, N, K)."""
        n_batch, n_tokens, _ = x.shape
        qkv = x @ self.qkv  # (B, N, 3 D)
        qkv = qkv if self.qkv_bias is None else qkv + self.qkv_bias
        self.watch(qkv)
        return qkv.view(n_batch, n_tokens, 3, self.n_heads, -1).permute(2, 3, 0, 1, 4)

    def attend(self, name: str, qkv: Tensor) -> Tensor:
        """Attend with H' heads of one variant: (3, H', B, N, K) to (H', B, N, K)."""
        own = self._modules.get(name)
        weights = list(own) if isinstance(own, nn.ParameterList) else []
        q, k, v = qkv.flatten(1, 2)  # each (H' B, N, K)
        values: Tensor = get_attention(name).function(OPS, q, k, v, *weights)
        return values.view(qkv.shape[1:])

    def project(self, values: Tensor) -> Tensor:
        """Put the heads side by side and project them: (H, B, N, K) to (B, N, D)."""
        side_by_side = values.permute(1, 2, 0, 3).flatten(2)  # (B, N, D)
        projected: Tensor = self.projection(self.dropout(side_by_side))
        return projected

    def fold(self, norm: ByChannel | None) -> dict[str, Tensor]:
        """Return queries, keys and values with a norm in front, and so with a bias."""
        if norm is None:
            return {}
        own = None if self.qkv_bias is None else self.qkv_bias.detach()
        weight, bias = norm.before(self.qkv.detach(), own)
        return {"qkv": weight, "qkv_bias": bias}


class FixedAttention(MultiHeadAttention):
    """Attention whose heads, or rows of heads, each have one variant."""

    order: Tensor
    inverse: Tensor
    mask: Tensor | None

    def __init__(
        self,
        model: ModelPreset,
        heads: LayerHeads,
        dropout: float,
        *,
        has_bias: bool = False,
        bound: float | None = None,
    ) -> None:
        variants = layer_variants(heads)
        super().__init__(model, variants, dropout, has_bias=has_bias, bound=bound)
        users = {
            name: [index for index, head in enumerate(heads) if name in head]
            for name in variants
        }
        order = [index for indices in users.values() for index in indices]
        self.n_users = {name: len(indices) for name, indices in users.items()}
        self.is_in_order = order == list(range(len(heads)))
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("inverse", torch.argsort(self.order), persistent=False)
        self.register_buffer("mask", _row_mask(users, heads), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend with each head's variant: (B, N, D) to the same shape."""
        qkv = self.queries_keys_values(x)  # (3, H, B, N, K)
        slots = qkv if self.is_in_order else qkv.index_select(1, self.order)
        values, start = [], 0
        for name, n_users in self.n_users.items():
            values.append(self.attend(name, slots.narrow(1, start, n_users)))
            start += n_users
        # (H, B, N, K), or more where a head has several variants
        together = values[0] if len(values) == 1 else torch.cat(values)
        return self.project(self._in_place(together))

    def _in_place(self, values: Tensor) -> Tensor:
        if self.mask is not None:
            # all rows by each variant of the head: twice the work, far fewer kernels
            zeros = values.new_zeros(self.n_heads, *values.shape[1:])
            kept = values * self.mask.to(values.dtype)
            return zeros.index_add(0, self.order, kept)  # (H, B, N, K)
        return values if self.is_in_order else values.index_select(0, self.inverse)


def _row_mask(users: dict[str, list[int]], heads: Sequence[Head]) -> Tensor | None:
    """Return 1.0 where a row has the variant of its slot, (slots, 1, N or 1, 1)."""
    if all(len({*head}) == 1 for head in heads):
        return None
    n_tokens = max(len(head) for head in heads)
    rows = [
        [float(row == name) for row in heads[index] * (n_tokens // len(heads[index]))]
        for name, indices in users.items()
        for index in indices
    ]
    return torch.tensor(rows)[:, None, :, None]  # (slots, 1, N, 1)


class MixedAttention(MultiHeadAttention):
    """alpha accurate(q, k, v) + (1 - alpha) cheap(q, k, v) of every head.

    Source: MPCViT equation 2.
    """

    def __init__(
        self, model: ModelPreset, accurate: str, cheap: str, dropout: float
    ) -> None:
        super().__init__(model, (accurate, cheap), dropout)
        self.accurate = accurate
        self.cheap = cheap

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        """Mix the two attentions, (B, N, D) to the same shape.

        Args:
            alpha: () for the layer, (H,), or (H, N).
        """
        qkv = self.queries_keys_values(x)  # (3, H, B, N, K)
        accurate = self.attend(self.accurate, qkv)  # (H, B, N, K)
        cheap = self.attend(self.cheap, qkv)  # (H, B, N, K)
        share = alpha if alpha.ndim == 0 else alpha.view(len(alpha), 1, -1, 1)
        return self.project(share * accurate + (1 - share) * cheap)
