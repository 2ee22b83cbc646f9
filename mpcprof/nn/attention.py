"""Attention of one variant: queries, keys and values in, values out.

Every function takes q of shape (G, M, K), k and v of (G, N, K), G being what is worked
on together: images, or images times heads. M is N, or fewer rows of it. It returns
(G, M, K).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mpcprof.errors import look_up
from mpcprof.nn.algebra import Algebra, T

# Added to a sum before its reciprocal. The paper's 1e-8 is below what 18 fraction bits
# resolve (4e-6); below 1e-3 SPU's reciprocal is off by more than half a percent.
EPSILON: Final = 2.0**-10
SPARSEMAX_STEPS: Final = 6  # at 257 tokens rows then sum to 1.02 at most
SPARSEMAX_WIDTH: Final = 2.0**-6  # of the difference that stands for a slope
LINFORMER_RATIO: Final = 4  # tokens per projected token


def linformer_rank(n_tokens: int) -> int:
    """Length to which Linformer projects keys and values: a quarter, rounded up."""
    return math.ceil(n_tokens / LINFORMER_RATIO)


def _scores(ops: Algebra[T], q: T, k: T) -> T:
    """Q K^T / sqrt K, scaled where it is smallest: one truncation of (G, M, K)."""
    scaled = ops.scale(q, q.shape[-1] ** -0.5)
    return ops.matmul(scaled, ops.transpose(k))  # (G, M, N)


def _normalise(
    ops: Algebra[T], weights: T, epsilon: float = 0.0, *, is_by_entry: bool = False
) -> T:
    """Each row over its sum: one reciprocal a row, or an entry; a product an entry."""
    total = ops.row_sum(weights)  # (G, M, 1)
    divisor = ops.shift(total, epsilon) if epsilon else total
    if is_by_entry:
        return ops.divide(weights, divisor)
    return ops.mul(weights, ops.reciprocal(divisor))


def softmax(ops: Algebra[T], q: T, k: T, v: T, *, is_by_entry: bool = False) -> T:
    """exp(s - max s) over its sum along each row, times V; s = Q K^T / sqrt K.

    Source: Vaswani et al. 2017, equation 1.
    """
    scores = _scores(ops, q, k)
    shifted = ops.subtract(scores, ops.row_max(scores))
    weights = _normalise(ops, ops.exp(shifted), is_by_entry=is_by_entry)
    return ops.matmul(weights, v)


def softmax_by_entry(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """`softmax`, but each entry divided by its row's sum: N reciprocals a row.

    Source: the code of MPCViT, x / sum, as SPU runs it.
    """
    return softmax(ops, q, k, v, is_by_entry=True)


def relu_softmax(ops: Algebra[T], q: T, k: T, v: T, *, is_by_entry: bool = False) -> T:
    """Rows of relu(Q K^T / sqrt K) over their sum + epsilon, times V.

    Source: MPCViT section 2.2, RSAttn.
    """
    positive = ops.relu(_scores(ops, q, k))
    weights = _normalise(ops, positive, EPSILON, is_by_entry=is_by_entry)
    return ops.matmul(weights, v)


def relu_softmax_by_entry(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """`relu_softmax`, but each entry divided by its row's sum: N reciprocals a row.

    Source: the code of MPCViT, x / sum, as SPU runs it.
    Differs: their epsilon is 1e-5.
    """
    return relu_softmax(ops, q, k, v, is_by_entry=True)


def scale_plain(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """((Q K^T) / (N sqrt K)) V, products from the left: quadratic in tokens.

    Source: MPCViT section 2.1 and equation 2, ScaleAttn.
    """
    scores = ops.matmul(q, ops.transpose(k))  # (G, M, N)
    factor = k.shape[-2] ** -1.0 * k.shape[-1] ** -0.5
    return ops.matmul(ops.scale(scores, factor), v)


def scale(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """Q ((K^T V) / (N sqrt K)), re-parametrised: linear in tokens.

    Source: MPCViT section 2.1, ScaleAttn.
    Differs: one scaling of the (K, K) product instead of one of Q and one of K.
    """
    context = ops.matmul(ops.transpose(k), v)  # (G, K, K)
    factor = k.shape[-2] ** -1.0 * k.shape[-1] ** -0.5
    return ops.matmul(q, ops.scale(context, factor))


def two_quad(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """Rows of x^2 over their sum + epsilon, times V; x = Q K^T / sqrt K.

    Source: MPCViT Table 2, after MPCFormer.
    Differs: MPCFormer squares x + 5.
    """
    squares = ops.square(_scores(ops, q, k))
    return ops.matmul(_normalise(ops, squares, EPSILON), v)


def square(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """(Q K^T / sqrt K)^2 V, entry by entry. Source: MPCViT Table 2."""
    return ops.matmul(ops.square(_scores(ops, q, k)), v)


def relu6(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """min(relu(Q K^T / sqrt K), 6) V, as a difference of two ReLUs.

    Source: MPCViT Table 2.
    """
    scores = _scores(ops, q, k)
    capped = ops.subtract(ops.relu(scores), ops.relu(ops.shift(scores, -6.0)))
    return ops.matmul(capped, v)


def sparsemax(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """relu(x - tau) V, tau such that each row sums to 1; x = Q K^T / sqrt K.

    Newton's method on the convex f(tau) = sum relu(x - tau) - 1 from max(x) - 1, where
    f >= 0. The slope is a difference of two sums of ReLUs: a count of x > tau would
    turn shared bits into numbers, 9 hops in aby3. It is never too flat, so tau does not
    overshoot.

    Source: Martins and Astudillo 2016.
    Differs: they sort; sorting secrets costs more than six steps.
    """
    scores = _scores(ops, q, k)
    tau = ops.shift(ops.row_max(scores), -1.0)  # (G, M, 1)
    for _ in range(SPARSEMAX_STEPS):
        above = ops.subtract(scores, tau)
        total = ops.row_sum(ops.relu(above))
        wider = ops.row_sum(ops.relu(ops.shift(above, SPARSEMAX_WIDTH)))
        n_active = ops.scale(ops.subtract(wider, total), 1 / SPARSEMAX_WIDTH)
        step = ops.mul(ops.shift(total, -1.0), ops.reciprocal(n_active))
        tau = ops.add(tau, step)
    return ops.matmul(ops.relu(ops.subtract(scores, tau)), v)


def _unit_rows(ops: Algebra[T], x: T) -> T:
    norm2 = ops.row_sum(ops.square(x))  # (G, M, 1)
    return ops.mul(x, ops.rsqrt(ops.shift(norm2, EPSILON)))


def xnorm(ops: Algebra[T], q: T, k: T, v: T) -> T:
    """XN(Q) XN(K^T V / N), XN(x) = x / ||x||_2 along each row.

    V is divided, and not the product: that SPU's compiler would move behind the rsqrt.

    Source: UFO-ViT, equation 4; MPCViT Table 2.
    Differs: the learnt gamma is left to the projection behind, and K^T V is a mean over
    tokens, which XN makes the same: the squared length of a row of the sum passes 2**17
    where tokens resemble each other, and from there on SPU's rsqrt is 0.
    """
    context = ops.matmul(ops.transpose(k), ops.scale(v, 1 / k.shape[-2]))  # (G, K, K)
    return ops.matmul(_unit_rows(ops, q), _unit_rows(ops, context))


def linformer(ops: Algebra[T], q: T, k: T, v: T, e: T, f: T) -> T:
    """softmax(Q (E K)^T / sqrt K) (F V); E and F of (N/4, N), shared by all heads.

    All of G go through one product with E and one with F: two hops each, whatever G.

    Source: Wang et al. 2020 (arXiv 2006.04768), equation 7.
    """
    return softmax(ops, q, _project(ops, e, k), _project(ops, f, v))


def _project(ops: Algebra[T], weight: T, x: T) -> T:
    n_together, n_tokens, head_dim = x.shape
    side_by_side = ops.reshape(ops.swap(x), (n_tokens, n_together * head_dim))
    projected = ops.matmul(weight, side_by_side)  # (R, G K)
    rank = weight.shape[0]
    return ops.swap(ops.reshape(projected, (rank, n_together, head_dim)))  # (G, R, K)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """An attention variant.

    Attributes:
        function: (algebra, q, k, v, *weights) to the values out.
        weight_shapes: Shapes of its own weights at a number of tokens.
        is_row_wise: Whether each row of q is worked on by itself, so that rows of one
            head may have different variants.
        meaning: In one line.
    """

    function: Callable[..., Any]  # Any: the algebra's own array
    weight_shapes: Callable[[int], tuple[tuple[int, ...], ...]] = lambda n_tokens: ()
    is_row_wise: bool = True
    meaning: str


def _linformer_weights(n_tokens: int) -> tuple[tuple[int, ...], ...]:
    return ((linformer_rank(n_tokens), n_tokens),) * 2


ATTENTIONS: Final = {
    "softmax": Attention(function=softmax, meaning="softmax"),
    "relu_softmax": Attention(function=relu_softmax, meaning="ReLU softmax (RSAttn)"),
    "scale": Attention(function=scale, meaning="ScaleAttn, re-parametrised"),
    "scale_plain": Attention(function=scale_plain, meaning="ScaleAttn as written"),
    "softmax_by_entry": Attention(
        function=softmax_by_entry,
        meaning="softmax, each entry divided by its row's sum, as the paper ran it",
    ),
    "relu_softmax_by_entry": Attention(
        function=relu_softmax_by_entry,
        meaning="ReLU softmax, each entry divided by its row's sum, as the paper ran "
        "it",
    ),
    "2quad": Attention(function=two_quad, meaning="squares over their sum"),
    "square": Attention(function=square, meaning="squares"),
    "relu6": Attention(function=relu6, meaning="ReLU6"),
    "sparsemax": Attention(function=sparsemax, meaning="sparsemax by Newton steps"),
    "xnorm": Attention(function=xnorm, meaning="XNorm of UFO-ViT"),
    "linformer": Attention(
        function=linformer,
        weight_shapes=_linformer_weights,
        meaning="softmax over a quarter of the tokens",
    ),
}


def get_attention(name: str) -> Attention:
    """The variant of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("attention", name, ATTENTIONS)
