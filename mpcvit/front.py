"""Points of a figure of accuracy against seconds, and which of them no other beats.

A point is one network: an architecture that was trained one way, with one seed or with
several, whose mean and interval it then shows.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Final, Protocol

from scipy.stats import t as student_t

from mpcprof.errors import UsageError
from mpcprof.figures.canvas import (
    COLORS,
    MIN_LOG_RANGE,
    add_legend,
    check_format,
    label_figure,
    make_log,
    open_figure,
)
from mpcprof.units import format_duration
from mpcvit.paper.published import Published, whole_networks
from mpcvit.pareto import Member

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_LEVEL: Final = 0.95
_SEED: Final = re.compile(r"[-_]?seed[-_]?\d+$")


class Scored(Protocol):
    """Anything with an accuracy and seconds."""

    @property
    def accuracy(self) -> float:
        """Accuracy in [0, 1]."""

    @property
    def latency_s(self) -> float:
        """Seconds of a private inference of one image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One network.

    Attributes:
        members: Its trainings, at least one.
    """

    members: tuple[Member, ...]

    @property
    def group(self) -> str:
        """Group in the legend."""
        return self.members[0].group

    @property
    def name(self) -> str:
        """Name of the folder of one training, or what names of several begin with."""
        first, *others = [one.name for one in self.members]
        return _SEED.sub("", first) or first if others else first

    @property
    def accuracy(self) -> float:
        """Mean accuracy, equal where the sums are."""
        return round(fmean(one.accuracy for one in self.members), 12)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean accuracy by Student's t; None for one training."""
        values = [one.accuracy for one in self.members]
        if len(values) < 2:
            return None
        half = stdev(values) / len(values) ** 0.5
        half *= float(student_t.ppf((1 + _LEVEL) / 2, len(values) - 1))
        return self.accuracy - half, self.accuracy + half

    @property
    def predicted_s(self) -> float:
        """Mean predicted seconds; a plan of its own may make trainings differ."""
        return fmean(one.predicted_s for one in self.members)

    @property
    def measured_s(self) -> float | None:
        """Mean of the measured seconds; None if nobody measured any."""
        return fmean(self._all_measured_s) if self._all_measured_s else None

    @property
    def measured_range_s(self) -> tuple[float, float] | None:
        """Smallest and largest measured seconds; None for fewer than two."""
        found = self._all_measured_s
        return (min(found), max(found)) if len(found) > 1 else None

    @property
    def _all_measured_s(self) -> list[float]:
        measured = (one.measured_s for one in self.members)
        return [seconds for seconds in measured if seconds is not None]

    @property
    def latency_s(self) -> float:
        """Measured seconds where there are any, else predicted ones."""
        return self.predicted_s if self.measured_s is None else self.measured_s


def gather_points(members: Sequence[Member]) -> tuple[Point, ...]:
    """Return the networks of each group, the fastest first.

    Trainings of a group that differ in nothing but the seed are one network.
    """
    found: dict[object, list[Member]] = {}
    for member in members:
        key = (member.group, member.training) if member.training else id(member)
        found.setdefault(key, []).append(member)
    points = (Point(members=tuple(own)) for own in found.values())
    return tuple(sorted(points, key=lambda one: (one.latency_s, one.name)))


def find_published(members: Sequence[Member]) -> tuple[Published, ...]:
    """Return the paper's networks of the data set that these were trained on.

    Raises:
        UsageError: If they were trained on several, or the paper has none of it.
    """
    datasets = {member.dataset for member in members}
    if len(datasets) > 1:
        raise UsageError(
            f"networks of {', '.join(sorted(datasets))}: expected one data set beside "
            "the paper's points; leave --published out"
        )
    return whole_networks(*datasets)


def is_on_front(one: Scored, others: Sequence[Scored]) -> bool:
    """Tell whether no other is as accurate and quicker, or as quick and better."""
    return not any(
        other.accuracy >= one.accuracy
        and other.latency_s <= one.latency_s
        and (other.accuracy, other.latency_s) != (one.accuracy, one.latency_s)
        for other in others
    )


