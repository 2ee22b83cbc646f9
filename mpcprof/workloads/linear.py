"""Linear maps: matmul of two secrets, and sum over rows.

Bytes are those one party of semi2k sends on SPU 0.9.5 at 64 bits.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from mpcprof.workloads.registry import ATTENTION_DIMS, Workload, attention_map, register


def matmul(x: Array, weight: Array) -> Array:
    """Product of (N, D) and (D, F), both secret: one product and one truncation.

    8 (N D + D F) bytes and a hop, then 4 N F bytes and a hop.
    """
    return jnp.matmul(x, weight)


def row_sum(x: Array) -> Array:
    """Sum of each row; no bytes, no hops.

    aby3 makes a secret of the 0 that it starts from: 8 bytes a party, whatever the
    shape, and one hop.
    """
    return jnp.sum(x, axis=-1, keepdims=True)


def _matmul64(
    x: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float64]:
    return np.asarray(np.dot(x.astype(np.float64), weight.astype(np.float64)))


def _row_sum64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.add.reduce(x, axis=-1, keepdims=True, dtype=np.float64))


register(
    Workload(
        name="matmul",
        kind="primitive",
        dim_names=("n_tokens", "width", "hidden"),
        shapes=lambda dims: ((dims.n_tokens, dims.width), (dims.width, dims.hidden)),
        function=matmul,
        reference=_matmul64,
        domain=((-1.0, 1.0), (-1.0, 1.0)),
        atol=2e-5,
        rtol=1e-6,
        source="linear layer of the MLP with secret weights; MPCViT Figure 1",
    )
)
register(
    Workload(
        name="sum",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),),
        function=row_sum,
        reference=_row_sum64,
        domain=((-4.0, 4.0),),
        atol=4e-6,
        rtol=0.0,
        source="denominator of softmax",
    )
)
