"""A multiple-choice knapsack: of every group of units none, some or all are kept.

Units of a group (the rows of a head, the tokens of a layer) cost the same, so that of k
kept ones the k most valuable are the best: what is left to choose is k of each group.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]
_CANDIDATES: Final = 100_000  # of a step, which then takes 0.03 s; heads are steps
_GRAIN: Final = 1e-11  # of worth: less between two fillings is the sums' own error
_HALVINGS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Counts of units that may be kept, and what each costs and is worth; (K,) each.

    Attributes:
        ticks: Cost in whole ticks: equal sums are equal in whatever order.
    """

    kept: Counts
    ticks: Counts
    values: Numbers


Mode = tuple[Group, ...]
Block = tuple[Mode, ...]  # one of its modes is chosen, then a count of each group


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filling:
    """A count for each group of each block, in order.

    Attributes:
        bound: No filling is worth more.
    """

    kept: tuple[int, ...]
    value: float
    bound: float


def least_ticks(blocks: Sequence[Block]) -> int:
    """What the quickest filling costs."""
    return sum(min(map(_least, block)) for block in blocks)


def _least(mode: Mode) -> int:
    return sum(int(group.ticks.min()) for group in mode)


def fill(blocks: Sequence[Block], budget: int) -> Filling:
    """The most valuable filling of at most so many ticks, at least the least.

    Under a price of ticks every filling is worth at most a bound, and each choice in it
    has a loss against that. Those that may still exceed a greedy filling are extended
    group by group; one that is no quicker than another and worth no more is dropped.
    Where too many are left, those of the largest losses are, and the bound says so.
    """
    price, greedy = _find_price(blocks, budget)
    greedy = _use_up(greedy, budget)
    value = sum(float(group.values[item]) for group, item in greedy)
    bound = price * budget + sum(
        max(_net(mode, price) for mode in block) for block in blocks
    )
    extension = _Extension(budget, max(bound - value, 0.0))
    states = _extend_all(blocks, price, extension)
    bound = bound - extension.allowed_loss if extension.is_cut else value
    kept = [int(group.kept[item]) for group, item in greedy]
    if states.values.size and states.values.max() > value:
        best = int(states.values.argmax())
        value, kept = float(states.values[best]), extension.kept_by(states.nodes[best])
    return Filling(kept=tuple(kept), value=value, bound=max(bound, value))


Picks = list[tuple[Group, int]]  # an item of each group


def _net(mode: Mode, price: float) -> float:
    return sum(float((group.values - price * group.ticks).max()) for group in mode)


def _buy(blocks: Sequence[Block], price: float) -> Picks:
    """What is worth most beyond its price; the block's first mode of equal ones."""
    modes = (max(block, key=lambda mode: _net(mode, price)) for block in blocks)
    return [
        (group, int((group.values - price * group.ticks).argmax()))
        for mode in modes
        for group in mode
    ]


def _total(picks: Picks) -> int:
    return sum(int(group.ticks[item]) for group, item in picks)


def _find_price(blocks: Sequence[Block], budget: int) -> tuple[float, Picks]:
    """The least price of a tick that keeps to the budget, and what it buys."""
    low, high = 0.0, 1.0 / max(abs(budget), 1)
    if _total(free := _buy(blocks, low)) <= budget:
        return low, free
    while _total(bought := _buy(blocks, high)) > budget:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if _total(tried := _buy(blocks, middle)) <= budget:
            high, bought = middle, tried
        else:
            low = middle
    return high, bought


def _use_up(picks: Picks, budget: int) -> Picks:
    """The most valuable change of one group, as long as there is room for any."""
    picks = list(picks)
    while True:
        left = budget - _total(picks)
        gains = []
        for group, now in picks:
            fits = group.ticks - group.ticks[now] <= left
            item = int(np.where(fits, group.values, -np.inf).argmax())
            gains.append((float(group.values[item] - group.values[now]), item))
        place = max(range(len(gains)), key=lambda index: gains[index][0])
        gain, item = gains[place]
        if gain <= 0:
            return picks
        picks[place] = picks[place][0], item


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _States:
    """Partial fillings: ticks, worth, loss, and the node that says of what; (S,)."""

    ticks: Counts
    values: Numbers
    losses: Numbers
    nodes: Counts

    def undominated(self) -> "_States":
        """Those than which none is as quick and worth as much."""
        order = np.lexsort((-self.values, self.ticks))
        grains = np.floor(self.values[order] / _GRAIN)
        before = np.maximum.accumulate(np.concatenate([[-np.inf], grains]))[:-1]
        order = order[grains > before]
        return _States(
            ticks=self.ticks[order],
            values=self.values[order],
            losses=self.losses[order],
            nodes=self.nodes[order],
        )


