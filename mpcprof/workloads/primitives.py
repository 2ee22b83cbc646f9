"""The operations that MPC has a price for, as plain JAX functions.

Bytes are those that one party of semi2k sends per entry on SPU 0.9.5 at 64 bits.
Tolerances are twice the errors stated, or more: `atol` and `rtol` of approximations,
`steps` of the fixed point where numbers are only truncated.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from mpcprof.nn.algebra import Interval
from mpcprof.nn.steps import LOCAL, PRIMITIVES
from mpcprof.workloads.registry import DType, Workload, register
from mpcprof.workloads.tolerance import USUAL_STEPS, Tolerance

Function = TypeVar("Function", bound=Callable[..., Array])
Array64 = NDArray[np.float64]

TRUNCATION_FACTOR: Final = 0.75  # not whole, so SPU rescales; exact in 18 fraction bits


def primitive(
    name: str,
    *,
    source: str,
    domain: tuple[Interval, ...] = ((-4.0, 4.0),),
    reference: Callable[..., Any],  # Any: float64 arrays of numpy, in and out
    atol: float = 0.0,
    rtol: float = 0.0,
    steps: float = USUAL_STEPS,
    dtypes: tuple[DType, ...] = (),
) -> Callable[[Function], Function]:
    """Register the decorated function as the primitive `name` of `mpcprof.nn.steps`.

    Args:
        reference: The function on float64, written otherwise; truth values stay such.
    """

    def reference64(*inputs: NDArray[Any]) -> Array64:  # Any: float32 or bool
        wide = (x if x.dtype == np.bool_ else x.astype(np.float64) for x in inputs)
        return np.asarray(reference(*wide), np.float64)

    def decorate(function: Function) -> Function:
        register(
            Workload(
                name=name,
                kind="primitive",
                dim_names=PRIMITIVES[name].dim_names,
                shapes=PRIMITIVES[name].shapes,
                function=function,
                reference=reference64,
                domain=domain,
                dtypes=dtypes,
                tolerance=Tolerance(atol=atol, rtol=rtol, steps=steps),
                source=source,
            )
        )
        return function

    return decorate


@primitive(
    "exp",
    source="exponential of softmax; MPCViT Figure 3(b)",
    domain=((-8.0, 0.0),),  # softmax subtracts the row's maximum first
    reference=np.exp,
    atol=5e-3,
)
def exp(x: Array) -> Array:
    """e**x, for x <= 0; 100 bytes, 17 hops.

    SPU takes (1 + x/256)**256, whose error is exp(x) x**2 / 512, at most 1.1e-3 for
    x <= 0, and each squaring doubles what truncation lost: within 1.4e-3 in all on
    semi2k and aby3, within 2.6e-3 on Cheetah, which rounds down. As a ratio it is 13 %
    at x = -8 and total below -12. Above 0 it grows (3 % at 4, 17 % at 10); above 18
    the ring overflows, and from -512 down the result is no longer near 0.
    """
    return jnp.exp(x)


@primitive(
    "reciprocal",
    source="normalisation of softmax; MPCViT Figure 3(b)",
    domain=((0.5, 256.0),),  # a softmax row sums to between 1 and n_tokens
    reference=np.reciprocal,
    steps=5,
    rtol=2e-4,
)
def reciprocal(x: Array) -> Array:
    """1/x for x >= 0.5; 505 bytes, 36 hops.

    SPU is within 1e-4 of 1/x (as a ratio) plus 2**-18. Ratios get worse outside of
    0.1 .. 100 as 18 fraction bits run out: 4e-3 at x = 0.001 and 1e-3 at x = 300.
    """
    return 1 / x


@primitive(
    "rsqrt",
    source="LayerNorm, Ba et al. 2016 (arXiv 1607.06450), equation 4",
    domain=((0.1, 100.0),),  # the variance of a token
    reference=lambda x: np.power(x, -0.5),
    steps=13,
    rtol=1e-3,
)
def rsqrt(x: Array) -> Array:
    """x**-0.5 for x >= 0.1; 429 bytes, 26 hops.

    SPU is within 6e-4 of it (as a ratio) from 0.01 to 1e5; 2e-2 at 1e-4. From 2**17 on
    (18 fraction bits, a ring of 64) it is 0, without a warning.
    """
    return jax.lax.rsqrt(x)


@primitive(
    "mul",
    source="product of two secrets by a Beaver triple",
    domain=((-4.0, 4.0), (-4.0, 4.0)),
    reference=np.multiply,
    steps=5,
)
def mul(x: Array, y: Array) -> Array:
    """Product of two secrets, x y; 16 bytes and a hop, then a truncation."""
    return x * y


@primitive(
    "square",
    source="Square and 2Quad attention; MPCViT Table 2, MPCFormer",
    reference=lambda x: np.power(x, 2),
    steps=5,
)
def square(x: Array) -> Array:
    """x**2; SPU 0.9.5 multiplies x by itself, so it costs what mul does."""
    return jnp.square(x)


@primitive(
    "truncation",
    source="rescaling after a fixed-point product",
    reference=lambda x: np.multiply(x, TRUNCATION_FACTOR),
    steps=5,
)
def truncation(x: Array) -> Array:
    """0.75 x; the product with a public number is local, its rescaling is not.

    4 bytes, 1 hop, for rings of 32, 64 and 128 bits alike.
    """
    return x * np.float32(TRUNCATION_FACTOR)


@primitive(
    "matmul",
    source="linear layer of the MLP with secret weights; MPCViT Figure 1",
    domain=((-1.0, 1.0), (-1.0, 1.0)),
    reference=np.dot,
    steps=5,
    rtol=1e-6,
)
def matmul(x: Array, y: Array) -> Array:
    """Product of (N, D) and (D, F), both secret: one product and one truncation.

    8 (N D + D F) bytes and a hop, then 4 N F bytes and a hop.
    """
    return jnp.matmul(x, y)


@primitive(
    "sum",
    source="denominator of softmax",
    reference=lambda x: np.add.reduce(x, axis=-1, keepdims=True),
    steps=1,
)
def row_sum(x: Array) -> Array:
    """Sum of each row; no bytes, no hops.

    aby3 makes a secret of the 0 that it starts from: 8 bytes a party, whatever the
    shape, and one hop.
    """
    return jnp.sum(x, axis=-1, keepdims=True)


@primitive(
    "local",
    source="additions, slices and concatenations of any network",
    domain=((-1.0, 1.0),),
    reference=lambda x: _roll_and_add(x, np.roll),
    steps=40,
)
def local(x: Array) -> Array:
    """Five times x plus x turned by a column: 20 local operations; no bytes, no hops.

    Two slices, a concatenation and an addition each, which no compiler can merge.
    """
    added: Array = _roll_and_add(x, jnp.roll)
    return added


def _roll_and_add(x: Any, roll: Callable[..., Any]) -> Any:  # Any: of numpy or JAX
    for _ in range(PRIMITIVES[LOCAL].n_steps // 4):
        x = x + roll(x, 1, axis=-1)
    return x


@primitive(
    "less",
    source="sign of a secret; the first half of ReLU and of every maximum",
    reference=lambda x: np.less(x, 0.0),
    steps=0,
)
def less(x: Array) -> Array:
    """1.0 where x < 0, else 0.0; 56 bytes, 7 hops.

    The sign bit of a share; making a number of it is local in every protocol. On
    inputs closer to 0 than 2**-18 the encoding, not the comparison, loses the sign.
    """
    return (x < 0).astype(jnp.float32)


@primitive(
    "select",
    source="oblivious choice; the second half of ReLU and of every maximum",
    domain=((0.0, 1.0), (-4.0, 4.0), (-4.0, 4.0)),
    reference=lambda condition, x, y: np.choose(condition, (y, x)),
    steps=1,
    dtypes=("bool", "float32", "float32"),
)
def select(condition: Array, x: Array, y: Array) -> Array:
    """Take x where a secret condition holds, else y; 16 bytes, 1 hop.

    semi2k and aby3 pay the same after a comparison. Cheetah and SecureNN do not: there
    a condition from outside is a number to multiply by (up to 2.6 KB an entry in
    Cheetah), one that a comparison made is a shared bit (8 bytes an entry). For these
    two, the select inside of a network is relu minus less.
    """
    return jnp.where(condition, x, y)


@primitive(
    "max",
    source="row maximum of a stable softmax; MPCViT Figure 3(b)",
    reference=lambda x: np.sort(x, axis=-1)[..., -1:],
    steps=1,
)
def row_max(x: Array) -> Array:
    """Largest entry of each row; 72 (n - 1) bytes a row, 8 hops a level of the tree.

    bit_length(n) + popcount(n) - 2 levels: SPU halves the row, and what was odd on the
    way is compared at the end, one by one. 197 columns take 10 levels, 257 take 9.
    """
    return jnp.max(x, axis=-1, keepdims=True)


def relu64(x: Array64) -> Array64:
    """x where x > 0, else 0, in float64."""
    return np.where(x > 0, x, 0.0)


@primitive("relu", source="ReLU softmax; MPCViT section 2.2", reference=relu64, steps=1)
def relu(x: Array) -> Array:
    """max(x, 0), a less and a select; 72 bytes, 8 hops."""
    return jnp.maximum(x, 0)


def gelu_exact64(x: Array64) -> Array64:
    """x Phi(x) in float64, Phi being the normal distribution function."""
    return np.asarray(x * ndtr(x), np.float64)


@primitive(
    "gelu_exact",
    source="GELU, Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2",
    reference=gelu_exact64,
    atol=1.5e-3,
)
def gelu_exact(x: Array) -> Array:
    """GeLU, x (1 + erf(x / sqrt 2)) / 2; 749 bytes, 64 hops; SPU is within 7e-4.

    Written with erf on purpose: jax.nn.gelu(approximate=False) takes erfc, which SPU
    computes for 1951 bytes and 181 hops.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def gelu_tanh64(x: Array64) -> Array64:
    """x sigmoid(2 u) in float64, u = sqrt(2/pi) (x + 0.044715 x^3)."""
    return np.asarray(x * expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)), np.float64)


@primitive(
    "gelu_tanh",
    source="tanh form of GELU, Hendrycks and Gimpel 2016 (arXiv 1606.08415)",
    reference=gelu_tanh64,
    atol=8e-3,
)
def gelu_tanh(x: Array) -> Array:
    """GeLU as x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))) / 2; 396 bytes, 45 hops.

    SPU's tanh ends at 0.9973, so the error grows as 1.4e-3 |x|: 6e-3 up to |x| = 4.
    """
    return 0.5 * x * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@primitive(
    "tanh",
    source="hyperbolic tangent; the costly part of gelu_tanh",
    reference=np.tanh,
    atol=8e-3,
)
def tanh(x: Array) -> Array:
    """Hyperbolic tangent; 324 bytes, 36 hops; SPU is within 5e-3 everywhere."""
    return jnp.tanh(x)


@primitive(
    "sigmoid",
    source="logistic function; gates and the sigmoid form of GELU",
    domain=((-8.0, 8.0),),
    reference=lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    atol=2e-3,
)
def sigmoid(x: Array) -> Array:
    """1 / (1 + e**-x); 605 bytes, 53 hops; SPU is within 1e-3 for x > -18."""
    return jax.lax.logistic(x)
