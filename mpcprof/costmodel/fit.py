"""Fitted functions of a step's size, and how wrong they are on sizes left out.

A function is a sum of features with coefficients of at least 0, so that no cost falls
as a size grows; only the constant of a smooth one may be below 0.
"""

import random
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, compress
from math import fsum, isfinite, lcm
from statistics import fmean, median, quantiles
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from mpcprof.costmodel.features import (
    ONE,
    VOLUME,
    Feature,
    Kind,
    axes,
    exact_features,
    operation_kind,
    packed_features,
    paused_features,
    smooth_features,
)
from mpcprof.costmodel.observations import (
    Observation,
    by_operation,
    call_overhead_s,
    observe,
    primitive_records,
)
from mpcprof.errors import ProfileError, UsageError
from mpcprof.nn.steps import ROW_OPERATIONS, Size
from mpcprof.pricing import Basis, Costs
from mpcprof.profile.record import Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """sum(numerators x features) / denominator, which reproduces every record.

    Raises:
        ProfileError: If there is not one numerator of at least 0 for each feature.
    """

    features: tuple[Feature, ...]
    numerators: tuple[int, ...]
    denominator: int = 1
    is_exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.features) != len(self.numerators) or self.denominator < 1:
            raise ProfileError(f"{self}: expected a numerator for each feature")
        if any(numerator < 0 for numerator in self.numerators):
            raise ProfileError(f"{self}: expected numerators of at least 0")

    @property
    def used(self) -> tuple[Feature, ...]:
        """The features with a numerator other than 0."""
        return tuple(compress(self.features, self.numerators))

    def predict(self, size: Size) -> float:
        """Return the value of one step; for `matmul`, of one of its products."""
        terms = zip(self.numerators, self.features, strict=True)
        return sum(n * f.value(size) for n, f in terms) / self.denominator


@dataclass(frozen=True, slots=True, kw_only=True)
class Smooth:
    """sum(coefficients x features), a least-squares fit that never falls with size.

    Raises:
        ProfileError: If there is not one coefficient for each feature, or one other
            than the constant's is below 0.
    """

    features: tuple[Feature, ...]
    coefficients: tuple[float, ...]
    is_exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if len(self.features) != len(self.coefficients):
            raise ProfileError(f"{self}: expected a coefficient for each feature")
        for feature, c in zip(self.features, self.coefficients, strict=True):
            if not isfinite(c) or (c < 0 and feature.name != "one"):
                raise ProfileError(f"{feature}: {c}, expected a finite number >= 0")

    @property
    def used(self) -> tuple[Feature, ...]:
        """The features with a coefficient other than 0."""
        return tuple(compress(self.features, self.coefficients))

    def predict(self, size: Size) -> float:
        """Return the value of one step; for `matmul`, of one of its products."""
        terms = zip(self.coefficients, self.features, strict=True)
        return fsum(c * f.value(size) for c, f in terms)


