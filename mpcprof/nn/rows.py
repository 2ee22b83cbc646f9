"""From a row of scores to a row of weights: softmax and what stands in for it."""

import functools
from collections.abc import Callable
from typing import Any, Final

from mpcprof.nn.algebra import Algebra, T
from mpcprof.nn.approximation import goldschmidt_inverse
from mpcprof.nn.gelu import Pieces, piecewise

# Added to a sum before its reciprocal is taken. The paper's 1e-8 is below what 18
# fraction bits resolve (4e-6); below 1e-3 SPU's reciprocal is off by more than 0.5 %.
EPSILON: Final = 2.0**-10
EXP_LOW: Final = -14.0  # below it, an exponential by squaring is 0
TWO_QUAD_SHIFT: Final = 5.0  # MPCFormer's c
SECFORMER_DIVISOR: Final = 5000.0  # eta, of the sums of 2Quad
SECFORMER_STEPS: Final = 13
SPARSEMAX_STEPS: Final = 6  # at 257 tokens rows then sum to 1.02 at most
SPARSEMAX_WIDTH: Final = 2.0**-6  # step of the difference that gives the slope


def normalise(
    ops: Algebra[T],
    weights: T,
    epsilon: float = 0.0,
    *,
    is_by_entry: bool = False,
    values: T | None = None,
) -> T:
    """Divide each row by its sum, with one reciprocal for a row or for each entry.

    Given values, return their product with the rows, divided behind it.
    """
    total = ops.row_sum(weights)  # (..., M, 1)
    divisor = ops.shift(total, epsilon) if epsilon else total
    if values is not None:
        return ops.mul(ops.matmul(weights, values), ops.reciprocal(divisor))
    if is_by_entry:
        return ops.divide(weights, divisor)
    return ops.mul(weights, ops.reciprocal(divisor))


def softmax_rows(
    ops: Algebra[T],
    scores: T,
    *,
    exp: Callable[..., Any] = lambda ops, x: ops.exp(x),  # Any: arrays
    is_by_entry: bool = False,
    values: T | None = None,
) -> T:
    """Return exp(s - max s) over its sum along each row.

    By entry, each entry is divided by its row's sum: N reciprocals a row, as SPU runs
    the x / sum of MPCViT's code.

    Args:
        exp: (algebra, numbers up to 0) to their exponential; SPU's own unless given.

    Source: Vaswani et al. 2017, equation 1.
    """
    shifted = ops.subtract(scores, ops.row_max(scores))
    weights: T = exp(ops, shifted)
    return normalise(ops, weights, is_by_entry=is_by_entry, values=values)


def exp_by_squaring(ops: Algebra[T], x: T, n_squarings: int) -> T:
    """Return (1 + x / 2^n)^(2^n) for x > -14, else 0.

    Source: PUMA, arXiv 2307.12533, section 4.
    """
    power = ops.shift(ops.scale(x, 2.0**-n_squarings), 1.0)
    for _ in range(n_squarings):
        power = ops.square(power)
    return ops.gate(ops.shift(x, -EXP_LOW), power)


puma_exp: Final = functools.partial(exp_by_squaring, n_squarings=5)
bumblebee_exp: Final = functools.partial(exp_by_squaring, n_squarings=6)

_NIMBUS_EXP: Final[Pieces] = (
    (
        -3.9,
        {
            0: 0.9708981428645548,
            1: 0.8318065569430768,
            2: 0.26332572942924737,
            3: 0.0291786417536755,
        },
    ),
)
nimbus_exp: Final = functools.partial(piecewise, pieces=_NIMBUS_EXP)


def softmax_rows_by(exp: Callable[..., Any]) -> Callable[..., Any]:  # Any: arrays
    """Make softmax of rows from an exponential of numbers up to 0."""
    return functools.partial(softmax_rows, exp=exp)


def relu_softmax_rows(
    ops: Algebra[T],
    scores: T,
    *,
    epsilon: float = EPSILON,
    is_by_entry: bool = False,
    values: T | None = None,
) -> T:
    """Return relu(s) over its sum + epsilon along each row; by entry as in softmax.

    Source: MPCViT section 2.2, RSAttn.
    Differs: the epsilon of MPCViT's code is 1e-5, as in `relu_softmax_mpcvit`.
    """
    weights = ops.relu(scores)
    return normalise(ops, weights, epsilon, is_by_entry=is_by_entry, values=values)


def two_quad_rows(ops: Algebra[T], scores: T, *, values: T | None = None) -> T:
    """Return s^2 over its sum + epsilon along each row.

    Source: MPCViT Table 2, after MPCFormer.
    Differs: MPCFormer squares s + 5.
    """
    return normalise(ops, ops.square(scores), EPSILON, values=values)


def shifted_quad_rows(ops: Algebra[T], scores: T, *, values: T | None = None) -> T:
    """Return (s + 5)^2 over its sum along each row, of scores given as s / 5.

    Source: 2Quad, MPCFormer (arXiv 2211.01452), section 3.
    Differs: (s / 5 + 1)^2, the same weights; their sums are near the number of tokens,
    where 18 fraction bits hold a reciprocal within 1e-3, and not 25 times as large.
    """
    return normalise(ops, ops.square(ops.shift(scores, 1.0)), values=values)


def goldschmidt_quad_rows(ops: Algebra[T], scores: T, *, values: T | None = None) -> T:
    """Return (s + 5)^2 over its sum, of scores given as s / sqrt(5000).

    The sum is then that of (s + 5)^2, deflated, as Goldschmidt's division takes it:
    from 0 to 2 exclusive; a larger one is wrong by any amount.

    Source: SecFormer, arXiv 2401.00793, algorithm 3.
    Differs: its released code does not deflate.
    """
    shift = TWO_QUAD_SHIFT * SECFORMER_DIVISOR**-0.5
    weights = ops.square(ops.shift(scores, shift))
    total = ops.row_sum(weights)
    inverse = goldschmidt_inverse(ops, total, -1.0, 1.0, SECFORMER_STEPS)
    if values is not None:
        return ops.mul(ops.matmul(weights, values), inverse)
    return ops.mul(weights, inverse)


def relu6_rows(ops: Algebra[T], scores: T) -> T:
    """Return min(relu(s), 6) of each entry, as a difference of two ReLUs.

    Source: MPCViT Table 2.
    """
    return ops.subtract(ops.relu(scores), ops.relu(ops.shift(scores, -6.0)))


def sparsemax_rows(ops: Algebra[T], scores: T) -> T:
    """Return relu(s - tau), tau such that each row sums to 1.

    Newton's method on the convex f(tau) = sum relu(s - tau) - 1 from max(s) - 1, where
    f >= 0. The slope is a difference of two sums of ReLUs: a count of s > tau would
    turn shared bits into numbers, 9 hops in aby3. It is never too flat, so tau does not
    overshoot.

    Source: Martins and Astudillo 2016.
    Differs: they sort; sorting secrets costs more than six steps.
    """
    tau = ops.shift(ops.row_max(scores), -1.0)  # (..., M, 1)
    for _ in range(SPARSEMAX_STEPS):
        above = ops.subtract(scores, tau)
        total = ops.row_sum(ops.relu(above))
        wider = ops.row_sum(ops.relu(ops.shift(above, SPARSEMAX_WIDTH)))
        n_active = ops.scale(ops.subtract(wider, total), 1 / SPARSEMAX_WIDTH)
        step = ops.mul(ops.shift(total, -1.0), ops.reciprocal(n_active))
        tau = ops.add(tau, step)
    return ops.relu(ops.subtract(scores, tau))
