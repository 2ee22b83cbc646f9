"""Drawing of panels: stacked or grouped columns, rings, lines."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from mpcprof.figures.canvas import (
    add_legend,
    check_format,
    group_style,
    label_figure,
    make_log,
    open_figure,
)
from mpcprof.figures.panels import Absent, Bars, Lines, Panel, Ring, Rings

Handles = dict[str, Artist]

_COLUMN: Final = 0.8  # of the distance between two
_HEADROOM: Final = 1.08  # for the totals above the columns
_RING: Final = 0.32  # of the radius
_SHOWN_SHARE: Final = 0.05  # smaller ones have no room for their number
_DARK: Final = 0.4  # luminance below which white text is read better
_RGB: Final = np.array([0.30, 0.59, 0.11])


def draw_panels(
    rows: Sequence[Sequence[Panel]], path: Path, *, title: str, note: str
) -> None:
    """Draw rows of panels under each other, with one legend for all.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        FileError: If the file cannot be written.
    """
    check_format(path)
    handles: Handles = {}
    with open_figure(len(rows[0]), len(rows), path) as figure:
        grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
        for panels, row in zip(rows, grid, strict=True):
            for panel, axes in zip(panels, row, strict=True):
                _draw_panel(axes, panel, handles)
        for column, of_column in zip(zip(*rows, strict=True), grid.T, strict=True):
            _align_heights(column, of_column)
        add_legend(figure, handles, is_sorted=False)
        label_figure(figure, title, note)


def _align_heights(panels: Sequence[Panel], column: Sequence[Axes]) -> None:
    """Give columns under each other one scale, since they are compared."""
    if all(isinstance(panel, Bars) for panel in panels):
        top = max(axes.get_ylim()[1] for axes in column)
        for axes in column:
            axes.set_ylim(0, top)


def _draw_panel(axes: Axes, panel: Panel, handles: Handles) -> None:
    axes.set_title(panel.title, loc="left")
    if isinstance(panel, Bars):
        draw = _draw_stack if panel.is_stacked else _draw_groups
        draw(axes, panel, handles)
        axes.set_xticks(range(len(panel.categories)), panel.categories)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
    elif isinstance(panel, Rings):
        _draw_rings(axes, panel, handles)
    elif isinstance(panel, Lines):
        _draw_lines(axes, panel, handles)
    else:
        _write(axes, panel)
    if isinstance(panel, Bars | Lines):
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)


def _color(name: str) -> dict[str, Any]:  # Any: the stubs of matplotlib's versions
    return {"color": group_style(name).color, "edgecolor": "white", "linewidth": 0.4}


def _draw_stack(axes: Axes, panel: Bars, handles: Handles) -> None:
    bottoms = np.zeros(len(panel.categories))
    for series in panel.series:
        places = np.arange(len(bottoms))
        style = _color(series.name)
        drawn = axes.bar(places, series.values, _COLUMN, bottom=bottoms, **style)
        handles.setdefault(series.name, drawn.patches[0])
        bottoms = bottoms + series.values
    for place, total in enumerate(bottoms):
        axes.annotate(
            f"{total:#.3g}".rstrip("."),
            (place, total),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_ylim(0, _HEADROOM * bottoms.max())


def _draw_groups(axes: Axes, panel: Bars, handles: Handles) -> None:
    width = _COLUMN / len(panel.series)
    places = np.arange(len(panel.categories))
    for number, series in enumerate(panel.series):
        left = (number - (len(panel.series) - 1) / 2) * width
        drawn = axes.bar(places + left, series.values, width, **_color(series.name))
        handles.setdefault(series.name, drawn.patches[0])


def _draw_rings(axes: Axes, panel: Rings, handles: Handles) -> None:
    for number, ring in enumerate(panel.rings):
        radius = 1.0 - number * (_RING + 0.02)
        _draw_ring(axes, ring, radius, handles)
    places = ("outside", "inside") if len(panel.rings) > 1 else ("",)
    lines = [
        f"{place}: {ring.label}, {ring.total}".removeprefix(": ")
        for place, ring in zip(places, panel.rings, strict=True)
    ]
    axes.set_xlabel("\n".join(lines), fontsize=8)


def _draw_ring(axes: Axes, ring: Ring, radius: float, handles: Handles) -> None:
    total = sum(share for _, share in ring.shares)
    wedges = axes.pie(
        [share for _, share in ring.shares],
        radius=radius,
        startangle=90,
        counterclock=False,
        colors=[group_style(name).color for name, _ in ring.shares],
        wedgeprops={"width": _RING, "edgecolor": "white", "linewidth": 0.8},
    )[0]
    for wedge, (name, share) in zip(wedges, ring.shares, strict=True):
        handles.setdefault(name, wedge)
        if share < _SHOWN_SHARE * total:
            continue
        angle = np.deg2rad((wedge.theta1 + wedge.theta2) / 2)
        middle = radius - _RING / 2
        axes.text(
            middle * np.cos(angle),
            middle * np.sin(angle),
            f"{100 * share / total:.0f}%",
            ha="center",
            va="center",
            fontsize=8,
            color=_text_color(wedge.get_facecolor()),
        )


def _text_color(background: tuple[float, float, float, float]) -> str:
    return "white" if float(_RGB @ background[:3]) < _DARK else "black"


def _draw_lines(axes: Axes, panel: Lines, handles: Handles) -> None:
    for series in panel.series:
        style = group_style(series.name)
        (drawn,) = axes.plot(
            panel.x,
            series.values,
            color=style.color,
            marker=style.marker,
            linestyle=style.linestyle,
        )
        handles.setdefault(series.name, drawn)
    make_log(axes, "x", (1.0,))
    axes.set_xticks(panel.x, [f"{x:.3g}" for x in panel.x])
    make_log(axes, "y", (1.0,))


def _write(axes: Axes, panel: Absent) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, textwrap.fill(panel.text, 38), ha="center", va="center")
