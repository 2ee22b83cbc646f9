"""The stem: convolutions of an image, whose map is then cut into patches.

The mean of a pool is a sum here: the weights' owner puts 1 / pool^2 into the weights
behind it.
"""

from collections.abc import Mapping

from mpcprof.nn.activation import get_activation
from mpcprof.nn.algebra import Algebra, Shape, T
from mpcprof.nn.approximation import cut_evenly
from mpcprof.nn.mixing import N_COPIES, add_up, convolve
from mpcprof.nn.preset import Convolution, ModelPreset


def stem_shapes(model: ModelPreset) -> dict[str, Shape]:
    """Return the shape of each weight of the stem by name."""
    shapes: dict[str, Shape] = {}
    n_channels = model.n_channels
    for number, one in enumerate(model.stem):
        shapes[f"stem.{number}.weight"] = (N_COPIES * n_channels, one.channels)
        shapes[f"stem.{number}.bias"] = (one.channels,)
        n_channels = one.channels
    return shapes


def convolve_image(
    ops: Algebra[T],
    model: ModelPreset,
    pixels: T,
    weights: Mapping[str, T],
    *,
    is_folded: bool = False,
) -> T:
    """Return the patches (B, N, P) of the map that the stem makes of (B, S S, c).

    Args:
        is_folded: Whether the weights hold the numbers of `ActivationFold` that are in
            front of its function.
    """
    side = model.image_size
    for number, one in enumerate(model.stem):
        names = (f"stem.{number}.weight", f"stem.{number}.bias")
        with ops.part(f"convolution {number + 1}"):
            made = convolve(ops, pixels, side, *(weights[name] for name in names))
            pixels = _pool(ops, _activate(ops, one, made, is_folded), side, one.pool)
        side //= one.pool
    return _cut_patches(ops, pixels, side, model.patch)


def _activate(ops: Algebra[T], one: Convolution, x: T, is_folded: bool) -> T:
    """Apply the activation; what folding leaves behind it is public here.

    A shift is local, where folded into a convolution it would miss the edges.
    """
    activation = get_activation(one.activation)
    fold = activation.fold if is_folded else None
    if fold is None:
        activated: T = activation.function(ops, x)
        return activated
    x = fold.function(ops, x)
    if fold.out_factor != 1:
        x = ops.scale(x, fold.out_factor)
    return ops.shift(x, fold.out_shift)


def _pool(ops: Algebra[T], x: T, side: int, pool: int) -> T:
    """Sum the squares of a map: (B, S S, c) to (B, (S / pool)^2, c)."""
    if pool == 1:
        return x
    n_batch, _, width = x.shape
    smaller = side // pool
    x = _sum_runs(ops, x, (n_batch * side * smaller, width), pool)  # columns
    x = _sum_runs(ops, x, (n_batch * smaller, smaller * width), pool)  # rows
    return ops.reshape(x, (n_batch, smaller**2, width))


def _sum_runs(ops: Algebra[T], x: T, shape: tuple[int, int], n: int) -> T:
    """Sum every n stretches of entries that follow each other, into that shape."""
    n_rows, length = shape
    rows = ops.reshape(x, (n_rows, n * length))
    return add_up(ops, cut_evenly(ops, rows, n, 1))


def _cut_patches(ops: Algebra[T], x: T, side: int, patch: int) -> T:
    """Cut a map (B, S S, c) into patches (B, (S / p)^2, p p c), as images are cut."""
    if patch == 1:
        return x
    n_batch, _, width = x.shape
    n_rows = side // patch
    row = ops.reshape(x, (n_batch * n_rows, patch, n_rows, patch * width))
    return ops.reshape(ops.swap(row), (n_batch, n_rows**2, patch**2 * width))
