"""The Vision Transformer that `architecture.json` describes, to be trained.

As `mpcprof.nn.transformer.vit`, whose weights have the same names and shapes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mpcprof.nn.architecture import Architecture
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.transformer import check_weight_shapes, weight_shapes
from mpcvit.models.attention import FixedAttention
from mpcvit.models.layers import (
    NONE,
    START_DEVIATION,
    DropPath,
    Embedding,
    LayerNorm,
    Linear,
    Regularization,
)
from mpcvit.models.mlp import FixedMlp, FusedMlp


class Layer(nn.Module):
    """A Transformer layer: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        model: ModelPreset,
        attention: nn.Module,
        mlp: nn.Module,
        path_dropout: float,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(model.width)
        self.attention = attention
        self.norm2 = LayerNorm(model.width)
        self.mlp = mlp
        self.drop_path = DropPath(path_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Add both branches to (B, N, D)."""
        x = x + self.drop_path(self.attention(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class Classifier(nn.Module):
    """A network of any layers, with the embedding before and the classifier behind."""

    def __init__(self, model: ModelPreset, layers: list[Layer]) -> None:
        super().__init__()
        self.embedding = Embedding(model)
        self.has_class_token = model.has_class_token
        self.layers = nn.ModuleList(layers)
        self.norm = LayerNorm(model.width)
        self.head = Linear(model.width, model.n_classes)
        nn.init.trunc_normal_(self.head.weight, std=START_DEVIATION)  # logits near 0

    def transform(self, tokens: Tensor) -> Tensor:
        """Take (B, N, D) through every layer."""
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens

    def features(self, images: Tensor) -> Tensor:
        """Return all tokens behind the last norm: (B, c, S, S) to (B, N, D)."""
        normed: Tensor = self.norm(self.transform(self.embedding(images)))
        return normed

    def classify(self, features: Tensor) -> Tensor:
        """Return logits of the class token, or of the mean: (B, N, D) to (B, C)."""
        pooled = features[:, 0] if self.has_class_token else features.mean(dim=1)
        logits: Tensor = self.head(pooled)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C) of normalised images (B, c, S, S)."""
        return self.classify(self.features(images))


class VisionTransformer(Classifier):
    """A network of one architecture, whose heads and tokens may differ."""

    def __init__(
        self, architecture: Architecture, regularization: Regularization = NONE
    ) -> None:
        layers = [
            _fixed_layer(architecture, layer, regularization)
            for layer in range(architecture.n_layers)
        ]
        super().__init__(architecture.model, layers)
        self.architecture = architecture

    def weights(self) -> dict[str, Tensor]:
        """Return every weight, without gradient, in the order of `weight_shapes`.

        The weights share memory with the parameters.
        """
        parameters = dict(self.named_parameters())
        return {
            name: parameters[name].detach() for name in weight_shapes(self.architecture)
        }

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the values of `weights`.

        Raises:
            UsageError: If names or shapes are not those of the architecture.
        """
        check_weights(self.architecture, weights)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(weights[name])


def _fixed_layer(
    architecture: Architecture, layer: int, regularization: Regularization
) -> Layer:
    model, names = architecture.model, architecture.activation[layer]
    is_fused = architecture.is_fused(layer)
    return Layer(
        model,
        FixedAttention(
            model, architecture.attention[layer], regularization.attention_dropout
        ),
        FusedMlp(model, names) if is_fused else FixedMlp(model, names),
        regularization.path_dropout_of(layer, architecture.n_layers),
    )


def check_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the architecture.

    Raises:
        UsageError: If names or shapes differ; the message names the first.
    """
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    check_weight_shapes(architecture, shapes)
