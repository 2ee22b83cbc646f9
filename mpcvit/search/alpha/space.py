"""The options that a search chooses from, and the architecture of a choice."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import UsageError
from mpcprof.nn.activation import get_activation
from mpcprof.nn.architecture import Architecture, Heads
from mpcprof.nn.attention import get_attention
from mpcprof.nn.preset import ModelPreset

Granularity = Literal["layer", "head", "row"]
SearchedActivation = Literal["none", "layer", "token"]
Mask: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Two attentions and, for MPCViT+, two activations.

    Attributes:
        granularity: What has one alpha: a layer, a head, or a row (token) of a head.
        activation: What has one beta: nothing, a layer, or a token of a layer.
        accurate: Attention of alpha = 1.
        cheap: Attention of alpha = 0.
        gelu: Activation of beta = 1, and of every token where none is searched.
        linear: Activation of beta = 0; its layers can be fused.

    Raises:
        UsageError: If a name is not known, or two choices are the same.

    Source: MPCViT sections 4.2 and 4.5.
    """

    granularity: Granularity = "head"
    activation: SearchedActivation = "none"
    accurate: str = "relu_softmax"
    cheap: str = "scale"
    gelu: str = "gelu_tanh"
    linear: str = "identity_relu"

    def __post_init__(self) -> None:
        _check_known("granularity", self.granularity, get_args(Granularity))
        _check_known("activation", self.activation, get_args(SearchedActivation))
        for name in (self.accurate, self.cheap):
            get_attention(name)
        if self.accurate == self.cheap:
            raise UsageError(
                f"accurate and cheap are both {self.cheap}: expected two variants"
            )
        if get_activation(self.gelu).is_linear:
            raise UsageError(
                f"gelu={self.gelu!r}: expected an activation that is not linear, such "
                "as gelu_tanh"
            )
        if not get_activation(self.linear).is_linear:
            raise UsageError(
                f"linear={self.linear!r}: expected identity or identity_relu"
            )

    def alpha_shape(self, model: ModelPreset) -> tuple[int, ...]:
        """Return (L,), (L, H) or (L, H, N)."""
        axes = (model.n_layers, model.n_heads, model.n_tokens)
        return axes[: 1 + get_args(Granularity).index(self.granularity)]

    def beta_shape(self, model: ModelPreset) -> tuple[int, ...] | None:
        """Return (L,) or (L, N); None where no activation is searched."""
        if self.activation == "none":
            return None
        axes = (model.n_layers, model.n_tokens)
        return axes[: 1 if self.activation == "layer" else 2]


def choose(
    space: SearchSpace,
    model: ModelPreset,
    alpha_mask: Mask,
    beta_mask: Mask | None = None,
    heads: Heads = "serial",
) -> Architecture:
    """Return the architecture of a hard choice.

    Args:
        alpha_mask: True for the accurate attention; of the space's `alpha_shape`.
        beta_mask: True for GeLU; of the space's `beta_shape`, None where that is.

    Raises:
        UsageError: If a mask is not of booleans or not of its shape.
    """
    _check_mask("alpha", alpha_mask, space.alpha_shape(model))
    _check_mask("beta", beta_mask, space.beta_shape(model))
    by_head = alpha_mask.reshape((*alpha_mask.shape, 1, 1)[:3])
    by_head = np.broadcast_to(
        by_head, (model.n_layers, model.n_heads, by_head.shape[2])
    )
    gelu = np.ones((model.n_layers, 1), bool) if beta_mask is None else beta_mask
    return Architecture(
        model=model,
        heads=heads,
        attention=tuple(
            tuple(_names(head, space.accurate, space.cheap) for head in layer)
            for layer in by_head
        ),
        activation=tuple(
            _names(layer, space.gelu, space.linear)
            for layer in gelu.reshape(model.n_layers, -1)
        ),
    )


def _names(mask: Mask, if_true: str, if_false: str) -> tuple[str, ...]:
    """Return one name for each entry, or one alone where they are equal."""
    names = tuple(if_true if chosen else if_false for chosen in mask)
    return names[:1] if len({*names}) == 1 else names


def _check_known(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise UsageError(f"{what}={given!r}: expected {' or '.join(known)}")


def _check_mask(what: str, mask: Mask | None, shape: tuple[int, ...] | None) -> None:
    given = None if mask is None else (mask.dtype.name, mask.shape)
    expected = None if shape is None else ("bool", shape)
    if given != expected:
        raise UsageError(
            f"choice of {what}: {_describe(given)} given, expected "
            f"{_describe(expected)}; take a mask made for this search space"
        )


def _describe(what: tuple[str, tuple[int, ...]] | None) -> str:
    return "none" if what is None else f"{what[0]} of shape {what[1]}"
