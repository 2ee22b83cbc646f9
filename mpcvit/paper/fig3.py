"""Figure 3: shares of the CIFAR model and of its softmax, a ring for each protocol.

Source: MPCViT Figure 3 and what section 3 says of it.
"""

from collections.abc import Sequence

from mpcprof.figures.panels import Panel, Ring, Rings
from mpcprof.predict import GROUPS, SOFTMAX_GROUPS, operation_group, softmax_group
from mpcprof.units import format_duration
from mpcvit.paper.cases import CaseConfig, model_steps
from mpcvit.paper.costs import (
    FittedProfile,
    GroupCost,
    check_differ_in,
    costs_at,
    price_groups,
    share,
)
from mpcvit.paper.figure import COUNTS, Figure, FigureRow, Sentence, percent


class Figure3(Figure):
    """The CIFAR model by group of operations (a), its softmax by operation (b)."""

    protocols = ("semi2k", "cheetah")  # outside, inside

    def price(
        self, profiles: Sequence[FittedProfile], config: CaseConfig
    ) -> tuple[GroupCost, ...]:
        """Return the groups of both rings of each profile, the outermost first."""
        for other in profiles[1:]:
            check_differ_in("protocol", profiles[0], other, "rings of one figure")
        steps = model_steps("cifar", config)
        of_softmax = [step for step in steps if operation_group(step) == "softmax"]
        panels = (
            ("a", steps, GROUPS, operation_group),
            ("b", of_softmax, SOFTMAX_GROUPS, softmax_group),
        )
        return tuple(
            cost
            for fitted in profiles
            for panel, own, groups, group_of in panels
            for cost in price_groups(
                fitted, config.network, own, groups, group_of, panel=panel
            )
        )

    def panels(self, row: FigureRow, prefix: str) -> tuple[Panel, ...]:
        """Return the rings of the model and those of its softmax."""
        return (
            _rings(row, "a", GROUPS, f"{prefix}(a) 4 heads, 65 tokens, width 256"),
            _rings(row, "b", SOFTMAX_GROUPS, "(b) its softmax"),
        )

    def sentences(self, row: FigureRow) -> tuple[Sentence, ...]:
        """Hold two sentences on softmax against each ring."""
        return tuple(
            sentence
            for fitted in row.profiles
            for sentence in _ring_sentences(_own_costs(row, fitted))
        )


def _own_costs(row: FigureRow, fitted: FittedProfile) -> list[GroupCost]:
    return [cost for cost in row.costs if cost.deployment == fitted.deployment]


def _rings(row: FigureRow, panel: str, groups: Sequence[str], title: str) -> Rings:
    rings = []
    for fitted in row.profiles:
        own = costs_at(_own_costs(row, fitted), panel)
        total_s = sum(cost.shown_s for cost in own.values())
        rings.append(
            Ring(
                label=fitted.deployment.protocol,
                total=format_duration(total_s, digits=4),
                shares=tuple((g, own[g].shown_s) for g in groups if g in own),
            )
        )
    return Rings(title=title, rings=tuple(rings))


def _ring_sentences(costs: Sequence[GroupCost]) -> tuple[Sentence, ...]:
    of = str(costs[0].deployment)
    parts = {group: share(costs, "a", "", group) for group in costs_at(costs, "a")}
    inside = {name: share(costs, "b", "", name) for name in SOFTMAX_GROUPS}
    named = [inside[name] for name in ("exp", "reciprocal", "max")]
    return (
        Sentence(
            text="softmax is the major latency bottleneck",
            where="section 3, motivation 1, Figure 3(a)",
            of=of,
            holds=parts["softmax"] == max(parts.values()),
            because=f"{percent(parts['softmax'])} of the latency, GeLU "
            f"{percent(parts['GeLU'])}, MatMul {percent(parts['MatMul'])}",
        ),
        Sentence(
            text="exp, reciprocal and max are all important for softmax's latency",
            where="section 3, motivation 1, Figure 3(b)",
            of=of,
            holds=min(named) >= COUNTS and sum(named) > 0.5,
            because=", ".join(f"{n} {percent(v)}" for n, v in inside.items())
            + f" (criterion: each at least {percent(COUNTS)}, together over half)",
        ),
    )
