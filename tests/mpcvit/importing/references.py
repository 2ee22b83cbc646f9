"""Vision Transformers as timm, transformers and MPCViT's code have them, tiny.

Parameters have the names, and modules the semantics, of those frameworks: the file of a
state_dict is what they would have written, and logits are what they would give.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def filled(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter values that matter, norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("alpha", "beta")):
                continue
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.add_(1.0)
    return network.eval()


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    n_batch, n_tokens, width = x.shape
    return x.view(n_batch, n_tokens, n_heads, width // n_heads).transpose(1, 2)


class TimmAttention(nn.Module):
    def __init__(self, width: int, n_heads: int, has_bias: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=has_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n_batch, n_tokens, width = x.shape
        shape = (n_batch, n_tokens, 3, self.n_heads, width // self.n_heads)
        q, k, v = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        values = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(values.transpose(1, 2).reshape(n_batch, n_tokens, width))


class TimmMlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class TimmBlock(nn.Module):
    def __init__(self, width, n_heads, hidden, has_bias, has_scale) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = TimmAttention(width, n_heads, has_bias)
        self.ls1 = LayerScale(width) if has_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = TimmMlp(width, hidden)
        self.ls2 = LayerScale(width) if has_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self, width: int, patch: int, n_channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(n_channels, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class TimmViT(nn.Module):
    """Source: timm/models/vision_transformer.py, VisionTransformer."""

    def __init__(
        self,
        *,
        has_class_token: bool = True,
        no_embed_class: bool = False,
        has_bias: bool = True,
        has_scale: bool = False,
    ) -> None:
        super().__init__()
        width, n_patches = 12, 4
        self.no_embed_class = no_embed_class
        self.patch_embed = PatchEmbed(width, 4, 3)
        self.cls_token = None
        if has_class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        n_positions = n_patches + (has_class_token and not no_embed_class)
        self.pos_embed = nn.Parameter(torch.zeros(1, n_positions, width))
        self.blocks = nn.Sequential(
            *[TimmBlock(width, 3, 24, has_bias, has_scale) for _ in range(2)]
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        if self.no_embed_class:
            x = x + self.pos_embed
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if not self.no_embed_class:
            x = x + self.pos_embed
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0] if self.cls_token is not None else x.mean(dim=1))


def _holder(**modules: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(modules)


class HuggingFaceLayer(nn.Module):
    def __init__(self, width: int, n_heads: int, hidden: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        names = ("query", "key", "value")
        projections = {name: nn.Linear(width, width) for name in names}
        self.attention = _holder(
            attention=_holder(**projections),
            output=_holder(dense=nn.Linear(width, width)),
        )
        self.intermediate = _holder(dense=nn.Linear(width, hidden))
        self.output = _holder(dense=nn.Linear(hidden, width))
        self.layernorm_before = nn.LayerNorm(width, eps=1e-12)
        self.layernorm_after = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.layernorm_before(x)
        q, k, v = (
            split_heads(one(normed), self.n_heads)
            for one in self.attention["attention"].values()
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        values = (weights @ v).transpose(1, 2).flatten(2)
        x = x + self.attention["output"]["dense"](values)
        hidden = functional.gelu(self.intermediate["dense"](self.layernorm_after(x)))
        return x + self.output["dense"](hidden)


class HuggingFaceViT(nn.Module):
    """Source: transformers/models/vit/modeling_vit.py, ViTForImageClassification."""

    def __init__(self) -> None:
        super().__init__()
        width = 12
        embeddings = nn.Module()
        embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        embeddings.position_embeddings = nn.Parameter(torch.zeros(1, 5, width))
        embeddings.patch_embeddings = _holder(
            projection=nn.Conv2d(3, width, 4, stride=4)
        )
        layers = nn.ModuleList(HuggingFaceLayer(width, 3, 24) for _ in range(2))
        self.vit = _holder(
            embeddings=embeddings,
            encoder=_holder(layer=layers),
            layernorm=nn.LayerNorm(width, eps=1e-12),
        )
        self.classifier = nn.Linear(width, 5)

    def forward(self, images: Tensor) -> Tensor:
        embeddings = self.vit["embeddings"]
        patches = embeddings.patch_embeddings["projection"](images)
        patches = patches.flatten(2).transpose(1, 2)
        first = embeddings.cls_token.expand(len(images), -1, -1)
        x = torch.cat([first, patches], dim=1) + embeddings.position_embeddings
        for layer in self.vit["encoder"]["layer"]:
            x = layer(x)
        return self.classifier(self.vit["layernorm"](x)[:, 0])


class MpcVitAttention(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.alpha = nn.Parameter(torch.ones(1, n_heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(one, self.n_heads) for one in self.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        positive = torch.relu(scores)
        normed = positive / (positive.sum(dim=-1, keepdim=True) + 1e-5)
        scaled = scores / scores.shape[3]
        weights = self.alpha * normed + (1 - self.alpha) * scaled
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class MpcVitLayer(nn.Module):
    def __init__(self, width, n_heads, hidden, n_tokens, has_beta) -> None:
        super().__init__()
        self.pre_norm = nn.LayerNorm(width)
        self.self_attn = MpcVitAttention(width, n_heads)
        self.linear1 = nn.Linear(width, hidden)
        self.norm1 = nn.LayerNorm(width)
        self.linear2 = nn.Linear(hidden, width)
        self.beta = nn.Parameter(torch.ones(1, n_tokens, 1)) if has_beta else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(self.pre_norm(x)))
        hidden = self.linear1(x)
        if self.beta is None:
            return x + self.linear2(functional.gelu(hidden))
        mixed = self.beta * functional.gelu(hidden) + (1 - self.beta) * hidden
        out = self.linear2(mixed)
        return x + (1 - self.beta) * torch.relu(out) + self.beta * out


class MpcVit(nn.Module):
    """Source: PKU-SEC-Lab/mpcvit, src/vit.py and src/utils/transformers.py.

    Differs: the softmax of `--model vit_7_4_32_teacher` is not here.
    """

    def __init__(self, *, has_beta: bool = False, image_size: int = 8) -> None:
        super().__init__()
        width, n_tokens = 12, (image_size // 4) ** 2 + 1
        convolution = nn.Conv2d(3, width, 4, stride=4)
        self.tokenizer = _holder(
            conv_layers=nn.Sequential(
                nn.Sequential(convolution, nn.Identity(), nn.Identity())
            )
        )
        classifier = nn.Module()
        classifier.class_emb = nn.Parameter(torch.zeros(1, 1, width))
        classifier.positional_emb = nn.Parameter(torch.zeros(1, n_tokens, width))
        classifier.blocks = nn.ModuleList(
            MpcVitLayer(width, 3, 24, n_tokens, has_beta) for _ in range(2)
        )
        classifier.norm = nn.LayerNorm(width)
        classifier.fc = nn.Linear(width, 10)
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.tokenizer["conv_layers"](images).flatten(2).transpose(1, 2)
        own = self.classifier
        x = torch.cat([own.class_emb.expand(len(tokens), -1, -1), tokens], dim=1)
        x = x + own.positional_emb
        for block in own.blocks:
            x = block(x)
        return own.fc(own.norm(x)[:, 0])


class BertLayer(nn.Module):
    def __init__(self, width: int, n_heads: int, hidden: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        names = ("query", "key", "value")
        self.attention = _holder(
            self=_holder(**{name: nn.Linear(width, width) for name in names}),
            output=_holder(
                dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps=1e-12)
            ),
        )
        self.intermediate = _holder(dense=nn.Linear(width, hidden))
        self.output = _holder(
            dense=nn.Linear(hidden, width), LayerNorm=nn.LayerNorm(width, eps=1e-12)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            split_heads(one(x), self.n_heads) for one in self.attention["self"].values()
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        own, values = self.attention["output"], (weights @ v).transpose(1, 2).flatten(2)
        x = own["LayerNorm"](own["dense"](values) + x)
        hidden = functional.gelu(self.intermediate["dense"](x))
        return self.output["LayerNorm"](self.output["dense"](hidden) + x)


class Bert(nn.Module):
    """Source: transformers/models/bert, BertForSequenceClassification."""

    def __init__(self) -> None:
        super().__init__()
        width = 12
        self.bert = _holder(
            embeddings=_holder(
                word_embeddings=nn.Embedding(20, width),
                position_embeddings=nn.Embedding(9, width),
                token_type_embeddings=nn.Embedding(2, width),
                LayerNorm=nn.LayerNorm(width, eps=1e-12),
            ),
            encoder=_holder(
                layer=nn.ModuleList(BertLayer(width, 3, 24) for _ in range(2))
            ),
            pooler=_holder(dense=nn.Linear(width, width)),
        )
        self.classifier = nn.Linear(width, 2)

    def forward(self, words: Tensor, types: Tensor) -> Tensor:
        own = self.bert["embeddings"]
        x = own["word_embeddings"](words) + own["token_type_embeddings"](types)
        x = x + own["position_embeddings"](torch.arange(words.shape[1]))
        x = own["LayerNorm"](x)
        for layer in self.bert["encoder"]["layer"]:
            x = layer(x)
        pooled = torch.tanh(self.bert["pooler"]["dense"](x[:, 0]))
        return self.classifier(pooled)
