"""The paper's latencies beside what a profile says of the same model."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mpcprof.costmodel.model import CostModel
from mpcprof.network import Network
from mpcprof.nn.architecture import MODELS, Architecture, uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcvit.paper.published import PUBLISHED, Published
from mpcvit.paper.subjects import Setting, layer_steps, stated_architecture

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
    """One published latency, or ratio of two.

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
    """Every latency and ratio that the paper prints; accuracies are left out.

    Raises:
        MissingEntryError: If the profile lacks an operation.
    """
    return tuple(
        _compare(model, network, one)
        for one in published
        if one.latency_s or one.times_faster
    )


def _compare(model: CostModel, network: Network, one: Published) -> Compared:
    setting = Setting(network=network)
    if one.attention:
        ours = _attention_s(model, network, one.attention)
        return Compared(published=one, ours=ours, sentence=_NO_UNIT)
    if one.latency_s and one.mu:
        ours = _latency_s(model, network, mpcvit("cifar", one.mu, setting))
        return Compared(published=one, ours=ours, sentence=_PLUS)
    rivals = {"baseline ViT": "softmax", "MPCFormer": "2quad"}
    if one.mu and one.than in rivals:
        preset = MODELS["tiny-imagenet"]
        rival = uniform_architecture(preset, attention=rivals[one.than])
        found = mpcvit(preset.name, one.mu, setting)
        ratio = _latency_s(model, network, rival) / _latency_s(model, network, found)
        sentence = "" if one.than == "baseline ViT" else "MPCFormer as its attention"
        return Compared(published=one, ours=ratio, sentence=sentence)
    return Compared(published=one, ours=None, sentence=_why_not(one))


def _why_not(one: Published) -> str:
    if one.than == "THE-X":
        return (
            "cannot be compared: the sizes of THE-X's estimation network are not given"
        )
    if one.than.startswith("Linformer"):
        return (
            "cannot be compared: ours projects to a quarter of the tokens, not to 0.7"
        )
    return "cannot be compared: which heads keep softmax is not given"


def mpcvit(name: str, mu: float, setting: Setting) -> Architecture:
    """A preset with that share of ReLU-softmax heads, rounded up, the first ones.

    Which heads they are changes no latency while heads go one by one.
    """
    preset = MODELS[name]
    left = math.ceil(mu * preset.n_layers * preset.n_heads - 1e-9)  # 2.8 are 3
    counts = []
    for _ in range(preset.n_layers):
        counts.append(min(left, preset.n_heads))
        left -= counts[-1]
    return stated_architecture(preset, counts, setting)


def _latency_s(model: CostModel, network: Network, architecture: Architecture) -> float:
    return model.predict(trace_model(architecture), network).latency_s


def _attention_s(model: CostModel, network: Network, attention: str) -> float:
    """From q, k, v to the values, of all heads of one CIFAR layer."""
    architecture = uniform_architecture(MODELS["cifar"], attention=attention)
    steps = [
        step
        for step in layer_steps(architecture, 1)
        if step.part == f"attention/{attention}"
    ]
    predicted = model.predict(steps, network)
    return predicted.latency_s - predicted.per_call_s
