"""Mixing of tokens without queries and keys. A new mixer is one entry of `MIXERS`.

Every function takes x of (B, N, D), the number of rows of the grid that its N tokens
form, and the mixer's weights. It returns the branch of (B, N, D) that is added to x.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mpcprof.errors import look_up
from mpcprof.nn.algebra import Algebra, Shape, T
from mpcprof.nn.approximation import cut_evenly
from mpcprof.nn.attention import project_tokens

N_COPIES: Final = 9  # of a grid, by what a 3x3 kernel reaches
SHIFT_PARTS: Final = 12  # a twelfth of the channels moves in each direction


def convolve(
    ops: Algebra[T], x: T, n_rows: int, weight: T, bias: T, *, stride: int = 1
) -> T:
    """Return the 3x3 convolution of a grid, zeros around it, as one product.

    Shifted copies are laid side by side: (B N, 9 c) times (9 c, d), plus the bias. Row
    (3 i + j) c + k of the weight meets channel k of the token i - 1 rows below and
    j - 1 columns further, as weight[:, k, i, j] of torch does.

    Args:
        x: (B, N, c).
        bias: (d,), or (N, d).
        stride: Tokens from one place of the kernel to the next, in rows and columns.
    """
    n_batch, _, width = x.shape
    copies = _copies(ops, x, n_rows, stride=stride)
    n_places = math.prod(copies[0].shape[1:3])
    flat = [ops.reshape(copy, (n_batch * n_places, width)) for copy in copies]
    product = ops.matmul(ops.join(flat, 1), weight)  # (B N, d)
    grid = ops.reshape(product, (n_batch, n_places, weight.shape[-1]))
    return ops.add(grid, bias)


def _copies(
    ops: Algebra[T],
    x: T,
    n_rows: int,
    kernel: int = 3,
    stride: int = 1,
    taps: range | None = None,
) -> list[T]:
    """Return the copies (B, R, C, c) of a grid that the entries of a kernel meet.

    Args:
        taps: Rows and columns of the kernel that are wanted; None for all.
    """
    n_batch, n_tokens, width = x.shape
    sides = (n_rows, n_tokens // n_rows)
    n_places = [(side - 1) // stride + 1 for side in sides]
    grid = ops.reshape(x, (n_batch, *sides, width))
    for axis, side, n in zip((1, 2), sides, n_places, strict=True):
        front = kernel // 2
        grid = pad(ops, grid, axis, front, stride * n + kernel - 1 - side - front)
    taps = taps or range(kernel)
    rows = [_take(ops, grid, 1, i, n_places[0], stride) for i in taps]
    return [_take(ops, row, 2, j, n_places[1], stride) for row in rows for j in taps]


def pad(ops: Algebra[T], x: T, axis: int, n_front: int = 1, n_behind: int = 1) -> T:
    """Put zeros in front of an axis and behind it, made locally."""
    edge = ops.cut(x, axis, 0, 1)
    zero = ops.subtract(edge, edge)  # where a constant would be encoded
    return ops.join([*[zero] * n_front, x, *[zero] * n_behind], axis)


def _take(ops: Algebra[T], x: T, axis: int, start: int, n: int, stride: int) -> T:
    """Take n indices of an axis, every `stride` of them, from `start` on."""
    run = ops.cut(x, axis, start, start + n * stride)
    if stride == 1:
        return run
    before, behind = x.shape[:axis], x.shape[axis + 1 :]
    pairs = ops.reshape(run, (*before, n, stride, *behind))
    return ops.reshape(ops.cut(pairs, axis + 1, 0, 1), (*before, n, *behind))


def depthwise(
    ops: Algebra[T],
    x: T,
    n_rows: int,
    weight: T,
    bias: T,
    *,
    stride: int = 1,
    taps: range | None = None,
) -> T:
    """Return the convolution of each channel by itself, as one product of entries.

    Args:
        x: (B, N, D).
        weight: (k k, D), k being odd.
        bias: (D,), or (N, D).
        stride: Tokens from one place of the kernel to the next, in rows and columns.
        taps: Rows and columns of the kernel that meet a token at all; None for all.

    Source: ConvMixer, Trockman and Kolter 2022 (arXiv 2201.09792).
    Differs: 3x3 instead of 9x9; no activation and no norm behind it.
    """
    n_batch, _, width = x.shape
    kernel = math.isqrt(weight.shape[0])
    copies = _copies(ops, x, n_rows, kernel, stride, taps)
    n_places = math.prod(copies[0].shape[1:3])
    shape = (1, n_batch, n_places, width)
    met = weight if taps is None else _cut_kernel(ops, weight, kernel, taps)
    factors = ops.reshape(met, (len(copies), 1, 1, width))
    flat = [ops.reshape(copy, shape) for copy in copies]
    products = ops.mul(ops.join(flat, 0), factors)  # (9, B, N, D)
    each = cut_evenly(ops, products, len(copies))
    total = ops.reshape(add_up(ops, each), (n_batch, n_places, width))
    return ops.add(total, bias)


def _cut_kernel(ops: Algebra[T], weight: T, kernel: int, taps: range) -> T:
    """Take the rows and columns of the kernels of (k k, D) that are wanted."""
    square = ops.reshape(weight, (kernel, kernel, weight.shape[1]))
    for axis in (0, 1):
        square = ops.cut(square, axis, taps[0], taps[-1] + 1)
    return square


def add_up(ops: Algebra[T], arrays: list[T]) -> T:
    """Return the sum of arrays of one shape."""
    total, *others = arrays
    for one in others:
        total = ops.add(total, one)
    return total


def _token_mix(ops: Algebra[T], x: T, n_rows: int, weight: T, bias: T) -> T:
    """Return M x + b: one product for all images.

    Source: ResMLP, Touvron et al. 2021 (arXiv 2105.03404), equation 2.
    Differs: b for each token and channel; no factor of channels behind it.
    """
    return ops.add(project_tokens(ops, weight, x), bias)


def _pool(ops: Algebra[T], x: T, n_rows: int) -> T:
    """Return the mean of nine tokens, zeros around the grid, less the token itself.

    Source: PoolFormer, Yu et al. 2022 (arXiv 2111.11418), equation 4.
    Differs: zeros count in the mean.
    """
    total = ops.reshape(add_up(ops, _copies(ops, x, n_rows)), x.shape)
    return ops.subtract(ops.scale(total, 1 / N_COPIES), x)


def _shift(ops: Algebra[T], x: T, n_rows: int) -> T:
    """Return what moves a twelfth of the channels by a token in each direction.

    Source: ShiftViT, Wang et al. 2022 (arXiv 2201.10801), section 3.2.
    """
    n_batch, n_tokens, width = x.shape
    grid = ops.reshape(x, (n_batch, n_rows, n_tokens // n_rows, width))
    part = max(width // SHIFT_PARTS, 1)
    pieces, start = [], 0
    for axis, begin in ((1, 0), (1, 2), (2, 0), (2, 2)):
        stop = min(start + part, width)
        if start < stop:
            piece = pad(ops, ops.cut(grid, 3, start, stop), axis)
            pieces.append(ops.cut(piece, axis, begin, begin + grid.shape[axis]))
        start = stop
    if start < width:
        pieces.append(ops.cut(grid, 3, start, width))
    return ops.subtract(ops.reshape(ops.join(pieces, 3), x.shape), x)


Shapes: TypeAlias = tuple[Shape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """A way to mix the tokens of a layer, and what its block gets and gives on SPU.

    Attributes:
        function: (algebra, x, rows of the grid, *weights) to the branch that is added
            to x; None for no branch.
        source: Paper and equation.
        needs_grid: Whether tokens have to form a square grid, without a class token.
        takes_scale: Whether its weights take over a factor of each channel, so that a
            norm may stand in front; without it none does.
        weight_shapes: (tokens, width) to the shapes of its weight and its bias, or to
            none for a public mixer.
        weight_bound: Largest magnitude of an entry of the weight in its block.
        atol: |block on SPU - block in float64| at most, for tokens of magnitude 1.
    """

    function: Callable[..., Any] | None  # Any: the algebra's own array
    source: str
    needs_grid: bool = False
    takes_scale: bool = False
    weight_shapes: Callable[[int, int], Shapes] = lambda n_tokens, width: ()
    weight_bound: float = 0.0
    atol: float = 2e-5


MIXERS: Final = {
    "none": Mixer(function=None, source="a layer of an MLP alone"),
    "shift": Mixer(
        function=_shift,
        source="ShiftViT, Wang et al. 2022 (arXiv 2201.10801), section 3.2",
        needs_grid=True,
    ),
    # 1/9 is off by 2e-6 of itself times nine; one truncation
    "pool": Mixer(
        function=_pool,
        source="PoolFormer, Yu et al. 2022 (arXiv 2111.11418), equation 4",
        needs_grid=True,
        atol=4e-5,
    ),
    "token_mix": Mixer(
        function=_token_mix,
        source="ResMLP, Touvron et al. 2021 (arXiv 2105.03404), equation 2",
        weight_shapes=lambda n, width: ((n, n), (n, width)),
        weight_bound=0.25,
    ),
    "convolution": Mixer(
        function=convolve,
        source="3x3 convolution as one product of nine shifted copies",
        needs_grid=True,
        takes_scale=True,
        weight_shapes=lambda n, width: ((N_COPIES * width, width), (n, width)),
        weight_bound=0.125,
    ),
    # nine truncations
    "depthwise": Mixer(
        function=depthwise,
        source="ConvMixer, Trockman and Kolter 2022 (arXiv 2201.09792), 3x3",
        needs_grid=True,
        takes_scale=True,
        weight_shapes=lambda n, width: ((N_COPIES, width), (n, width)),
        weight_bound=1.0,
        atol=6e-5,
    ),
}


def get_mixer(name: str) -> Mixer:
    """Return the mixer of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("mixer", name, MIXERS)
