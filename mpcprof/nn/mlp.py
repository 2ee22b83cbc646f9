"""The MLP of a layer, and what is computed by token: linear layers, activations."""

import itertools
from collections.abc import Callable, Sequence

from mpcprof.nn.activation import fold_of, get_activation
from mpcprof.nn.algebra import Algebra, T
from mpcprof.nn.approximation import cut_evenly


def linear(ops: Algebra[T], x: T, weight: T, bias: T | None = None) -> T:
    """Return x W + b for x of (A, D), or of (B, N, D) as one product of (B N, D)."""
    if len(x.shape) == 2:
        product = ops.matmul(x, weight)
    else:
        n_batch, n_tokens, width = x.shape
        flat = ops.matmul(ops.reshape(x, (n_batch * n_tokens, width)), weight)
        product = ops.reshape(flat, (n_batch, n_tokens, weight.shape[-1]))
    return product if bias is None else ops.add(product, bias)


def mlp(
    ops: Algebra[T],
    x: T,
    w1: T,
    b1: T,
    w2: T,
    b2: T,
    activation: Sequence[str],
    *,
    is_folded: bool = False,
) -> T:
    """Return W2 act(W1 x + b1) + b2 of (B, N, D), one activation or one per token.

    Tokens with the same activation are computed together.

    Args:
        is_folded: Whether the linear layers hold the numbers of `ActivationFold`.
    """
    hidden = linear(ops, x, w1, b1)  # (B, N, F)
    fold = fold_of(activation) if is_folded else None

    def activate(name: str, x: T) -> T:
        activated: T = (fold or get_activation(name)).function(ops, x)
        return activated

    activated = by_token(ops, hidden, activation, activate)
    out = linear(ops, activated, w2, b2)  # (B, N, D)
    return _relu_behind(ops, out, activation)


def fused_mlp(
    ops: Algebra[T], x: T, weight: T, bias: T, activation: Sequence[str]
) -> T:
    """Return (W1 W2) x + b1 W2 + b2: both linear layers of linearised tokens as one.

    Source: MPCViT section 4.5.
    """
    return _relu_behind(ops, linear(ops, x, weight, bias), activation)


def _relu_behind(ops: Algebra[T], x: T, activation: Sequence[str]) -> T:
    if not has_relu_behind(activation):
        return x
    behind = [
        "relu" if get_activation(name).has_relu_behind else "" for name in activation
    ]
    return by_token(ops, x, behind, lambda name, x: ops.relu(x) if name else x)


def has_relu_behind(activation: Sequence[str]) -> bool:
    """Return whether a ReLU follows the MLP of a token."""
    return any(get_activation(name).has_relu_behind for name in activation)


def by_token(
    ops: Algebra[T], x: T, names: Sequence[str], apply: Callable[[str, T], T]
) -> T:
    """Apply to each token of (B, N, D) what its name says, once per different name.

    Slices are static, and joined: SPU makes a loop of a scatter.
    """
    if len({*names}) == 1:
        return apply(names[0], x)
    runs: dict[str, list[tuple[int, int]]] = {}  # (start, stop) of each stretch
    for name, run in itertools.groupby(range(len(names)), names.__getitem__):
        start, *others = run
        runs.setdefault(name, []).append((start, start + 1 + len(others)))
    pieces: dict[int, T] = {}
    for name, stretches in runs.items():
        cuts = [ops.cut(x, 1, start, stop) for start, stop in stretches]
        done = apply(name, join_all(cuts, ops, axis=1))
        begin = 0
        for start, stop in stretches:
            pieces[start] = ops.cut(done, 1, begin, begin + stop - start)
            begin += stop - start
    return ops.join([pieces[start] for start in sorted(pieces)], 1)


def for_each(names: tuple[str, ...], n_rows: int) -> tuple[str, ...]:
    """Return one name for each row or token."""
    return names * n_rows if len(names) == 1 else names


def join_all(arrays: list[T], ops: Algebra[T], axis: int = 0) -> T:
    """Put arrays end to end along an axis; one stays as it is."""
    return arrays[0] if len(arrays) == 1 else ops.join(arrays, axis)


def split_all(x: T, n: int, ops: Algebra[T]) -> list[T]:
    """Undo `join_all` of n arrays of one shape along the first axis."""
    return [x] if n == 1 else cut_evenly(ops, x, n)
