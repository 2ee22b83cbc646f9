"""From the numbers of a figure to its panels; `mpcprof.figures` draws them."""

from collections.abc import Sequence
from pathlib import Path

from mpcprof.figures.panels import Absent, Bars, Lines, Panel, Ring, Rings, Series
from mpcprof.predict import GROUPS, SOFTMAX_GROUPS
from mpcprof.units import format_duration
from mpcvit.paper.costs import Cost, at
from mpcvit.paper.softmax_error import ErrorTable
from mpcvit.paper.subjects import BLOCK_HEADS, BLOCK_TOKENS, BLOCK_WIDTH, HEADS, TOKENS


def fig1_panels(
    costs: Sequence[Cost], errors: ErrorTable | None, errors_path: Path, prefix: str
) -> tuple[Panel, ...]:
    """Of one deployment."""
    return (
        _stack(
            costs,
            "a",
            HEADS,
            f"{prefix}(a) block of {BLOCK_TOKENS} tokens, width {BLOCK_WIDTH}",
            "number of heads",
        ),
        _stack(
            costs,
            "b",
            TOKENS,
            f"(b) block of {BLOCK_HEADS} heads, width {BLOCK_WIDTH}",
            "number of tokens",
        ),
        _error_panel(errors, errors_path),
    )


def _stack(
    costs: Sequence[Cost], panel: str, sizes: Sequence[int], title: str, x_label: str
) -> Bars:
    bars = [at(costs, panel, str(size)) for size in sizes]
    return Bars(
        title=title,
        x_label=x_label,
        y_label="latency of a Transformer block (s)",
        categories=tuple(str(size) for size in sizes),
        series=tuple(
            Series(
                name=group,
                values=tuple(
                    bar[group].shown_s if group in bar else 0.0 for bar in bars
                ),
            )
            for group in GROUPS
        ),
        is_stacked=True,
    )


def _error_panel(errors: ErrorTable | None, path: Path) -> Panel:
    title = "(c) error under MPC"
    if errors is None:
        return Absent(
            title=title,
            text=f"not measured yet: no {path}; `mpcvit breakdown fig1 --measured` "
            "measures it",
        )
    names = {"softmax": "softmax", "ReLU softmax": "relu_softmax"}
    return Lines(
        title=title,
        x_label="variance of the scores",
        y_label="relative error (mean over entries)",
        x=errors.variances,
        series=tuple(
            Series(name=name, values=tuple(errors.errors_of(kernel)))
            for name, kernel in names.items()
        ),
    )


def fig3_panels(costs: Sequence[Cost], prefix: str) -> tuple[Panel, ...]:
    """A ring for each deployment, in the order of the costs."""
    return (
        _rings(costs, "a", GROUPS, f"{prefix}(a) 4 heads, 65 tokens, width 256"),
        _rings(costs, "b", SOFTMAX_GROUPS, "(b) its softmax"),
    )


def _rings(
    costs: Sequence[Cost], panel: str, groups: Sequence[str], title: str
) -> Rings:
    rings = []
    for deployment in dict.fromkeys(cost.deployment for cost in costs):
        own = at([cost for cost in costs if cost.deployment == deployment], panel)
        total_s = sum(cost.shown_s for cost in own.values())
        rings.append(
            Ring(
                label=deployment.protocol,
                total=format_duration(total_s, digits=4),
                shares=tuple((g, own[g].shown_s) for g in groups if g in own),
            )
        )
    return Rings(title=title, rings=tuple(rings))


def fig8_panels(costs: Sequence[Cost], prefix: str) -> tuple[Panel, ...]:
    """Of one deployment: latency and communication of each layer."""
    names = [*dict.fromkeys(cost.series for cost in costs)]
    layers = [*dict.fromkeys(cost.x for cost in costs)]

    def bars(title: str, y_label: str, values: dict[Cost, float]) -> Bars:
        return Bars(
            title=title,
            x_label="layer",
            y_label=y_label,
            categories=tuple(layers),
            series=tuple(
                Series(
                    name=name,
                    values=tuple(v for c, v in values.items() if c.series == name),
                )
                for name in names
            ),
            is_stacked=False,
        )

    return (
        bars(
            f"{prefix}(a) latency",
            "latency of a layer (s)",
            {cost: cost.shown_s for cost in costs},
        ),
        bars(
            "(b) communication",
            "sent by one party (MB)",
            {cost: cost.bytes_sent / 1e6 for cost in costs},
        ),
    )
