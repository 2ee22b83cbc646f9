"""Figure 9: the mean alpha of each layer, a line for each search."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mpcprof.figures.canvas import add_legend, check_format, label_figure, open_figure
from mpcprof.figures.style import COLORS

_MARKERS = "os^Dv<>P"


def draw_alpha(by_name: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Mean alpha, in [0, 1], over the number of the layer.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        FileError: If the file cannot be written.
    """
    check_format(path)
    colors = [*COLORS.values()]
    with open_figure(1.4, 1.0, path) as figure:
        axes = figure.subplots()
        handles = {}
        for index, (name, alphas) in enumerate(by_name.items()):
            (handles[name],) = axes.plot(
                range(1, len(alphas) + 1),
                alphas,
                color=colors[index % len(colors)],
                marker=_MARKERS[index % len(_MARKERS)],
            )
        axes.set_xlabel("layer")
        axes.set_ylabel("mean alpha")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xticks(range(1, 1 + max(map(len, by_name.values()))))
        add_legend(figure, handles, is_sorted=False)
        label_figure(figure, title, "")
