"""EfficientViT M0 to M5 to be trained, with the names of timm's `efficientvit_msra`.

As `mpcprof.nn.efficientvit`, whose weights are these with every BatchNorm folded.

Source: Liu et al. 2023 (arXiv 2305.07027), section 3.
"""

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpcprof.errors import UsageError
from mpcprof.nn.efficientvit import KEY_DIM, N_STEMS, EfficientViT, efficientvit_shapes
from mpcvit.models.algebra import OPS

_INDICES = "attention_bias_idxs"  # a constant that files of weights hold, too
_COUNTER = "num_batches_tracked"
_HEAD_DEVIATION = 0.02


class ConvNorm(nn.Sequential):
    """A convolution without bias, zeros around the map, and its BatchNorm.

    Args:
        start: The BatchNorm's factor at first; 0 for a branch that begins as nothing.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        start: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(n_out)
        nn.init.constant_(self.bn.weight, start)

    def fold(self) -> tuple[Tensor, Tensor]:
        """Return the matrix (k k c, d) and the bias (d,) that are deployed."""
        scale, shift = _scale_and_shift(self.bn)
        return _to_matrix(self.conv.weight) * scale, shift


def _scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a BatchNorm with its running statistics does, x scale + shift."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _to_matrix(kernel: Tensor) -> Tensor:
    """Return a matrix (k k c, d) of a kernel (d, c, k, k), in rows by place."""
    return kernel.double().permute(2, 3, 1, 0).flatten(0, 2)


def _depthwise(
    width: int, kernel: int = 3, stride: int = 1, start: float = 1.0
) -> ConvNorm:
    return ConvNorm(width, width, kernel, stride, groups=width, start=start)


class ResidualDrop(nn.Module):
    """x + m(x); the name is timm's."""

    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to a map (B, C, S, S)."""
        summed: Tensor = x + self.m(x)
        return summed


class ConvMlp(nn.Module):
    """Two 1x1 convolutions with a ReLU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pw1 = ConvNorm(width, 2 * width)
        self.pw2 = ConvNorm(2 * width, width, start=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, S, S) to the same shape."""
        out: Tensor = self.pw2(functional.relu(self.pw1(x)))
        return out


class CascadedGroupAttention(nn.Module):
    """Heads of a window, each of which reads what the one before it gave."""

    bias_indices: Tensor

    def __init__(self, network: EfficientViT, stage: int) -> None:
        super().__init__()
        width, n_heads = network.widths[stage], network.n_heads[stage]
        side, chunk = network.window_side(stage), width // n_heads
        self.n_places = side**2
        self.variant = network.variant
        self.qkvs = nn.ModuleList(
            ConvNorm(chunk, 2 * KEY_DIM + chunk) for _ in range(n_heads)
        )
        self.dws = nn.ModuleList(
            _depthwise(KEY_DIM, kernel) for kernel in network.kernels[:n_heads]
        )
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(width, width, start=0.0))
        self.attention_biases = nn.Parameter(torch.zeros(n_heads, self.n_places))
        places = [*itertools.product(range(side), repeat=2)]
        self.register_buffer(
            "bias_indices",
            torch.tensor(
                [[abs(a - c) * side + abs(b - d) for c, d in places] for a, b in places]
            ),
            persistent=False,
        )

    def table(self) -> Tensor:
        """Return the bias of each head for each pair of places, (h, N, N)."""
        return self.attention_biases[:, self.bias_indices]

    @property
    def factors(self) -> tuple[float, float, float, float]:
        """Public factors of queries, keys, values and the bias of the scores."""
        q, k, v = self.variant.factors(self.n_places, KEY_DIM)
        return q, k, v, q * k * math.sqrt(KEY_DIM)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within windows (G, C, w, w)."""
        chunks = x.chunk(len(self.qkvs), dim=1)
        of_q, of_k, of_v, of_bias = self.factors
        table, done = self.table() * of_bias, torch.zeros_like(chunks[0])
        outputs = []
        for chunk, qkv, dw, bias in zip(
            chunks, self.qkvs, self.dws, table, strict=True
        ):
            sizes = [KEY_DIM, KEY_DIM, chunk.shape[1]]
            q, k, v = qkv(chunk + done).split(sizes, dim=1)
            q, k, v = (each.flatten(2).transpose(1, 2) for each in (dw(q), k, v))
            values = self.variant.function(
                OPS, q * of_q, k * of_k, v * of_v, is_folded=True, bias=bias
            )
            done = values.transpose(1, 2).reshape(chunk.shape)
            outputs.append(done)
        projected: Tensor = self.proj(torch.cat(outputs, dim=1))
        return projected

    def fold(self) -> dict[str, Tensor]:
        """Return the deployed weights of the heads, public factors included."""
        of_q, of_k, of_v, of_bias = self.factors
        folded = {"attention_biases": self.table().double() * of_bias}
        for head, (qkv, dw) in enumerate(zip(self.qkvs, self.dws, strict=True)):
            assert isinstance(qkv, ConvNorm)
            assert isinstance(dw, ConvNorm)
            weight, bias = qkv.fold()
            factors = torch.full_like(bias, of_v)
            factors[:KEY_DIM], factors[KEY_DIM : 2 * KEY_DIM] = 1.0, of_k
            folded |= _named(f"qkvs.{head}", (weight * factors, bias * factors))
            weight, bias = dw.fold()
            folded |= _named(f"dws.{head}", (weight * of_q, bias * of_q))
        return folded


