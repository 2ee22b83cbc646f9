"""Normalisation of tokens."""

from typing import Final

from mpcprof.nn.algebra import Algebra, T

# torch's default is 1e-5, two and a half steps of 18 fraction bits; no token of a
# trained network comes near it.
NORM_EPSILON: Final = 1e-5


def layernorm(ops: Algebra[T], x: T, gamma: T, beta: T) -> T:
    """Return (x - mean) / sqrt(var + epsilon) gamma + beta along the last axis.

    Source: Ba et al. 2016 (arXiv 1607.06450), equation 4.
    """
    width = x.shape[-1]
    mean = ops.scale(ops.row_sum(x), 1.0 / width)
    centred = ops.subtract(x, mean)
    variance = ops.scale(ops.row_sum(ops.square(centred)), 1.0 / width)
    deviation = ops.rsqrt(ops.shift(variance, NORM_EPSILON))
    return ops.add(ops.mul(ops.mul(centred, deviation), gamma), beta)
