"""The network of a search: two attentions in every head, mixed by alpha."""

import torch
from torch import Tensor, nn

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.transformer import weight_shapes
from mpcvit.models.attention import MixedAttention
from mpcvit.models.layers import NONE, Regularization
from mpcvit.models.mlp import FixedMlp, MixedMlp
from mpcvit.models.vit import Classifier, Layer
from mpcvit.search.alpha.space import SearchSpace


class MixedLayer(Layer):
    """A layer that mixes its choices by alpha and beta."""

    def mix(self, x: Tensor, alpha: Tensor, beta: Tensor | None) -> Tensor:
        """Mix the choices of the layer: (B, N, D) to the same shape."""
        shares = (
            {"attention": alpha} if beta is None else {"attention": alpha, "mlp": beta}
        )
        out: Tensor = self(x, **shares)
        return out


class Supernet(Classifier):
    """A mixture of all architectures of a space, by alpha and beta in [0, 1].

    Attributes:
        alpha: Share of the accurate attention, (L,), (L, H) or (L, H, N); 1 at first.
        beta: Share of GeLU, (L,) or (L, N), 1 at first; None where it is not searched.

    Raises:
        UsageError: If the model has a stem.

    Source: MPCViT equation 2 and section 4.5.
    """

    beta: nn.Parameter | None

    def __init__(
        self,
        model: ModelPreset,
        space: SearchSpace,
        regularization: Regularization = NONE,
    ) -> None:
        if model.stem:
            raise UsageError(
                f"model {model.name} has a stem: expected one without in the spaces "
                "mpcvit and mpcvit+; leave it out, or choose --space free"
            )
        layers = [
            _mixed_layer(model, space, layer, regularization)
            for layer in range(model.n_layers)
        ]
        super().__init__(model, [*layers])
        self.model = model
        self.space = space
        self.alpha = nn.Parameter(torch.ones(space.alpha_shape(model)))
        beta_shape = space.beta_shape(model)
        self.beta = None if beta_shape is None else nn.Parameter(torch.ones(beta_shape))

    def transform(self, tokens: Tensor) -> Tensor:
        """Mix through every layer: (B, N, D) to the same shape."""
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, MixedLayer)
            beta = None if self.beta is None else self.beta[number]
            tokens = layer.mix(tokens, self.alpha[number], beta)
        return tokens

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring alpha and beta back into [0, 1]."""
        for parameter in self.architecture_parameters():
            parameter.clamp_(0.0, 1.0)

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Return alpha, and beta where it is searched."""
        return [self.alpha] if self.beta is None else [self.alpha, self.beta]

    def weights(self, architecture: Architecture) -> dict[str, Tensor]:
        """Return the weights with which a network of that architecture begins.

        Linearised layers are fused: W1 W2 and b1 W2 + b2.

        Raises:
            UsageError: If the architecture is of another model or another space.
        """
        if architecture.model != self.model:
            raise UsageError(
                f"architecture of model {architecture.model.name}: expected that of "
                f"the search, {self.model.name} of the same sizes"
            )
        own = {name: p.detach() for name, p in self.named_parameters()}
        for layer in range(self.model.n_layers):
            own |= _fused(own, f"layers.{layer}.mlp.")
        names = [*weight_shapes(architecture)]
        missing = [name for name in names if name not in own]
        if missing:
            raise UsageError(
                f"the search has no {missing[0]}: expected an architecture of "
                f"{self.space.accurate} and {self.space.cheap}; derive it from it"
            )
        return {name: own[name] for name in names}


def _mixed_layer(
    model: ModelPreset, space: SearchSpace, layer: int, regularization: Regularization
) -> MixedLayer:
    is_searched = space.activation != "none"
    return MixedLayer(
        model,
        MixedAttention(
            model, space.accurate, space.cheap, regularization.attention_dropout
        ),
        MixedMlp(model, space.gelu, space.linear)
        if is_searched
        else FixedMlp(model, (space.gelu,)),
        regularization.path_dropout_of(layer, model.n_layers),
    )


def _fused(own: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    w1, b1, w2, b2 = (
        own[f"{prefix}{linear}.{part}"]
        for linear in ("linear1", "linear2")
        for part in ("weight", "bias")
    )
    return {
        f"{prefix}fused.weight": w1 @ w2,  # (D, D)
        f"{prefix}fused.bias": b1 @ w2 + b2,  # (D,)
    }
