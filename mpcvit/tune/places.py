"""What can be chosen at each place of a network, with bounds from its ranges."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mpcprof.errors import UsageError
from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.approximation import (
    DEGREES,
    MAX_SQUARINGS,
    InverseBounds,
    SoftmaxBounds,
    bounded_inverse,
    choose_inverse,
    inverse_error,
)
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.attention import RELU_SOFTMAXES
from mpcprof.nn.plan import Plan
from mpcprof.nn.transformer import layer_variants
from mpcvit.models.algebra import OPS
from mpcvit.secure.fixed_point import FixedPointAlgebra
from mpcvit.tune.judge import ExactAlgebra
from mpcvit.tune.ladder import Value
from mpcvit.tune.ranges import (
    LAST,
    LOG_SQUARES,
    LOG_SUMS,
    Kind,
    Place,
    Ranges,
    SeenRange,
)

# Relative errors; beyond them a network says something else, below them nobody can
# tell the difference.
_LARGEST_ERROR: Final = 0.1
_LEAST_ERROR: Final = 1e-4
_N_GRID: Final = 2001  # hidden values at which activations are compared
_ROW_ERROR: Final = 0.3  # of an inverse that is the same for a row and cancels behind
_WIDEST: Final = 1e5  # ratio of the ends of a range whose low values are damped
_N_LOWS: Final = 13
_DAMPED_BY: Final = {  # degrees and Newton steps by power, cheapest first
    -1.0: (*((one, 0) for one in DEGREES[:-1]), (64, 1), (128, 1), (256, 1)),
    -0.5: tuple((one, 0) for one in DEGREES[:6]),
}
_FIELDS: Final[dict[Kind, str]] = {  # of a plan
    "norm1": "norm1",
    "norm2": "norm2",
    "last_norm": "last_norm",
    "scores": "softmax",
    "total": "total",
    "activation": "activation",
}


def values_of(
    architecture: Architecture, ranges: Ranges, place: Place, margin: float
) -> Iterator[tuple[Value, float]]:
    """Yield what a plan could say of a place instead of the checkpoint's own way.

    Beside it stands its largest error on the range, relative but for activations.

    Args:
        margin: Factor by which ranges are wider than what was seen.
    """
    seen = ranges[place]
    match place.kind:
        case "norm1" | "norm2" | "last_norm":
            yield from _norms(seen, margin)
        case "total":
            names = layer_variants(architecture.attention[place.layer])
            added = [RELU_SOFTMAXES[one] for one in names if one in RELU_SOFTMAXES]
            yield from _inverses(*seen.stretched(margin), -1.0)
            yield from _damped(seen, margin, -1.0, epsilon=max(added))
        case "scores":
            n_tokens = architecture.model.n_tokens
            yield from _softmaxes(ranges, place, margin, n_tokens)
        case "activation":
            yield from _activations(architecture, place.layer, seen, margin)


def _norms(seen: SeenRange, margin: float) -> Iterator[tuple[Value, float]]:
    low, high = seen.stretched(margin)
    factor = norm_multiple(seen) ** 2
    yield from _inverses(low * factor, high * factor, -0.5)
    yield from _damped(seen, margin, -0.5, factor)


def norm_multiple(seen: SeenRange) -> int:
    """Return the power of 2 by which tokens are multiplied before a bounded norm.

    It brings the largest sum of squares above 1/4, where fixed point keeps its bits.
    """
    return int(2 ** max(0, math.floor(-math.log2(seen.high) / 2)))


def _inverses(
    low: float, high: float, power: float
) -> Iterator[tuple[InverseBounds, float]]:
    """Yield bounds with errors that matter, with a Newton step where degrees end.

    A step is 4 hops, for which a degree is four times as high, and better.
    """
    for degree, n_steps in (*((one, 0) for one in DEGREES), (DEGREES[-1], 1)):
        bounds = InverseBounds(low=low, high=high, degree=degree, n_steps=n_steps)
        error = inverse_error(bounds, power)
        if error <= _LARGEST_ERROR:
            yield bounds, error
        if error <= _LEAST_ERROR:
            return


def _damped(
    seen: SeenRange,
    margin: float,
    power: float,
    factor: float = 1.0,
    *,
    epsilon: float = 0.0,
) -> Iterator[tuple[InverseBounds, float]]:
    """Yield bounds that damp the lowest values, with the error of all values alike.

    For each degree the range begins where the root mean square of relative errors is
    least: those of the polynomial, of fixed point, and of what is damped.
    """
    values, high = factor * seen.quantiles, factor * seen.stretched(margin)[1]
    if not len(values):
        return
    lows = np.geomspace(max(values[0], high / _WIDEST), high / 2, _N_LOWS)[1:]
    # of a ReLU softmax: a row without a score above 0 is 0 whatever divides it
    shares = 1 - epsilon / values
    ops = FixedPointAlgebra()
    x = ops.encode(values)

    def error(bounds: InverseBounds) -> float:
        factor = (bounds.low * bounds.high) ** (-power / 2)
        inverse = bounded_inverse(ops, x, bounds, power, factor).numpy() / factor
        errors = (inverse * values**-power - 1) * shares
        return float(np.sqrt(np.mean(errors**2)))

    for degree, n_steps in _DAMPED_BY[power]:
        found = [
            InverseBounds(
                low=float(low),
                high=high,
                degree=degree,
                n_steps=n_steps,
                is_damped=True,
            )
            for low in lows
        ]
        best = min(found, key=error)
        least = error(best)
        if least <= _LARGEST_ERROR:
            yield best, least
        if least <= _LEAST_ERROR:
            return


def _softmaxes(
    ranges: Ranges, place: Place, margin: float, n_tokens: int
) -> Iterator[tuple[Value, float]]:
    """Yield bounds for each number of halvings that brings sums within reach."""
    low, high = ranges[place].widened(margin)
    for n_halvings in range(len(LOG_SUMS)):
        sums = _sums(ranges, place, margin, n_tokens, n_halvings)
        try:
            firsts = [choose_inverse(*one, -1.0, _ROW_ERROR) for one in sums[:-1]]
        except UsageError:
            continue
        for last, error in _inverses(*sums[-1], -1.0):
            total, *halvings = (*firsts, last)
            for n_squarings in range(MAX_SQUARINGS + 1):
                try:
                    bounds = SoftmaxBounds(
                        low=low,
                        high=high,
                        n_squarings=n_squarings,
                        total=total,
                        halvings=tuple(halvings),
                    )
                except UsageError:  # no exponential with so few squarings
                    continue
                if bounds.exp_error <= _LARGEST_ERROR:
                    yield bounds, bounds.exp_error + error
                if bounds.exp_error <= _LEAST_ERROR:
                    break


def _sums(
    ranges: Ranges, place: Place, margin: float, n_tokens: int, n_halvings: int
) -> list[tuple[float, float]]:
    """Return the range of each sum over a row that a softmax is divided by.

    A row's error in all but the last cancels, but widens the range of the next.
    """
    low, high = ranges[place].widened(margin)
    middle = (low + high) / 2 ** (n_halvings + 1)
    log_sum = ranges[replace(place, kind=LOG_SUMS[n_halvings])]
    least, most = log_sum.widened(margin)
    sums = [(math.exp(least - middle), math.exp(most - middle))]
    for kind in reversed(LOG_SQUARES[:n_halvings]):
        least, most = ranges[replace(place, kind=kind)].widened(margin)
        least, most = max(least, -math.log(n_tokens)), min(most, 0.0)
        widest = ((1 - _ROW_ERROR) ** 2, (1 + _ROW_ERROR) ** 2)
        sums.append((math.exp(least) * widest[0], math.exp(most) * widest[1]))
    return sums


def _activations(
    architecture: Architecture, layer: int, seen: SeenRange, margin: float
) -> Iterator[tuple[Value, float]]:
    """Yield other activations that mean the same, with their error where it is met."""
    names = {*architecture.activation[layer]}
    if len(names) != 1 or architecture.is_fused(layer):
        return
    (own,) = names
    meant = ACTIVATIONS[own].approximates or own
    x = torch.linspace(*seen.widened(margin), _N_GRID, dtype=torch.float64)
    expected = ACTIVATIONS[meant].function(OPS, x)
    for name, one in ACTIVATIONS.items():
        if name != own and one.approximates == meant:
            error = float((one.function(ExactAlgebra(), x) - expected).abs().max())
            if error <= _LARGEST_ERROR:
                yield name, error


def with_value(plan: Plan, place: Place, value: Value, ranges: Ranges) -> Plan:
    """Return the plan with that said of a place; None for the checkpoint's way."""
    field = _FIELDS[place.kind]
    if place.kind == "activation":
        value = value or ""
    changes: dict[str, Any] = {field: value}  # Any: what the field takes
    if place.kind in ("norm1", "norm2", "last_norm"):
        multiple = norm_multiple(ranges[place]) if value is not None else 1
        changes[f"{field}_multiple"] = multiple
    if place.layer == LAST:
        return replace(plan, **changes)
    layers = [*plan.layers]
    layers[place.layer] = replace(layers[place.layer], **changes)
    return replace(plan, layers=tuple(layers))


