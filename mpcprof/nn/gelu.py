"""Approximations of GeLU, x Phi(x), by few operations: the project's and others'."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from mpcprof.nn.algebra import Algebra, T
from mpcprof.nn.approximation import (
    chebyshev_products,
    column,
    cut_evenly,
    fit_products,
    side_by_side,
    times,
)

Pieces: TypeAlias = Sequence[tuple[float, Mapping[int, float]]]  # cut, coefficients


def _columns(ops: Algebra[T], *arrays: T) -> T:
    """Put arrays side by side along a new last axis, ready for `combine`."""
    return side_by_side(ops, *(ops.reshape(x, (*x.shape, 1)) for x in arrays))


def _flat(ops: Algebra[T], x: T, index: int = 0) -> T:
    """Return one of the columns as an array of the shape before."""
    return ops.reshape(column(ops, x, index), x.shape[:-1])


def _relus(ops: Algebra[T], x: T, knots: Sequence[float]) -> list[T]:
    """Return max(x - knot, 0) for each knot, all in one comparison."""
    stacked = ops.relu(ops.join([ops.shift(x, -knot) for knot in knots], 0))
    return cut_evenly(ops, stacked, len(knots))


# GeLU is x / 2 + e(|x|). Beyond a cut c, e is |x| / 2; before it, a polynomial. With x
# clipped to [-c, c] first, as a difference of two ReLUs, the polynomial stays in its
# range and the whole is continuous whatever the coefficients. Those below have the
# least largest error of their form on the whole line (linear programming).


def clip4(ops: Algebra[T], x: T) -> T:
    """relu(x + c) / 2 + relu(x - c) / 2 + a t^2 + b t^4 + d, t = x clipped to +-c."""
    cut = 2.2
    above, beyond = _relus(ops, x, [-cut, cut])
    clipped = ops.shift(ops.subtract(above, beyond), -cut)
    square = ops.square(clipped)
    terms = _columns(ops, square, ops.square(square), ops.add(above, beyond))
    weighted = ops.combine(terms, [[0.328257522], [-0.0224186095], [0.5]])
    return ops.shift(_flat(ops, weighted), 0.0182015096 - cut / 2)


def abs4(ops: Algebra[T], x: T) -> T:
    """Relus as in clip4, and a polynomial of degree 4 of |t|, odd powers included."""
    cut = 3.2
    above, positive, beyond = _relus(ops, x, [-cut, 0.0, cut])
    clipped = ops.shift(ops.subtract(above, beyond), -cut)
    size = ops.subtract(times(ops, ops.subtract(positive, beyond), 2), clipped)  # |t|
    square = ops.square(size)
    products = ops.mul(ops.join([size, square], 0), ops.join([square, square], 0))
    terms = _columns(
        ops, size, square, *cut_evenly(ops, products, 2), ops.add(above, beyond)
    )
    coefficients = (-0.03884127, 0.54328188, -0.18527359, 0.02125962, 0.5)
    weighted = ops.combine(terms, [[c] for c in coefficients])
    return ops.shift(_flat(ops, weighted), 0.00166924 - cut / 2)


def spline(ops: Algebra[T], x: T) -> T:
    """Relus as in clip4, a t^2 up to c and b u + d u^2 from there, u = |x| - c <= w.

    Left and right pieces are one: where one is not 0, the other one is.
    """
    cut, end = 0.9, 2.6
    above, left, right, beyond = _relus(ops, x, [-end, -cut, cut, end])
    middle = ops.shift(ops.subtract(left, right), -cut)  # x clipped to +-cut
    outer = ops.shift(
        ops.subtract(ops.add(left, right), ops.add(above, beyond)), end - cut
    )
    squares = cut_evenly(ops, ops.square(ops.join([middle, outer], 0)), 2)
    terms = _columns(ops, *squares, outer, ops.add(above, beyond))
    coefficients = (0.34174198, -0.01561556, 0.62129345, 0.5)
    weighted = ops.combine(terms, [[c] for c in coefficients])
    return ops.shift(_flat(ops, weighted), 0.00658988 - end / 2)


def within(ops: Algebra[T], x: T, *, bound: float, n_doublings: int) -> T:
    """x / 2 + an even polynomial of x, without a comparison: |x| <= bound only."""
    x = ops.expect_within(x, -bound, bound)
    constant, coefficients, _ = _even_polynomial(bound, n_doublings)
    squares = ops.scale(ops.square(x), 2 / bound**2)
    u = ops.reshape(ops.shift(squares, -1.0), (*x.shape, 1))
    terms = side_by_side(
        ops, chebyshev_products(ops, u, n_doublings), ops.reshape(x, (*x.shape, 1))
    )
    weighted = ops.combine(terms, [[c] for c in (*coefficients, 0.5)])
    return ops.shift(_flat(ops, weighted), constant)


@functools.cache
def _even_polynomial(bound: float, n_doublings: int) -> Any:
    """Fit GeLU(x) - x / 2 = x erf(x / sqrt 2) / 2 by a polynomial of x^2."""

    def even(u: Any) -> Any:  # Any: numpy arrays
        import numpy as np  # loaded where something is fitted, not by `--help`

        x = bound * np.sqrt((u + 1) / 2)
        return np.array([one * math.erf(one * math.sqrt(0.5)) / 2 for one in x])

    return fit_products(even, n_doublings, lambda u: 1 + 0 * u)


def piecewise(ops: Algebra[T], x: T, pieces: Pieces) -> T:
    """Return 0, and from each cut on the polynomial of that piece, by power of x.

    Powers of equal depth are one product, what one piece adds to the one before is one
    `combine`, and all comparisons are one `gate`.
    """
    powers = sorted({power for _, piece in pieces for power in piece} - {0, 1})
    known = _powers(ops, x, powers)
    before = [{}, *(piece for _, piece in pieces)]
    changes = [
        {
            power: piece.get(power, 0.0) - last.get(power, 0.0)
            for power in (0, 1, *powers)
        }
        for last, (_, piece) in zip(before, pieces, strict=False)
    ]
    terms = _columns(ops, *(known[power] for power in (1, *powers)))
    matrix = [[change[power] for change in changes] for power in (1, *powers)]
    sums = ops.combine(terms, matrix)
    added = [
        ops.shift(_flat(ops, sums, i), change[0]) for i, change in enumerate(changes)
    ]
    tests = [ops.shift(x, -cut) for cut, _ in pieces]
    gated = cut_evenly(
        ops, ops.gate(ops.join(tests, 0), ops.join(added, 0)), len(pieces)
    )
    return functools.reduce(ops.add, gated)


def _powers(ops: Algebra[T], x: T, wanted: Sequence[int]) -> dict[int, T]:
    """Return powers of x, by stacked products of powers found before."""
    known = {1: x}
    while missing := [power for power in wanted if power not in known]:
        top = max(known)
        found = [p for p in missing if p <= 2 * top and p - top in known]
        if 2 * top not in found and max(missing) > 2 * top:
            found.append(2 * top)
        left = ops.join([known[p - top] for p in found], 0)
        right = ops.join([known[top]] * len(found), 0)
        known |= dict(
            zip(found, cut_evenly(ops, ops.mul(left, right), len(found)), strict=True)
        )
    return known


_PUMA: Final[Pieces] = (
    (
        -4.0,
        {
            0: -0.5054031199708174,
            1: -0.42226581151983866,
            2: -0.11807612951181953,
            3: -0.011034134030615728,
        },
    ),
    (
        -1.95,
        {
            0: 0.008526321541038084,
            1: 0.5,
            2: 0.3603292692789629,
            4: -0.037688200365904236,
            6: 0.0018067462606141187,
        },
    ),
    (3.0, {1: 1.0}),
)


def _of_size(coefficients: Sequence[float], sign: int) -> dict[int, float]:
    """Return x / 2 and a polynomial of |x|, as one of x where x has that sign."""
    signed = {power: sign**power * c for power, c in enumerate(coefficients)}
    return signed | {1: signed[1] + 0.5}


_BUMBLEBEE_POLYNOMIAL: Final = (
    *(0.001620808531841547, -0.03798164612714154, 0.5410550166368381),
    *(-0.18352506127082727, 0.020848611754127593),
)
_BUMBLEBEE: Final[Pieces] = (
    (-3.0, _of_size(_BUMBLEBEE_POLYNOMIAL, -1)),
    (0.0, _of_size(_BUMBLEBEE_POLYNOMIAL, 1)),
    (3.0, {1: 1.0}),
)


# (x / 2) sum_k b_k sin(k pi x / (10 sqrt 2)) up to the cut, as a polynomial in 8e-5
_SECFORMER_CUT: Final = 1.7 * math.sqrt(2)
_SECFORMER: Final[Pieces] = (
    (
        -_SECFORMER_CUT,
        {
            1: 0.5,
            2: 0.3958942942551342,
            4: -0.05358911371695677,
            6: 0.004424329560470547,
            8: -0.00015755780324688917,
        },
    ),
    (_SECFORMER_CUT, {1: 1.0}),
)


def quick(ops: Algebra[T], x: T) -> T:
    """x / (1 + exp(-1.702 x)), SPU's own exp and reciprocal."""
    below = ops.shift(ops.exp(ops.scale(x, -1.702)), 1.0)
    return ops.mul(x, ops.reciprocal(below))


_NIMBUS: Final[Pieces] = (
    (-1.8, {0: -0.006946478426716862, 1: 0.32421075145645123, 2: 0.17025471961795552}),
    (0.5, {1: 1.0}),
)

puma = functools.partial(piecewise, pieces=_PUMA)
bumblebee = functools.partial(piecewise, pieces=_BUMBLEBEE)
secformer = functools.partial(piecewise, pieces=_SECFORMER)
nimbus = functools.partial(piecewise, pieces=_NIMBUS)
