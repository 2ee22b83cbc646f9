"""The algebra in torch: what a network is trained with."""
# ruff: noqa: D102 - the methods are documented in `Algebra`

import operator
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mpcprof.errors import RangeError
from mpcprof.nn.algebra import Matrix


class TorchAlgebra:
    """See `mpcprof.nn.algebra.Algebra`; differentiable, on any device.

    With it the functions that are priced and run privately are also those trained.
    """

    matmul = staticmethod(torch.matmul)
    mul = scale = staticmethod(operator.mul)
    square = staticmethod(torch.square)
    exp = staticmethod(torch.exp)
    reciprocal = staticmethod(torch.reciprocal)
    rsqrt = staticmethod(torch.rsqrt)
    relu = staticmethod(torch.relu)
    gelu_exact = staticmethod(functional.gelu)
    tanh = staticmethod(torch.tanh)
    divide = staticmethod(operator.truediv)
    add = shift = staticmethod(operator.add)
    subtract = staticmethod(operator.sub)
    reshape = staticmethod(torch.reshape)

    def part(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def gelu_tanh(self, x: Tensor) -> Tensor:
        return functional.gelu(x, approximate="tanh")

    def gate(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x > 0, y, torch.zeros_like(y))

    def combine(self, x: Tensor, matrix: Matrix) -> Tensor:
        return x @ torch.tensor(matrix, dtype=x.dtype, device=x.device)

    def row_max(self, x: Tensor) -> Tensor:
        return torch.amax(x, dim=-1, keepdim=True)

    def row_sum(self, x: Tensor) -> Tensor:
        return torch.sum(x, dim=-1, keepdim=True)

    def transpose(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    def swap(self, x: Tensor) -> Tensor:
        return x.transpose(-2, -3)

    def cut(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        return x.narrow(axis, start, stop - start)

    def join(self, arrays: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat([*arrays], axis)

    def expect_within(self, x: Tensor, low: float, high: float) -> Tensor:
        smallest, largest = (float(bound) for bound in torch.aminmax(x.detach()))
        if not low <= smallest <= largest <= high:
            raise RangeError(
                f"values from {smallest:.4g} to {largest:.4g}: expected {low:.4g} to "
                f"{high:.4g}; calibrate the plan with more images or a wider margin"
            )
        return x


OPS: Final = TorchAlgebra()
