"""What the figures are of: blocks of any heads and tokens, the paper's two models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.architecture import (
    MODELS,
    Architecture,
    Heads,
    ModelPreset,
    read_architecture,
    uniform_architecture,
)
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.steps import Step

HEADS: Final = (1, 2, 4, 8, 12)
TOKENS: Final = (17, 65, 145, 197, 257)
# The paper does not say how wide the block of Figure 1 is. 192, its Tiny-ImageNet
# model's, is the one of its widths that 12 heads divide.
BLOCK_WIDTH: Final = 192
BLOCK_HEADS: Final = 4  # while the tokens vary
BLOCK_TOKENS: Final = 65  # while the heads vary

FIG8_MODEL: Final = "tiny-imagenet"
# ReLU-softmax heads by layer: 54 of 108, mu = 0.5. Not searched: the paper says only
# that layers 2 to 5 tend to keep them and early and final layers lose them.
STATED_HEADS: Final = (2, 12, 12, 12, 12, 4, 0, 0, 0)
Division = Literal["row", "entry"]
_BY_ENTRY: Final = {
    "softmax": "softmax_by_entry",
    "relu_softmax": "relu_softmax_by_entry",
}
_BY_ROW: Final = {by_entry: by_row for by_row, by_entry in _BY_ENTRY.items()}
STATED: Final = "stated, not searched: layers 2 to 5 keep all, 54 of 108 heads in all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all numbers of a figure have in common.

    Attributes:
        heads: One by one, as in the paper, or together.
        division: Whether softmax and ReLU softmax take a reciprocal for each row, as
            ours do, or divide each entry by its row's sum, as the paper ran them.
        architecture: Figure 8's third model; empty for the stated one.
    """

    network: Network
    heads: Heads = "serial"
    activation: str = "gelu_tanh"
    division: Division = "row"
    architecture: Path | None = None


def block_steps(n_heads: int, n_tokens: int, setting: Setting) -> tuple[Step, ...]:
    """One Transformer block of `BLOCK_WIDTH` with softmax."""
    side = math.isqrt(n_tokens - 1)
    assert side**2 == n_tokens - 1, "patches of a square image"
    preset = ModelPreset(
        name="block",
        n_layers=1,
        n_heads=n_heads,
        width=BLOCK_WIDTH,
        mlp_ratio=2,
        image_size=side,
        patch=1,
        n_channels=3,
        n_classes=10,
    )
    return layer_steps(_uniform(preset, "softmax", setting), 1)


def model_steps(name: str, setting: Setting) -> tuple[Step, ...]:
    """A whole preset with softmax in every head."""
    return trace_model(_uniform(MODELS[name], "softmax", setting))


def layer_steps(architecture: Architecture, number: int) -> tuple[Step, ...]:
    """Layer `number`, from 1; its parts do not name it: equal layers are equal."""
    prefix = f"layer {number}/"
    return tuple(
        step._replace(part=step.part.removeprefix(prefix))
        for step in trace_model(architecture)
        if step.part.startswith(prefix)
    )


def fig8_models(setting: Setting) -> dict[str, Architecture]:
    """Softmax, ReLU softmax, and half of the heads ReLU softmax.

    Raises:
        UsageError: If the architecture is of another model.
    """
    preset = MODELS[FIG8_MODEL]
    return {
        "softmax": _uniform(preset, "softmax", setting),
        "ReLU softmax": _uniform(preset, "relu_softmax", setting),
        "MPCViT": _third_model(preset, setting),
    }


def _third_model(preset: ModelPreset, setting: Setting) -> Architecture:
    if setting.architecture is None:
        return stated_architecture(preset, STATED_HEADS, setting)
    read = read_architecture(setting.architecture)
    if (read.model.name, read.n_layers) != (preset.name, preset.n_layers):
        raise UsageError(
            f"{setting.architecture} is of {read.model.name} with {read.n_layers} "
            f"layers: Figure 8 is of {preset.name} with {preset.n_layers}"
        )
    return _divided(replace(read, heads=setting.heads), setting)


def stated_architecture(
    preset: ModelPreset, n_relu_softmax: Sequence[int], setting: Setting
) -> Architecture:
    """So many ReLU-softmax heads in each layer, ScaleAttn in the others."""
    architecture = replace(
        _uniform(preset, "scale", setting),
        attention=tuple(
            (("relu_softmax",),) * n + (("scale",),) * (preset.n_heads - n)
            for n in n_relu_softmax
        ),
    )
    return _divided(architecture, setting)


def _uniform(preset: ModelPreset, attention: str, setting: Setting) -> Architecture:
    architecture = uniform_architecture(
        preset,
        attention=attention,
        activation=setting.activation,
        heads=setting.heads,
    )
    return _divided(architecture, setting)


def _divided(architecture: Architecture, setting: Setting) -> Architecture:
    """The same with each variant in the form that divides as the setting asks."""
    names = _BY_ENTRY if setting.division == "entry" else _BY_ROW
    return replace(
        architecture,
        attention=tuple(
            tuple(tuple(names.get(name, name) for name in head) for head in layer)
            for layer in architecture.attention
        ),
    )
