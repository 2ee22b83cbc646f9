"""A tiny program that parties run first, so that no case pays for keys and tables."""

import jax.numpy as jnp
import numpy as np
from jax import Array, nn
from numpy.typing import NDArray

_SIDE = 8


def priming_input() -> NDArray[np.float32]:
    """(8, 8), small enough for every step of the program."""
    return np.full((_SIDE, _SIDE), 0.5, np.float32)


def a_bit_of_all(x: Array) -> Array:
    """A program of matrix product, comparison, exponential and division."""
    return jnp.exp(-nn.relu(x @ x)) / (1.0 + jnp.max(x, axis=-1, keepdims=True))