def leaving(
    value: Value, place: Place, calibrated: Ranges, met: Ranges
) -> NDArray[np.bool_]:
    """Tell of each image whether it leaves what the plan says of a place.

    Args:
        calibrated: Ranges that the value was made of.
        met: Ranges of these images, in the rewritten network: each place by itself.
    """
    seen = met[place]
    match value:
        case InverseBounds():
            is_norm = place.kind != "total"
            factor = norm_multiple(calibrated[place]) ** 2 if is_norm else 1
            return seen.leaving(value.least / factor, value.high / factor)
        case SoftmaxBounds():
            n_halvings = len(value.halvings)
            log_sum = met[replace(place, kind=LOG_SUMS[n_halvings])]
            least, most = (
                math.log(end) + value.centre / 2**n_halvings
                for end in (value.total.low, value.total.high)
            )
            is_outside = seen.leaving(value.low, value.high)
            is_outside |= log_sum.leaving(least, most)
            kinds = LOG_SQUARES[:n_halvings][::-1]
            for kind, bounds in zip(kinds, value.halvings, strict=True):
                squares = met[replace(place, kind=kind)]
                ends = math.log(bounds.low), math.log(bounds.high)
                is_outside |= squares.leaving(*ends)
            return is_outside
        case str() if value:
            return seen.leaving(*ACTIVATIONS[value].domain)
    return np.zeros(len(seen.lows), bool)


