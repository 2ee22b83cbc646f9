"""The figure of what each choice of a tuned network saves, from untuned to tuned."""

import math
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from mpcprof.errors import UsageError
from mpcprof.figures.canvas import (
    COLORS,
    add_legend,
    check_format,
    group_style,
    label_figure,
    open_figure,
)
from mpcprof.files import read_json

_SCHEMA_VERSION: Final = 1
_COLORS: Final = {  # of groups, as of the operations that they are about
    "rewrite": COLORS["blue"],
    "norm": group_style("LayerNorm").color,
    "softmax": group_style("softmax").color,
    "activation": group_style("GeLU").color,
    "option": COLORS["orange"],
}
_WHOLE: Final = "0.35"  # of the untuned and of the tuned network
_BAR: Final = 0.72  # of the distance between two
_ROW_IN: Final = 0.09  # panels of height
_NOTE: Final = "Predicted seconds of one call. A step is counted after those above it."


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingStep:
    """One choice of a plan.

    Attributes:
        group: rewrite, norm, softmax, activation or option.
        saved_s: Seconds less than before; negative if it costs some.

    Raises:
        UsageError: If the group is unknown, or the seconds are not finite.
    """

    name: str
    group: str
    saved_s: float

    def __post_init__(self) -> None:
        if self.group not in _COLORS or not math.isfinite(self.saved_s):
            raise UsageError(
                f"step {self.name!r}: group={self.group!r}, saved_s={self.saved_s}: "
                f"expected one of {', '.join(_COLORS)}, and a finite time"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """The way from an untuned to a tuned network, as `mpcvit tune` writes it.

    Attributes:
        title: Network and deployment in words.
        untuned_s: Seconds before the first step.

    Raises:
        UsageError: If there is no step, or the version is another one.
    """

    schema_version: int
    title: str
    untuned_s: float
    steps: tuple[SavingStep, ...]

    def __post_init__(self) -> None:
        if self.schema_version != _SCHEMA_VERSION:
            raise UsageError(
                f"schema_version={self.schema_version}: expected {_SCHEMA_VERSION}; "
                "run mpcvit tune again with this version"
            )
        if not self.steps or not 0 < self.untuned_s < math.inf:
            raise UsageError(
                f"untuned_s={self.untuned_s} and {len(self.steps)} steps: expected a "
                "time above 0 and at least one step"
            )

    @property
    def levels_s(self) -> tuple[float, ...]:
        """Seconds before the first step, and after each."""
        saved = (-step.saved_s for step in self.steps)
        return tuple(accumulate(saved, initial=self.untuned_s))


def read_waterfall(path: Path) -> Waterfall:
    """Read the steps that `mpcvit tune` wrote.

    Raises:
        UsageError: If there is no such file.
    """
    try:
        return read_json(path, Waterfall, what="steps")
    except UsageError as error:
        raise UsageError(
            f"{error}; expected the PLAN.steps.json that mpcvit tune writes"
        ) from None


def plot_waterfall(waterfall: Waterfall, path: Path) -> int:
    """Draw a bar for each step between those of the whole network; return their number.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        FileError: If the file cannot be written.
    """
    check_format(path)
    n_rows = len(waterfall.steps) + 2
    with open_figure(1.9, max(_ROW_IN * n_rows, 0.5), path) as figure:
        axes: Axes = figure.subplots()
        handles = _draw(axes, waterfall)
        add_legend(figure, handles, is_sorted=False)
        label_figure(figure, waterfall.title, _NOTE)
    return len(waterfall.steps)


def _draw(axes: Axes, waterfall: Waterfall) -> dict[str, Artist]:
    levels_s = waterfall.levels_s
    tuned_s, row = levels_s[-1], len(waterfall.steps) + 1
    axes.barh([0, row], [levels_s[0], tuned_s], _BAR, color=_WHOLE)
    _label(axes, 0, levels_s[0], f"{levels_s[0]:#.3g} s")
    _label(axes, row, tuned_s, f"{tuned_s:#.3g} s ({tuned_s / levels_s[0] - 1:+.0%})")
    handles: dict[str, Artist] = {}
    for place, step in enumerate(waterfall.steps, 1):
        before_s, after_s = levels_s[place - 1], levels_s[place]
        drawn = axes.barh(
            [place], [before_s - after_s], _BAR, left=after_s, color=_COLORS[step.group]
        )
        handles.setdefault(step.group, drawn.patches[0])
        _label(axes, place, max(before_s, after_s), f"{-step.saved_s:+.2g} s")
    axes.set_yticks(
        range(row + 1), ["untuned", *(step.name for step in waterfall.steps), "tuned"]
    )
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.15 * max(levels_s))
    axes.set_xlabel("predicted latency (s)")
    return handles


def _label(axes: Axes, place: float, end_s: float, text: str) -> None:
    axes.annotate(
        text,
        (end_s, place),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )
