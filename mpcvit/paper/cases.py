"""What the figures show: blocks of any heads and tokens, and the paper's two models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.architecture import (
    Architecture,
    Heads,
    read_architecture,
    uniform_architecture,
)
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS, ModelPreset
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
STATED: Final = "stated, not searched: layers 2 to 5 keep all, 54 of 108 heads in all"
Division = Literal["row", "entry"]
_BY_ENTRY: Final = {
    "softmax": "softmax_by_entry",
    "relu_softmax": "relu_softmax_by_entry",
}
_BY_ROW: Final = {by_entry: by_row for by_row, by_entry in _BY_ENTRY.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseConfig:
    """What all numbers of a figure have in common.

    Attributes:
        network: Network between the parties.
        heads: Whether heads run one by one, as in the paper, or batched.
        activation: Activation of every MLP.
        division: Whether softmax and ReLU softmax take one reciprocal per row, as ours
            do, or divide each entry by its row's sum, as the paper ran them.
        architecture: File of Figure 8's third model; None for the stated one.
    """

    network: Network
    heads: Heads = "serial"
    activation: str = "gelu_tanh"
    division: Division = "row"
    architecture: Path | None = None


def block_steps(n_heads: int, n_tokens: int, config: CaseConfig) -> tuple[Step, ...]:
    """Return the steps of one Transformer block of `BLOCK_WIDTH` with softmax."""
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
    return layer_steps(_uniform(preset, "softmax", config), 1)


def model_steps(name: str, config: CaseConfig) -> tuple[Step, ...]:
    """Return the steps of a whole preset with softmax in every head."""
    return trace_model(_uniform(MODELS[name], "softmax", config))


def layer_steps(architecture: Architecture, number: int) -> tuple[Step, ...]:
    """Return the steps of layer `number`, counted from 1.

    Their parts do not name the layer, so that equal layers have equal steps.
    """
    prefix = f"layer {number}/"
    return tuple(
        step._replace(part=step.part.removeprefix(prefix))
        for step in trace_model(architecture)
        if step.part.startswith(prefix)
    )


def fig8_models(config: CaseConfig) -> dict[str, Architecture]:
    """Return Figure 8's models: softmax, ReLU softmax, and a mix of half of each.

    A given architecture is the mix; all three then have its sizes.

    Raises:
        UsageError: If the given architecture is of another preset, or has no layers.
    """
    mix = _third_model(config)
    return {
        "softmax": _uniform(mix.model, "softmax", config),
        "ReLU softmax": _uniform(mix.model, "relu_softmax", config),
        "MPCViT": mix,
    }


def _third_model(config: CaseConfig) -> Architecture:
    preset = MODELS[FIG8_MODEL]
    if config.architecture is None:
        return stated_architecture(preset, STATED_HEADS, config)
    read = read_architecture(config.architecture)
    own = read.model
    if not own.n_layers:
        raise UsageError(
            f"{config.architecture} has no layers: Figure 8 is of layers of attention"
        )
    if own.is_preset and (own.name, own.n_layers) != (preset.name, preset.n_layers):
        raise UsageError(
            f"{config.architecture} is of {own.name} with {own.n_layers} layers: "
            f"Figure 8 is of {preset.name} with {preset.n_layers}, or of sizes that "
            "are no preset's"
        )
    return _divided(replace(read, heads=config.heads), config)


def stated_architecture(
    preset: ModelPreset, n_relu_softmax: Sequence[int], config: CaseConfig
) -> Architecture:
    """Return a model with that many ReLU-softmax heads per layer, else ScaleAttn."""
    architecture = replace(
        _uniform(preset, "scale", config),
        attention=tuple(
            (("relu_softmax",),) * n + (("scale",),) * (preset.n_heads - n)
            for n in n_relu_softmax
        ),
    )
    return _divided(architecture, config)


def mpcvit(name: str, mu: float, config: CaseConfig) -> Architecture:
    """Return a preset whose first heads, a share mu of all, have ReLU softmax.

    The number of heads is rounded up. Which heads they are changes no latency while
    heads run one by one.
    """
    preset = MODELS[name]
    left = math.ceil(mu * preset.n_layers * preset.n_heads - 1e-9)  # 2.8 are 3
    counts = []
    for _ in range(preset.n_layers):
        counts.append(min(left, preset.n_heads))
        left -= counts[-1]
    return stated_architecture(preset, counts, config)


def _uniform(preset: ModelPreset, attention: str, config: CaseConfig) -> Architecture:
    architecture = uniform_architecture(
        preset, attention=attention, activation=config.activation, heads=config.heads
    )
    return _divided(architecture, config)


def _divided(architecture: Architecture, config: CaseConfig) -> Architecture:
    """Return the architecture with each softmax divided as the config says."""
    names = _BY_ENTRY if config.division == "entry" else _BY_ROW
    return replace(
        architecture,
        attention=tuple(
            tuple(tuple(names.get(name, name) for name in head) for head in layer)
            for layer in architecture.attention
        ),
    )
