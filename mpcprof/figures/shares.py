"""The figure of a model's seconds by group of operations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.costmodel.observations import primitive_records
from mpcprof.figures.canvas import (
    add_legend,
    check_format,
    check_not_empty,
    label_figure,
    open_figure,
    workload_style,
)
from mpcprof.nn.architecture import Heads, uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS, ModelPreset
from mpcprof.nn.steps import Step
from mpcprof.predict import operation_group
from mpcprof.profile.record import Profile

PAPER_MODELS: Final = (MODELS["cifar"], MODELS["tiny-imagenet"])
_ATTENTIONS: Final = ("softmax", "relu_softmax", "scale")
_OTHER: Final = "other"
# Groups in the order of the stack, each with the workload whose colour it has.
_GROUPS: Final = {
    "exp": "exp",
    "max": "max",
    "reciprocal": "reciprocal",
    "ReLU": "relu",
    "GeLU": "gelu_tanh",
    "MatMul": "matmul",
    "LayerNorm": "square",
    _OTHER: "",
}
_APART: Final = {"exp": "exp", "max": "max", "reciprocal": "reciprocal", "relu": "ReLU"}
_OTHER_COLOR: Final = "0.75"
_NOTE: Final = (
    "Heads one by one (serial) or a layer's together (batched). GeLU by tanh. Other: "
    "products of entries, scalings, sums, the call."
)
_BAR: Final = 0.72  # of the distance between two
_GAP: Final = 0.6  # between serial and batched heads


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bar:
    """Seconds of one architecture.

    Attributes:
        seconds: Seconds of each group, in the order of `_GROUPS`.
        is_extrapolated: Whether a step is larger than any measured.
    """

    label: str
    heads: Heads
    seconds: tuple[float, ...]
    is_extrapolated: bool


def plot_shares(
    profile: Profile, path: Path, models: Sequence[ModelPreset] = PAPER_MODELS
) -> int:
    """Draw predicted seconds of the paper's two models, heads serial and batched.

    On the network that most records are of, for one image. LayerNorm is all but the
    products of a normalisation; `other` is products of entries, scalings, sums, and
    what a call costs. Returns the number of records that the prices come from.

    Args:
        models: Other sizes than those of the paper's models.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If there is nothing to draw.
        FileError: If the file cannot be written.
        MissingEntryError: If the profile lacks an operation of the models.
    """
    check_format(path)
    check_not_empty(profile)
    model = fit_cost_model(profile)
    variants = [(a, heads) for heads in get_args(Heads) for a in _ATTENTIONS]
    bars = [[_bar(model, sizes, *one) for one in variants] for sizes in models]
    with open_figure(1.9, 0.8 * len(models), path) as figure:
        all_axes: list[Axes] = [*figure.subplots(len(models), 1, squeeze=False)[:, 0]]
        for axes, sizes, own in zip(all_axes, models, bars, strict=True):
            handles = _draw_bars(axes, own)
            axes.set_title(_describe(sizes, own), loc="left")
            axes.set_xlabel("predicted latency (s)")
        add_legend(figure, handles, is_sorted=False)
        title = f"{profile.deployment}\n{model.reference}, one image"
        label_figure(figure, title, _NOTE)
    return len(primitive_records(profile))


def _describe(model: ModelPreset, bars: Sequence[_Bar]) -> str:
    text = (
        f"{model.name}: {model.n_layers} layers, {model.n_heads} heads, "
        f"{model.n_tokens} tokens, width {model.width}"
    )
    return f"{text} (extrapolated)" if any(b.is_extrapolated for b in bars) else text


def _bar(model: CostModel, sizes: ModelPreset, attention: str, heads: Heads) -> _Bar:
    architecture = uniform_architecture(sizes, attention=attention, heads=heads)
    grouped = (step._replace(part=_group(step)) for step in trace_model(architecture))
    prediction = model.predict(grouped, model.reference)
    seconds = {part.name: part.latency_s for part in prediction.parts}
    seconds[_OTHER] = seconds.get(_OTHER, 0.0) + prediction.per_call_s
    return _Bar(
        label=f"{attention}, {heads}",
        heads=heads,
        seconds=tuple(seconds.get(group, 0.0) for group in _GROUPS),
        is_extrapolated=prediction.basis == "extrapolated",
    )


def _group(step: Step) -> str:
    """Return the group of a step, with softmax split into its operations."""
    group = operation_group(step)
    is_split = group in ("softmax", _OTHER)
    return _APART.get(step.operation, _OTHER) if is_split else group


def _draw_bars(axes: Axes, bars: Sequence[_Bar]) -> dict[str, Artist]:
    seconds = np.array([bar.seconds for bar in bars])  # (bars, groups)
    ends_s = seconds.cumsum(axis=1)
    heads = [*dict.fromkeys(bar.heads for bar in bars)]
    places = [i + _GAP * heads.index(bar.heads) for i, bar in enumerate(bars)]
    handles: dict[str, Artist] = {}
    for number, (group, workload) in enumerate(_GROUPS.items()):
        drawn = axes.barh(
            places,
            seconds[:, number],
            _BAR,
            left=ends_s[:, number] - seconds[:, number],
            color=workload_style(workload).color if workload else _OTHER_COLOR,
            edgecolor="white",
            linewidth=0.4,
        )
        handles[group] = drawn.patches[0]
    for place, total_s in zip(places, ends_s[:, -1], strict=True):
        axes.annotate(
            f"{total_s:#.3g}".rstrip(".") + " s",  # 29.0 s, 393 s
            (total_s, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, [bar.label for bar in bars])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.12 * ends_s[:, -1].max())
    return handles
