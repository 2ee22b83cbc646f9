"""Figures of two latencies that should agree: a scatter, and its relative error."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from mpcprof.costmodel.fit import held_out_latencies
from mpcprof.errors import ProfileError
from mpcprof.figures.canvas import (
    add_legend,
    check_format,
    check_not_empty,
    label_figure,
    make_log,
    open_figure,
    workload_style,
)
from mpcprof.pricing import price_s
from mpcprof.profile.record import Profile, Record

Floats: TypeAlias = NDArray[np.float64]

_MOST_LINEAR_PERCENT = 40.0  # with larger errors the axis is logarithmic
_LINEAR_PERCENT = 5.0
_BAND_COLOR = "0.92"
_BAND_PERCENT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Two latencies of each case.

    Attributes:
        names: Workload of each case.
        error_percent: Heights in the lower panel, over x_s.
        band_percent: Half the width of the grey band; 0 for none.
    """

    title: str
    names: tuple[str, ...]
    x_s: Floats
    y_s: Floats
    error_percent: Floats
    x_label: str
    y_label: str
    band_percent: float = 0.0
    note: str = ""


def draw_agreement(drawn: Agreement, path: Path) -> None:
    """Write the figure to `path`."""
    with open_figure(1.5, 1.7, path) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
        lowest_s = _draw_diagonal(top, drawn)
        _draw_errors(bottom, drawn)
        names = np.array(drawn.names)
        # a price of 0 has no logarithm
        x_s, y_s = (np.maximum(s, lowest_s) for s in (drawn.x_s, drawn.y_s))
        handles = _scatter(top, names, x_s, y_s)
        _scatter(bottom, names, x_s, drawn.error_percent)
        summary = _summary(drawn.error_percent)
        top.text(0.03, 0.97, summary, transform=top.transAxes, va="top")
        add_legend(figure, handles)
        label_figure(figure, drawn.title, drawn.note)


