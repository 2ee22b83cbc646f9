"""The numbers of a figure: what each group of steps costs, from one profile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpcprof.costmodel.model import Basis, CostModel
from mpcprof.costmodel.storage import load_cost_model
from mpcprof.deployment import Deployment
from mpcprof.errors import MissingEntryError
from mpcprof.network import Network
from mpcprof.nn.steps import Step
from mpcprof.profile.io import read_profile
from mpcprof.profile.record import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A profile and what was fitted to it."""

    path: Path
    profile: Profile
    model: CostModel

    @property
    def deployment(self) -> Deployment:
        """The profile's."""
        return self.profile.deployment


def read_source(path: Path) -> Source:
    """The profile at `path`.

    Raises:
        ProfileError: If there is none.
        MissingEntryError: If it holds no primitive.
    """
    profile = read_profile(path)
    return Source(path=path, profile=profile, model=load_cost_model(profile))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One number of a figure: a piece of a bar or of a ring.

    Attributes:
        panel: `a` or `b`.
        x: Where it stands: `4` heads, layer `3`; empty in a ring.
        series: What it belongs to beside x: a model of Figure 8.
        group: Of operations; `layer` where all of them are together.
        latency_s: By the cost model.
        bytes_sent: By rank 0.
        basis: The weakest of its steps.
        measured_s: By real parties; None if it was not measured.
    """

    panel: str
    deployment: Deployment
    x: str = ""
    series: str = ""
    group: str
    latency_s: float
    bytes_sent: float
    hops: float
    basis: Basis
    measured_s: float | None = None
    steps: tuple[Step, ...] = field(repr=False)

    @property
    def shown_s(self) -> float:
        """Measured seconds where there are any, predicted ones else."""
        return self.latency_s if self.measured_s is None else self.measured_s


def price_groups(
    source: Source,
    network: Network,
    steps: Sequence[Step],
    groups: Sequence[str],
    group_of: Callable[[Step], str],
    *,
    panel: str,
    x: str = "",
) -> tuple[Cost, ...]:
    """Each group of `steps`, in the order of `groups`; groups without a step left out.

    What a call costs however little it does is in `other`, if there is such a group, so
    that the groups add up to the latency of all steps.

    Raises:
        MissingEntryError: If the profile lacks an operation; it names the profile.
    """
    found: list[Cost] = []
    for group in groups:
        own = tuple(step for step in steps if group_of(step) == group)
        if own:
            found.append(price(source, network, own, panel=panel, x=x, group=group))
    return tuple(found)


def price(
    source: Source,
    network: Network,
    steps: tuple[Step, ...],
    *,
    panel: str,
    x: str = "",
    series: str = "",
    group: str,
) -> Cost:
    """All of `steps` as one number; see `price_groups`."""
    try:
        predicted = source.model.predict(steps, network)
    except MissingEntryError as error:
        raise MissingEntryError(f"{source.path}: {error}") from None
    call_s = 0.0 if group == "other" else predicted.per_call_s
    return Cost(
        panel=panel,
        deployment=source.deployment,
        x=x,
        series=series,
        group=group,
        latency_s=predicted.latency_s - call_s,
        bytes_sent=predicted.bytes_sent,
        hops=predicted.hops,
        basis=predicted.basis,
        steps=steps,
    )


def at(costs: Sequence[Cost], panel: str, x: str = "") -> dict[str, Cost]:
    """By group: the costs of one bar or ring."""
    return {cost.group: cost for cost in costs if (cost.panel, cost.x) == (panel, x)}


def share(costs: Sequence[Cost], panel: str, x: str, group: str) -> float:
    """Of the bar or ring that it stands in; 0 if it has no such group."""
    own = at(costs, panel, x)
    total_s = sum(cost.shown_s for cost in own.values())
    return own[group].shown_s / total_s if group in own else 0.0
