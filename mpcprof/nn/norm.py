"""Normalisation of tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mpcprof.errors import look_up
from mpcprof.nn.algebra import Algebra, T
from mpcprof.nn.approximation import (
    Accuracy,
    InverseBounds,
    bounded_inverse,
    goldschmidt_inverse,
    times,
)

# torch's default is 1e-5, two and a half steps of 18 fraction bits; no token of a
# trained network comes near it.
NORM_EPSILON: Final = 1e-5
SECFORMER_DIVISOR: Final = 2048.0  # of variances
SECFORMER_STEPS: Final = 11

# (algebra, x, unit) to x**-0.5 where x is a variance, times the unit
InverseRoot: TypeAlias = Callable[..., Any]  # Any: the algebra's own array


def rsqrt(ops: Algebra[T], x: T, unit: float = 1.0) -> T:
    """Return x**-0.5 as SPU has it."""
    return ops.rsqrt(x)


def secformer_rsqrt(ops: Algebra[T], x: T, unit: float = 1.0) -> T:
    """Return x**-0.5 by 11 steps of Goldschmidt from x / 2048.

    Source: SecFormer, arXiv 2401.00793, algorithm 2.
    Differs: eta = 2048, not 2000: 18 fraction bits hold 1 / 4096, and 1 / 4000 within
    0.7 % alone.
    """
    divisor = SECFORMER_DIVISOR * unit
    return goldschmidt_inverse(ops, x, -0.5, divisor, SECFORMER_STEPS)


def layernorm(
    ops: Algebra[T],
    x: T,
    gamma: T,
    beta: T,
    epsilon: float = NORM_EPSILON,
    inverse_root: InverseRoot = rsqrt,
) -> T:
    """Return (x - mean) / sqrt(var + epsilon) gamma + beta along the last axis.

    Source: Ba et al. 2016 (arXiv 1607.06450), equation 4.
    """
    normed = unit_norm(ops, x, epsilon, is_centred=False, inverse_root=inverse_root)
    return ops.add(ops.mul(normed, gamma), beta)


def unit_norm(
    ops: Algebra[T],
    x: T,
    epsilon: float,
    bounds: InverseBounds | None = None,
    multiple: int = 1,
    *,
    is_centred: bool = True,
    inverse_root: InverseRoot = rsqrt,
) -> T:
    """Return x / sqrt(sum x^2 + epsilon) along the last axis.

    Of tokens with mean 0, and epsilon D times the layernorm's, it is the layernorm over
    sqrt(D), times `norm_factor`; the weights behind make up for both, and for gamma and
    beta. Of tokens of any mean and scale it is the layernorm times `norm_factor`, for
    two truncations: their sum of squares may be beyond what SPU's rsqrt takes.

    Args:
        epsilon: Added to the sum, or to the variance, of squares.
        bounds: Range of the sum, of squares of the multiple; None for `inverse_root`.
        multiple: Whole number by which x, not the result, is multiplied first.
        is_centred: Whether tokens have mean 0, and a scale that keeps their sum small.
    """
    x = times(ops, x if is_centred else centred(ops, x), multiple)
    total = ops.row_sum(ops.square(x))  # (..., 1)
    if not is_centred:
        total = ops.scale(total, 1.0 / x.shape[-1])
    total = ops.shift(total, epsilon * multiple**2)
    if bounds is None:
        return ops.mul(x, inverse_root(ops, total))
    return ops.mul(x, bounded_inverse(ops, total, bounds, -0.5, norm_factor(bounds)))


def norm_factor(bounds: InverseBounds | None) -> float:
    """Return the factor of a bounded `unit_norm`, whose inverse roots are about 1."""
    return 1.0 if bounds is None else (bounds.low * bounds.high) ** 0.25


def centred(ops: Algebra[T], x: T) -> T:
    """Return x less its mean along the last axis, which costs a truncation."""
    return ops.subtract(x, ops.scale(ops.row_sum(x), 1.0 / x.shape[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """A way to normalise tokens.

    Attributes:
        source: Paper and equation.
        is_folded: Whether the weights' owner makes it a part of the weights behind it,
            always, so that nothing is left of it in a private inference.
        inverse_root: Inverse of a token's deviation, of a norm that is not folded.
        accuracy: Error of the part that is approximated, of a published approximation.
    """

    source: str
    is_folded: bool = True
    inverse_root: InverseRoot = rsqrt
    accuracy: Accuracy | None = None


NORMS: Final = {
    "layernorm": Norm(
        source="Ba et al. 2016 (arXiv 1607.06450), equation 4", is_folded=False
    ),
    "layernorm_secformer": Norm(
        source="SecFormer, arXiv 2401.00793, algorithm 2: eta = 2048, 11 steps",
        is_folded=False,
        inverse_root=secformer_rsqrt,
        accuracy=Accuracy(
            of="x^-1/2", low=2.0, high=5700.0, max_error=1.01e-3, is_relative=True
        ),
    ),
    "batchnorm": Norm(source="Ioffe and Szegedy 2015 (arXiv 1502.03167), algorithm 2"),
    "repbn": Norm(source="BN(x) + a x; SLAB, Guo et al. 2024 (arXiv 2405.11582)"),
    "affine": Norm(source="gamma x + beta; ResMLP (arXiv 2105.03404), equation 1"),
    "none": Norm(source="tokens as they are"),
}


def get_norm(name: str) -> Norm:
    """Return the norm of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("norm", name, NORMS)
