"""What the paper says of its figures, held against the numbers of ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import correlation
from typing import Final

from mpcprof.predict import SOFTMAX_GROUPS
from mpcvit.paper.costs import Cost, at, share
from mpcvit.paper.softmax_error import ErrorTable
from mpcvit.paper.subjects import HEADS, TOKENS

# What "non-negligible" and "important" are taken to mean: the paper gives no number.
_COUNTS: Final = 0.10  # of the latency
_MANY_HEADS: Final = 8
_MANY_TOKENS: Final = 145
_PROPORTIONAL: Final = 0.95  # Pearson's r of latency and bytes
_SMALL_ERROR: Final = 0.05
_GROWS: Final = 3.0  # times, from the smallest to the largest variance


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A claim of the paper.

    Attributes:
        where: In the paper.
        of: The deployment whose numbers it is held against.
        holds: None where it could not be checked.
        because: The numbers that decide, or why it could not be checked.
    """

    text: str
    where: str
    of: str
    holds: bool | None
    because: str

    def __str__(self) -> str:
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "not checked"}
        return f"{verdict[self.holds]}: {self.text} ({self.where}): {self.because}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _bars() -> list[tuple[str, str, str]]:
    """(panel, x, name) of every bar of Figure 1."""
    bars = [("a", str(n), f"{n} heads" if n > 1 else "1 head") for n in HEADS]
    return bars + [("b", str(n), f"{n} tokens") for n in TOKENS]


def fig1_sentences(
    costs: Sequence[Cost], errors: ErrorTable | None
) -> tuple[Sentence, ...]:
    """Of one deployment."""
    of = str(costs[0].deployment)
    return (
        _largest_when_many(costs, of),
        _majority(costs, of),
        _linear_counts(costs, of, "a", HEADS, "heads"),
        _linear_counts(costs, of, "b", TOKENS, "tokens"),
        *_error_sentences(errors, of),
    )


def _largest_when_many(costs: Sequence[Cost], of: str) -> Sentence:
    many = [
        (panel, x, name)
        for panel, x, name in _bars()
        if int(x) >= (_MANY_HEADS if panel == "a" else _MANY_TOKENS)
    ]
    largest = {
        name: max(group.values(), key=lambda cost: cost.shown_s).group
        for panel, x, name in many
        if (group := at(costs, panel, x))
    }
    shown = ", ".join(
        f"{name} {_percent(share(costs, panel, x, 'softmax'))}"
        for panel, x, name in many
    )
    return Sentence(
        text="softmax is the largest part when heads or tokens are many",
        where="section 1, Figure 1",
        of=of,
        holds={*largest.values()} == {"softmax"},
        because=f"softmax's share at {shown}",
    )


def _majority(costs: Sequence[Cost], of: str) -> Sentence:
    shares = {name: share(costs, panel, x, "softmax") for panel, x, name in _bars()}
    most = [name for name, value in shares.items() if value > 0.5]
    least = min(shares, key=lambda name: shares[name])
    return Sentence(
        text="softmax is the major bottleneck in most cases",
        where="section 3, motivation 1",
        of=of,
        holds=2 * len(most) > len(shares),
        because=f"more than half of the latency in {len(most)} of {len(shares)} bars; "
        f"least at {least}, {_percent(shares[least])}",
    )


def _linear_counts(
    costs: Sequence[Cost], of: str, panel: str, sizes: Sequence[int], noun: str
) -> Sentence:
    """Whether GeLU and MatMul count where `noun` are few, and less where many."""
    few, many = (
        {group: share(costs, panel, str(n), group) for group in ("GeLU", "MatMul")}
        for n in (sizes[0], sizes[-1])
    )
    at_few, at_many = sum(few.values()), sum(many.values())
    shown = [
        f"GeLU {_percent(shares['GeLU'])} and MatMul {_percent(shares['MatMul'])} of "
        f"the latency at {n} {noun if n > 1 else noun[:-1]}"
        for n, shares in ((sizes[0], few), (sizes[-1], many))
    ]
    return Sentence(
        text=f"GeLU and MatMul become non-negligible when {noun} are few",
        where="section 3, motivation 1",
        of=of,
        holds=at_few >= _COUNTS and at_few > at_many,
        because=f"{shown[0]}, {shown[1]} (together at least {_percent(_COUNTS)}, and "
        "more than where they are many)",
    )


