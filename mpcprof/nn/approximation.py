"""Inverses and softmax on a range that is known in advance, in few hops.

Outside its range an approximation is wrong by any amount: plain algebras refuse such
values (`Algebra.expect_within`), parties cannot see them.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mpcprof.errors import UsageError
from mpcprof.nn.algebra import Algebra, T

MAX_DEGREE: Final = 256
DEGREES: Final = tuple(2**k for k in range(1, MAX_DEGREE.bit_length()))
MAX_STEPS: Final = 3
MAX_SQUARINGS: Final = 8
_SLOPE_BITS: Final = 4  # of a slope, so that every ring has it exactly
_SCALE_BITS: Final = 13  # of a scale: within 2**-13 of itself
_MAX_CENTRE: Final = 2.0**18  # inverse of an error that no ring of 64 bits shows
_N_REWEIGHTINGS: Final = 20
_N_NODES: Final = 8  # a coefficient, where polynomials are fitted and judged


def check_range(what: str, low: float, high: float) -> None:
    """Refuse a range that is empty, reversed or not finite.

    Raises:
        UsageError: If it is one; the message begins with `what`.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            f"{what}: low={low} and high={high}: expected finite numbers, low below "
            "high; calibrate it again with mpcvit tune"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How far an approximation is from what it stands for, in exact arithmetic.

    Attributes:
        of: Function that is approximated, such as `exp`.
        low: Smallest value for which the error is stated.
        high: Largest value for which it is stated.
        max_error: Largest error there.
        is_relative: Whether the error is a share of the exact value.
    """

    of: str
    low: float
    high: float
    max_error: float
    is_relative: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InverseBounds:
    """The range of a positive number, and how its inverse is approximated there.

    Attributes:
        low: Smallest value.
        high: Largest value.
        degree: Degree of the polynomial, a power of two; of 1/x it is one less.
        n_steps: Newton steps behind the polynomial, 4 hops each.
        is_damped: Whether values from 0 to `low` are met as well. What comes out there
            is too small, the smaller the value, but never below 0: what a row is
            multiplied by damps it.

    Raises:
        UsageError: If no polynomial can be made of these.
    """

    low: float
    high: float
    degree: int
    n_steps: int = 0
    is_damped: bool = False

    def __post_init__(self) -> None:
        check_range("range of an inverse", self.low, self.high)
        if self.low <= 0:
            raise UsageError(f"low={self.low}: expected a range of numbers above 0")
        if self.degree not in DEGREES:
            raise UsageError(
                f"degree={self.degree}: expected a power of two from 2 to {MAX_DEGREE}"
            )
        if not 0 <= self.n_steps <= MAX_STEPS:
            raise UsageError(f"n_steps={self.n_steps}: expected 0 to {MAX_STEPS}")

    @property
    def least(self) -> float:
        """Smallest value that does no harm."""
        return 0.0 if self.is_damped else self.low

    @property
    def n_doublings(self) -> int:
        """Binary logarithm of the degree."""
        return self.degree.bit_length() - 1

    @property
    def slope(self) -> float:
        """Slope of the line from -1 at `low` to 1 at `high`, or a little behind it."""
        return _round(2 / (self.high - self.low), _SLOPE_BITS, math.floor)


def _round(x: float, n_bits: int, rounding: Any = round) -> float:  # Any: to int
    exponent = math.frexp(x)[1] - n_bits
    return float(math.ldexp(rounding(math.ldexp(x, -exponent)), exponent))


def bounded_inverse(
    ops: Algebra[T], x: T, bounds: InverseBounds, power: float, factor: float = 1.0
) -> T:
    """Return factor * x**power for low <= x <= high; power is -1 or -0.5.

    For x from 0 to low, it is a share of that which falls from about 1 to 0: the error
    of polynomials that are best on a range has one sign on either side of it. (Not of
    those of x**-0.5 whose error on the range is rounding alone.)
    With a degree of 2^k: 1 + 2 k hops for 1/x, or less where a lower degree errs by
    less than 2^-18 anyway; 2 + 2 k for x**-0.5; 4 a Newton step.
    Fixed point keeps most bits where results are about 1: `factor` is best the inverse
    of a typical one, and is taken back where it costs nothing.

    Raises:
        UsageError: If the power is another one.
        RangeError: If an algebra that sees values sees one out of bounds.
    """
    column = ops.reshape(ops.expect_within(x, bounds.least, bounds.high), (*x.shape, 1))
    inverse = _by_power(power, _reciprocal, _rsqrt)(ops, column, bounds, factor)
    return ops.reshape(inverse, x.shape)


def _by_power(power: float, reciprocal: Any, rsqrt: Any) -> Any:  # Any: functions
    if power not in (-1.0, -0.5):
        raise UsageError(f"power={power:g}: expected -1 or -0.5")
    return reciprocal if power == -1.0 else rsqrt


def inverse_error(bounds: InverseBounds, power: float) -> float:
    """Return the largest relative error of `bounded_inverse` in exact arithmetic.

    Raises:
        UsageError: If the power is neither -1 nor -0.5.
    """
    return float(_by_power(power, _reciprocal_error, _rsqrt_error)(bounds))


def choose_inverse(
    low: float, high: float, power: float, max_error: float, fraction_bits: int = 18
) -> InverseBounds:
    """Return the bounds of fewest hops whose relative error is at most `max_error`.

    In fixed point the product that 1/x is loses some two bits, and the binary logarithm
    of high / low; where these count, a Newton step is added, which restores them.

    Raises:
        UsageError: If no degree is enough, or the range is none.
    """
    lost = 2 * high / low * 2.0**-fraction_bits if power == -1.0 else 0.0
    for degree in DEGREES:
        bounds = InverseBounds(
            low=low, high=high, degree=degree, n_steps=int(lost > max_error / 2)
        )
        if inverse_error(bounds, power) <= max_error:
            return bounds
    raise UsageError(
        f"x**{power:g} for x from {low:g} to {high:g}: no degree up to {MAX_DEGREE} "
        f"comes within {max_error:g}; narrow the range or allow a larger error"
    )


def column(ops: Algebra[T], x: T, index: int) -> T:
    """Return one entry of the last axis, which stays with length 1."""
    return ops.cut(x, len(x.shape) - 1, index, index + 1)


def side_by_side(ops: Algebra[T], *arrays: T) -> T:
    """Join arrays along the last axis."""
    return ops.join(arrays, len(arrays[0].shape) - 1)


def cut_evenly(ops: Algebra[T], x: T, n: int, axis: int = 0) -> list[T]:
    """Return n equal parts of x along an axis."""
    length = x.shape[axis] // n
    return [ops.cut(x, axis, i * length, (i + 1) * length) for i in range(n)]


def times(ops: Algebra[T], x: T, multiple: int) -> T:
    """Return a whole multiple of x, by additions."""
    total = None
    doubled = x
    while multiple:
        if multiple & 1:
            total = doubled if total is None else ops.add(total, doubled)
        multiple >>= 1
        doubled = ops.add(doubled, doubled) if multiple else doubled
    assert total is not None
    return total


# ---- 1/x


@dataclass(frozen=True, slots=True, kw_only=True)
class _Factors:
    """What `_reciprocal` multiplies.

    Attributes:
        centres: c_0 to c_k, k at most as far as it makes a difference.
        units: g_0 to g_(k - 1).
        multiples: 2 g_j / g_(j - 1)^2 of j = 1 to k - 1, whole numbers.
    """

    centres: tuple[float, ...]
    units: tuple[float, ...]
    multiples: tuple[int, ...]


@functools.lru_cache(maxsize=256)
def _factors(bounds: InverseBounds) -> _Factors:
    centres = [1 + bounds.slope * bounds.low]
    while len(centres) <= bounds.n_doublings:
        centres.append(2 * centres[-1] ** 2 - 1)
        if centres[-1] > _MAX_CENTRE:  # from here on bits would be lost, none gained
            break
    units, multiples = [2.0 ** -math.frexp(centres[0])[1]], []
    for centre in centres[1:-1]:
        least = units[-1] ** 2 / 2
        multiples.append(max(1, math.floor(1 / (1 + centre) / least)))
        units.append(multiples[-1] * least)
    return _Factors(
        centres=tuple(centres), units=tuple(units), multiples=tuple(multiples)
    )


def _reciprocal_error(bounds: InverseBounds) -> float:
    error = 1 / _factors(bounds).centres[-1] + 2.0**-_SCALE_BITS
    return float(error ** (2**bounds.n_steps))


def _reciprocal(ops: Algebra[T], x: T, bounds: InverseBounds, factor: float) -> T:
    """Return factor / x of (..., 1) as a product, two hops a factor.

    r_0 = c_0 - slope x, with c_0 = 1 + slope low, lies in [-1, 1]. So do its Chebyshev
    polynomials r_(j + 1) = 2 r_j^2 - 1; c_j are those of c_0. From c_0 - r_0 = slope x
    and c_(j + 1) - r_(j + 1) = 2 (c_j - r_j) (c_j + r_j) follows that slope / c_k times
    all 2 (c_j + r_j) is (1 - r_k / c_k) / x: off by 1 / c_k, the least of all
    polynomials of its degree. Factors are kept near 1, r_j in whole multiples of a
    unit, and the next factor is multiplied in where the next r is squared.

    Source: Goldschmidt's division, its weights by Chebyshev's polynomials; then Newton,
    y (2 - x y).
    """
    own = _factors(bounds)
    # the first factor and all constants, exact at both ends of its line
    scale = bounds.slope * factor / own.centres[-1] * own.units[0]
    scale *= math.prod(2 / unit for unit in own.units)
    drop = _round(scale * bounds.slope, _SCALE_BITS)
    columns = [-own.units[0] * bounds.slope, -drop, 1 / factor]
    lines = ops.combine(x, [columns[: 3 if bounds.n_steps else 2]])
    r = ops.shift(column(ops, lines, 0), own.units[0] * own.centres[0])
    y = ops.shift(column(ops, lines, 1), 2 * own.centres[0] * drop / bounds.slope)
    last = len(own.units) - 1
    squared = ops.square(r) if last else r
    for j in range(1, last + 1):
        unit = own.units[j]
        r = ops.shift(times(ops, squared, own.multiples[j - 1]), -unit)
        next_factor = ops.shift(r, unit * own.centres[j])
        if j == last:
            y = ops.mul(y, next_factor)
        else:
            left, right = side_by_side(ops, y, r), side_by_side(ops, next_factor, r)
            both = ops.mul(left, right)
            y, squared = column(ops, both, 0), column(ops, both, 1)
    for _ in range(bounds.n_steps):
        product = ops.mul(column(ops, lines, 2), y)
        y = ops.subtract(ops.add(y, y), ops.mul(y, product))
    return y


# ---- x**-0.5


def chebyshev_products(ops: Algebra[T], u: T, n_doublings: int) -> T:
    """Return 2^k polynomials of u in [-1, 1], of (..., 1), side by side: 2 k hops.

    The n-th is the product of the Chebyshev polynomials T_1, T_2, T_4, ... that the
    binary digits of n name: of degree n and within 1, unlike powers of u well apart.
    """
    stack = top = u
    for _ in range(n_doublings):
        n_known = stack.shape[-1]
        products = ops.mul(stack, top)
        square = column(ops, products, n_known - 1)
        top = ops.shift(ops.add(square, square), -1.0)
        parts = [stack, top]
        if n_known > 1:
            parts.insert(1, ops.cut(products, len(u.shape) - 1, 0, n_known - 1))
        stack = side_by_side(ops, *parts)
    return stack


def weighted_products(
    ops: Algebra[T], u: T, constant: float, coefficients: Sequence[float]
) -> T:
    """Return the sum of 2^k `chebyshev_products` by these coefficients: 2 k + 1 hops.

    The second half is the first one, and 1, times its last: one product of two sums.
    """
    n_half = len(coefficients) // 2
    products = chebyshev_products(ops, u, n_half.bit_length() - 1)
    low, high = coefficients[:n_half], [*coefficients[n_half:]]
    high[-1] *= 2  # T_2m = 2 T_m^2 - 1
    sums = ops.combine(products, [*zip(low, high, strict=True)])
    top = column(ops, products, n_half - 1)
    behind = ops.mul(top, column(ops, sums, 1))
    return ops.shift(ops.add(column(ops, sums, 0), behind), constant - coefficients[-1])


def fit_products(function: Any, n_doublings: int, weight: Any) -> Any:
    """Return (constant, coefficients of `chebyshev_products`, largest weighted error).

    The largest error is nearly the least, by Lawson's reweighted least squares.

    Args:
        function: Of numpy arrays of u in [-1, 1].
        weight: Of the same; errors are multiplied by it.
    """
    import numpy as np  # loaded where something is fitted, not by `--help`

    n_coefficients = 2**n_doublings + 1
    angles = (np.arange(_N_NODES * n_coefficients) + 0.5) / n_coefficients / _N_NODES
    u = np.array([1.0, *np.cos(np.pi * angles), -1.0])
    columns, top = [u], u
    for _ in range(n_doublings):
        columns += [column * top for column in columns[:-1]]
        top = 2 * top**2 - 1
        columns.append(top)
    basis = np.stack([np.ones_like(u), *columns], axis=1) * weight(u)[:, None]
    goal = function(u) * weight(u)
    shares, error = np.ones_like(u), math.inf
    for _ in range(_N_REWEIGHTINGS):
        weighted = basis.T * shares
        candidate = np.linalg.solve(weighted @ basis, weighted @ goal)
        errors = np.abs(basis @ candidate - goal)
        if errors.max() < error:
            error, coefficients = float(errors.max()), candidate
        shares *= errors / errors.mean() + 1e-3
        shares /= shares.mean()
    constant, *others = map(float, coefficients)
    return constant, tuple(others), error


@functools.lru_cache(maxsize=256)
def _rsqrt_polynomial(bounds: InverseBounds) -> Any:
    def function(u: Any) -> Any:  # Any: numpy arrays
        return (bounds.low + (u + 1) / bounds.slope) ** -0.5

    return fit_products(function, bounds.n_doublings, lambda u: 1 / function(u))


def _rsqrt_error(bounds: InverseBounds) -> float:
    error = float(_rsqrt_polynomial(bounds)[2])
    for _ in range(bounds.n_steps):
        error = error**2 * (3 + error) / 2
    return error


def _rsqrt(ops: Algebra[T], x: T, bounds: InverseBounds, factor: float) -> T:
    """Return factor x**-0.5 of (..., 1) as a sum of `chebyshev_products`.

    Newton's y (3 - x y^2) / 2 is z (3 - 4 x z^2) for y = 2 z: no halving.

    Source: the least largest relative error, fitted on Chebyshev's nodes.
    """
    n_steps = bounds.n_steps
    columns = [4.0 ** (n_steps - step) / factor**2 for step in range(n_steps)]
    lines = ops.combine(x, [[bounds.slope, *columns]])
    u = ops.shift(column(ops, lines, 0), -1 - bounds.slope * bounds.low)
    constant, coefficients, _ = _rsqrt_polynomial(bounds)
    scale = factor / 2**n_steps
    z = weighted_products(ops, u, scale * constant, [scale * c for c in coefficients])
    for step in range(n_steps):
        line = column(ops, lines, step + 1)
        both = ops.mul(side_by_side(ops, z, line), z)
        cube = ops.mul(column(ops, both, 0), column(ops, both, 1))
        z = ops.subtract(times(ops, z, 3), cube)
    return z


# ---- as published


def goldschmidt_inverse(
    ops: Algebra[T],
    x: T,
    power: float,
    divisor: float,
    n_steps: int,
    factor: float = 1.0,
) -> T:
    """Return factor * x**power by Goldschmidt's iteration from q = x / divisor.

    For 1/x, m = 2 - q and q becomes q m, in the basin 0 < q < 2: 2 n + 1 hops. For
    x**-0.5, m = (3 - q) / 2 and q becomes q m^2, in 0 < q < 3: 4 n - 1 hops. The result
    is the product of all m; a factor that is not divisor**-power is one hop more.

    Raises:
        UsageError: If the power is another one.
        RangeError: If an algebra that sees values sees one outside of the basin.

    Source: SecFormer, arXiv 2401.00793, algorithms 2 and 3.
    Differs: its released code has no divisor, so that sums are outside of the basin.
    """
    limit = _by_power(power, 2.0, 1.5)  # m is what is left of it
    is_root = power == -0.5
    slope = (-0.5 if is_root else -1.0) / divisor
    # a sign is local
    negated = ops.subtract(x, times(ops, x, 2)) if slope == -1 else ops.scale(x, slope)
    negated = ops.expect_within(negated, -limit, 0.0)
    product = multiplier = ops.shift(negated, limit)
    for step in range(1, n_steps):
        if step == 1:
            negated = ops.mul(negated, multiplier)
        else:
            left = ops.join([product, negated], 0)
            right = ops.join([multiplier] * 2, 0)
            product, negated = cut_evenly(ops, ops.mul(left, right), 2)
        if is_root:
            negated = ops.mul(negated, multiplier)
        multiplier = ops.shift(negated, limit)
    if n_steps > 1:
        product = ops.mul(product, multiplier)
    rest = factor * divisor**power
    return product if math.isclose(rest, 1.0) else ops.scale(product, rest)


def goldschmidt_error(
    low: float, high: float, power: float, divisor: float, n_steps: int
) -> float:
    """Return the largest relative error of `goldschmidt_inverse` on a range.

    Raises:
        UsageError: If the power is another one, or the range leaves the basin.
    """
    limit = _by_power(power, 2.0, 3.0)
    check_range("range of an inverse", low, high)
    if low <= 0 or high >= limit * divisor:
        raise UsageError(
            f"values from {low:g} to {high:g} over divisor={divisor:g}: expected a "
            f"start above 0 and below {limit:g}, else Goldschmidt's iteration diverges"
        )
    return max(_goldschmidt_error(x / divisor, power, n_steps) for x in (low, high))


def _goldschmidt_error(start: float, power: float, n_steps: int) -> float:
    product, rest = 1.0, start
    for _ in range(n_steps):
        multiplier = 2 - rest if power == -1.0 else (3 - rest) / 2
        product *= multiplier
        rest *= multiplier if power == -1.0 else multiplier**2
    return float(abs(product * start**-power - 1))


# ---- softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxBounds:
    """The range of the scores of a softmax, and of the sums of its rows.

    Attributes:
        low: Smallest score, q k / sqrt K.
        high: Largest score.
        n_squarings: e^s is a polynomial of degree 4 of s / 2^n, squared n times.
        total: Bounds of the sum over a row of e^((s - (low + high) / 2) / 2^h), h being
            the number of halvings.
        halvings: Bounds of the sum over a row of p^2, p = softmax(s / 2^j), j from h to
            1. softmax(s) is p^2 of j = 1, made to sum to 1 again: 4 hops and an inverse
            on a narrow range, instead of one inverse on a range of e^(high - low).

    Raises:
        UsageError: If no softmax can be made of these.
    """

    low: float
    high: float
    n_squarings: int
    total: InverseBounds
    halvings: tuple[InverseBounds, ...] = ()

    def __post_init__(self) -> None:
        check_range("range of scores", self.low, self.high)
        if not 0 <= self.n_squarings <= MAX_SQUARINGS:
            raise UsageError(
                f"n_squarings={self.n_squarings}: expected 0 to {MAX_SQUARINGS}"
            )
        if not _exp_polynomial(self)[0][-1] > 0:
            raise UsageError(
                f"n_squarings={self.n_squarings} for scores from {self.low:g} to "
                f"{self.high:g}: expected more of them"
            )

    @property
    def centre(self) -> float:
        """Middle of the scores."""
        return (self.low + self.high) / 2

    @property
    def weight_scale(self) -> float:
        """Scale of the weights that makes the sums of rows about 1."""
        return float((self.total.low * self.total.high) ** -0.5)

    @property
    def score_factor(self) -> float:
        """Public factor that scores come with, best half of its root in q and in k."""
        return float(_exp_polynomial(self)[0][-1] ** 0.25 / 2**self.n_squares)

    @property
    def n_squares(self) -> int:
        """Number of squares in all, those of halvings too."""
        return self.n_squarings + len(self.halvings)

    @property
    def exp_error(self) -> float:
        """Largest relative error of the weights, in exact arithmetic."""
        error = float(_exp_polynomial(self)[1])
        return float((1 + error) ** (2**self.n_squares) - 1)


@functools.lru_cache(maxsize=256)
def _exp_polynomial(bounds: SoftmaxBounds) -> Any:
    """Return (coefficients by power of t, largest relative error of e^t).

    t is (s - centre) / 2^(n + h); the 2^n-th root of the weights' scale is a factor.
    """
    import numpy as np  # loaded where something is fitted, not by `--help`

    end = (bounds.high - bounds.low) / 2 ** (bounds.n_squares + 1)
    constant, (c1, c2, c3, c4), error = fit_products(
        lambda u: np.exp(end * u), 2, lambda u: np.exp(-end * u)
    )
    fitted = (constant - c2 + c4, c1 - c3, 2 * c2 - 8 * c4, 2 * c3, 8 * c4)
    root = bounds.weight_scale ** (0.5**bounds.n_squarings)
    return tuple(float(root * c / end**i) for i, c in enumerate(fitted)), error


def bounded_softmax(ops: Algebra[T], q: T, k: T, v: T, bounds: SoftmaxBounds) -> T:
    """Return softmax(Q K^T / sqrt K) V without a maximum, as (p / sum p) V.

    q k must come with `bounds.score_factor` / sqrt K multiplied in by the owner of the
    weights. 10 + 2 n hops and those of the inverse, which is taken of the row's sum and
    multiplied behind the product with V; 4 and an inverse more for each halving. The
    scale of p, which cancels, makes the sums about 1. A polynomial of degree 4 with a
    leading 1 takes two products, (y + t + a2) y + a3 of y = (t + a0) t + a1.

    Source: the exponential by squaring of PUMA (arXiv 2307.12533, section 4) and SPU;
    the two products are Motzkin's and Knuth's, TAOCP volume 2, section 4.6.4.
    Differs: degree 4 instead of 1 before squaring, fitted to the range; no maximum; a
    wide range is halved, and weights made to sum to 1 behind each square.
    """
    factor = bounds.score_factor
    scores = ops.matmul(q, ops.transpose(k))  # (G, M, N)
    scores = ops.expect_within(scores, factor * bounds.low, factor * bounds.high)
    t = ops.shift(scores, -factor * bounds.centre)
    a0, a1, a2, a3 = _motzkin(_exp_polynomial(bounds)[0])
    y = ops.shift(ops.mul(ops.shift(t, a0), t), a1)
    weights = ops.shift(ops.mul(ops.shift(ops.add(y, t), a2), y), a3)
    for _ in range(bounds.n_squarings):
        weights = ops.square(weights)
    scaled = _scaled(bounds.total, bounds.weight_scale, 1 + bounds.exp_error)
    for own in bounds.halvings:
        factor = (own.low * own.high) ** -0.25  # brings sums of squares to about 1
        total = ops.row_sum(weights)
        inverse = bounded_inverse(ops, total, scaled, -1.0, factor)
        weights = ops.square(ops.mul(weights, inverse))
        scaled = _scaled(own, factor**2)
    inverse = bounded_inverse(ops, ops.row_sum(weights), scaled, -1.0)  # (G, M, 1)
    return ops.mul(ops.matmul(weights, v), inverse)


def _scaled(bounds: InverseBounds, scale: float, margin: float = 1.0) -> InverseBounds:
    low, high = scale * bounds.low / margin, scale * bounds.high * margin
    return replace(bounds, low=low, high=high)


def _motzkin(coefficients: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Return a0 to a3 of `bounded_softmax` for t scaled to a leading 1."""
    root = coefficients[4] ** 0.25
    b0, b1, b2, b3 = (c / root**i for i, c in enumerate(coefficients[:4]))
    a0 = (b3 - 1) / 2
    rest = b2 - a0**2 - a0
    a1 = b1 - a0 * rest
    a2 = rest - 2 * a1
    return a0, a1, a2, b0 - a1**2 - a2 * a1