def share_damped(value: Value, place: Place, seen: SeenRange) -> float:
    """Return the share of values that a plan damps at a place."""
    if not (isinstance(value, InverseBounds) and value.is_damped):
        return 0.0
    factor = 1 if place.kind == "total" else norm_multiple(seen) ** 2
    return seen.share_below(value.low / factor)


def name_place(place: Place) -> str:
    """Name a place as it is printed."""
    kind = {"scores": "softmax", "total": "sum of ReLUs", "last_norm": "norm"}
    where = "behind the layers" if place.layer == LAST else f"layer {place.layer + 1}"
    return f"{kind.get(place.kind, place.kind)} {where}"


def describe(value: Value) -> str:
    """Name what a plan says of a place, without its bounds."""
    match value:
        case InverseBounds():
            return f"polynomial of degree {_degree(value)}"
        case SoftmaxBounds():
            degrees = [_degree(one) for one in (value.total, *value.halvings)]
            return (
                f"no maximum, {value.n_squarings} squarings, "
                f"{len(value.halvings)} halvings, 1/sum of degree {', '.join(degrees)}"
            )
    return value or "SPU's own"


def _degree(bounds: InverseBounds) -> str:
    return (
        f"{bounds.degree} and a Newton step" if bounds.n_steps else f"{bounds.degree}"
    )


def summarise(place: Place, value: Value) -> str:
    """Name a choice as one of the few kinds that there are."""
    match value:
        case SoftmaxBounds():
            return "softmax without a maximum"
        case InverseBounds() if place.kind == "total":
            return "sums of ReLUs inverted by a polynomial"
        case InverseBounds():
            return "norms by a polynomial"
    return str(value)
