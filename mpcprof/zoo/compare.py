"""Systems beside each other: what a network of each costs, and how exact it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal, get_args

from mpcprof.costmodel.model import CostModel
from mpcprof.costmodel.prediction import Prediction
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.approximation import Accuracy
from mpcprof.nn.architecture import Heads
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.steps import PRODUCT_OPERATIONS, Step
from mpcprof.predict import check_priced
from mpcprof.units import format_bytes, format_duration, format_hops
from mpcprof.zoo.systems import SYSTEMS, System, get_system

Sort = Literal["seconds", "bytes", "hops", "name"]
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)
SHARES: Final = ("attention", "activation", "norm", "products", "other")
_HEADS: Final = ("attn", "act", "norm", "prod", "other")  # of SHARES, in 80 columns
_EXTRAPOLATED: Final = "~ extrapolated: a size is larger than any measured"


def share_group(step: Step) -> str:
    """Return the member of `SHARES` that a step belongs to.

    Products of matrices are apart wherever they are; a mixer stands for attention;
    `other` is the rest of stem, embedding and classifier.
    """
    if step.operation in PRODUCT_OPERATIONS:
        return "products"
    words = step.part.split("/")
    if "norm" in words or words[0] == "head":
        return "norm"
    if "mlp" in words:
        return "activation"
    return "attention" if {"attention", "mixing"} & {*words} else "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemCost:
    """A system on one network.

    Attributes:
        shares: Share of the seconds by member of `SHARES`; what a call costs once is
            `other`.
    """

    name: str
    system: System
    prediction: Prediction
    shares: Mapping[str, float]

    @property
    def mark(self) -> str:
        """`~` where a size is beyond all that the profile has of its operation."""
        return "~" * (self.prediction.basis == "extrapolated")

    def to_json(self) -> dict[str, object]:
        """Return the row as it stands in `zoo predict --json`."""
        errors = self.system.errors().items()
        own = ("latency_s", "interval_s", "bytes_sent", "total_bytes_sent", "hops")
        return {
            "name": self.name,
            **{key: getattr(self.prediction, key) for key in own},
            "basis": self.prediction.basis,
            "notes": [*self.prediction.notes],
            "shares": dict(self.shares),
            "errors": {part: asdict(error) for part, error in errors},
            "replaced": [*self.system.replaced],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooReport:
    """Every system on one network, in the order asked for.

    Attributes:
        title: Sizes of the network that every system is put into.
        left_out: Systems that are no networks of these sizes, each with the reason.
    """

    title: str
    deployment: str
    network: Network
    costs: tuple[SystemCost, ...]
    left_out: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the document of `zoo predict --json`."""
        return json.dumps(
            {
                "title": self.title,
                "deployment": self.deployment,
                "network": str(self.network),
                "systems": [cost.to_json() for cost in self.costs],
                "left_out": [*self.left_out],
            },
            indent=1,
        )

    @property
    def meaning_of_mark(self) -> str:
        """What `~` says; empty where no system has it."""
        return _EXTRAPOLATED * any(cost.mark for cost in self.costs)

    def header(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return ("system", "seconds", "sent", "hops", *_HEADS, "errors", "replaced")

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each system, as text."""
        return [
            (
                cost.name,
                cost.mark + format_duration(cost.prediction.latency_s, digits=4),
                format_bytes(cost.prediction.bytes_sent, digits=4),
                format_hops(cost.prediction.hops),
                *(f"{cost.shares[group]:.0%}" for group in SHARES),
                ", ".join(map(describe_error, cost.system.errors().values())),
                ", ".join(cost.system.replaced),
            )
            for cost in self.costs
        ]

    def remarks(self) -> list[str]:
        """Return the lines below the table: what `~` means, notes, what is left out.

        Notes on one operation differ from system to system in their figures alone, so
        that only the first is printed.
        """
        noted: dict[str, list[str]] = {}  # by operation
        for cost in self.costs:
            for note in cost.prediction.notes:
                noted.setdefault(note.split(":")[0], []).append(f"{cost.name}: {note}")
        return [
            *filter(None, [self.meaning_of_mark]),
            *(f"note: {first}{_more(others)}" for first, *others in noted.values()),
            *(f"left out: {reason}" for reason in self.left_out),
        ]


def _more(others: Sequence[str]) -> str:
    return f"; such a note for {len(others)} more: see --json" if others else ""


def describe_error(error: Accuracy) -> str:
    """Return an error in words, such as `exp 0.0086 on -14..0`."""
    size = f"{error.max_error:.2g}"
    if error.is_relative:
        size = f"{error.max_error:.2%}"
    return f"{error.of} {size} on {error.low:g}..{error.high:g}"


def compare_systems(
    model: CostModel,
    sizes: ModelPreset,
    network: Network,
    *,
    names: Sequence[str] = (),
    sort: Sort = "seconds",
    heads: Heads = "batched",
    n_batch: int = 1,
) -> ZooReport:
    """Predict a network of these sizes as every system would have it.

        >>> profile = mpcprof.read_profile("profiles/semi2k.parquet")
        >>> fitted = mpcprof.fit_cost_model(profile)
        >>> cifar, wan = mpcprof.get_model("cifar"), mpcprof.parse_network("wan")
        >>> report = compare_systems(fitted, cifar, wan, names=["puma", "the-x"])
        >>> [cost.name for cost in report.costs]
        ['the-x', 'puma']

    Args:
        names: Systems; none for all that are networks of these sizes.

    Raises:
        UnknownNameError: If there is no such system.
        MissingEntryError: If the profile lacks an operation.
        UsageError: If the order is not known, or a named system is another model's.
    """
    if sort not in SORTS:
        raise UsageError(f"sort={sort!r}: expected {', '.join(SORTS)}")
    chosen = {name: get_system(name) for name in names or SYSTEMS}
    traced: dict[str, tuple[Step, ...]] = {}
    left_out = []
    for name, system in chosen.items():
        try:
            traced[name] = _steps(model, system, sizes, heads, n_batch)
        except UsageError as error:
            if names:
                raise UsageError(f"{name}: {error}") from None
            left_out.append(f"{name}: {error}")
    check_priced(model, (step for steps in traced.values() for step in steps))
    costs = [_cost(model, name, chosen[name], traced[name], network) for name in traced]
    return ZooReport(
        title=f"{sizes.name}, {sizes.n_layers} layers, {sizes.n_heads} heads {heads}, "
        f"{sizes.n_tokens} tokens, width {sizes.width}, batch {n_batch}",
        deployment=str(model.deployment),
        network=network,
        costs=tuple(sorted(costs, key=lambda cost: _key(cost, sort))),
        left_out=tuple(left_out),
    )


def _key(cost: SystemCost, sort: Sort) -> tuple[float, str]:
    quantities = {
        "seconds": cost.prediction.latency_s,
        "bytes": cost.prediction.bytes_sent,
        "hops": cost.prediction.hops,
    }
    return quantities.get(sort, 0.0), cost.name


def _steps(
    model: CostModel, system: System, sizes: ModelPreset, heads: Heads, n_batch: int
) -> tuple[Step, ...]:
    architecture = system.build(sizes, heads)
    plan = system.plan_of(architecture, model.deployment)
    return trace_model(architecture, n_batch, plan)


def _cost(
    model: CostModel, name: str, system: System, steps: Sequence[Step], network: Network
) -> SystemCost:
    prediction = model.predict(
        (step._replace(part=share_group(step)) for step in steps), network
    )
    seconds = {part.name: part.latency_s for part in prediction.parts}
    seconds["other"] = seconds.get("other", 0.0) + prediction.per_call_s
    return SystemCost(
        name=name,
        system=system,
        prediction=replace(prediction, parts=()),
        shares={
            group: seconds.get(group, 0.0) / prediction.latency_s for group in SHARES
        },
    )