def _error_sentences(errors: ErrorTable | None, of: str) -> tuple[Sentence, ...]:
    texts = (
        "softmax's relative error grows significantly with the input variance",
        "ReLU softmax's relative error stays small as the variance grows",
    )
    if errors is None:
        return tuple(
            Sentence(
                text=text,
                where="section 1, Figure 1(c)",
                of=of,
                holds=None,
                because="not measured on this deployment",
            )
            for text in texts
        )
    softmax, relu = (errors.errors_of(name) for name in ("softmax", "relu_softmax"))
    grown = softmax[-1] / softmax[0]
    low, high = errors.variances[0], errors.variances[-1]
    return (
        Sentence(
            text=texts[0],
            where="section 1, Figure 1(c)",
            of=of,
            holds=grown >= _GROWS,
            because=f"{softmax[0]:.2g} at variance {low:g}, {softmax[-1]:.2g} at "
            f"{high:g}: {grown:.3g} times",
        ),
        Sentence(
            text=texts[1],
            where="section 1, Figure 1(c)",
            of=of,
            holds=max(relu) <= _SMALL_ERROR,
            because=f"at most {max(relu):.2g} between variance {low:g} and {high:g}; "
            f"softmax's {max(softmax):.2g}",
        ),
    )


def fig3_sentences(costs: Sequence[Cost]) -> tuple[Sentence, ...]:
    """Of one ring."""
    of = str(costs[0].deployment)
    parts = {cost.group: share(costs, "a", "", cost.group) for cost in costs}
    inside = {name: share(costs, "b", "", name) for name in SOFTMAX_GROUPS}
    named = {
        name: value for name, value in inside.items() if name in SOFTMAX_GROUPS[:3]
    }
    softmax = parts["softmax"]
    return (
        Sentence(
            text="softmax is the major latency bottleneck",
            where="section 3, motivation 1, Figure 3(a)",
            of=of,
            holds=softmax == max(parts.values()),
            because=f"{_percent(softmax)} of the latency, GeLU "
            f"{_percent(parts['GeLU'])}, MatMul {_percent(parts['MatMul'])}",
        ),
        Sentence(
            text="exp, reciprocal and max are all important for softmax's latency",
            where="section 3, motivation 1, Figure 3(b)",
            of=of,
            holds=min(named.values()) >= _COUNTS and sum(named.values()) > 0.5,
            because=", ".join(f"{n} {_percent(v)}" for n, v in inside.items())
            + f" (at least {_percent(_COUNTS)} counts)",
        ),
    )


def fig8_sentences(costs: Sequence[Cost]) -> tuple[Sentence, ...]:
    """Of one deployment."""
    seconds = [cost.shown_s for cost in costs]
    bytes_sent = [cost.bytes_sent for cost in costs]
    r = correlation(seconds, bytes_sent)
    rates = {
        name: [c.shown_s / c.bytes_sent * 1e6 for c in costs if c.series == name]
        for name in dict.fromkeys(cost.series for cost in costs)
    }
    shown = ", ".join(
        f"{name} {min(rate):.3f} to {max(rate):.3f}"
        if max(rate) > 1.001 * min(rate)
        else f"{name} {rate[0]:.3f}"
        for name, rate in rates.items()
    )
    return (
        Sentence(
            text="the latency changes proportionally with the communication",
            where="section 5.2, Figure 8",
            of=str(costs[0].deployment),
            holds=r >= _PROPORTIONAL,
            because=f"Pearson's r is {r:.3f} over all layers (at least "
            f"{_PROPORTIONAL:g} counts); seconds per MB: {shown}",
        ),
    )
