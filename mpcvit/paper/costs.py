"""What groups of steps cost, from one profile: the numbers that figures show."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.deployment import Deployment
from mpcprof.errors import MissingEntryError, ProfileError
from mpcprof.network import Network
from mpcprof.nn.steps import Step
from mpcprof.pricing import Basis
from mpcprof.profile.io import read_profile
from mpcprof.profile.record import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedProfile:
    """A profile and the cost model fitted to it."""

    path: Path
    profile: Profile
    model: CostModel

    @property
    def deployment(self) -> Deployment:
        """The profile's deployment."""
        return self.profile.deployment


def read_fitted(path: Path) -> FittedProfile:
    """Read the profile at `path` and fit a cost model to it.

    Raises:
        ProfileError: If there is none.
        MissingEntryError: If it holds no primitive.
    """
    profile = read_profile(path)
    return FittedProfile(path=path, profile=profile, model=fit_cost_model(profile))


def check_differ_in(
    what: Literal["runtime", "protocol"],
    first: FittedProfile,
    second: FittedProfile,
    purpose: str,
) -> None:
    """Refuse two profiles that are alike in one property, or differ in another.

    Args:
        what: The property that differs.
        purpose: What the two are for, in the message.

    Raises:
        ProfileError: Naming the files and the property.
    """
    for name in ("runtime", "protocol", "field_bits", "fraction_bits"):
        ours, theirs = (getattr(f.deployment, name) for f in (first, second))
        if (ours == theirs) is (name == what):
            values = f"{ours} in one, {theirs} in the other"
            found = f"{ours} in both" if ours == theirs else values
            raise ProfileError(
                f"{first.path} and {second.path} are no {purpose}: {name} is {found}; "
                f"expected two {what}s, alike in the rest"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCost:
    """One number of a figure: what a group of steps costs, a piece of a bar or ring.

    Attributes:
        panel: `a` or `b`.
        deployment: Deployment of the profile that prices it.
        x: Place on the axis: `4` heads, layer `3`; empty in a ring.
        series: A model of Figure 8; empty in the other figures.
        group: Group of operations; `layer` where all of them are together.
        latency_s: Predicted seconds.
        bytes_sent: Bytes sent by rank 0.
        basis: The weakest basis of its steps.
        measured_s: Seconds by real parties; None if it was not measured.
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
    def place(self) -> tuple[str, Deployment, str, str]:
        """The bar or ring that it is a piece of."""
        return (self.panel, self.deployment, self.x, self.series)

    @property
    def shown_s(self) -> float:
        """Measured seconds where there are any, else predicted ones."""
        return self.latency_s if self.measured_s is None else self.measured_s


def price_groups(
    fitted: FittedProfile,
    network: Network,
    steps: Sequence[Step],
    groups: Sequence[str],
    group_of: Callable[[Step], str],
    *,
    panel: str,
    x: str = "",
) -> tuple[GroupCost, ...]:
    """Return the cost of each group of `steps`, in the order of `groups`.

    Groups without a step are left out. What a call costs however little it does is in
    `other`, if there is such a group, so that the groups add up to the latency of all
    steps.

    Raises:
        MissingEntryError: If the profile lacks an operation; it names the profile.
    """
    of_group = {
        group: tuple(step for step in steps if group_of(step) == group)
        for group in groups
    }
    return tuple(
        price(fitted, network, own, panel=panel, x=x, group=group)
        for group, own in of_group.items()
        if own
    )


def price(
    fitted: FittedProfile,
    network: Network,
    steps: tuple[Step, ...],
    *,
    panel: str,
    x: str = "",
    series: str = "",
    group: str,
) -> GroupCost:
    """Return the cost of all of `steps` as one number; see `price_groups`."""
    try:
        predicted = fitted.model.predict(steps, network)
    except MissingEntryError as error:
        raise MissingEntryError(f"{fitted.path}: {error}") from None
    call_s = 0.0 if group == "other" else predicted.per_call_s
    return GroupCost(
        panel=panel,
        deployment=fitted.deployment,
        x=x,
        series=series,
        group=group,
        latency_s=predicted.latency_s - call_s,
        bytes_sent=predicted.bytes_sent,
        hops=predicted.hops,
        basis=predicted.basis,
        steps=steps,
    )


def costs_at(
    costs: Sequence[GroupCost], panel: str, x: str = ""
) -> dict[str, GroupCost]:
    """Return the costs of one bar or ring by group."""
    return {cost.group: cost for cost in costs if (cost.panel, cost.x) == (panel, x)}


def share(costs: Sequence[GroupCost], panel: str, x: str, group: str) -> float:
    """Return a group's share of its bar or ring; 0 if that has no such group."""
    own = costs_at(costs, panel, x)
    total_s = sum(cost.shown_s for cost in own.values())
    return own[group].shown_s / total_s if group in own else 0.0
