"""A first tiny program, so that no measured case pays for keys and tables."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jax import Array, nn

from mpcprof.engine.lowering import lower

if TYPE_CHECKING:
    from mpcprof.engine.session import Call, Session

_SIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Priming:
    """What the first call cost beyond a second one of the same program, on loopback.

    Attributes:
        seconds: Base oblivious transfers, keys, tables; near 0 in semi2k.
        n_bytes: Sent for that, summed over parties as SPU counts them.
    """

    seconds: float
    n_bytes: int


def prime(session: "Session") -> Priming:
    """Run a program that uses every kind of primitive, twice."""
    inputs = [np.full((_SIDE, _SIDE), 0.5, np.float32)]
    lowered = lower(_a_bit_of_all, inputs, case="prime", deployment=session.deployment)
    session.load("prime", lowered, inputs)
    first, second = session.run("prime"), session.run("prime")
    session.unload("prime")
    return Priming(
        seconds=max(first.latency_s - second.latency_s, 0.0),
        n_bytes=max(_total_bytes(first) - _total_bytes(second), 0),
    )


def _a_bit_of_all(x: Array) -> Array:
    return jnp.exp(-nn.relu(x @ x)) / (1.0 + jnp.max(x, axis=-1, keepdims=True))


def _total_bytes(call: "Call") -> int:
    return sum(run.bytes_sent or 0 for run in call.runs)