def _named(name: str, own: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.weight": own[0], f"{name}.bias": own[1]}


class LocalWindowAttention(nn.Module):
    """Attention within windows, zeros below and to the right of the map's end."""

    def __init__(self, network: EfficientViT, stage: int) -> None:
        super().__init__()
        self.side = network.window_side(stage)
        self.attn = CascadedGroupAttention(network, stage)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, S, S) to the same shape."""
        n_batch, width, size, _ = x.shape
        n_along, behind = math.ceil(size / self.side), -size % self.side
        whole = functional.pad(x, (0, behind, 0, behind))
        cut = (n_batch, width, n_along, self.side, n_along, self.side)
        windows = whole.reshape(cut).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        attended: Tensor = self.attn(windows)
        parts = attended.reshape(n_batch, n_along, n_along, width, self.side, self.side)
        joined = parts.permute(0, 3, 1, 4, 2, 5).reshape(whole.shape)
        return joined[:, :, :size, :size]


class SqueezeExcite(nn.Module):
    """A factor from 0 to 1 of each channel, that the means of all channels give."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, S, S) to the same shape."""
        means = x.mean((2, 3), keepdim=True)
        gate: Tensor = torch.sigmoid(self.fc2(functional.relu(self.fc1(means))))
        return x * gate

    def fold(self, n_places: int) -> dict[str, Tensor]:
        """Return the deployed weights, which take the sum of so many places."""
        return {
            f"{name}.{key}": weight
            for name, conv, factor in (
                ("fc1", self.fc1, 1 / n_places),
                ("fc2", self.fc2, 1.0),
            )
            for key, weight in (
                ("weight", _to_matrix(conv.weight) * factor),
                ("bias", conv.bias),
            )
            if weight is not None
        }


