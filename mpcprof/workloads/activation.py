"""Activation functions: relu, gelu (exact and by tanh), tanh, sigmoid.

Bytes are those one party of semi2k sends per entry on SPU 0.9.5 at 64 bits.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from mpcprof.workloads.registry import (
    ATTENTION_DIMS,
    HIDDEN_DIMS,
    Workload,
    attention_map,
    hidden_layer,
    register,
)

_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBIC = 0.044715


def relu(x: Array) -> Array:
    """max(x, 0), a less and a select; 72 bytes, 8 hops."""
    return jnp.maximum(x, 0)


def gelu_exact(x: Array) -> Array:
    """GeLU, x (1 + erf(x / sqrt 2)) / 2; 749 bytes, 64 hops; SPU is within 7e-4.

    Written with erf on purpose: jax.nn.gelu(approximate=False) takes erfc, which SPU
    computes for 1951 bytes and 181 hops.
    """
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def gelu_tanh(x: Array) -> Array:
    """GeLU as x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))) / 2; 396 bytes, 45 hops.

    SPU's tanh ends at 0.9973, so the error grows as 1.4e-3 |x|: 6e-3 up to |x| = 4.
    """
    return 0.5 * x * (1 + jnp.tanh(_TANH_SCALE * (x + _TANH_CUBIC * x**3)))


def tanh(x: Array) -> Array:
    """Hyperbolic tangent; 324 bytes, 36 hops; SPU is within 5e-3 everywhere."""
    return jnp.tanh(x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e**-x); 605 bytes, 53 hops; SPU is within 1e-3 for x > -18."""
    return jax.lax.logistic(x)


def _relu64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.where(x > 0, x, 0.0).astype(np.float64)


def _gelu_exact64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    return np.asarray(0.5 * wide * erfc(-wide / math.sqrt(2)), dtype=np.float64)


def _gelu_tanh64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    inner = _TANH_SCALE * wide * (1 + _TANH_CUBIC * np.square(wide))
    return np.asarray(wide / (1 + np.exp(-2 * inner)), dtype=np.float64)


def _tanh64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.tanh(x.astype(np.float64))


def _sigmoid64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x.astype(np.float64))))


register(
    Workload(
        name="relu",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),),
        function=relu,
        reference=_relu64,
        domain=((-4.0, 4.0),),
        atol=4e-6,
        rtol=0.0,
        source="ReLU softmax; MPCViT section 2.2",
    )
)
register(
    Workload(
        name="gelu_exact",
        kind="primitive",
        dim_names=HIDDEN_DIMS,
        shapes=lambda dims: (hidden_layer(dims),),
        function=gelu_exact,
        reference=_gelu_exact64,
        domain=((-4.0, 4.0),),
        atol=1.5e-3,
        rtol=0.0,
        source="GELU, Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2",
    )
)
register(
    Workload(
        name="gelu_tanh",
        kind="primitive",
        dim_names=HIDDEN_DIMS,
        shapes=lambda dims: (hidden_layer(dims),),
        function=gelu_tanh,
        reference=_gelu_tanh64,
        domain=((-4.0, 4.0),),
        atol=8e-3,
        rtol=0.0,
        source="tanh form of GELU, Hendrycks and Gimpel 2016 (arXiv 1606.08415)",
    )
)
register(
    Workload(
        name="tanh",
        kind="primitive",
        dim_names=HIDDEN_DIMS,
        shapes=lambda dims: (hidden_layer(dims),),
        function=tanh,
        reference=_tanh64,
        domain=((-4.0, 4.0),),
        atol=8e-3,
        rtol=0.0,
        source="hyperbolic tangent; the costly part of gelu_tanh",
    )
)
register(
    Workload(
        name="sigmoid",
        kind="primitive",
        dim_names=HIDDEN_DIMS,
        shapes=lambda dims: (hidden_layer(dims),),
        function=sigmoid,
        reference=_sigmoid64,
        domain=((-8.0, 8.0),),
        atol=2e-3,
        rtol=0.0,
        source="logistic function; gates and the sigmoid form of GELU",
    )
)