def _scatter(
    axes: Axes, names: NDArray[np.str_], x: Floats, y: Floats
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


def _draw_diagonal(axes: Axes, drawn: Agreement) -> float:
    """Draw the line of equal latencies, and return where both axes begin."""
    seconds = np.concatenate([s[s > 0] for s in (drawn.x_s, drawn.y_s)])
    limits = np.array([seconds.min() / 1.3, seconds.max() * 1.3])
    axes.plot(limits, limits, color="0.5", linewidth=0.8, zorder=1)
    if drawn.band_percent:
        low, high = (limits * (1 + s * drawn.band_percent / 100) for s in (-1, 1))
        axes.fill_between(limits, low, high, color=_BAND_COLOR, lw=0, zorder=0.5)
    is_wide = limits[1] > 100 * limits[0]
    for dimension in ("x", "y"):
        make_log(axes, dimension, (1.0,) if is_wide else (1.0, 2.0, 5.0))
    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    axes.set_ylabel(drawn.y_label)
    return float(limits[0])


def _draw_errors(axes: Axes, drawn: Agreement) -> None:
    half_range = 1.15 * max(float(np.abs(drawn.error_percent).max()), 1.0)
    axes.axhline(0, color="0.5", linewidth=0.8, zorder=1)
    if drawn.band_percent:
        band = (-drawn.band_percent, drawn.band_percent)
        axes.axhspan(*band, color=_BAND_COLOR, linewidth=0, zorder=0.5)
        half_range = max(half_range, 1.15 * drawn.band_percent)
    axes.set_ylabel("relative error (%)")
    if half_range > _MOST_LINEAR_PERCENT:
        _make_symmetric_log(axes, drawn.band_percent or _LINEAR_PERCENT, half_range)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_ylim(-half_range, half_range)
    axes.set_xlabel(drawn.x_label)


def _make_symmetric_log(axes: Axes, linear: float, half_range: float) -> None:
    axes.set_yscale("symlog", linthresh=linear)
    axes.set_ylabel(f"relative error (%)\nlog beyond {linear:g}")
    steps = [s for s in (linear, 4 * linear, 100.0, 1000.0) if s <= half_range]
    ticks = [*(-step for step in reversed(steps)), 0.0, *steps]
    labels = [f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
    axes.set_yticks(ticks, labels)
    axes.yaxis.set_minor_locator(NullLocator())


def _summary(error_percent: Floats) -> str:
    size = np.abs(error_percent)
    return (
        f"|relative error| of {len(size)} cases\n"
        f"median {np.median(size):.2f} %\n"
        f"95th percentile {np.percentile(size, 95):.2f} %\n"
        f"max {size.max():.2f} %"
    )


def emulated_records(profile: Profile) -> tuple[Record, ...]:
    """Return the records that really waited on an emulated network.

    Raises:
        ProfileError: If there are none.
    """
    records = tuple(
        r for r in profile if r.mode == "emulated" and not r.network.is_loopback
    )
    if not records:
        raise ProfileError(
            f"nothing to compare: none of the {len(profile)} records was emulated; "
            "measure with `mpcprof sweep --mode emulated`"
        )
    return records


def formula_s(record: Record) -> float:
    """Return the seconds of a record by the latency formula; see `price_s`."""
    return price_s(
        record.network,
        exposed_s=record.compute_s,
        hidden_s=record.hidden_s,
        hops=record.hops,
        wire_bytes=record.wire_bytes,
    )


def plot_measured_against_formula(profile: Profile, path: Path) -> int:
    """Draw emulated latency against compute + hops x RTT/2 + bytes / bandwidth.

    The lower panel shows (formula - emulated) / emulated in percent. Returns the number
    of records drawn: those that really waited on an emulated network.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If there is nothing to compare, or the file cannot be written.
    """
    check_format(path)
    check_not_empty(profile)
    records = emulated_records(profile)
    emulated = np.array([profile.call_s(r) for r in records])
    predicted = np.array([formula_s(r) for r in records])
    networks = "; ".join(str(n) for n in sorted({r.network for r in records}))
    agreement = Agreement(
        title=f"{profile.deployment}\n{networks}, emulated",
        names=tuple(r.workload for r in records),
        x_s=predicted,
        y_s=emulated,
        error_percent=100 * (predicted / emulated - 1),
        x_label=_formula_label(records),
        y_label="emulated latency (s)",
    )
    draw_agreement(agreement, path)
    return len(records)


def _formula_label(records: Sequence[Record]) -> str:
    network = "hops x RTT/2 + bytes/bandwidth"
    if any(record.hidden_s for record in records):
        network = f"max(hidden, {network})"
    return f"compute + {network} (s)"


def plot_predicted_against_measured(profile: Profile, path: Path) -> int:
    """Draw each primitive's latency against a prediction without its size.

    The folds are those of `held_out_errors`. The lower panel shows
    (predicted - measured) / measured in percent. Returns the number of records drawn:
    those of primitives that were measured at two sizes or more.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If there is nothing to draw, or the file cannot be written.
        MissingEntryError: If there is no record of a primitive.
    """
    check_format(path)
    check_not_empty(profile)
    cases = held_out_latencies(profile)
    if not cases:
        raise ProfileError(
            "nothing to leave out: no primitive was measured at two sizes; add sizes "
            "with `mpcprof sweep`"
        )
    measured_s = np.array([case.seen.latency_s for case in cases])
    predicted_s = np.array([case.predicted_s for case in cases])
    networks = "; ".join(str(n) for n in sorted({case.seen.network for case in cases}))
    agreement = Agreement(
        title=f"{profile.deployment}\n{networks}, sizes held out of the fit",
        names=tuple(case.seen.operation for case in cases),
        x_s=measured_s,
        y_s=predicted_s,
        error_percent=100 * (predicted_s / measured_s - 1),
        x_label="measured latency (s)",
        y_label="predicted latency (s)",
        band_percent=_BAND_PERCENT,
        note=f"Cross-validation by size; grey: within {_BAND_PERCENT:g} %.",
    )
    draw_agreement(agreement, path)
    return len(cases)
