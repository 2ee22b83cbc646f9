"""Networks of a space drawn at random, within a budget of seconds.

The shares p of each layer's choices become p exp(-price seconds), normalised, with the
price at which a network costs the budget on average. That changes how often a cost is
drawn, and not which of the networks of one cost: those kept, whose exact seconds are
near the budget, are distributed as by p alone. With equal shares, every network of the
space that costs the budget is equally likely.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.preset import ModelPreset
from mpcprof.units import format_at_least, format_duration
from mpcvit.search.layers.cost import Pricer
from mpcvit.search.layers.space import LayerSpace, make_architecture

Numbers: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]
_STEEPEST_PER_S: Final = 1e4  # a price: choices a millisecond apart differ e^10 times
_LEAST_SHARE: Final = 1e-30  # whose logarithm is finite
_ROOM: Final = 0.05  # by which a sum of layers' seconds may be off
_DRAWS: Final = 400  # for each network that is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A network of a space with its exact seconds; equal ones are one network.

    Attributes:
        model_number: Place of its model among the space's.
        places: Place of each layer's choice among the space's. Several make one
            network, such as a layer left out in the front or at the end.
    """

    architecture: Architecture
    predicted_s: float
    model_number: int = field(default=0, compare=False)
    places: tuple[int, ...] = field(default=(), compare=False)


