"""The algebra in JAX: what SPU runs on shares."""
# ruff: noqa: D102 - the methods are documented in `Algebra`

from collections.abc import Sequence
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mpcprof.workloads import activation, comparison, elementwise, linear


class JaxAlgebra:
    """See `mpcprof.nn.algebra.Algebra`; each primitive as it is measured."""

    def part(self, name: str) -> AbstractContextManager[None]:
        return jax.named_scope(name)

    def matmul(self, x: Array, y: Array) -> Array:
        return linear.matmul(x, y)

    def mul(self, x: Array, y: Array) -> Array:
        return elementwise.mul(x, y)

    def square(self, x: Array) -> Array:
        return elementwise.square(x)

    def scale(self, x: Array, factor: float) -> Array:
        return x * np.float32(factor)

    def exp(self, x: Array) -> Array:
        return elementwise.exp(x)

    def reciprocal(self, x: Array) -> Array:
        return elementwise.reciprocal(x)

    def divide(self, x: Array, y: Array) -> Array:
        # not x * (1 / y): of a y that broadcasts, SPU's compiler of 0.9.5 takes 1 / y
        # first and broadcasts then, even if y was broadcast or joined before
        return x / y

    def rsqrt(self, x: Array) -> Array:
        return elementwise.rsqrt(x)

    def relu(self, x: Array) -> Array:
        return activation.relu(x)

    def gelu_exact(self, x: Array) -> Array:
        return activation.gelu_exact(x)

    def gelu_tanh(self, x: Array) -> Array:
        return activation.gelu_tanh(x)

    def row_max(self, x: Array) -> Array:
        return comparison.row_max(x)

    def row_sum(self, x: Array) -> Array:
        return linear.row_sum(x)

    def add(self, x: Array, y: Array) -> Array:
        return x + y

    def subtract(self, x: Array, y: Array) -> Array:
        return x - y

    def shift(self, x: Array, constant: float) -> Array:
        return x + np.float32(constant)

    def transpose(self, x: Array) -> Array:
        return jnp.swapaxes(x, -1, -2)

    def swap(self, x: Array) -> Array:
        return jnp.swapaxes(x, -2, -3)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return jnp.reshape(x, shape)

    def cut(self, x: Array, axis: int, start: int, stop: int) -> Array:
        return jax.lax.slice_in_dim(x, start, stop, axis=axis)

    def join(self, arrays: Sequence[Array], axis: int) -> Array:
        return jnp.concatenate(arrays, axis)
