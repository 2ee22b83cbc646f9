"""Panels of a figure as data, which is filled in without matplotlib."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Values of one group; `canvas.group_style` gives its colour."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Columns over categories, on top of each other or side by side.

    Raises:
        ValueError: If a series has not one value for each category.
    """

    title: str
    x_label: str
    y_label: str
    categories: tuple[str, ...]
    series: tuple[Series, ...]
    is_stacked: bool

    def __post_init__(self) -> None:
        _check_lengths(self.series, len(self.categories))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Shares of a whole, by name; `label` and `total` stand in the title."""

    label: str
    total: str
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rings:
    """Rings around each other, the outermost first."""

    title: str
    rings: tuple[Ring, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines with markers over x, both axes logarithmic."""

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        _check_lengths(self.series, len(self.x))


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A panel that cannot be drawn yet, and what to do about it."""

    title: str
    text: str


Panel: TypeAlias = Bars | Rings | Lines | Absent


def _check_lengths(series: tuple[Series, ...], length: int) -> None:
    for one in series:
        if len(one.values) != length:
            raise ValueError(f"{one.name}: {len(one.values)} values for {length}")
