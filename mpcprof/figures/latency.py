"""The figure of latency over sizes."""

import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mpcprof.dims import DIM_NAMES
from mpcprof.errors import ProfileError
from mpcprof.figures.canvas import (
    MIN_LOG_RANGE,
    add_legend,
    check_format,
    check_not_empty,
    label_figure,
    make_log,
    open_figure,
    workload_style,
)
from mpcprof.network import Network
from mpcprof.profile.record import Profile, Record

_DIM_WORDS = {  # label of an axis, and a size in a title: `65 tokens`
    "n_batch": ("batch size (images)", "batch {}"),
    "n_heads": ("heads (count)", "{} heads"),
    "n_tokens": ("tokens (count)", "{} tokens"),
    "head_dim": ("head dimension (features)", "head dimension {}"),
    "width": ("width (features)", "width {}"),
    "hidden": ("hidden width (features)", "hidden {}"),
}
_MAX_COLUMNS = 3
_TICK_GAP = 0.01  # of the axis, between two labels ...
_CHARACTER = 0.028  # ... each of whose characters is so wide


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
    """Draw latency over each dimension that was varied; return the records drawn.

    One panel per dimension with the other dimensions fixed, one line per workload. Of
    several networks or modes, the one with most records is drawn.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If there is nothing to draw.
        FileError: If the file cannot be written.
    """
    check_format(path)
    check_not_empty(profile)
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
    with open_figure(n_columns, n_rows, path) as figure:
        _draw_panels(figure, panels, n_columns, n_rows)
        label_figure(figure, f"{profile.deployment}\n{network}, {mode}", note)
    return len({r.key for panel in panels for _, line in panel.lines for r in line})


def _commonest_setting(profile: Profile) -> tuple[Network, str]:
    """Return the network and mode with most records; emulated ones win a tie."""
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
    """Fix other dimensions at their most frequent size; of equals, the largest."""
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
    if max(latencies_s) >= MIN_LOG_RANGE * min(latencies_s):
        make_log(all_axes[0], "y", (1.0, 2.0, 5.0))
    else:
        all_axes[0].set_ylim(0, 1.08 * max(latencies_s))
    add_legend(figure, handles)


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
    """Set ticks at the measured sizes, and write the fixed sizes above."""
    dim = panel.dim
    sizes = sorted({getattr(r.dims, dim) for _, line in panel.lines for r in line})
    position: Callable[[float], float] = float
    if sizes[-1] >= MIN_LOG_RANGE * sizes[0]:
        axes.set_xscale("log")
        position = np.log
    ticks = _spread(sizes, position)
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(_DIM_WORDS[dim][0])
    fixed = ", ".join(_DIM_WORDS[name][1].format(size) for name, size in panel.fixed)
    axes.set_title(textwrap.fill(f"at {fixed}", 42) if fixed else "")


def _spread(sizes: Sequence[int], position: Callable[[float], float]) -> list[int]:
    """Return the sizes whose labels have room, always with the largest."""
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