def _merged(parts: Sequence[_States]) -> _States:
    if len(parts) == 1:
        return parts[0]
    return _States(
        ticks=np.concatenate([part.ticks for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        losses=np.concatenate([part.losses for part in parts]),
        nodes=np.concatenate([part.nodes for part in parts]),
    ).undominated()


class _Extension:
    """Extends partial fillings, and remembers how each came about.

    Attributes:
        allowed_loss: Fillings of more are left out.
        is_cut: Whether it had to be lowered.
    """

    def __init__(self, budget: int, allowed_loss: float) -> None:
        self.allowed_loss = allowed_loss
        self.is_cut = False
        self._budget = budget
        self._parents = [np.zeros(1, dtype=np.int64)]
        self._kept = [np.zeros(1, dtype=np.int64)]
        self._n_nodes = 1

    def extend(
        self, states: _States, group: Group, losses: Numbers, rest: int
    ) -> _States:
        """Each state with each item; `rest` ticks at least are yet to come."""
        order = np.argsort(losses, kind="stable")
        counts = self._count(losses[order], states.losses)
        source = np.repeat(np.arange(counts.size), counts)
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        item = order[np.arange(source.size) - firsts]
        ticks = states.ticks[source] + group.ticks[item]
        fits = np.flatnonzero(ticks <= self._budget - rest)
        source, item = source[fits], item[fits]
        extended = _States(
            ticks=ticks[fits],
            values=states.values[source] + group.values[item],
            losses=states.losses[source] + losses[item],
            nodes=np.arange(fits.size),
        ).undominated()
        self._parents.append(states.nodes[source[extended.nodes]])
        self._kept.append(group.kept[item[extended.nodes]])
        nodes = self._n_nodes + np.arange(extended.nodes.size)
        self._n_nodes += nodes.size
        return replace(extended, nodes=nodes)

    def _count(self, ranked: Numbers, losses: Numbers) -> Counts:
        """How many of the ranked items go with each state, within the allowed loss."""

        def count(allowed_loss: float) -> Counts:
            counts: Counts = np.searchsorted(ranked, allowed_loss - losses, "right")
            return counts

        if count(self.allowed_loss).sum() > _CANDIDATES:
            self.is_cut = True
            low, high = 0.0, self.allowed_loss
            for _ in range(_HALVINGS // 2):
                middle = (low + high) / 2
                is_more = count(middle).sum() > _CANDIDATES
                low, high = (low, middle) if is_more else (middle, high)
            self.allowed_loss = low
        return count(self.allowed_loss)

    def kept_by(self, node: int) -> list[int]:
        """The counts of a filling, the first group's first."""
        parents, kept = np.concatenate(self._parents), np.concatenate(self._kept)
        found = []
        while node:
            found.append(int(kept[node]))
            node = int(parents[node])
        return found[::-1]


def _extend_all(
    blocks: Sequence[Block], price: float, extension: _Extension
) -> _States:
    """Whole fillings within the extension's loss; none where nothing is."""
    zero = np.zeros(1, dtype=np.int64)
    states = _States(ticks=zero, values=np.zeros(1), losses=np.zeros(1), nodes=zero)
    rest = least_ticks(blocks)
    for block in blocks:
        rest -= min(map(_least, block))
        nets = [_net(mode, price) for mode in block]
        parts = []
        for mode, net in zip(block, nets, strict=True):
            loss = max(nets) - net
            part = replace(states, losses=states.losses + loss)
            own_rest = rest + _least(mode)
            for group in mode:
                own_rest -= int(group.ticks.min())
                worth = group.values - price * group.ticks
                part = extension.extend(part, group, worth.max() - worth, own_rest)
            parts.append(part)
        states = _merged(parts)
    return states
