"""The figure of published systems: seconds by part, and hops."""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.artist import Artist

from mpcprof.figures.canvas import (
    COLORS,
    add_legend,
    check_format,
    group_style,
    label_figure,
    open_figure,
)
from mpcprof.units import format_hops
from mpcprof.zoo.compare import SHARES, ZooReport

_COLORS: Final = {
    "attention": group_style("softmax").color,
    "activation": group_style("GeLU").color,
    "norm": group_style("LayerNorm").color,
    "products": COLORS["black"],
    "other": group_style("other").color,
}
_BAR: Final = 0.72  # of the distance between two
_ROW_IN: Final = 0.09  # panels of height
_NOTE: Final = (
    "Predicted seconds of one call, by part; products of matrices are apart wherever "
    "they are. Behind each bar its seconds and hops. *: a part is replaced, and the "
    "network must be trained anew."
)


def plot_systems(report: ZooReport, path: Path) -> int:
    """Draw the seconds of each system by part; return the number of systems.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        FileError: If the file cannot be written.
    """
    check_format(path)
    costs = report.costs
    total_s = np.array([cost.prediction.latency_s for cost in costs])
    shares = np.array([[cost.shares[group] for group in SHARES] for cost in costs])
    ends_s = (shares * total_s[:, None]).cumsum(axis=1)
    handles: dict[str, Artist] = {}
    with open_figure(1.9, _ROW_IN * len(costs) + 0.3, path) as figure:
        axes = figure.subplots()
        for number, group in enumerate(SHARES):
            width_s = shares[:, number] * total_s
            drawn = axes.barh(
                range(len(costs)),
                width_s,
                _BAR,
                left=ends_s[:, number] - width_s,
                color=_COLORS[group],
                edgecolor="white",
                linewidth=0.4,
            )
            handles[group] = drawn.patches[0]
        for place, cost in enumerate(costs):
            hops = format_hops(cost.prediction.hops)
            axes.annotate(
                f"{cost.mark}{total_s[place]:.3g} s, {hops} hops",
                (total_s[place], place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        names = [cost.name + "*" * bool(cost.system.replaced) for cost in costs]
        axes.set_yticks(range(len(costs)), names)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1.25 * total_s.max())
        axes.set_xlabel("predicted latency (s)")
        add_legend(figure, handles, is_sorted=False)
        title = f"{report.title}\n{report.deployment}, {report.network}"
        mark = report.meaning_of_mark
        label_figure(figure, title, f"{_NOTE} {mark}." if mark else _NOTE)
    return len(costs)
