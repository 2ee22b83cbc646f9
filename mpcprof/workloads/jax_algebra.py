"""The algebra in JAX: what SPU runs on shares."""
# ruff: noqa: D102 - the methods are documented in `Algebra`

import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mpcprof.nn.algebra import Matrix
from mpcprof.workloads import primitives


class JaxAlgebra:
    """See `mpcprof.nn.algebra.Algebra`; each primitive as it is measured."""

    part = staticmethod(jax.named_scope)
    matmul = staticmethod(primitives.matmul)
    mul = staticmethod(primitives.mul)
    square = staticmethod(primitives.square)
    exp = staticmethod(primitives.exp)
    reciprocal = staticmethod(primitives.reciprocal)
    rsqrt = staticmethod(primitives.rsqrt)
    relu = staticmethod(primitives.relu)
    gelu_exact = staticmethod(primitives.gelu_exact)
    gelu_tanh = staticmethod(primitives.gelu_tanh)
    tanh = staticmethod(primitives.tanh)
    row_max = staticmethod(primitives.row_max)
    row_sum = staticmethod(primitives.row_sum)
    # not x * (1 / y): of a y that broadcasts, SPU's compiler of 0.9.5 takes 1 / y
    # first and broadcasts then, even if y was broadcast or joined before
    divide = staticmethod(operator.truediv)
    add = staticmethod(operator.add)
    subtract = staticmethod(operator.sub)
    reshape = staticmethod(jnp.reshape)
    join = staticmethod(jnp.concatenate)

    def scale(self, x: Array, factor: float) -> Array:
        return x * np.float32(factor)

    def gate(self, x: Array, y: Array) -> Array:
        return jnp.where(x > 0, y, jnp.zeros_like(y))

    def combine(self, x: Array, matrix: Matrix) -> Array:
        # flat: SPU runs a product of more than two axes once per leading index
        flat = x.reshape(-1, x.shape[-1]) @ np.asarray(matrix, np.float32)
        return flat.reshape(*x.shape[:-1], -1)

    def shift(self, x: Array, constant: float) -> Array:
        return x + np.float32(constant)

    def transpose(self, x: Array) -> Array:
        return jnp.swapaxes(x, -1, -2)

    def swap(self, x: Array) -> Array:
        return jnp.swapaxes(x, -2, -3)

    def cut(self, x: Array, axis: int, start: int, stop: int) -> Array:
        return jax.lax.slice_in_dim(x, start, stop, axis=axis)

    def expect_within(self, x: Array, low: float, high: float) -> Array:
        return x