class Sampler:
    """Draws networks of a space, in each of the models that it allows.

    Shares are equal at first. A model of another depth than the first has the shares of
    the layers at the same relative depth.

    Attributes:
        cost: Seconds of the layers in the first model.

    Raises:
        MissingEntryError: If the profile lacks an operation of the space.
    """

    def __init__(self, space: LayerSpace, model: ModelPreset, pricer: Pricer) -> None:
        self._space = space
        self._pricer = pricer
        self._choices = space.choices
        n_choices = len(self._choices)
        self._shares = np.full((1, n_choices), 1 / n_choices)
        self._models = space.sized(model)
        costs = [pricer.layer_cost(one, space) for one in self._models]
        self.cost = costs[0]
        self._layer_s = [cost.layer_s(space) for cost in costs]
        self._rest_s = [float(cost.rest_s.min()) for cost in costs]

    def with_shares(self, shares: Numbers) -> "Sampler":
        """Return a sampler by the shares of each choice in each layer, (L, K)."""
        other = copy.copy(self)
        other._shares = shares
        return other

    @property
    def least_s(self) -> float:
        """Seconds of the quickest network of one layer, about."""
        quickest = [layer_s[layer_s > 0].min() for layer_s in self._layer_s]
        return float(min(map(sum, zip(quickest, self._rest_s, strict=True))))

    def draw(
        self, budget_s: float, n: int, *, seed: int, tolerance: float | None = None
    ) -> tuple[Sampled, ...]:
        """Return n different networks of at most `budget_s`.

        Args:
            tolerance: Networks cost at most so much less than the budget, as a share;
                None for any that are likely enough.

        Raises:
            UsageError: If there are not so many.
        """
        random = np.random.default_rng(seed)
        found: dict[Architecture, Sampled] = {}
        for one in self._drawn(budget_s, _DRAWS * n, random, tolerance):
            found.setdefault(one.architecture, one)
            if len(found) == n:
                break
        if len(found) == n:
            return tuple(found.values())
        least = format_at_least(self.least_s)
        below = "" if tolerance is None else f", {tolerance:.2%} below it at most"
        raise UsageError(
            f"{len(found)} networks of the space {self._space.name} within "
            f"{format_duration(budget_s, digits=4)}{below}: expected {n}; the quickest "
            f"costs about {least}"
        )

    def _drawn(
        self,
        budget_s: float,
        n_draws: int,
        random: np.random.Generator,
        tolerance: float | None,
    ) -> Iterator[Sampled]:
        low_s = 0.0 if tolerance is None else budget_s * (1 - tolerance)
        mean_s = budget_s * (1 - (tolerance or 0.0) / 2)
        numbers = range(len(self._models))
        tilted = [
            self._tilt(n, mean_s, can_rise=tolerance is not None) for n in numbers
        ]
        for _ in range(n_draws):
            number = int(random.integers(len(tilted)))
            made = self._within(number, _pick(tilted[number], random), low_s, budget_s)
            if made is not None:
                yield made

    def vary(
        self, parent: Sampled, budget_s: float, *, seed: tuple[int, ...]
    ) -> Sampled | None:
        """Return a network that differs from `parent` in some layers, or in the model.

        Layers are drawn by their shares, a model alike; None if no try is within the
        budget.
        """
        random = np.random.default_rng(seed)
        for _ in range(_DRAWS):
            number, places = parent.model_number, np.array(parent.places)
            alike = [
                other
                for other, model in enumerate(self._models)
                if model.n_layers == len(places) and other != number
            ]
            changed = random.permutation(len(places))[: random.integers(0, 3)]
            if not changed.size and alike:
                number = int(random.choice(alike))
            drawn = _pick(self._tilt(number, budget_s, can_rise=False), random)
            places[changed] = drawn[changed]
            made = self._within(number, places, 0.0, budget_s)
            if made is not None and made.architecture != parent.architecture:
                return made
        return None

    def _shares_of(self, number: int) -> Numbers:
        """Return the shares (L, K) of the layers of one of the models."""
        n_layers, n_own = self._models[number].n_layers, len(self._shares)
        own = (np.arange(n_layers) + 0.5) * n_own / n_layers
        shares: Numbers = self._shares[own.astype(int)]
        return shares

    def _tilt(self, number: int, mean_s: float, *, can_rise: bool) -> Numbers:
        """Return shares (L, K) by which a network costs `mean_s` on average.

        The nearest there are where none do.

        Args:
            can_rise: Whether dear choices may become likelier than they are.
        """
        logs = np.log(self._shares_of(number) + _LEAST_SHARE)
        layer_s, rest_s = self._layer_s[number], self._rest_s[number]

        def shares_at(price: float) -> Numbers:
            shares: Numbers = softmax(logs - price * layer_s, axis=-1)
            return shares

        def excess_s(price: float) -> float:
            return float((shares_at(price) @ layer_s).sum()) + rest_s - mean_s

        low = -_STEEPEST_PER_S if can_rise else 0.0
        if excess_s(low) <= 0:
            return shares_at(low)
        if excess_s(_STEEPEST_PER_S) >= 0:
            return shares_at(_STEEPEST_PER_S)
        return shares_at(float(brentq(excess_s, low, _STEEPEST_PER_S)))

    def _within(
        self, number: int, places: Places, low_s: float, high_s: float
    ) -> Sampled | None:
        """Return the network of these choices if it costs so much, and has layers."""
        about_s = self._rest_s[number] + self._layer_s[number][places].sum()
        if not low_s * (1 - _ROOM) <= about_s <= high_s * (1 + _ROOM):
            return None
        made = self._make(number, places)
        is_within = made is not None and low_s <= made.predicted_s <= high_s
        return made if is_within else None

    def _make(self, number: int, places: Places) -> Sampled | None:
        layers = [self._choices[int(place)] for place in places]
        model = self._models[number]
        if not model.stem and all(layer.is_left_out for layer in layers):
            return None
        architecture = make_architecture(model, layers, self._pricer.heads)
        return Sampled(
            architecture=architecture,
            predicted_s=self._pricer.price_s(architecture),
            model_number=number,
            places=tuple(int(place) for place in places),
        )


def _pick(shares: Numbers, random: np.random.Generator) -> Places:
    """Return the place of a choice of each layer, drawn by the shares (L, K)."""
    ends = shares.cumsum(-1)
    places: Places = (ends < random.random((len(ends), 1))).sum(-1)
    return places.clip(max=ends.shape[-1] - 1)
