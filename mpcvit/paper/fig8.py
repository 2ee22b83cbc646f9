"""Figure 8: latency and communication of each layer of three models.

Source: MPCViT Figure 8 and what section 5.2 says of it.
"""

from collections.abc import Sequence
from statistics import correlation
from typing import Final

from mpcprof.figures.panels import Bars, Panel, Series
from mpcvit.paper.cases import STATED, CaseConfig, fig8_models, layer_steps
from mpcvit.paper.costs import FittedProfile, GroupCost, price
from mpcvit.paper.figure import Figure, FigureRow, Sentence, heads_text

_PROPORTIONAL: Final = 0.95  # Pearson's r of latency and bytes


class Figure8(Figure):
    """Layers of softmax, ReLU softmax and MPCViT: seconds (a) and megabytes (b)."""

    protocols = ("semi2k",)

    def price(
        self, profiles: Sequence[FittedProfile], config: CaseConfig
    ) -> tuple[GroupCost, ...]:
        """Return each layer of each model as one number."""
        (fitted,) = profiles
        return tuple(
            price(
                fitted,
                config.network,
                layer_steps(architecture, number),
                panel="a",
                x=str(number),
                series=name,
                group="layer",
            )
            for name, architecture in fig8_models(config).items()
            for number in range(1, architecture.n_layers + 1)
        )

    def panels(self, row: FigureRow, prefix: str) -> tuple[Panel, ...]:
        """Return the layers by latency and by communication."""
        seconds = {cost: cost.shown_s for cost in row.costs}
        megabytes = {cost: cost.bytes_sent / 1e6 for cost in row.costs}
        return (
            _bars(f"{prefix}(a) latency", "latency of a layer (s)", seconds),
            _bars("(b) communication", "sent by one party (MB)", megabytes),
        )

    def sentences(self, row: FigureRow) -> tuple[Sentence, ...]:
        """Hold the sentence on latency and communication against all layers."""
        costs = row.costs
        r = correlation([c.shown_s for c in costs], [c.bytes_sent for c in costs])
        return (
            Sentence(
                text="the latency changes proportionally with the communication",
                where="section 5.2, Figure 8",
                of=str(costs[0].deployment),
                holds=r >= _PROPORTIONAL,
                because=f"Pearson's r is {r:.3f} over all layers (criterion: at least "
                f"{_PROPORTIONAL:g}); seconds per MB: {_rates(costs)}",
            ),
        )

    def notes(self, config: CaseConfig, rows: Sequence[FigureRow]) -> list[str]:
        """Say of a stated architecture that it is one."""
        return [] if config.architecture else [f"MPCViT is {STATED}"]

    def caption(self, config: CaseConfig) -> str:
        """Return the sizes and where MPCViT's heads come from."""
        model = fig8_models(config)["MPCViT"].model
        return (
            f"{model.n_layers} layers, {model.n_heads} heads {heads_text(config)}, "
            f"{model.n_tokens} tokens, width {model.width}, "
            f"{config.activation}, one image. MPCViT: {self.architecture(config)}."
        )

    def architecture(self, config: CaseConfig) -> str:
        """Return the file of MPCViT, or how its heads were stated."""
        return str(config.architecture or STATED)


def _bars(title: str, y_label: str, values: dict[GroupCost, float]) -> Bars:
    return Bars(
        title=title,
        x_label="layer",
        y_label=y_label,
        categories=tuple(dict.fromkeys(cost.x for cost in values)),
        series=tuple(
            Series(
                name=name,
                values=tuple(v for cost, v in values.items() if cost.series == name),
            )
            for name in dict.fromkeys(cost.series for cost in values)
        ),
        is_stacked=False,
    )


def _rates(costs: Sequence[GroupCost]) -> str:
    """Return the seconds per megabyte of each model, a range where layers differ.

    Layers that send nothing, of additions alone, have none.
    """
    shown = []
    for name in dict.fromkeys(cost.series for cost in costs):
        own = [c for c in costs if c.series == name and c.bytes_sent]
        if not own:
            continue
        rates = [c.shown_s / c.bytes_sent * 1e6 for c in own]
        low, high = min(rates), max(rates)
        differ = high > 1.001 * low
        text = f"{low:.3f} to {high:.3f}" if differ else f"{rates[0]:.3f}"
        shown.append(f"{name} {text}")
    return ", ".join(shown)
