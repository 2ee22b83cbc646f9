"""Fitted functions of a step's size: bytes, hops, seconds.

Both are sums of features with coefficients of at least 0, so that no cost falls as a
size grows; only the constant of a smooth one may be below 0.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import combinations
from math import fsum, isfinite, lcm
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mpcprof.costmodel.features import (
    ONE,
    Feature,
    axes,
    exact_features,
    operation_kind,
    packed_features,
    paused_features,
    smooth_features,
)
from mpcprof.costmodel.observations import Observation
from mpcprof.errors import ProfileError
from mpcprof.network import Network
from mpcprof.nn.steps import Size
from mpcprof.pricing import price_s

Json: TypeAlias = Mapping[str, object]  # only where text is read and written


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """sum(numerators x features) / denominator; reproduced every record of its fit.

    Raises:
        ProfileError: If there is not one numerator of at least 0 for each feature.
    """

    features: tuple[Feature, ...]
    numerators: tuple[int, ...]
    denominator: int = 1

    def __post_init__(self) -> None:
        if len(self.features) != len(self.numerators) or self.denominator < 1:
            raise ProfileError(f"{self}: expected a numerator for each feature")
        if any(numerator < 0 for numerator in self.numerators):
            raise ProfileError(f"{self}: expected numerators of at least 0")

    @property
    def is_exact(self) -> bool:
        """True."""
        return True

    @property
    def used(self) -> tuple[Feature, ...]:
        """The features that it depends on."""
        return _used(self.features, self.numerators)

    def predict(self, size: Size) -> float:
        """Of one step of `size`; of a product, of one of its products."""
        terms = zip(self.numerators, self.features, strict=True)
        return sum(n * f.value(size) for n, f in terms) / self.denominator

    def to_json(self) -> Json:
        """For a JSON document."""
        return {
            "features": [str(feature) for feature in self.features],
            "numerators": [*self.numerators],
            "denominator": self.denominator,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Smooth:
    """sum(coefficients x features), a least-squares fit that never falls with size.

    Raises:
        ProfileError: If there is not one coefficient for each feature, or another than
            the constant's is below 0.
    """

    features: tuple[Feature, ...]
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.features) != len(self.coefficients):
            raise ProfileError(f"{self}: expected a coefficient for each feature")
        for feature, c in zip(self.features, self.coefficients, strict=True):
            if not isfinite(c) or (c < 0 and feature.name != "one"):
                raise ProfileError(f"{feature}: {c}, expected a finite number >= 0")

    @property
    def is_exact(self) -> bool:
        """False."""
        return False

    @property
    def used(self) -> tuple[Feature, ...]:
        """The features that it depends on."""
        return _used(self.features, self.coefficients)

    def predict(self, size: Size) -> float:
        """Of one step of `size`; of a product, of one of its products."""
        terms = zip(self.coefficients, self.features, strict=True)
        return fsum(c * f.value(size) for c, f in terms)

    def to_json(self) -> Json:
        """For a JSON document."""
        return {
            "features": [str(feature) for feature in self.features],
            "coefficients": [*self.coefficients],
        }


SizeFunction: TypeAlias = Exact | Smooth


def _used(
    features: tuple[Feature, ...], factors: tuple[float, ...]
) -> tuple[Feature, ...]:
    return tuple(f for f, factor in zip(features, factors, strict=True) if factor)


def from_json(value: object) -> SizeFunction:
    """The function that `to_json` wrote.

    Raises:
        ProfileError: If it is none.
    """
    try:
        if not isinstance(value, dict):
            raise TypeError("not an object")
        features = tuple(Feature.parse(text) for text in value["features"])
        if "numerators" in value:
            return Exact(
                features=features,
                numerators=tuple(int(n) for n in value["numerators"]),
                denominator=int(value["denominator"]),
            )
        coefficients = tuple(float(c) for c in value["coefficients"])
        return Smooth(features=features, coefficients=coefficients)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProfileError(f"{value!r:.80} is no fitted function: {error}") from None


_ROUNDING = 1e-6  # relative; least squares of doubles leave 1e-9 of whole numbers


def _table(
    features: Sequence[Feature], sizes: Sequence[Size]
) -> npt.NDArray[np.float64]:
    return np.array([[f.value(s) for f in features] for s in sizes], dtype=np.float64)


def fit_exact(
    features: Sequence[Feature],
    sizes: Sequence[Size],
    values: Sequence[float],
    largest_denominator: int = 1,
) -> Exact | None:
    """The shortest sum of `features` that reproduces every value exactly, or None.

    Coefficients are fractions of whole numbers, of at least 0. A sum of as many
    features as there are different sizes explains nothing and is not taken.
    """
    n_sizes = len({*sizes})
    for n_features in range(min(len(features) + 1, n_sizes)):
        for chosen in combinations(features, n_features):
            exact = _rounded(chosen, sizes, values, largest_denominator)
            if exact is not None:
                return exact
    return None


def _rounded(
    features: tuple[Feature, ...],
    sizes: Sequence[Size],
    values: Sequence[float],
    largest_denominator: int,
) -> Exact | None:
    fractions = [Fraction(c) for c in _least_squares(features, sizes, values)]
    near = [f.limit_denominator(largest_denominator) for f in fractions]
    if any(
        n < 0 or abs(n - f) > _ROUNDING * max(1.0, abs(float(f)))
        for n, f in zip(near, fractions, strict=True)
    ):
        return None
    denominator = lcm(*(n.denominator for n in near))
    exact = Exact(
        features=features,
        numerators=tuple(int(n * denominator) for n in near),
        denominator=denominator,
    )
    pairs = zip(sizes, values, strict=True)
    return exact if all(exact.predict(s) == value for s, value in pairs) else None


def _least_squares(
    features: tuple[Feature, ...], sizes: Sequence[Size], values: Sequence[float]
) -> list[float]:
    if not features:
        return []
    table = _table(features, sizes)
    scale = table.max(axis=0)
    if not scale.all():
        return [-1.0] * len(features)  # nothing is known of a feature that is always 0
    target = np.asarray(values, dtype=np.float64)
    solution, _, rank, _ = np.linalg.lstsq(table / scale, target, rcond=None)
    if rank < len(features):
        return [-1.0] * len(features)
    return [float(c) for c in solution / scale]


def fit_smooth(
    features: Sequence[Feature],
    sizes: Sequence[Size],
    values: Sequence[float],
    weights: Sequence[float],
    *,
    signed: Container[str] = (),
) -> Smooth:
    """argmin over c of sum((weights x (values - features c))**2).

    c >= 0, but for the features named in `signed`.
    """
    from scipy.optimize import nnls  # 0.3 s that pricing does not need

    table = _table(features, sizes)
    scale = np.where(table.max(axis=0) > 0, table.max(axis=0), 1.0)
    weight = np.asarray(weights, dtype=np.float64)
    target = np.asarray(values, dtype=np.float64) * weight
    columns = table / scale * weight[:, None]
    negative = [i for i, feature in enumerate(features) if feature.name in signed]
    solution, _ = nnls(np.hstack([columns, -columns[:, negative]]), target)
    coefficients = solution[: len(features)].copy()
    coefficients[negative] -= solution[len(features) :]
    return Smooth(
        features=tuple(features),
        coefficients=tuple(float(c) for c in coefficients / scale),
    )


_LARGEST_DENOMINATOR = 16  # bits packed into bytes, shares split over parties
_SIGNED = ("one",)  # below 0 where parties wait less for their hops than RTT/2 each
_COUNTED = ("bytes_sent", "total_bytes_sent", "wire_bytes", "hops")
_TIMED = ("compute_s", "busy_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Six functions of a size; of a product, of one of its products."""

    bytes_sent: SizeFunction
    total_bytes_sent: SizeFunction
    wire_bytes: SizeFunction
    hops: SizeFunction
    compute_s: SizeFunction
    busy_s: SizeFunction

    def latency_s(self, size: Size, network: Network) -> float:
        """Seconds of one step, without what a call costs."""
        return price_s(
            network,
            compute_s=self.compute_s.predict(size),
            hidden_s=self.hidden_s(size),
            hops=self.hops.predict(size),
            wire_bytes=self.wire_bytes.predict(size),
        )

    def hidden_s(self, size: Size) -> float:
        """Compute that a slow network hides."""
        return max(self.busy_s.predict(size) - self.compute_s.predict(size), 0.0)

    def start_bytes(self) -> tuple[float, float]:
        """Bytes of rank 0, and of all ranks, that do not grow with the size."""
        nothing = (0, 0)
        if not self.total_bytes_sent.is_exact:
            return 0.0, 0.0
        return self.bytes_sent.predict(nothing), self.total_bytes_sent.predict(nothing)

    @property
    def used(self) -> frozenset[Feature]:
        """The features that any of the six depends on."""
        return frozenset(
            feature for f in fields(self) for feature in getattr(self, f.name).used
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFit:
    """What a profile says about one operation.

    Attributes:
        n_sizes: Different sizes that it was fitted to.
        relative_error: 95th percentile of |predicted - measured| / measured latency of
            sizes left out of the fit; a guess where there was only one size.
        limits: The largest measured value of each axis that matters.
    """

    operation: str
    n_sizes: int
    relative_error: float
    costs: Costs
    limits: tuple[tuple[Feature, int], ...]

    def reach(self, size: Size) -> float:
        """How many times the largest measured size; above 1 is extrapolated."""
        return max(axis.value(size) / largest for axis, largest in self.limits)

    def to_json(self) -> Json:
        """For a JSON document."""
        return {
            "n_sizes": self.n_sizes,
            "relative_error": self.relative_error,
            "costs": {
                f.name: getattr(self.costs, f.name).to_json()
                for f in fields(self.costs)
            },
            "limits": [[str(axis), largest] for axis, largest in self.limits],
        }


def fit_costs(observations: Sequence[Observation]) -> Costs:
    """The costs of the one operation that all of `observations` are of.

    Where bytes are no polynomial of the size, values are packed into ciphertexts.
    """
    kind = operation_kind(observations[0].operation)
    sizes = [o.size for o in observations]
    weights = [1 / o.latency_s for o in observations]  # relative errors of the latency
    smooth = smooth_features(kind, tuple(sizes))
    is_single = len({*sizes}) == 1

    def fit_exactly(name: str) -> SizeFunction | None:
        largest = 1 if name == "hops" else _LARGEST_DENOMINATOR
        values = [float(getattr(o, name)) for o in observations]
        return fit_exact(exact_features(kind), sizes, values, largest)

    exact = {name: fit_exactly(name) for name in _COUNTED}
    if exact["total_bytes_sent"] is None:
        smooth = packed_features(kind, len({*sizes}), smooth)

    def fit(name: str) -> SizeFunction:
        values = [float(getattr(o, name)) for o in observations]
        features = smooth
        if name == "hops" and is_single:
            features = (ONE,)
        elif (
            name == "hops"
            and observations[0].has_pauses
            and exact["bytes_sent"] is not None
        ):
            features = paused_features(kind)
        signed = _SIGNED if name == "compute_s" else ()
        return exact.get(name) or fit_smooth(
            features, sizes, values, weights, signed=signed
        )

    return Costs(**{name: fit(name) for name in (*_COUNTED, *_TIMED)})


def limits(
    observations: Sequence[Observation], costs: Costs
) -> tuple[tuple[Feature, int], ...]:
    """The largest measured value of the axes that the costs depend on.

    The volume always counts; the length of a row where the number of hops follows it.
    """
    kind = operation_kind(observations[0].operation)
    follows_rows = any(feature.name in ("levels", "log2") for feature in costs.used)
    largest = (
        (axis, max(int(axis.value(o.size)) for o in observations))
        for axis in axes(kind)
        if axis.name != "row_length" or follows_rows
    )
    return tuple((axis, max(value, 1)) for axis, value in largest)


def fit_from_json(operation: str, value: object) -> OperationFit:
    """The fit that `OperationFit.to_json` wrote.

    Raises:
        ProfileError: If it is none.
    """
    try:
        if not isinstance(value, dict):
            raise TypeError("not an object")
        return OperationFit(
            operation=operation,
            n_sizes=int(value["n_sizes"]),
            relative_error=float(value["relative_error"]),
            costs=Costs(**{k: from_json(v) for k, v in value["costs"].items()}),
            limits=tuple(
                (Feature.parse(axis), int(largest)) for axis, largest in value["limits"]
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProfileError(f"cost model, {operation}: {error}") from None