def pareto_table(members: Sequence[Member], published: Sequence[Published] = ()) -> str:
    """Return a table in Markdown; `*` marks those that no other beats in both."""
    points = gather_points(members)
    has_seeds = len(points) < len(members)
    headings = ["", "group", "name", "accuracy", "predicted", "measured"]
    headings[4:4] = ["seeds"] if has_seeds else []
    rows = [_row(one, points, has_seeds=has_seeds) for one in points]
    rows += [_published_row(one, has_seeds=has_seeds) for one in published]
    lines = ["|---" * len(headings) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    heading = f"| {' | '.join(headings)} |".replace("|  |", "| |", 1)
    return "\n".join([heading, *lines, *_notes(has_seeds, published)])


def _row(point: Point, points: Sequence[Point], *, has_seeds: bool) -> list[str]:
    accuracy, measured_s = f"{point.accuracy:.2%}", point.measured_s
    if point.interval:
        accuracy += f" ± {point.interval[1] - point.accuracy:.2%}"
    return [
        "*" if is_on_front(point, points) else "",
        point.group,
        point.name,
        accuracy,
        *([str(len(point.members))] if has_seeds else []),
        _duration(point.predicted_s),
        "" if measured_s is None else _duration(measured_s),
    ]


def _duration(seconds: float) -> str:
    return format_duration(seconds, digits=4)


def _published_row(one: Published, *, has_seeds: bool) -> list[str]:
    percent, latency_s = one.accuracy_percent or 0.0, one.latency_s or 0.0
    what = one.what if one.mu is None else f"{one.what}, mu {one.mu:g}"
    cells = ["", "published", what, f"{percent:.2f}%", *([""] if has_seeds else [])]
    return [*cells, "", _duration(latency_s)]


def _notes(has_seeds: bool, published: Sequence[Published]) -> Iterator[str]:
    if has_seeds or published:
        yield ""
    if has_seeds:
        yield f"Accuracy of several seeds: mean ± half of its {_LEVEL:.0%} interval."
    if published:
        yield _PUBLISHED


_PUBLISHED: Final = (
    "Published: MPCViT (arXiv 2211.13955), Figure 7 and Table 5, after 600 epochs (300 "
    "on Tiny-ImageNet); seconds of SPU as it was, heads one by one."
)


def pareto_json(members: Sequence[Member], published: Sequence[Published] = ()) -> str:
    """Return members, networks and published points, in seconds and shares."""
    points = gather_points(members)
    rows = [{**asdict(m), "is_on_front": is_on_front(m, members)} for m in members]
    networks = [
        {
            "group": point.group,
            "name": point.name,
            "n_trainings": len(point.members),
            "accuracy": point.accuracy,
            "accuracy_interval_95": point.interval,
            "predicted_s": point.predicted_s,
            "measured_s": point.measured_s,
            "measured_range_s": point.measured_range_s,
            "is_on_front": is_on_front(point, points),
        }
        for point in points
    ]
    document = {"members": rows, "networks": networks}
    return json.dumps(document | {"published": [asdict(one) for one in published]})


_MARKERS: Final = "os^Dv<>P"
_PAPER_MARKERS: Final = "x+1234|_*"  # without a face, so that none looks like ours


def draw_pareto(
    members: Sequence[Member],
    title: str,
    path: Path,
    published: Sequence[Published] = (),
) -> None:
    """Draw test accuracy in percent over seconds of a private inference.

    Filled marks were measured by real parties, open ones are predicted; bars are 95 %
    intervals over seeds; the line joins those that no other beats in both. What the
    paper published has grey marks of its own.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        FileError: If the file cannot be written.
    """
    check_format(path)
    points = gather_points(members)
    with open_figure(1.6, 1.2, path) as figure:
        axes = figure.subplots()
        _draw_front(axes, points)
        handles = _draw_groups(axes, points) | _draw_published(axes, published)
        axes.set_xlabel("seconds of a private inference of one image")
        axes.set_ylabel("test accuracy (%)")
        seconds = [one.latency_s for one in points]
        seconds += [one.latency_s or 0.0 for one in published]
        if max(seconds) >= MIN_LOG_RANGE * min(seconds):
            make_log(axes, "x", (1, 2, 5))
        else:
            axes.set_xlim(left=0)
        axes.set_ylim(top=min(axes.get_ylim()[1], 100.2))
        add_legend(figure, handles, is_sorted=False)
        label_figure(figure, title, _caption(points, published))


def _caption(points: Sequence[Point], published: Sequence[Published]) -> str:
    has_bars = any(one.interval for one in points)
    parts = [
        "Filled: measured by real parties; open: predicted.",
        *([f"Bars: {_LEVEL:.0%} intervals over seeds."] if has_bars else []),
        "Line: no other network is both quicker and more accurate.",
        *([_PUBLISHED] if published else []),
    ]
    return " ".join(parts)


def _draw_front(axes: "Axes", points: Sequence[Point]) -> None:
    front = sorted((p.latency_s, p.accuracy) for p in points if is_on_front(p, points))
    axes.plot(
        [latency_s for latency_s, _ in front],
        [100 * accuracy for _, accuracy in front],
        color="0.6",
        zorder=1,
    )


def _draw_groups(axes: "Axes", points: Sequence[Point]) -> "dict[str, Artist]":
    colors = [*COLORS.values()]
    handles: dict[str, Artist] = {}
    for index, group in enumerate(dict.fromkeys(point.group for point in points)):
        color = colors[index % len(colors)]
        for point in (point for point in points if point.group == group):
            _draw_bars(axes, point, color)
            is_measured = point.measured_s is not None
            handles[group] = axes.scatter(
                point.latency_s,
                100 * point.accuracy,
                s=28,
                marker=_MARKERS[index % len(_MARKERS)],
                edgecolors=color,
                facecolors=color if is_measured else "white",
                zorder=3,
            )
    return handles


def _draw_bars(axes: "Axes", point: Point, color: str) -> None:
    """Draw the interval of the accuracy, and the range of the measured seconds."""
    x, y = point.latency_s, 100 * point.accuracy
    vertical, horizontal = point.interval, point.measured_range_s
    axes.errorbar(
        x,
        y,
        yerr=vertical and [[y - 100 * vertical[0]], [100 * vertical[1] - y]],
        xerr=horizontal and [[x - horizontal[0]], [horizontal[1] - x]],
        fmt="none",
        ecolor=color,
        elinewidth=0.8,
        capsize=2,
        zorder=2,
    )


def _draw_published(
    axes: "Axes", published: Sequence[Published]
) -> "dict[str, Artist]":
    handles: dict[str, Artist] = {}
    for index, what in enumerate(dict.fromkeys(one.what for one in published)):
        own = [one for one in published if one.what == what]
        handles[f"paper: {what}"] = axes.scatter(
            [one.latency_s or 0.0 for one in own],
            [one.accuracy_percent or 0.0 for one in own],
            s=24,
            marker=_PAPER_MARKERS[index % len(_PAPER_MARKERS)],
            color="0.45",
            linewidths=0.9,
            zorder=2,
        )
    return handles
