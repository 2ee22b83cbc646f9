"""What all figures share: size, title, legend, axes, file, a style per workload.

matplotlib is used without pyplot: no figure registry, no window, and settings that end
with the drawing.
"""

import io
import textwrap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mpcprof.errors import ProfileError
from mpcprof.files import check_ending, replace_file
from mpcprof.profile.record import Profile

FORMATS = (".png", ".svg")
_SETTINGS: dict[Any, Any] = {  # Any: the stubs of its versions disagree
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "svg.hashsalt": "mpcprof",  # the same profile gives the same file
}
_PANEL_IN = (3.1, 3.0)
_LEGEND_IN = 1.4
_DOTS_PER_INCH = 200
_CHARACTERS_PER_IN = 15.0  # of a title
MIN_LOG_RANGE = 10.0  # largest over smallest from which on an axis is logarithmic


def check_format(path: Path) -> None:
    """Refuse a name that ends in neither .png nor .svg.

    Raises:
        UsageError: If it does.
    """
    check_ending(path, FORMATS)


def check_not_empty(profile: Profile) -> None:
    """Refuse a profile without records.

    Raises:
        ProfileError: If there are none.
    """
    if not len(profile):
        raise ProfileError(
            "nothing to draw: the profile has 0 records; `mpcprof sweep` adds some"
        )


@contextmanager
def open_figure(n_wide: float, n_high: float, path: Path) -> Iterator[Figure]:
    """Open a figure with room for panels and a legend; write the file at the end."""
    width_in = n_wide * _PANEL_IN[0] + _LEGEND_IN
    height_in = n_high * _PANEL_IN[1] + 0.6  # for the title
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        image_format = path.suffix.lower().removeprefix(".")
        metadata = {"Date": None} if image_format == "svg" else {"Software": None}
        image = io.BytesIO()
        figure.savefig(
            image, format=image_format, dpi=_DOTS_PER_INCH, metadata=metadata
        )
    replace_file(path, image.getvalue())


def add_legend(
    figure: Figure, handles: Mapping[str, Artist], *, is_sorted: bool = True
) -> None:
    """Write a legend beside the panels, by name or in the order given."""
    names = sorted(handles) if is_sorted else [*handles]
    figure.legend([handles[n] for n in names], names, loc="outside right center")


def label_figure(figure: Figure, title: str, note: str) -> None:
    """Write the title above the figure and a note in small print below it."""
    n_characters = int(figure.get_figwidth() * _CHARACTERS_PER_IN)
    lines = [textwrap.fill(line, n_characters) for line in title.splitlines()]
    figure.suptitle("\n".join(lines), fontsize=10)
    if note:
        text = textwrap.fill(note, int(n_characters * 1.3))
        figure.supxlabel(text, fontsize=7, color="0.35", x=0.01, ha="left")


def make_log(axes: Axes, dimension: str, labelled: Sequence[float]) -> None:
    """Make an axis logarithmic, with plain labels at these multiples of 10^n."""
    getattr(axes, f"set_{dimension}scale")("log")
    axis = getattr(axes, f"{dimension}axis")
    axis.set_major_locator(LogLocator(subs=labelled, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


# Okabe and Ito's colours, told apart by colour-blind readers; their yellow is left out,
# for it is too pale for a line on white.
COLORS = MappingProxyType(
    {
        "black": "#000000",
        "orange": "#E69F00",
        "sky": "#56B4E9",
        "green": "#009E73",
        "blue": "#0072B2",
        "vermilion": "#D55E00",
        "purple": "#CC79A7",
    }
)
# A softmax as a whole, beside its own exp, max and reciprocal: Tol's wine, which is
# darker than all of the above but black.
_WINE = "#882255"
# one colour per family; members differ in marker and line
_STYLES = {
    "exp": ("vermilion", "o", "-"),
    "sigmoid": ("vermilion", "s", "--"),
    "max": ("blue", "o", "-"),
    "less": ("blue", "s", "--"),
    "select": ("blue", "^", ":"),
    "reciprocal": ("green", "o", "-"),
    "rsqrt": ("green", "s", "--"),
    "relu": ("orange", "o", "-"),
    "tanh": ("orange", "s", "--"),
    "gelu_exact": ("purple", "o", "-"),
    "gelu_tanh": ("purple", "s", "--"),
    "square": ("sky", "o", "-"),
    "mul": ("sky", "s", "--"),
    "matmul": ("black", "o", "-"),
    "truncation": ("black", "s", "--"),
    "sum": ("black", "^", ":"),
}
# groups of operations, drawn as the workload that they are mostly made of
_GROUPS = {
    "ReLU": "relu",
    "GeLU": "gelu_tanh",
    "MatMul": "matmul",
    "LayerNorm": "square",
}
_GRAYS = {"other": "0.75", "rest of softmax": "0.55", "MPCViT": "0.35"}
_OTHER_MARKERS = ("D", "v", "P")  # of names that are not in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a workload is drawn, in every figure."""

    color: str
    marker: str
    linestyle: str


def workload_style(name: str) -> Style:
    """Return the style of a workload; unknown names get one from a checksum."""
    if name in _STYLES:
        color, marker, linestyle = _STYLES[name]
        return Style(color=COLORS[color], marker=marker, linestyle=linestyle)
    number = zlib.crc32(name.encode())
    return Style(
        color=[*COLORS.values()][number % len(COLORS)],
        marker=_OTHER_MARKERS[number // len(COLORS) % len(_OTHER_MARKERS)],
        linestyle="-.",
    )


def group_style(name: str) -> Style:
    """Return the style of a group of operations, or of a model named after one."""
    if name in _GRAYS:
        return Style(color=_GRAYS[name], marker="D", linestyle="-.")
    if name == "softmax":
        return Style(color=_WINE, marker="o", linestyle="-")
    if name == "ReLU softmax":
        return Style(color=workload_style("relu").color, marker="s", linestyle="--")
    return workload_style(_GROUPS.get(name, name))
