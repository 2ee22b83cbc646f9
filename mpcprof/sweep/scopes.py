"""What each `jax.named_scope` of a function costs, and what no scope explains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mpcprof.engine.scopes import NO_SCOPE
from mpcprof.profile.record import Record
from mpcprof.units import format_bytes, format_duration, format_hops

REST: Final = "(rest)"
_HINT = "name parts of the function by jax.named_scope to see what each costs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeCost:
    """Costs of the operations of one scope.

    Attributes:
        scope: Its names from the outermost one; a scope within it has its own costs.
        n_parts: Number of its runs of operations, such as turns of a loop.
        share: Part of the latency of the whole.
    """

    scope: str
    n_parts: int
    latency_s: float
    share: float
    bytes_sent: int
    total_bytes_sent: int
    hops: float

    def __str__(self) -> str:
        n_parts = f"{self.n_parts} x" if self.n_parts > 1 else ""
        duration = _signed(
            format_duration(abs(self.latency_s), digits=3), self.latency_s
        )
        sent = _signed(format_bytes(abs(self.bytes_sent), digits=3), self.bytes_sent)
        share = f"{self.share:.1%}" if self.share >= 0 else ""  # saved, or noise
        return (
            f"  {self.scope:32} {n_parts:>5} {duration:>9} {share:>6} "
            f"{sent:>9} {format_hops(self.hops):>5} hops"
        )


def scope_costs(whole: Record, parts: Sequence[Record]) -> tuple[ScopeCost, ...]:
    """Return the costs of each scope, in the order of the program; they add up.

    The last one, REST, is the whole less its parts, each a program of its own: what
    compiling them as one changes, and the noise of the seconds.
    """
    if not parts:
        return (replace(_cost(whole, whole), scope=NO_SCOPE),)
    each = [_cost(whole, part) for part in parts]
    return (*_by_name(each, lambda name: name), _rest(whole, _sum_of(REST, each)))


def _cost(whole: Record, part: Record) -> ScopeCost:
    return ScopeCost(
        scope=part.workload,
        n_parts=1,
        latency_s=part.latency_s,
        share=part.latency_s / whole.latency_s,
        bytes_sent=part.bytes_sent,
        total_bytes_sent=part.total_bytes_sent,
        hops=part.hops,
    )


def _by_name(
    costs: Sequence[ScopeCost], name_of: Callable[[str], str]
) -> list[ScopeCost]:
    """Return the sum of the costs of each name, in the order of the names."""
    found: dict[str, list[ScopeCost]] = {}
    for cost in costs:
        found.setdefault(name_of(cost.scope), []).append(cost)
    return [_sum_of(name, own) for name, own in found.items()]


def _sum_of(name: str, costs: Sequence[ScopeCost]) -> ScopeCost:
    return ScopeCost(
        scope=name,
        n_parts=sum(cost.n_parts for cost in costs),
        latency_s=sum(cost.latency_s for cost in costs),
        share=sum(cost.share for cost in costs),
        bytes_sent=sum(cost.bytes_sent for cost in costs),
        total_bytes_sent=sum(cost.total_bytes_sent for cost in costs),
        hops=sum(cost.hops for cost in costs),
    )


def _rest(whole: Record, together: ScopeCost) -> ScopeCost:
    return ScopeCost(
        scope=REST,
        n_parts=0,
        latency_s=whole.latency_s - together.latency_s,
        share=1 - together.share,
        bytes_sent=whole.bytes_sent - together.bytes_sent,
        total_bytes_sent=whole.total_bytes_sent - together.total_bytes_sent,
        hops=whole.hops - together.hops,
    )


def scope_table(costs: Sequence[ScopeCost]) -> list[str]:
    """Return one line per scope, or one line where there is none.

    Where scopes stand within others, the outermost ones follow with all that is in
    them.
    """
    if len(costs) == 1:
        return [f"scopes: {NO_SCOPE}; {_HINT}"]
    title = (
        f"scopes, each a program of its own; {REST}: what compiling as one adds, or "
        "saves where below 0, and noise:"
    )
    table = [title, *map(str, costs)]
    if any("/" in cost.scope for cost in costs):
        outermost = _by_name(costs, lambda name: name.split("/")[0])
        shown = (str(replace(one, n_parts=0)) for one in outermost)
        table += ["outermost scopes, with those in them:", *shown]
    return table


def _signed(text: str, value: float) -> str:
    return f"-{text}" if value < 0 else text
