"""Fits one quantity over sizes: exactly where that is possible, else least squares."""

from collections.abc import Container, Sequence
from fractions import Fraction
from itertools import combinations
from math import lcm

import numpy as np
import numpy.typing as npt

from mpcprof.blocks.steps import Size
from mpcprof.costmodel.features import Feature
from mpcprof.costmodel.regressors import Exact, Smooth

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
