"""The paper's latencies beside those of a profile: published, ours, ratio.

    python benchmarks/published.py profiles/semi2k.parquet

Prints a line for each latency and ratio in the paper's tables and text; takes seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from mpcprof.cli import ShieldedCommand
from mpcprof.costmodel.model import CostModel
from mpcprof.network import NETWORKS, Network
from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from mpcvit.paper.cases import CaseConfig, layer_steps, mpcvit
from mpcvit.paper.costs import read_fitted
from mpcvit.paper.published import PUBLISHED, Published

_NO_UNIT: Final = (
    "Table 2 gives no unit of work: ours is the attention of one layer, 4 heads one by "
    "one, from q, k, v to values; compare the order, not the seconds"
)
_PLUS: Final = (
    "which tokens lost their GeLU is not printed: ours keeps all, which on the paper's "
    "runtime bounds theirs from above"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One published latency, or ratio of two, and ours.

    Attributes:
        ours: Seconds, or times; None where there is nothing to compare.
        sentence: Why it cannot be compared, or only so far; empty if it can.
    """

    published: Published
    ours: float | None
    sentence: str = ""

    @property
    def theirs(self) -> float:
        """Seconds, or times."""
        value = self.published.latency_s or self.published.times_faster
        assert value is not None  # see `compare`
        return value

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return None if self.ours is None else self.ours / self.theirs

    def __str__(self) -> str:
        unit = "s" if self.published.latency_s else "times"
        than = f" over {self.published.than}" if self.published.than else ""
        name = f"{self.published.what}{than}"
        if self.published.latency_s and self.published.mu:
            name += f", mu = {self.published.mu:g}"
        ours = "-" if self.ours is None else f"{self.ours:.4g} {unit}"
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        return (
            f"{self.published.where:22} {name:58} {self.theirs:7.4g} {unit:5} "
            f"{ours:>12} {ratio:>6}  {self.sentence}"
        ).rstrip()


def compare(
    model: CostModel, network: Network, published: Iterable[Published] = PUBLISHED
) -> tuple[Compared, ...]:
    """Hold the paper's latencies and ratios, not its accuracies, against a profile.

    Raises:
        MissingEntryError: If the profile lacks an operation.
    """
    return tuple(
        _compare(model, network, one)
        for one in published
        if one.latency_s or one.times_faster
    )


def _compare(model: CostModel, network: Network, one: Published) -> Compared:
    config = CaseConfig(network=network)
    if one.attention:
        ours = _attention_s(model, network, one.attention)
        return Compared(published=one, ours=ours, sentence=_NO_UNIT)
    if one.latency_s and one.mu:
        ours = _latency_s(model, network, mpcvit("cifar", one.mu, config))
        return Compared(published=one, ours=ours, sentence=_PLUS)
    rivals = {"baseline ViT": "softmax", "MPCFormer": "2quad"}
    if one.mu and one.than in rivals:
        preset = MODELS["tiny-imagenet"]
        rival = uniform_architecture(preset, attention=rivals[one.than])
        found = mpcvit(preset.name, one.mu, config)
        ratio = _latency_s(model, network, rival) / _latency_s(model, network, found)
        sentence = "" if one.than == "baseline ViT" else "MPCFormer as its attention"
        return Compared(published=one, ours=ratio, sentence=sentence)
    return Compared(published=one, ours=None, sentence=_why_not(one))


def _why_not(one: Published) -> str:
    if one.than == "THE-X":
        reason = "the sizes of THE-X's estimation network are not given"
    elif one.than.startswith("Linformer"):
        reason = "ours projects to a quarter of the tokens, not to 0.7"
    else:
        reason = "which heads keep softmax is not given"
    return f"cannot be compared: {reason}"


def _latency_s(model: CostModel, network: Network, architecture: Architecture) -> float:
    return model.predict(trace_model(architecture), network).latency_s


def _attention_s(model: CostModel, network: Network, attention: str) -> float:
    """Return the seconds from q, k, v to the values, all heads of a CIFAR layer."""
    architecture = uniform_architecture(MODELS["cifar"], attention=attention)
    part = f"attention/{attention}"
    steps = [step for step in layer_steps(architecture, 1) if step.part == part]
    predicted = model.predict(steps, network)
    return predicted.latency_s - predicted.per_call_s


@click.command(cls=ShieldedCommand)
@click.argument("profile", type=click.Path(path_type=Path))
def main(profile: Path) -> None:
    """Print every latency of the paper beside the prediction of PROFILE."""
    fitted, wan = read_fitted(profile), NETWORKS["wan"]
    click.echo(f"{fitted.deployment}, {wan}, heads one by one, predicted")
    click.echo(f"{'where':22} {'what':58} {'published':>13} {'ours':>12} {'ratio':>6}")
    for row in compare(fitted.model, wan):
        click.echo(row)


if __name__ == "__main__":
    main()
