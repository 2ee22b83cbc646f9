"""The family as a picture."""

from collections.abc import Sequence
from pathlib import Path

from mpcprof.figures.canvas import add_legend, check_format, label_figure, open_figure
from mpcprof.figures.style import COLORS
from mpcvit.pareto.family import Member, is_on_front

_MARKERS = "os^Dv<>P"


def draw_pareto(members: Sequence[Member], title: str, path: Path) -> None:
    """Test accuracy in percent over seconds of a private inference.

    Filled marks were measured by real parties, open ones are predicted; the line joins
    those that no other beats in both.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If the file cannot be written.
    """
    check_format(path)
    colors = [*COLORS.values()]
    with open_figure(1.6, 1.2, path) as figure:
        axes = figure.subplots()
        front = sorted(
            (m.latency_s, m.accuracy) for m in members if is_on_front(m, members)
        )
        axes.plot(
            [latency_s for latency_s, _ in front],
            [100 * accuracy for _, accuracy in front],
            color="0.6",
            zorder=1,
        )
        handles = {}
        for index, group in enumerate(dict.fromkeys(m.group for m in members)):
            color = colors[index % len(colors)]
            for member in (m for m in members if m.group == group):
                is_measured = member.measured_s is not None
                handles[group] = axes.scatter(
                    member.latency_s,
                    100 * member.accuracy,
                    s=28,
                    marker=_MARKERS[index % len(_MARKERS)],
                    edgecolors=color,
                    facecolors=color if is_measured else "white",
                    zorder=2,
                )
        axes.set_xlabel("seconds of a private inference of one image")
        axes.set_ylabel("test accuracy (%)")
        axes.set_xlim(left=0)
        axes.set_ylim(top=min(axes.get_ylim()[1], 100.2))
        add_legend(figure, handles, is_sorted=False)
        label_figure(
            figure,
            title,
            "Filled: measured by real parties; open: predicted. Line: no other network "
            "is both quicker and more accurate.",
        )
