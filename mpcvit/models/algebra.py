"""The algebra in torch: what a network is trained with."""
# ruff: noqa: D102 - the methods are documented in `Algebra`

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional


class TorchAlgebra:
    """See `mpcprof.nn.algebra.Algebra`; differentiable, on any device.

    With it the functions that are priced and run privately are also those trained.
    """

    matmul = staticmethod(torch.matmul)
    square = staticmethod(torch.square)
    exp = staticmethod(torch.exp)
    reciprocal = staticmethod(torch.reciprocal)
    rsqrt = staticmethod(torch.rsqrt)
    relu = staticmethod(torch.relu)

    def part(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y

    def scale(self, x: Tensor, factor: float) -> Tensor:
        return x * factor

    def divide(self, x: Tensor, y: Tensor) -> Tensor:
        return x / y

    def gelu_exact(self, x: Tensor) -> Tensor:
        return functional.gelu(x)

    def gelu_tanh(self, x: Tensor) -> Tensor:
        return functional.gelu(x, approximate="tanh")

    def row_max(self, x: Tensor) -> Tensor:
        return torch.amax(x, dim=-1, keepdim=True)

    def row_sum(self, x: Tensor) -> Tensor:
        return torch.sum(x, dim=-1, keepdim=True)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def subtract(self, x: Tensor, y: Tensor) -> Tensor:
        return x - y

    def shift(self, x: Tensor, constant: float) -> Tensor:
        return x + constant

    def transpose(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    def swap(self, x: Tensor) -> Tensor:
        return x.transpose(-2, -3)

    def reshape(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x.reshape(shape)

    def cut(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        return x.narrow(axis, start, stop - start)

    def join(self, arrays: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(list(arrays), dim=axis)


OPS: Final = TorchAlgebra()
