"""Arithmetic on each entry: exp, reciprocal, rsqrt, mul, square, truncation.

Bytes are those one party of semi2k sends per entry on SPU 0.9.5 at 64 bits.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from mpcprof.workloads.registry import ATTENTION_DIMS, Workload, attention_map, register

TRUNCATION_FACTOR = 0.75  # not whole, so SPU rescales; exact in 18 fraction bits


def exp(x: Array) -> Array:
    """e**x, for x <= 0; 100 bytes, 17 hops.

    SPU takes (1 + x/256)**256, whose error is exp(x) x**2 / 512, at most 1.1e-3 for
    x <= 0, and each squaring doubles what truncation lost: within 1.4e-3 in all on
    semi2k and aby3, within 2.6e-3 on Cheetah, which rounds down. As a ratio it is 13 %
    at x = -8 and total below -12. Above 0 it grows (3 % at 4, 17 % at 10); above 18
    the ring overflows, and from -512 down the result is no longer near 0.
    """
    return jnp.exp(x)


def reciprocal(x: Array) -> Array:
    """1/x for x >= 0.5; 505 bytes, 36 hops.

    SPU is within 1e-4 of 1/x (as a ratio) plus 2**-18. Ratios get worse outside of
    0.1 .. 100 as 18 fraction bits run out: 4e-3 at x = 0.001 and 1e-3 at x = 300.
    """
    return 1 / x


def rsqrt(x: Array) -> Array:
    """x**-0.5 for x >= 0.1; 429 bytes, 26 hops.

    SPU is within 6e-4 of it (as a ratio) from 0.01 to 1e5; 2e-2 at 1e-4. From 2**17 on
    (18 fraction bits, a ring of 64) it is 0, without a warning.
    """
    return jax.lax.rsqrt(x)


def mul(x: Array, y: Array) -> Array:
    """Product of two secrets, x y; 16 bytes and a hop, then a truncation."""
    return x * y


def square(x: Array) -> Array:
    """x**2; SPU 0.9.5 multiplies x by itself, so it costs what mul does."""
    return jnp.square(x)


def truncation(x: Array) -> Array:
    """0.75 x; the product with a public number is local, its rescaling is not.

    4 bytes, 1 hop, for rings of 32, 64 and 128 bits alike.
    """
    return x * np.float32(TRUNCATION_FACTOR)


def _exp64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.exp(x.astype(np.float64))


def _reciprocal64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.reciprocal(x.astype(np.float64))


def _rsqrt64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.power(x.astype(np.float64), -0.5)


def _mul64(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.multiply(x, y, dtype=np.float64)


def _square64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.power(x.astype(np.float64), 2)


def _truncation64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.multiply(x, TRUNCATION_FACTOR, dtype=np.float64)


register(
    Workload(
        name="exp",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),),
        function=exp,
        reference=_exp64,
        domain=((-8.0, 0.0),),  # softmax subtracts the row's maximum first
        atol=5e-3,
        rtol=0.0,
        source="exponential of softmax; MPCViT Figure 3(b)",
    )
)
register(
    Workload(
        name="reciprocal",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),),
        function=reciprocal,
        reference=_reciprocal64,
        domain=((0.5, 256.0),),  # a softmax row sums to between 1 and n_tokens
        atol=2e-5,
        rtol=2e-4,
        source="normalisation of softmax; MPCViT Figure 3(b)",
    )
)
register(
    Workload(
        name="rsqrt",
        kind="primitive",
        dim_names=("n_tokens",),
        shapes=lambda dims: ((dims.n_tokens, 1),),
        function=rsqrt,
        reference=_rsqrt64,
        domain=((0.1, 100.0),),  # the variance of a token
        atol=5e-5,
        rtol=1e-3,
        source="LayerNorm, Ba et al. 2016 (arXiv 1607.06450), equation 4",
    )
)
register(
    Workload(
        name="mul",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims), attention_map(dims)),
        function=mul,
        reference=_mul64,
        domain=((-4.0, 4.0), (-4.0, 4.0)),
        atol=2e-5,
        rtol=0.0,
        source="product of two secrets by a Beaver triple",
    )
)
register(
    Workload(
        name="square",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),),
        function=square,
        reference=_square64,
        domain=((-4.0, 4.0),),
        atol=2e-5,
        rtol=0.0,
        source="Square and 2Quad attention; MPCViT Table 2, MPCFormer",
    )
)
register(
    Workload(
        name="truncation",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),),
        function=truncation,
        reference=_truncation64,
        domain=((-4.0, 4.0),),
        atol=2e-5,
        rtol=0.0,
        source="rescaling after a fixed-point product",
    )
)
