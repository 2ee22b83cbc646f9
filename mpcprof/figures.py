"""Figures of a profile: latency over sizes, and emulated against priced latency.

The only home of matplotlib. It is used without pyplot: no figure registry, no window,
and settings that end with the drawing.
"""

import io
import textwrap
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mpcprof.dims import DIM_NAMES
from mpcprof.errors import ProfileError, UsageError
from mpcprof.network import Network
from mpcprof.pricing import price_s
from mpcprof.profile_io import replace_file
from mpcprof.profiles import Profile
from mpcprof.records import Record

FORMATS = (".png", ".svg")

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
_OTHER_MARKERS = ("D", "v", "P")  # of names that are not in the table

_AXIS_LABELS = {
    "n_batch": "batch size (images)",
    "n_heads": "heads (count)",
    "n_tokens": "tokens (count)",
    "head_dim": "head dimension (features)",
    "width": "width (features)",
    "hidden": "hidden width (features)",
}
_DIM_WORDS = {  # of a size in a title: `65 tokens`
    "n_batch": "batch {}",
    "n_heads": "{} heads",
    "n_tokens": "{} tokens",
    "head_dim": "head dimension {}",
    "width": "width {}",
    "hidden": "hidden {}",
}
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
_MAX_COLUMNS = 3
_PANEL_IN = (3.1, 3.0)
_LEGEND_IN = 1.4
_DOTS_PER_INCH = 200
_CHARACTERS_PER_IN = 15.0  # of a title
_MIN_LOG_RANGE = 10.0  # largest over smallest from which on an axis is logarithmic
_TICK_GAP = 0.01  # of the axis, between two labels ...
_CHARACTER = 0.028  # ... each of whose characters is so wide
_MOST_LINEAR_PERCENT = 25.0  # errors beyond are shown too, but hide no small ones
_LINEAR_PERCENT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a workload is drawn, in every figure."""

    color: str
    marker: str
    linestyle: str


def workload_style(name: str) -> Style:
    """From a table; for other names from the name itself, the same on every machine."""
    if name in _STYLES:
        color, marker, linestyle = _STYLES[name]
        return Style(color=COLORS[color], marker=marker, linestyle=linestyle)
    number = zlib.crc32(name.encode())
    return Style(
        color=[*COLORS.values()][number % len(COLORS)],
        marker=_OTHER_MARKERS[number // len(COLORS) % len(_OTHER_MARKERS)],
        linestyle="-.",
    )


# --- latency over sizes ---


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """Latency against one dimension.

    Attributes:
        fixed: The sizes of the other dimensions.
        lines: Workload and its records, by size.
    """

    dim: str
    fixed: tuple[tuple[str, int], ...]
    lines: tuple[tuple[str, tuple[Record, ...]], ...]


def plot_latency(profile: Profile, path: Path) -> int:
    """Latency over each dimension that was varied; returns the number of records drawn.

    One panel per dimension with the other dimensions fixed, one line per workload. Of
    several networks or modes, the one with most records is drawn.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If there is nothing to draw, or the file cannot be written.
    """
    _check_format(path)
    _check_not_empty(profile)
    network, mode = _commonest_setting(profile)
    records = [r for r in profile if (r.network, r.mode) == (network, mode)]
    panels = _choose_panels(records)
    if not panels:
        raise ProfileError(
            f"nothing to draw on {network}, {mode}: no workload was measured for two "
            "sizes of a dimension; add sizes with `mpcprof sweep`"
        )
    note = "Median of the repeats; bars from the fastest to the slowest."
    if len(records) < len(profile):
        n_left_out = len(profile) - len(records)
        note += f" Other networks or modes, not drawn: {n_left_out} of {len(profile)}."
    n_columns = 2 if len(panels) == 4 else min(len(panels), _MAX_COLUMNS)
    n_rows = -(-len(panels) // n_columns)
    with _figure(n_columns, n_rows, path) as figure:
        _draw_panels(figure, panels, n_columns, n_rows)
        _label(figure, f"{profile.deployment}\n{network}, {mode}", note)
    return len({r.key for panel in panels for _, line in panel.lines for r in line})


def _commonest_setting(profile: Profile) -> tuple[Network, str]:
    """Network and mode with most records; a tie goes to what really waited."""
    counts = Counter((record.network, record.mode) for record in profile)
    return max(counts, key=lambda s: (counts[s], s[1] == "emulated", s[0].rtt_s))


def _choose_panels(records: Sequence[Record]) -> list[_Panel]:
    panels = []
    for dim in DIM_NAMES:
        sizes: dict[str, set[int]] = {}
        for record in records:
            if size := dict(record.dims.items()).get(dim):
                sizes.setdefault(record.workload, set()).add(size)
        varied = {name for name in sizes if len(sizes[name]) > 1}
        kept = [r for r in records if r.workload in varied]
        if kept:
            panels.append(_make_panel(dim, kept))
    return panels


def _make_panel(dim: str, records: list[Record]) -> _Panel:
    """Other dimensions at the size that most records have; of equals, the largest."""
    fixed = []
    for other in DIM_NAMES:
        of_other = [dict(r.dims.items()).get(other, 0) for r in records]
        counts = Counter(size for size in of_other if size)
        if other == dim or not counts:
            continue
        chosen = max(counts, key=lambda size: (counts[size], size))
        fixed.append((other, chosen))
        records = [
            record
            for record, size in zip(records, of_other, strict=True)
            if size in (0, chosen)  # 0: it has no such dimension
        ]
    lines: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: int(getattr(r.dims, dim))):
        lines.setdefault(record.workload, []).append(record)
    return _Panel(
        dim=dim,
        fixed=tuple(fixed),
        lines=tuple((name, tuple(line)) for name, line in lines.items()),
    )


def _draw_panels(
    figure: Figure, panels: Sequence[_Panel], n_columns: int, n_rows: int
) -> None:
    grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    all_axes: list[Axes] = [*grid.flat]
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    handles: dict[str, Artist] = {}
    for number, (axes, panel) in enumerate(zip(all_axes, panels, strict=False)):
        for name, records in panel.lines:
            handles[name] = _draw_line(axes, panel.dim, name, records)
        _scale_sizes(axes, panel)
        if number % n_columns == 0:
            axes.set_ylabel("latency (s)")
    latencies_s = [r.latency_s for p in panels for _, line in p.lines for r in line]
    if max(latencies_s) >= _MIN_LOG_RANGE * min(latencies_s):
        _make_log(all_axes[0], "y", (1.0, 2.0, 5.0))
    else:
        all_axes[0].set_ylim(0, 1.08 * max(latencies_s))
    _add_legend(figure, handles)


def _draw_line(axes: Axes, dim: str, name: str, records: Sequence[Record]) -> Artist:
    style = workload_style(name)
    median_s = np.array([r.latency_s for r in records])
    fastest_s = np.array([min(r.latencies_s) for r in records])
    slowest_s = np.array([max(r.latencies_s) for r in records])
    drawn = axes.errorbar(
        [int(getattr(r.dims, dim)) for r in records],
        median_s,
        yerr=np.stack([median_s - fastest_s, slowest_s - median_s]),
        color=style.color,
        marker=style.marker,
        linestyle=style.linestyle,
        elinewidth=0.8,
    )
    line: Artist = drawn.lines[0]
    return line


def _scale_sizes(axes: Axes, panel: _Panel) -> None:
    """Ticks at the measured sizes, and the fixed ones above."""
    dim = panel.dim
    sizes = sorted({getattr(r.dims, dim) for _, line in panel.lines for r in line})
    position: Callable[[float], float] = float
    if sizes[-1] >= _MIN_LOG_RANGE * sizes[0]:
        axes.set_xscale("log")
        position = np.log
    ticks = _spread(sizes, position)
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(_AXIS_LABELS[dim])
    fixed = ", ".join(_DIM_WORDS[name].format(size) for name, size in panel.fixed)
    axes.set_title(textwrap.fill(f"at {fixed}", 42) if fixed else "")


def _spread(sizes: Sequence[int], position: Callable[[float], float]) -> list[int]:
    """Those sizes whose labels have room, from the smallest on, with the largest."""
    length = max(position(sizes[-1]) - position(sizes[0]), 1e-9)
    kept: list[int] = []
    for size in sizes:
        has_room = all(
            abs(position(size) - position(other)) >= _room(size, other) * length
            for other in (*kept, *({sizes[-1]} - {size}))
        )
        if has_room:
            kept.append(size)
    return kept


def _room(size: int, other: int) -> float:
    return _TICK_GAP + _CHARACTER * (len(str(size)) + len(str(other))) / 2


# --- emulated against priced ---


def plot_measured_against_formula(profile: Profile, path: Path) -> int:
    """Emulated latency against `price_s`: compute + hops x RTT/2 + bytes / bandwidth.

    Records that really waited on an emulated network are drawn, as many as it returns.
    Below, (formula - emulated) / emulated in percent.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If there is nothing to compare, or the file cannot be written.
    """
    _check_format(path)
    _check_not_empty(profile)
    records = [r for r in profile if r.mode == "emulated" and not r.network.is_loopback]
    if not records:
        raise ProfileError(
            f"nothing to compare: none of the {len(profile)} records was emulated; "
            "measure with `mpcprof sweep --mode emulated`"
        )
    emulated_s = np.array([r.latency_s for r in records])
    formula_s = np.array([_formula_s(r) for r in records])
    error_percent = 100 * (formula_s / emulated_s - 1)
    networks = "; ".join(str(n) for n in sorted({r.network for r in records}))
    with _figure(1.5, 1.7, path) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
        _draw_diagonal(top, emulated_s, formula_s)
        _draw_errors(bottom, error_percent, _formula_label(records))
        names = np.array([r.workload for r in records])
        shown_s = np.maximum(formula_s, top.get_xlim()[0])  # a price of 0 has no log
        handles = _scatter(top, names, shown_s, emulated_s)
        _scatter(bottom, names, shown_s, error_percent)
        top.text(0.03, 0.97, _summary(error_percent), transform=top.transAxes, va="top")
        _add_legend(figure, handles)
        _label(figure, f"{profile.deployment}\n{networks}, emulated", "")
    return len(records)


def _formula_s(record: Record) -> float:
    return price_s(
        record.network,
        compute_s=record.compute_s,
        hops=record.hops,
        wire_bytes=record.wire_bytes,
        hidden_s=record.hidden_s,
    )


def _formula_label(records: Sequence[Record]) -> str:
    network = "hops x RTT/2 + bytes/bandwidth"
    if any(record.hidden_s for record in records):
        network = f"max(hidden, {network})"
    return f"compute + {network} (s)"


def _scatter(
    axes: Axes,
    names: NDArray[np.str_],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> dict[str, Artist]:
    handles: dict[str, Artist] = {}
    for name in sorted({*names.tolist()}):
        style, chosen = workload_style(name), names == name
        handles[name] = axes.scatter(
            x[chosen],
            y[chosen],
            s=16,
            marker=style.marker,
            facecolors="none",  # points that cover each other stay countable
            edgecolors=style.color,
            linewidths=0.9,
        )
    return handles


def _draw_diagonal(
    axes: Axes, emulated_s: NDArray[np.float64], formula_s: NDArray[np.float64]
) -> None:
    seconds = np.concatenate([emulated_s, formula_s[formula_s > 0]])
    limits = (float(seconds.min()) / 1.3, float(seconds.max()) * 1.3)
    axes.plot(limits, limits, color="0.5", linewidth=0.8, zorder=1)
    is_wide = limits[1] > 100 * limits[0]
    for dimension in ("x", "y"):
        _make_log(axes, dimension, (1.0,) if is_wide else (1.0, 2.0, 5.0))
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_ylabel("emulated latency (s)")


def _draw_errors(axes: Axes, error_percent: NDArray[np.float64], label: str) -> None:
    half_range = 1.15 * max(float(np.abs(error_percent).max()), 1.0)
    axes.axhline(0, color="0.5", linewidth=0.8, zorder=1)
    axes.set_ylabel("relative error (%)")
    if half_range > _MOST_LINEAR_PERCENT:
        axes.set_yscale("symlog", linthresh=_LINEAR_PERCENT)
        axes.set_ylabel(f"relative error (%)\nlog beyond {_LINEAR_PERCENT:g}")
        steps = [s for s in (_LINEAR_PERCENT, 20.0, 100.0, 1000.0) if s <= half_range]
        ticks = [*(-step for step in reversed(steps)), 0.0, *steps]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_ylim(-half_range, half_range)
    axes.set_xlabel(label)


def _summary(error_percent: NDArray[np.float64]) -> str:
    size = np.abs(error_percent)
    return (
        f"|relative error| of {len(size)} cases\n"
        f"median {np.median(size):.2f} %\n"
        f"95th percentile {np.percentile(size, 95):.2f} %\n"
        f"max {size.max():.2f} %"
    )


# --- what both have in common ---


def _check_format(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"{str(path)!r}: expected a name that ends in {' or '.join(FORMATS)}"
        )


def _check_not_empty(profile: Profile) -> None:
    if not len(profile):
        raise ProfileError(
            "nothing to draw: the profile has 0 records; `mpcprof sweep` adds some"
        )


@contextmanager
def _figure(n_wide: float, n_high: float, path: Path) -> Iterator[Figure]:
    """A figure with room for so many panels and a legend; written at the end."""
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


def _add_legend(figure: Figure, handles: dict[str, Artist]) -> None:
    names = sorted(handles)
    figure.legend([handles[n] for n in names], names, loc="outside right center")


def _label(figure: Figure, title: str, note: str) -> None:
    n_characters = int(figure.get_figwidth() * _CHARACTERS_PER_IN)
    lines = [textwrap.fill(line, n_characters) for line in title.splitlines()]
    figure.suptitle("\n".join(lines), fontsize=10)
    if note:
        text = textwrap.fill(note, int(n_characters * 1.3))
        figure.supxlabel(text, fontsize=7, color="0.35", x=0.01, ha="left")


def _make_log(axes: Axes, dimension: str, labelled: Sequence[float]) -> None:
    """Logarithmic, with labels at these multiples of 10^n as plain numbers."""
    getattr(axes, f"set_{dimension}scale")("log")
    axis = getattr(axes, f"{dimension}axis")
    axis.set_major_locator(LogLocator(subs=labelled, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


FIGURES: MappingProxyType[str, Callable[[Profile, Path], int]] = MappingProxyType(
    {"latency": plot_latency, "formula": plot_measured_against_formula}
)
