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
from typing import Final, Protocol

from scipy.stats import t as student_t

from mpcprof.errors import UsageError
from mpcprof.figures.tradeoff import Mark, draw_tradeoff
from mpcprof.units import format_duration
from mpcvit.paper.published import Published, whole_networks
from mpcvit.pareto import Member

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
    def cost(self) -> float | None:
        """Mean price of a private inference of one image; None without a tariff."""
        costs = [one.cost for one in self.members if one.cost is not None]
        return fmean(costs) if costs else None

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


def pareto_table(
    members: Sequence[Member],
    published: Sequence[Published] = (),
    *,
    currency: str = "",
) -> str:
    """Return a table in Markdown; `*` marks those that no other beats in both.

    Args:
        currency: Currency of the members' costs; "" for no such column.
    """
    points = gather_points(members)
    has_seeds = len(points) < len(members)
    headings = ["", "group", "name", "accuracy", "predicted", "measured"]
    headings[4:4] = ["seeds"] if has_seeds else []
    rows = [_row(one, points, has_seeds=has_seeds) for one in points]
    rows += [_published_row(one, has_seeds=has_seeds) for one in published]
    if currency:
        headings.append(f"cost in {currency}")
        costs = ["" if one.cost is None else f"{one.cost:.4g}" for one in points]
        for row, cost in zip(rows, [*costs, *[""] * len(published)], strict=True):
            row.append(cost)
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


def pareto_json(
    members: Sequence[Member],
    published: Sequence[Published] = (),
    *,
    currency: str = "",
) -> str:
    """Return members, networks and published points, in seconds and shares.

    Args:
        currency: Currency of the costs; "" if there are none.
    """
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
            "cost": point.cost,
            "is_on_front": is_on_front(point, points),
        }
        for point in points
    ]
    document: dict[str, object] = {"members": rows, "networks": networks}
    document |= {"currency": currency} if currency else {}
    return json.dumps(document | {"published": [asdict(one) for one in published]})


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
    points = gather_points(members)
    draw_tradeoff(
        [_mark(one) for one in points],
        [_mark(one) for one in points if is_on_front(one, points)],
        title,
        _caption(points, published),
        path,
        [_published_mark(one) for one in published],
    )


def _mark(point: Point) -> Mark:
    low, high = point.interval or (0.0, 0.0)
    return Mark(
        group=point.group,
        latency_s=point.latency_s,
        percent=100 * point.accuracy,
        range_s=point.measured_range_s,
        interval_percent=(100 * low, 100 * high) if point.interval else None,
        is_measured=point.measured_s is not None,
    )


def _published_mark(one: Published) -> Mark:
    own = "MPCViT, MPCViT+" if one.what.startswith("MPCViT") else "other ViTs"
    return Mark(
        group=f"paper: {one.what if one.what == 'softmax ViT' else own}",
        latency_s=one.latency_s or 0.0,
        percent=one.accuracy_percent or 0.0,
    )


def _caption(points: Sequence[Point], published: Sequence[Published]) -> str:
    has_bars = any(one.interval for one in points)
    parts = [
        "Filled: measured by real parties; open: predicted.",
        *([f"Bars: {_LEVEL:.0%} intervals over seeds."] if has_bars else []),
        "Line: no other network is both quicker and more accurate.",
        *([_PUBLISHED] if published else []),
    ]
    return " ".join(parts)
