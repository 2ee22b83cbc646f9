"""The MLP of a Transformer block, its activations, and the fused form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mpcprof.errors import look_up
from mpcprof.nn.algebra import Algebra, T


def linear(ops: Algebra[T], x: T, weight: T, bias: T | None = None) -> T:
    """x W + b for x of (A, D), or of (B, N, D) as one product of (B N, D)."""
    if len(x.shape) == 2:
        product = ops.matmul(x, weight)
    else:
        n_batch, n_tokens, width = x.shape
        flat = ops.matmul(ops.reshape(x, (n_batch * n_tokens, width)), weight)
        product = ops.reshape(flat, (n_batch, n_tokens, weight.shape[-1]))
    return product if bias is None else ops.add(product, bias)


def quad(ops: Algebra[T], x: T) -> T:
    """0.125 x^2 + 0.25 x + 0.5 as 0.125 (x (x + 2)) + 0.5: one product, one scaling.

    Source: MPCFormer section 3.
    """
    return ops.shift(ops.scale(ops.mul(x, ops.shift(x, 2.0)), 0.125), 0.5)


def identity(ops: Algebra[T], x: T) -> T:
    """x; what GeLU is linearised to."""
    return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """What a token goes through in the MLP.

    Attributes:
        function: (algebra, hidden values) between the two linear layers.
        has_relu_behind: Whether a ReLU follows the second one.
        is_linear: Whether the two linear layers can be one.
    """

    function: Callable[..., Any]  # Any: the algebra's own array
    has_relu_behind: bool = False
    is_linear: bool = False
    meaning: str


ACTIVATIONS: Final = {
    "gelu_exact": Activation(
        function=lambda ops, x: ops.gelu_exact(x), meaning="GeLU by erf"
    ),
    "gelu_tanh": Activation(
        function=lambda ops, x: ops.gelu_tanh(x), meaning="GeLU by tanh"
    ),
    "relu": Activation(function=lambda ops, x: ops.relu(x), meaning="ReLU"),
    "quad": Activation(function=quad, meaning="Quad of MPCFormer"),
    "identity": Activation(
        function=identity, is_linear=True, meaning="none; W1 W2 fused"
    ),
    "identity_relu": Activation(
        function=identity,
        is_linear=True,
        has_relu_behind=True,
        meaning="none; W1 W2 fused and a ReLU behind",
    ),
}


def get_activation(name: str) -> Activation:
    """The activation of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("activation", name, ACTIVATIONS)


def mlp(
    ops: Algebra[T], x: T, w1: T, b1: T, w2: T, b2: T, activation: Sequence[str]
) -> T:
    """W2 act(W1 x + b1) + b2 of (B, N, D), with one activation, or one per token.

    Tokens of one activation go through it together.
    """
    hidden = linear(ops, x, w1, b1)  # (B, N, F)
    activated = by_token(
        ops, hidden, activation, lambda name, x: get_activation(name).function(ops, x)
    )
    out = linear(ops, activated, w2, b2)  # (B, N, D)
    return _relu_behind(ops, out, activation)


def fused_mlp(
    ops: Algebra[T], x: T, weight: T, bias: T, activation: Sequence[str]
) -> T:
    """(W1 W2) x + b1 W2 + b2: both linear layers of linearised tokens as one.

    Source: MPCViT section 4.5.
    """
    return _relu_behind(ops, linear(ops, x, weight, bias), activation)


def _relu_behind(ops: Algebra[T], x: T, activation: Sequence[str]) -> T:
    behind = [
        "relu" if get_activation(name).has_relu_behind else "" for name in activation
    ]
    if not any(behind):
        return x
    return by_token(ops, x, behind, lambda name, x: ops.relu(x) if name else x)


def by_token(
    ops: Algebra[T], x: T, names: Sequence[str], apply: Callable[[str, T], T]
) -> T:
    """Each token of (B, N, D) through what its name says; equal names in one go.

    Static slices and concatenations only: SPU makes a loop of a scatter.
    """
    if len({*names}) == 1:
        return apply(names[0], x)
    pieces: dict[int, T] = {}
    for name in dict.fromkeys(names):
        runs = _runs(names, name)
        cuts = [ops.cut(x, 1, start, stop) for start, stop in runs]
        done = apply(name, ops.join(cuts, 1) if len(cuts) > 1 else cuts[0])
        begin = 0
        for start, stop in runs:
            pieces[start] = ops.cut(done, 1, begin, begin + stop - start)
            begin += stop - start
    return ops.join([pieces[start] for start in sorted(pieces)], 1)


def _runs(names: Sequence[str], name: str) -> list[tuple[int, int]]:
    """(start, stop) of each stretch of equal names."""
    runs: list[tuple[int, int]] = []
    for index, other in enumerate(names):
        if other != name:
            continue
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
