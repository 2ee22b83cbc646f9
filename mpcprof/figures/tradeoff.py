"""Accuracy against seconds: marks by group, with bars, the front, and others' marks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from mpcprof.figures.canvas import (
    COLORS,
    MIN_LOG_RANGE,
    add_legend,
    check_format,
    label_figure,
    make_log,
    open_figure,
)

Range = tuple[float, float]
_MARKERS: Final = "os^Dv<>P"
_OTHER_MARKERS: Final = "x+1234|_*"  # without a face, so that none looks like ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One network in the figure.

    Attributes:
        group: Group in the legend.
        latency_s: Seconds of a private inference of one image.
        percent: Test accuracy.
        range_s: Smallest and largest of its seconds; None for no bar.
        interval_percent: Interval of its accuracy; None for no bar.
        is_measured: Whether real parties took these seconds, which fills the mark.
    """

    group: str
    latency_s: float
    percent: float
    range_s: Range | None = None
    interval_percent: Range | None = None
    is_measured: bool = False


def draw_tradeoff(
    marks: Sequence[Mark],
    front: Sequence[Mark],
    title: str,
    note: str,
    path: Path,
    others: Sequence[Mark] = (),
) -> None:
    """Draw test accuracy over seconds of a private inference.

    Seconds that are far apart get a logarithmic axis.

    Args:
        front: Marks that a line joins.
        others: Marks of other people's networks, in grey.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        FileError: If the file cannot be written.
    """
    check_format(path)
    with open_figure(1.6, 1.2, path) as figure:
        axes = figure.subplots()
        joined = sorted((mark.latency_s, mark.percent) for mark in front)
        axes.plot(*zip(*joined, strict=True), color="0.6", zorder=1)
        handles = _draw_groups(axes, marks) | _draw_others(axes, others)
        axes.set_xlabel("seconds of a private inference of one image")
        axes.set_ylabel("test accuracy (%)")
        seconds = [mark.latency_s for mark in (*marks, *others)]
        if max(seconds) >= MIN_LOG_RANGE * min(seconds):
            make_log(axes, "x", (1, 2, 5))
        else:
            axes.set_xlim(left=0)
        axes.set_ylim(top=min(axes.get_ylim()[1], 100.2))
        add_legend(figure, handles, is_sorted=False)
        label_figure(figure, title, note)


def _draw_groups(axes: Axes, marks: Sequence[Mark]) -> dict[str, Artist]:
    colors = [*COLORS.values()]
    handles: dict[str, Artist] = {}
    for index, group in enumerate(dict.fromkeys(mark.group for mark in marks)):
        color = colors[index % len(colors)]
        for mark in (mark for mark in marks if mark.group == group):
            _draw_bars(axes, mark, color)
            handles[group] = axes.scatter(
                mark.latency_s,
                mark.percent,
                s=28,
                marker=_MARKERS[index % len(_MARKERS)],
                edgecolors=color,
                facecolors=color if mark.is_measured else "white",
                zorder=3,
            )
    return handles


def _draw_bars(axes: Axes, mark: Mark, color: str) -> None:
    x, y = mark.latency_s, mark.percent
    vertical, horizontal = mark.interval_percent, mark.range_s
    axes.errorbar(
        x,
        y,
        yerr=vertical and [[y - vertical[0]], [vertical[1] - y]],
        xerr=horizontal and [[x - horizontal[0]], [horizontal[1] - x]],
        fmt="none",
        ecolor=color,
        elinewidth=0.8,
        capsize=2,
        zorder=2,
    )


def _draw_others(axes: Axes, marks: Sequence[Mark]) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for index, group in enumerate(dict.fromkeys(mark.group for mark in marks)):
        own = [mark for mark in marks if mark.group == group]
        handles[group] = axes.scatter(
            [mark.latency_s for mark in own],
            [mark.percent for mark in own],
            s=24,
            marker=_OTHER_MARKERS[index % len(_OTHER_MARKERS)],
            color="0.45",
            linewidths=0.9,
            zorder=2,
        )
    return handles
