"""What a call costs on one network, with the share of each part and operation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Final

from mpcprof.html import BarRow, draw_bars, html_list
from mpcprof.pricing import Basis
from mpcprof.units import format_bytes, format_duration, format_hops

_BARS: Final = 12  # operations that are drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The steps of one part or of one operation, without what the call costs.

    Attributes:
        name: Name in the steps, `layer 1/attention/softmax`, or operation, `exp`.
        count: Number of steps; of products, for an operation that multiplies matrices.
        bytes_sent: Bytes that rank 0 sends.
        compute_s: Seconds left on a network that costs nothing.
    """

    name: str
    count: int
    latency_s: float
    bytes_sent: float
    hops: float
    compute_s: float


def add_by_name(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return one part for each name, the sum of all parts of that name."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.name, []).append(part)
    return tuple(
        Part(
            name=name,
            count=sum(part.count for part in group),
            latency_s=sum(part.latency_s for part in group),
            bytes_sent=sum(part.bytes_sent for part in group),
            hops=sum(part.hops for part in group),
            compute_s=sum(part.compute_s for part in group),
        )
        for name, group in groups.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One call of a function made of steps, on one network.

    Attributes:
        latency_s: Seconds: per_call_s and the latencies of the parts.
        interval_s: Low and high latency if all steps are 95 % as wrong, in the same
            direction.
        bytes_sent: Bytes that rank 0 sends.
        total_bytes_sent: Bytes sent, summed over ranks.
        compute_s: Seconds left on a network that costs nothing.
        per_call_s: Seconds that a call costs once: its overhead, and the hops that all
            of its reductions share.
        basis: Weakest basis of the steps: measured, interpolated, extrapolated.
        notes: Reasons for caution.
        parts: Costs by part, in the order of the steps.
        operations: Costs by operation, in the order of the steps.
    """

    latency_s: float
    interval_s: tuple[float, float]
    bytes_sent: float
    total_bytes_sent: float
    hops: float
    compute_s: float
    per_call_s: float
    basis: Basis
    notes: tuple[str, ...]
    parts: tuple[Part, ...]
    operations: tuple[Part, ...]

    def __str__(self) -> str:
        low, high = (format_duration(s, digits=4) for s in self.interval_s)
        return (
            f"{format_duration(self.latency_s, digits=4)} ({low} to {high}, "
            f"{self.basis}), {format_bytes(self.bytes_sent, digits=4)} sent by rank 0, "
            f"{format_hops(self.hops)} hops, "
            f"compute {format_duration(self.compute_s, digits=3)}"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the sum, and bars by layer and by operation."""
        return "\n".join(
            [
                f"<p><b>{escape(str(self))}</b></p>",
                "<p>Seconds by layer</p>",
                draw_bars("Seconds by layer", layer_bars(self)),
                "<p>Seconds by operation</p>",
                draw_bars("Seconds by operation", operation_bars(self)),
                html_list(self.notes),
            ]
        )


def sum_by_layer(prediction: Prediction) -> tuple[Part, ...]:
    """Return the parts of a prediction, added up by the first word of their name."""
    return add_by_name(
        replace(part, name=part.name.split("/")[0]) for part in prediction.parts
    )


def layer_bars(prediction: Prediction) -> list[BarRow]:
    """Return a bar for each layer, its parts by the second word of their name."""
    return [
        BarRow(
            label=layer.name,
            parts=tuple(
                (part.name, part.latency_s)
                for part in add_by_name(
                    replace(part, name=(*part.name.split("/"), layer.name)[1])
                    for part in prediction.parts
                    if part.name.split("/")[0] == layer.name
                )
            ),
            text=format_duration(layer.latency_s, digits=3),
        )
        for layer in sum_by_layer(prediction)
    ]


def operation_bars(prediction: Prediction) -> list[BarRow]:
    """Return a bar for each of the slowest operations, and one for all others."""
    slowest = sorted(prediction.operations, key=lambda part: -part.latency_s)
    shown = _named_bars(slowest[:_BARS])
    others = slowest[_BARS:]
    return shown + _named_bars(
        add_by_name(replace(part, name="others") for part in others)
    )


def _named_bars(parts: Sequence[Part]) -> list[BarRow]:
    bars = []
    for part in parts:
        compute_s = min(max(part.compute_s, 0.0), part.latency_s)  # of loopback calls
        network_s = part.latency_s - compute_s
        bars.append(
            BarRow(
                label=part.name,
                parts=(("compute", compute_s), ("network", network_s)),
                text=format_duration(part.latency_s, digits=3),
            )
        )
    return bars