SizeFunction: TypeAlias = Exact | Smooth


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
    """Return the shortest sum of `features` that reproduces every value, or None.

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
    """Return argmin over c of sum((weights x (values - features c))**2).

    c is at least 0, but for the features named in `signed`.
    """
    from scipy.optimize import nnls  # 0.3 s that reading a profile does not need

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


_IN_PROPORTION = 1.1  # bits are packed into bytes, and ranks differ by a few
_LARGEST_DENOMINATOR = 16  # bits packed into bytes, shares split over parties
_SIGNED = ("one",)  # below 0 where parties wait less for their hops than RTT/2 each
_COUNTED = ("bytes_sent", "total_bytes_sent", "wire_bytes", "hops")
_TIMED = ("exposed_s", "loopback_s")


N_FOLDS = 5
_UNTESTED_ERROR = 0.5  # of an operation with one size, which cannot be left out


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFit:
    """Fitted costs of one operation at any size.

    The last six attributes are functions of a size, named as in `Observation`.

    Attributes:
        n_sizes: Number of different sizes that were fitted.
        relative_error: 95th percentile of |predicted - measured| / measured latency of
            sizes left out of the fit; a guess where there was only one size.
        limits: Largest measured value of each axis that the costs depend on.
        only_row: Length of all rows that were measured, or 0 where several were or the
            operation has none. How hops grow with the length is then unknown.
    """

    operation: str
    n_sizes: int
    only_row: int = 0
    relative_error: float = _UNTESTED_ERROR
    limits: tuple[tuple[Feature, int], ...]
    bytes_sent: SizeFunction
    total_bytes_sent: SizeFunction
    wire_bytes: SizeFunction
    hops: SizeFunction
    exposed_s: SizeFunction
    loopback_s: SizeFunction

    def costs(self, size: Size) -> Costs:
        """Return the fitted costs of one step; for `matmul`, of one product."""
        reach = max(axis.value(size) / largest for axis, largest in self.limits)
        return _collect(
            lambda name: getattr(self, name).predict(size),
            basis="extrapolated" if reach > 1 else "interpolated",
            reach=reach,
        )

    def start(self) -> Costs:
        """Return what a program pays once, however often it takes the operation.

        A reduction starts from a public number. aby3 makes a secret of that number once
        a program: one message, 8 bytes a party. Other operations pay nothing, and so do
        reductions whose bytes are not known exactly.
        """
        if self.operation not in ROW_OPERATIONS or not self.total_bytes_sent.is_exact:
            return Costs()
        nothing = (0, 0)
        total_bytes_sent = self.total_bytes_sent.predict(nothing)
        return Costs(
            bytes_sent=self.bytes_sent.predict(nothing),
            total_bytes_sent=total_bytes_sent,
            hops=1.0 if total_bytes_sent else 0.0,
        )


def measured_costs(observations: Sequence[Observation]) -> Costs:
    """Return the costs of a size that was measured: the mean of its observations."""
    return _collect(lambda name: fmean(getattr(o, name) for o in observations))


def _collect(
    value: Callable[[str], float], *, basis: Basis = "measured", reach: float = 1.0
) -> Costs:
    """Return the costs made of a value for each quantity of an `Observation`."""
    exposed_s = value("exposed_s")
    return Costs(
        **{name: value(name) for name in _COUNTED},
        exposed_s=exposed_s,
        hidden_s=max(value("loopback_s") - exposed_s, 0.0),
        basis=basis,
        reach=reach,
    )


def fit_operation(observations: Sequence[Observation]) -> OperationFit:
    """Return the fit of the one operation that all `observations` are of.

    Where bytes are no polynomial of the size, values are packed into ciphertexts.
    """
    kind = operation_kind(observations[0].operation)
    sizes = [o.size for o in observations]
    n_sizes = len({*sizes})
    # relative errors of the latency, with refills that were taken off
    weights = [1 / (o.latency_s + o.refilled_s) for o in observations]
    values = {
        name: [float(getattr(o, name)) for o in observations]
        for name in (*_COUNTED, *_TIMED)
    }
    exact = {
        name: fit_exact(
            exact_features(kind),
            sizes,
            values[name],
            largest_denominator=1 if name == "hops" else _LARGEST_DENOMINATOR,
        )
        for name in _COUNTED
    }
    smooth = smooth_features(kind, tuple(sizes))
    if exact["total_bytes_sent"] is None and not _is_in_proportion(observations):
        smooth = packed_features(kind, n_sizes, smooth)
    features = dict.fromkeys(values, smooth)
    if n_sizes == 1:
        features["hops"] = (ONE,)
    elif observations[0].has_pauses and exact["bytes_sent"] is not None:
        features["hops"] = paused_features(kind)

    def fit(name: str) -> SizeFunction:
        signed = _SIGNED if name == "exposed_s" else ()
        return exact.get(name) or fit_smooth(
            features[name], sizes, values[name], weights, signed=signed
        )

    functions = {name: fit(name) for name in values}
    return OperationFit(
        operation=observations[0].operation,
        n_sizes=n_sizes,
        only_row=_only_row(kind, sizes) if values["hops"][0] else 0,
        relative_error=_UNTESTED_ERROR,
        limits=_limits(kind, sizes, functions.values()),
        **functions,
    )


def _only_row(kind: Kind, sizes: Sequence[Size]) -> int:
    """Return the length of all rows, or 0 where there are several or no rows."""
    lengths = {size[1] for size in sizes} if kind == "rows" else set()
    return lengths.pop() if len(lengths) == 1 else 0


def _is_in_proportion(observations: Sequence[Observation]) -> bool:
    """Return whether bytes are in proportion to the size: nothing is packed."""
    volumes = [max(VOLUME.value(o.size), 1.0) for o in observations]
    each = [o.total_bytes_sent / n for o, n in zip(observations, volumes, strict=True)]
    return max(each) <= _IN_PROPORTION * min(each)


def _limits(
    kind: Kind, sizes: Sequence[Size], functions: Iterable[SizeFunction]
) -> tuple[tuple[Feature, int], ...]:
    """Return the largest measured value of the axes that the costs depend on.

    The volume always counts; the length of a row counts where a cost depends on it.
    """
    used = {feature.name for function in functions for feature in function.used}
    return tuple(
        (axis, max(1, *(int(axis.value(size)) for size in sizes)))
        for axis in axes(kind)
        if axis.name != "row_length" or used & {"levels", "log2"}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """One observation, and its latency predicted by a fit without its size."""

    seen: Observation
    fit: OperationFit
    predicted_s: float

    @property
    def latency_error(self) -> float:
        """|predicted - measured| / measured latency."""
        return abs(self.predicted_s - self.seen.latency_s) / self.seen.latency_s

    def error(self, name: str) -> float:
        """Return |predicted - measured| / measured of a count: bytes or hops."""
        predicted = getattr(self.fit, name).predict(self.seen.size)
        measured = getattr(self.seen, name)
        return float(abs(predicted - measured) / (measured or 1.0))


def leave_out_sizes(
    observations: Sequence[Observation],
    per_call_s: float,
    n_folds: int = N_FOLDS,
    seed: int = 0,
) -> Iterator[HeldOut]:
    """Yield each observation of an operation with a fit that has not seen its size.

    Nothing is yielded where there is only one size.
    """
    sizes = sorted({o.size for o in observations})
    if len(sizes) < 2:
        return
    random.Random(seed).shuffle(sizes)
    n_folds = min(n_folds, len(sizes))
    for fold in range(n_folds):
        left_out: set[Size] = {*sizes[fold::n_folds]}
        fit = fit_operation([o for o in observations if o.size not in left_out])
        for o in observations:
            if o.size in left_out:
                latency_s = per_call_s + fit.costs(o.size).latency_s(o.network)
                yield HeldOut(seen=o, fit=fit, predicted_s=latency_s)


def percentile_95(values: Sequence[float]) -> float:
    """Return the 95th percentile of `values`, interpolated."""
    if len(values) < 2:
        return max(values)
    return quantiles(values, n=20, method="inclusive")[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutErrors:
    """Errors of one operation on sizes that its fit has not seen.

    Errors are |predicted - measured| / measured on a record's own network; None where
    only one size was measured, since it cannot be left out.

    Attributes:
        n_records: Number of records that were left out, each once.
        median: Median error of the latency.
        percentile_95: 95th percentile of the error of the latency.
        largest: Largest error of the latency.
        max_bytes_error: Largest error of the bytes summed over ranks.
        max_rank_bytes_error: Largest error of the bytes of rank 0, which vary by call
            in aby3.
        has_exact_bytes: Whether the fit reproduces the bytes summed over ranks in every
            record.
        has_exact_hops: Whether the fit reproduces the hops in every record.
    """

    operation: str
    n_records: int
    median: float | None
    percentile_95: float | None
    largest: float | None
    max_bytes_error: float | None
    max_rank_bytes_error: float | None
    max_hops_error: float | None
    has_exact_bytes: bool
    has_exact_hops: bool


def held_out_errors(
    profile: Profile, n_folds: int = N_FOLDS, seed: int = 0
) -> tuple[HeldOutErrors, ...]:
    """Return the errors of each operation, with sizes left out in `n_folds` folds.

    Raises:
        MissingEntryError: If there is no record of a primitive.
        UsageError: If there are fewer than two folds.
    """
    return tuple(
        _errors(group, cases) for group, cases in _groups(profile, n_folds, seed)
    )


def held_out_latencies(
    profile: Profile, n_folds: int = N_FOLDS, seed: int = 0
) -> tuple[HeldOut, ...]:
    """Return each record with its latency predicted by a fit without its size.

    The folds are those of `held_out_errors`. Operations with one size are left out.

    Raises:
        MissingEntryError: If there is no record of a primitive.
        UsageError: If there are fewer than two folds.
    """
    return tuple(case for _, cases in _groups(profile, n_folds, seed) for case in cases)


def _groups(
    profile: Profile, n_folds: int, seed: int
) -> Iterator[tuple[tuple[Observation, ...], list[HeldOut]]]:
    if n_folds < 2:
        raise UsageError(f"n_folds={n_folds}: expected at least 2")
    per_call_s = call_overhead_s(primitive_records(profile))
    for group in by_operation(observe(profile, per_call_s)):
        yield group, [*leave_out_sizes(group, per_call_s, n_folds, seed)]


def _errors(group: Sequence[Observation], cases: Sequence[HeldOut]) -> HeldOutErrors:
    errors = [case.latency_error for case in cases]
    fit = fit_operation(group)

    def largest(name: str) -> float | None:
        return max((case.error(name) for case in cases), default=None)

    return HeldOutErrors(
        operation=group[0].operation,
        n_records=len(cases),
        median=median(errors) if errors else None,
        percentile_95=percentile_95(errors) if errors else None,
        largest=max(errors, default=None),
        max_bytes_error=largest("total_bytes_sent"),
        max_rank_bytes_error=largest("bytes_sent"),
        max_hops_error=largest("hops"),
        has_exact_bytes=fit.total_bytes_sent.is_exact,
        has_exact_hops=fit.hops.is_exact,
    )
