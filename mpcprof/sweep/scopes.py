"""What each `jax.named_scope` of a function costs, and what no scope explains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mpcprof.engine.scopes import NO_SCOPE
from mpcprof.profile.record import Record
from mpcprof.units import format_bytes, format_duration

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
        return (
            f"  {self.scope:32} {n_parts:>5} {duration:>9} {self.share:6.1%} "
            f"{sent:>9} {self.hops:5.4g} hops"
        )


def scope_costs(whole: Record, parts: Sequence[Record]) -> tuple[ScopeCost, ...]:
    """Return the costs of each scope, in the order of the program; they add up.

    The last one, REST, is the whole less its parts, each a program of its own: what
    compiling them as one changes, and the noise of the seconds.
    """
    if not parts:
        return (_cost(NO_SCOPE, whole, [whole]),)
    by_scope: dict[str, list[Record]] = {}
    for part in parts:
        by_scope.setdefault(part.workload, []).append(part)
    costs = [_cost(scope, whole, own) for scope, own in by_scope.items()]
    return (*costs, _rest(whole, _cost(REST, whole, parts)))


def _cost(scope: str, whole: Record, parts: Sequence[Record]) -> ScopeCost:
    latency_s = sum(part.latency_s for part in parts)
    return ScopeCost(
        scope=scope,
        n_parts=len(parts),
        latency_s=latency_s,
        share=latency_s / whole.latency_s,
        bytes_sent=sum(part.bytes_sent for part in parts),
        total_bytes_sent=sum(part.total_bytes_sent for part in parts),
        hops=sum(part.hops for part in parts),
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
    """Return one line per scope, or one line where there is none."""
    if len(costs) == 1:
        return [f"scopes: {NO_SCOPE}; {_HINT}"]
    title = f"scopes, each a program of its own; {REST}: what compiling as one adds:"
    return [title, *map(str, costs)]


def _signed(text: str, value: float) -> str:
    return f"-{text}" if value < 0 else text
