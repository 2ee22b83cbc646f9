"""A table of attention variants: what each costs, or why its result was refused."""

from typing import Final, NamedTuple

from attention_properties import PRINTED, PROPERTIES
from mpcprof.units import format_bytes, format_duration
from mpcvit.paper.published import TABLE_2

HEADS: Final = 4
PAPER: Final = {one.attention or "relu_unscaled": one.latency_s for one in TABLE_2}
HEADER: Final = (
    *("variant", *PROPERTIES, "plain", "private", "sent", "hops", "rank"),
    *("paper", "its rank"),
)


class Cost(NamedTuple):
    """What heads cost one by one; bytes are those of rank 0."""

    latency_s: float
    bytes_sent: float
    hops: float


class Row(NamedTuple):
    """A variant; nothing but `refused` if no result of it was right."""

    variant: str
    properties: tuple[bool, ...]
    plain_s: float
    latency_s: float | None
    bytes_sent: float | None
    hops: float | None
    paper_s: float | None
    refused: str = ""

    @property
    def is_ranked(self) -> bool:
        """Whether both this table and the paper's have seconds."""
        return None not in (self.latency_s, self.paper_s)

    def cells(self, ranked: list["Row"]) -> tuple[str, ...]:
        """Return the row as text, with ranks among those that the paper times."""
        pairs = zip(self.properties, PRINTED[self.variant], strict=True)
        return (
            self.variant,
            *(f"{'yes' if own else 'no'}{' (*)' * (own != one)}" for own, one in pairs),
            format_duration(self.plain_s, digits=3),
            *self._cost_cells(),
            self._rank("latency_s", ranked),
            f"{self.paper_s:g} s" if self.paper_s else "fail",
            self._rank("paper_s", ranked),
        )

    def _cost_cells(self) -> tuple[str, ...]:
        if self.latency_s is None or self.bytes_sent is None or self.hops is None:
            return ("refused", "-", "-")
        return (
            format_duration(self.latency_s, digits=4),
            format_bytes(self.bytes_sent, digits=4),
            f"{self.hops:g}",
        )

    def _rank(self, key: str, ranked: list["Row"]) -> str:
        order = sorted(getattr(row, key) for row in ranked)
        return str(order.index(getattr(self, key)) + 1) if self.is_ranked else "-"


def make_row(
    variant: str,
    plain: tuple[tuple[bool, ...], float],
    costs: dict[str, Cost],
    refused: dict[str, str],
) -> Row:
    """Return the row of a variant, its heads one by one."""
    cost = costs.get(f"attn.{variant}")
    if cost is None:
        reason = refused[f"attn.{variant}"]
        return Row(variant, *plain, None, None, None, PAPER[variant], reason)
    own = (HEADS * cost.latency_s, HEADS * cost.bytes_sent, HEADS * cost.hops)
    return Row(variant, *plain, *own, PAPER[variant])