class PatchMerging(nn.Module):
    """Halves the sides of a map, and gives it other channels."""

    def __init__(self, width: int, n_out: int, side: int) -> None:
        super().__init__()
        hidden = 4 * width
        self.n_places = side**2
        self.conv1 = ConvNorm(width, hidden)
        self.conv2 = _depthwise(hidden, stride=2)
        self.se = SqueezeExcite(hidden, width)
        self.conv3 = ConvNorm(hidden, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c, S, S) to (B, d, S / 2, S / 2)."""
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        merged: Tensor = self.conv3(self.se(x))
        return merged


def _unit(width: int) -> nn.Sequential:
    return nn.Sequential(ResidualDrop(_depthwise(width)), ResidualDrop(ConvMlp(width)))


class _Downsample(nn.Sequential):
    def __init__(self, network: EfficientViT, stage: int) -> None:
        super().__init__()
        width, n_out = network.widths[stage - 1], network.widths[stage]
        self.res1 = _unit(width)
        self.patchmerge = PatchMerging(width, n_out, network.map_sides[stage])
        self.res2 = _unit(n_out)


class EfficientViTBlock(nn.Sequential):
    """Five residual units: two of convolution and MLP around the attention."""

    def __init__(self, network: EfficientViT, stage: int) -> None:
        super().__init__()
        width = network.widths[stage]
        self.dw0 = ResidualDrop(_depthwise(width, start=0.0))
        self.ffn0 = ResidualDrop(ConvMlp(width))
        self.mixer = ResidualDrop(LocalWindowAttention(network, stage))
        self.dw1 = ResidualDrop(_depthwise(width, start=0.0))
        self.ffn1 = ResidualDrop(ConvMlp(width))


class _Stage(nn.Sequential):
    def __init__(self, network: EfficientViT, stage: int) -> None:
        super().__init__()
        self.downsample = _Downsample(network, stage) if stage else nn.Identity()
        self.blocks = nn.Sequential(
            *(EfficientViTBlock(network, stage) for _ in range(network.depths[stage]))
        )


class _PatchEmbedding(nn.Sequential):
    def __init__(self, network: EfficientViT) -> None:
        super().__init__()
        n_in = network.n_channels
        for number in range(1, N_STEMS + 1):
            n_out = network.widths[0] >> (N_STEMS - number)
            self.add_module(f"conv{number}", ConvNorm(n_in, n_out, 3, 2))
            if number < N_STEMS:
                self.add_module(f"relu{number}", nn.ReLU())
            n_in = n_out


class _Head(nn.Sequential):
    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(width)
        self.linear = nn.Linear(width, n_classes)
        nn.init.trunc_normal_(self.linear.weight, std=_HEAD_DEVIATION)
        nn.init.zeros_(self.linear.bias)

    def fold(self, n_places: int) -> tuple[Tensor, Tensor]:
        """Return the deployed weight, which takes the sum of so many places."""
        scale, shift = _scale_and_shift(self.bn)
        weight = self.linear.weight.double().T  # (D, C)
        bias = self.linear.bias.double() + shift @ weight
        return scale[:, None] * weight / n_places, bias


class EfficientViTMSRA(nn.Module):
    """The network of images; names of modules and weights are timm's."""

    def __init__(self, network: EfficientViT) -> None:
        super().__init__()
        self.network = network
        self.patch_embed = _PatchEmbedding(network)
        self.stages = nn.Sequential(*(_Stage(network, stage) for stage in range(3)))
        self.head = _Head(network.widths[-1], network.n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C) of normalised images (B, c, S, S)."""
        maps = self.stages(self.patch_embed(images))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """Return every deployed weight, as `efficientvit_shapes` has them.

        BatchNorms are folded, and so are the public factors of the heads and 1 / N of
        each mean: private inference pays for none of them.
        """
        own: dict[str, Tensor] = {}
        for name, module in self.named_modules():
            if isinstance(module, ConvNorm):
                own = _named(name, module.fold()) | own
            elif isinstance(module, CascadedGroupAttention):
                own |= {f"{name}.{key}": w for key, w in module.fold().items()}
            elif isinstance(module, PatchMerging):
                folded = module.se.fold(module.n_places)
                own |= {f"{name}.se.{key}": w for key, w in folded.items()}
        n_places = self.network.map_sides[-1] ** 2
        own |= _named("head.linear", self.head.fold(n_places))
        return {name: own[name].float() for name in efficientvit_shapes(self.network)}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the weights of a file of timm, by their names there.

        Raises:
            UsageError: If names or shapes are not those of the network.
        """
        given = {
            name: weight
            for name, weight in weights.items()
            if not name.endswith((_INDICES, _COUNTER))
        }
        own = {n: w for n, w in self.state_dict().items() if not n.endswith(_COUNTER)}
        missing, unknown = sorted({*own} - {*given}), sorted({*given} - {*own})
        wrong = [n for n in own if n in given and own[n].shape != given[n].shape]
        for what, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", wrong),
        ):
            if names:
                raise UsageError(
                    f"weights: {len(names)} {what} ({names[0]}); expected those of "
                    f"{self.network.name} with {self.network.n_classes} classes, "
                    f"{self.network.image_size} pixels"
                )
        self.load_state_dict(given, strict=False)


def to_pixels(images: Tensor) -> Tensor:
    """Return pixels (B, S S, c), row by row, of images (B, c, S, S)."""
    return images.permute(0, 2, 3, 1).flatten(1, 2)
