"""Fitted functions of a step's size: bytes, hops, seconds.

Both are sums of features with coefficients of at least 0, so that no cost falls as a
size grows; only the constant of a smooth one may be below 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum, isfinite
from typing import TypeAlias

from mpcprof.blocks.steps import Size
from mpcprof.costmodel.features import Feature
from mpcprof.errors import ProfileError

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
