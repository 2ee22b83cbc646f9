"""Comparisons and what follows them: less, select, max.

Bytes are those one party of semi2k sends per entry on SPU 0.9.5 at 64 bits.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from mpcprof.workloads.registry import ATTENTION_DIMS, Workload, attention_map, register


def less(x: Array) -> Array:
    """1.0 where x < 0, else 0.0; 56 bytes, 7 hops.

    The sign bit of a share; making a number of it is local in every protocol. On
    inputs closer to 0 than 2**-18 the encoding, not the comparison, loses the sign.
    """
    return (x < 0).astype(jnp.float32)


def select(condition: Array, x: Array, y: Array) -> Array:
    """Take x where a secret condition holds, else y; 16 bytes, 1 hop.

    semi2k and aby3 pay the same after a comparison. Cheetah and SecureNN do not: there
    a condition from outside is a number to multiply by (up to 2.6 KB an entry in
    Cheetah), one that a comparison made is a shared bit (8 bytes an entry). For these
    two, the select inside of a network is relu minus less.
    """
    return jnp.where(condition, x, y)


def row_max(x: Array) -> Array:
    """Largest entry of each row; 72 (n - 1) bytes a row, 8 hops a level of the tree.

    bit_length(n) + popcount(n) - 2 levels: SPU halves the row, and what was odd on the
    way is compared at the end, one by one. 197 columns take 10 levels, 257 take 9.
    """
    return jnp.max(x, axis=-1, keepdims=True)


def _less64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.less(x.astype(np.float64), 0.0).astype(np.float64)


def _select64(
    condition: NDArray[np.bool_], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float64]:
    chosen = y.astype(np.float64)
    chosen[condition] = x[condition]
    return chosen


def _row_max64(x: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.sort(x.astype(np.float64), axis=-1)[..., -1:]


register(
    Workload(
        name="less",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),),
        function=less,
        reference=_less64,
        domain=((-4.0, 4.0),),
        atol=0.0,
        rtol=0.0,
        source="sign of a secret; the first half of ReLU and of every maximum",
    )
)
register(
    Workload(
        name="select",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),) * 3,
        function=select,
        reference=_select64,
        domain=((0.0, 1.0), (-4.0, 4.0), (-4.0, 4.0)),
        dtypes=("bool", "float32", "float32"),
        atol=4e-6,
        rtol=0.0,
        source="oblivious choice; the second half of ReLU and of every maximum",
    )
)
register(
    Workload(
        name="max",
        kind="primitive",
        dim_names=ATTENTION_DIMS,
        shapes=lambda dims: (attention_map(dims),),
        function=row_max,
        reference=_row_max64,
        domain=((-4.0, 4.0),),
        atol=4e-6,
        rtol=0.0,
        source="row maximum of a stable softmax; MPCViT Figure 3(b)",
    )
)
