"""Figure 1: a Transformer block over heads and tokens, and softmax's error under MPC.

Source: MPCViT Figure 1 and what sections 1 and 3 say of it.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from mpcprof.figures.panels import Absent, Bars, Lines, Panel, Series
from mpcprof.predict import GROUPS, operation_group
from mpcvit.paper.cases import (
    BLOCK_HEADS,
    BLOCK_TOKENS,
    BLOCK_WIDTH,
    HEADS,
    TOKENS,
    CaseConfig,
    block_steps,
)
from mpcvit.paper.costs import FittedProfile, GroupCost, costs_at, price_groups, share
from mpcvit.paper.figure import COUNTS, Figure, FigureRow, Sentence, percent
from mpcvit.paper.softmax_error import ErrorTable

_MANY_HEADS: Final = 8
_MANY_TOKENS: Final = 145
_SMALL_ERROR: Final = 0.05
_GROWS: Final = 3.0  # times, from the smallest to the largest variance


class Figure1(Figure):
    """A block by group of operations over heads (a) and tokens (b), and errors (c)."""

    protocols = ("semi2k",)
    has_errors = True

    def price(
        self, profiles: Sequence[FittedProfile], config: CaseConfig
    ) -> tuple[GroupCost, ...]:
        """Return the groups of every bar of panels (a) and (b)."""
        (fitted,) = profiles
        bars = [("a", str(n), block_steps(n, BLOCK_TOKENS, config)) for n in HEADS]
        bars += [("b", str(n), block_steps(BLOCK_HEADS, n, config)) for n in TOKENS]
        return tuple(
            cost
            for panel, x, steps in bars
            for cost in price_groups(
                fitted, config.network, steps, GROUPS, operation_group, panel=panel, x=x
            )
        )

    def panels(self, row: FigureRow, prefix: str) -> tuple[Panel, ...]:
        """Return two stacks of columns and the lines of errors."""
        return (
            _stack(
                row.costs,
                "a",
                HEADS,
                f"{prefix}(a) block of {BLOCK_TOKENS} tokens, width {BLOCK_WIDTH}",
                "number of heads",
            ),
            _stack(
                row.costs,
                "b",
                TOKENS,
                f"(b) block of {BLOCK_HEADS} heads, width {BLOCK_WIDTH}",
                "number of tokens",
            ),
            _error_panel(row),
        )

    def sentences(self, row: FigureRow) -> tuple[Sentence, ...]:
        """Hold five sentences on latency and errors against the numbers."""
        costs, of = row.costs, str(row.costs[0].deployment)
        return (
            _largest_when_many(costs, of),
            _majority(costs, of),
            _linear_counts(costs, of, "a", HEADS, "heads"),
            _linear_counts(costs, of, "b", TOKENS, "tokens"),
            *_error_sentences(row.errors, of),
        )

    def notes(self, config: CaseConfig, rows: Sequence[FigureRow]) -> list[str]:
        """Name the width that was chosen, and errors that nobody measured."""
        return [
            f"the paper gives no width for its block; ours is {BLOCK_WIDTH}",
            *(
                f"panel (c) is missing: no {row.errors_path} of this deployment; "
                "`mpcvit breakdown fig1 --measured --profiles FOLDER` measures it into "
                "that folder"
                for row in rows
                if row.errors is None
            ),
        ]


def _stack(
    costs: Sequence[GroupCost],
    panel: str,
    sizes: Sequence[int],
    title: str,
    x_label: str,
) -> Bars:
    bars = [costs_at(costs, panel, str(size)) for size in sizes]
    return Bars(
        title=title,
        x_label=x_label,
        y_label="latency of a Transformer block (s)",
        categories=tuple(str(size) for size in sizes),
        series=tuple(
            Series(
                name=group,
                values=tuple(
                    bar[group].shown_s if group in bar else 0.0 for bar in bars
                ),
            )
            for group in GROUPS
        ),
        is_stacked=True,
    )


def _error_panel(row: FigureRow) -> Panel:
    title = "(c) error under MPC"
    if row.errors is None:
        return Absent(
            title=title,
            text=f"not measured yet: no {row.errors_path}; `mpcvit breakdown fig1 "
            "--measured` measures it",
        )
    names = {"softmax": "softmax", "ReLU softmax": "relu_softmax"}
    return Lines(
        title=title,
        x_label="variance of the scores",
        y_label="relative error (mean over entries)",
        x=row.errors.variances,
        series=tuple(
            Series(name=name, values=tuple(row.errors.errors_of(kernel)))
            for name, kernel in names.items()
        ),
    )


def _bars() -> Iterator[tuple[str, str, str]]:
    """Yield panel, x and name of every bar."""
    yield from (("a", str(n), f"{n} heads" if n > 1 else "1 head") for n in HEADS)
    yield from (("b", str(n), f"{n} tokens") for n in TOKENS)


def _largest_when_many(costs: Sequence[GroupCost], of: str) -> Sentence:
    least = {"a": _MANY_HEADS, "b": _MANY_TOKENS}
    many = [(p, x, name) for p, x, name in _bars() if int(x) >= least[p]]
    largest = {
        max(costs_at(costs, panel, x).values(), key=lambda cost: cost.shown_s).group
        for panel, x, _ in many
    }
    shown = ", ".join(
        f"{name} {percent(share(costs, panel, x, 'softmax'))}"
        for panel, x, name in many
    )
    return Sentence(
        text="softmax is the largest part when heads or tokens are many",
        where="section 1, Figure 1",
        of=of,
        holds=largest == {"softmax"},
        because=f"softmax's share at {shown}",
    )


def _majority(costs: Sequence[GroupCost], of: str) -> Sentence:
    shares = {name: share(costs, panel, x, "softmax") for panel, x, name in _bars()}
    most = [name for name, value in shares.items() if value > 0.5]
    least = min(shares, key=lambda name: shares[name])
    return Sentence(
        text="softmax is the major bottleneck in most cases",
        where="section 3, motivation 1",
        of=of,
        holds=2 * len(most) > len(shares),
        because=f"more than half of the latency in {len(most)} of {len(shares)} bars; "
        f"least at {least}, {percent(shares[least])}",
    )


def _linear_counts(
    costs: Sequence[GroupCost], of: str, panel: str, sizes: Sequence[int], noun: str
) -> Sentence:
    """Check that GeLU and MatMul count where `noun` are few, and less where many."""
    few, many = (
        {group: share(costs, panel, str(n), group) for group in ("GeLU", "MatMul")}
        for n in (sizes[0], sizes[-1])
    )
    at_few, at_many = sum(few.values()), sum(many.values())
    shown = [
        f"GeLU {percent(shares['GeLU'])} and MatMul {percent(shares['MatMul'])} of "
        f"the latency at {n} {noun if n > 1 else noun[:-1]}"
        for n, shares in ((sizes[0], few), (sizes[-1], many))
    ]
    return Sentence(
        text=f"GeLU and MatMul become non-negligible when {noun} are few",
        where="section 3, motivation 1",
        of=of,
        holds=at_few >= COUNTS and at_few > at_many,
        because=f"{shown[0]}, {shown[1]} (criterion: together at least "
        f"{percent(COUNTS)}, and more than where they are many)",
    )


def _error_sentences(errors: ErrorTable | None, of: str) -> Iterator[Sentence]:
    texts = (
        "softmax's relative error grows significantly with the input variance",
        "ReLU softmax's relative error stays small as the variance grows",
    )
    checks: tuple[tuple[bool | None, str], ...] = (
        (None, "not measured on this deployment"),
    ) * 2
    if errors is not None:
        softmax, relu = (errors.errors_of(name) for name in ("softmax", "relu_softmax"))
        grown = softmax[-1] / softmax[0]
        low, high = errors.variances[0], errors.variances[-1]
        checks = (
            (
                grown >= _GROWS,
                f"{softmax[0]:.2g} at variance {low:g}, {softmax[-1]:.2g} at {high:g}: "
                f"{grown:.3g} times (criterion: at least {_GROWS:g} times)",
            ),
            (
                max(relu) <= _SMALL_ERROR,
                f"at most {max(relu):.2g} between variance {low:g} and {high:g}; "
                f"softmax's {max(softmax):.2g} (criterion: at most {_SMALL_ERROR:g})",
            ),
        )
    for text, (holds, because) in zip(texts, checks, strict=True):
        yield Sentence(
            text=text,
            where="section 1, Figure 1(c)",
            of=of,
            holds=holds,
            because=because,
        )
