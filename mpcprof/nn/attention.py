"""Attention of one variant: queries, keys and values in, values out.

Every function takes q of shape (G, M, K), k and v of (G, N, K), G being what is worked
on together: images, or images times heads. M is N, or fewer rows of it. It returns
(G, M, K). Folded, it leaves out the public factors that `Attention.factors` names: the
weights' owner has multiplied them into queries, keys and values. A bias of the scores,
(M, N) or (1, M, N), is added to the product of queries and keys; folded, it has their
factors too.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from mpcprof.errors import look_up
from mpcprof.nn.algebra import Algebra, T
from mpcprof.nn.approximation import (
    InverseBounds,
    SoftmaxBounds,
    bounded_inverse,
    bounded_softmax,
)

# Added to a sum before its reciprocal is taken. The paper's 1e-8 is below what 18
# fraction bits resolve (4e-6); below 1e-3 SPU's reciprocal is off by more than 0.5 %.
EPSILON: Final = 2.0**-10
MPCVIT_EPSILON: Final = 1e-5  # of MPCViT's code
PUMA_SQUARINGS: Final = 5
SPARSEMAX_STEPS: Final = 6  # at 257 tokens rows then sum to 1.02 at most
SPARSEMAX_WIDTH: Final = 2.0**-6  # step of the difference that gives the slope
LINFORMER_RATIO: Final = 4  # tokens per projected token; the quotient is rounded up


def _normalise(
    ops: Algebra[T],
    weights: T,
    epsilon: float = 0.0,
    *,
    is_by_entry: bool = False,
    values: T | None = None,
) -> T:
    """Divide each row by its sum, with one reciprocal for a row or for each entry.

    Given values, return their product with the rows, divided behind it.
    """
    total = ops.row_sum(weights)  # (..., M, 1)
    divisor = ops.shift(total, epsilon) if epsilon else total
    if values is not None:
        return ops.mul(ops.matmul(weights, values), ops.reciprocal(divisor))
    if is_by_entry:
        return ops.divide(weights, divisor)
    return ops.mul(weights, ops.reciprocal(divisor))


def softmax_rows(
    ops: Algebra[T], scores: T, *, is_by_entry: bool = False, values: T | None = None
) -> T:
    """Return exp(s - max s) over its sum along each row.

    By entry, each entry is divided by its row's sum: N reciprocals a row, as SPU runs
    the x / sum of MPCViT's code.

    Source: Vaswani et al. 2017, equation 1.
    """
    shifted = ops.subtract(scores, ops.row_max(scores))
    weights = ops.exp(shifted)
    return _normalise(ops, weights, is_by_entry=is_by_entry, values=values)


def puma_exp(ops: Algebra[T], x: T) -> T:
    """Return (1 + x / 32)^32 for x > -14, else 0: within 0.0086 of e^x for x <= 0.

    Source: PUMA, arXiv 2307.12533, section 4.
    """
    power = ops.shift(ops.scale(x, 2.0**-PUMA_SQUARINGS), 1.0)
    for _ in range(PUMA_SQUARINGS):
        power = ops.square(power)
    return ops.gate(ops.shift(x, 14.0), power)


def puma_softmax_rows(ops: Algebra[T], scores: T, *, values: T | None = None) -> T:
    """Return softmax of each row by `puma_exp` and one reciprocal for a row.

    Source: PUMA, arXiv 2307.12533, section 4.
    """
    shifted = ops.subtract(scores, ops.row_max(scores))
    return _normalise(ops, puma_exp(ops, shifted), values=values)


def relu_softmax_rows(
    ops: Algebra[T],
    scores: T,
    *,
    epsilon: float = EPSILON,
    is_by_entry: bool = False,
    values: T | None = None,
) -> T:
    """Return relu(s) over its sum + epsilon along each row; by entry as in softmax.

    Source: MPCViT section 2.2, RSAttn.
    Differs: the epsilon of MPCViT's code is 1e-5, as in `relu_softmax_mpcvit`.
    """
    weights = ops.relu(scores)
    return _normalise(ops, weights, epsilon, is_by_entry=is_by_entry, values=values)


def two_quad_rows(ops: Algebra[T], scores: T, *, values: T | None = None) -> T:
    """Return s^2 over its sum + epsilon along each row.

    Source: MPCViT Table 2, after MPCFormer.
    Differs: MPCFormer squares s + 5.
    """
    return _normalise(ops, ops.square(scores), EPSILON, values=values)


def relu6_rows(ops: Algebra[T], scores: T) -> T:
    """Return min(relu(s), 6) of each entry, as a difference of two ReLUs.

    Source: MPCViT Table 2.
    """
    return ops.subtract(ops.relu(scores), ops.relu(ops.shift(scores, -6.0)))


def sparsemax_rows(ops: Algebra[T], scores: T) -> T:
    """Return relu(s - tau), tau such that each row sums to 1.

    Newton's method on the convex f(tau) = sum relu(s - tau) - 1 from max(s) - 1, where
    f >= 0. The slope is a difference of two sums of ReLUs: a count of s > tau would
    turn shared bits into numbers, 9 hops in aby3. It is never too flat, so tau does not
    overshoot.

    Source: Martins and Astudillo 2016.
    Differs: they sort; sorting secrets costs more than six steps.
    """
    tau = ops.shift(ops.row_max(scores), -1.0)  # (..., M, 1)
    for _ in range(SPARSEMAX_STEPS):
        above = ops.subtract(scores, tau)
        total = ops.row_sum(ops.relu(above))
        wider = ops.row_sum(ops.relu(ops.shift(above, SPARSEMAX_WIDTH)))
        n_active = ops.scale(ops.subtract(wider, total), 1 / SPARSEMAX_WIDTH)
        step = ops.mul(ops.shift(total, -1.0), ops.reciprocal(n_active))
        tau = ops.add(tau, step)
    return ops.relu(ops.subtract(scores, tau))


# Any: the algebra's own array
Function: TypeAlias = Callable[..., Any]


def attend_by(rows: Function, *, has_sums: bool = False) -> Function:
    """Make attention of the weights of rows: rows(Q K^T / sqrt K) V.

    Args:
        has_sums: Whether rows are divided by their sums. Folded, that is done behind
            the product with V where V is narrower than a row is long.
    """

    def attend(
        ops: Algebra[T],
        q: T,
        k: T,
        v: T,
        *,
        is_folded: bool = False,
        bias: T | None = None,
    ) -> T:
        # scaled where it is smallest: one truncation of (G, M, K)
        scaled = q if is_folded else ops.scale(q, q.shape[-1] ** -0.5)
        scores = _score(ops, scaled, k, bias)
        if is_folded and has_sums and v.shape[-1] < v.shape[-2]:
            divided: T = rows(ops, scores, values=v)
            return divided
        return ops.matmul(rows(ops, scores), v)

    return attend


def _score(ops: Algebra[T], q: T, k: T, bias: T | None) -> T:
    """Return Q K^T + bias, (G, M, N)."""
    scores = ops.matmul(q, ops.transpose(k))
    return scores if bias is None else ops.add(scores, bias)


def scale_plain(
    ops: Algebra[T], q: T, k: T, v: T, *, is_folded: bool = False, bias: T | None = None
) -> T:
    """((Q K^T) / (N sqrt K)) V, products from the left: quadratic in tokens.

    Source: MPCViT section 2.1 and equation 2, ScaleAttn.
    """
    scores = _score(ops, q, k, bias)
    factor = k.shape[-2] ** -1.0 * k.shape[-1] ** -0.5
    return ops.matmul(scores if is_folded else ops.scale(scores, factor), v)


def scale(
    ops: Algebra[T], q: T, k: T, v: T, *, is_folded: bool = False, bias: T | None = None
) -> T:
    """Q ((K^T V) / (N sqrt K)), re-parametrised: linear in tokens.

    With a bias it is `scale_plain`, which has scores to add it to.

    Source: MPCViT section 2.1, ScaleAttn.
    Differs: one scaling of the (K, K) product instead of one of Q and one of K.
    """
    if bias is not None:
        return scale_plain(ops, q, k, v, is_folded=is_folded, bias=bias)
    context = ops.matmul(ops.transpose(k), v)  # (G, K, K)
    factor = k.shape[-2] ** -1.0 * k.shape[-1] ** -0.5
    return ops.matmul(q, context if is_folded else ops.scale(context, factor))


def cube(ops: Algebra[T], q: T, k: T, v: T, *, is_folded: bool = False) -> T:
    """((Q K^T / sqrt K)^3 / sqrt N) V.

    Queries take all of the public factor, once, where it is smallest: c^3 = 1 / sqrt N.

    Source: PolyAttn, Saratchandran et al. 2024 (arXiv 2410.18613), section 4.
    """
    factor = k.shape[-2] ** (-1 / 6) * k.shape[-1] ** -0.5
    scaled = q if is_folded else ops.scale(q, factor)
    scores = ops.matmul(scaled, ops.transpose(k))  # (G, M, N)
    return ops.matmul(ops.mul(ops.square(scores), scores), v)


def relu_n(ops: Algebra[T], q: T, k: T, v: T, *, is_folded: bool = False) -> T:
    """(ReLU(Q K^T / sqrt K) / N) V, the factor behind the products: (G, M, K) is least.

    Source: Wortsman et al. 2023 (arXiv 2309.08586), equation 2, without exponents.
    """
    weights = ops.relu(ops.matmul(q, ops.transpose(k)))  # (G, M, N)
    values = ops.matmul(weights, v)
    factor = k.shape[-2] ** -1.0 * k.shape[-1] ** -0.5
    return values if is_folded else ops.scale(values, factor)


def _unit_rows(ops: Algebra[T], x: T) -> T:
    norm2 = ops.row_sum(ops.square(x))  # (G, M, 1)
    return ops.mul(x, ops.rsqrt(ops.shift(norm2, EPSILON)))


def xnorm(ops: Algebra[T], q: T, k: T, v: T, *, is_folded: bool = False) -> T:
    """XN(Q) XN(K^T V / N), XN(x) = x / ||x||_2 along each row.

    V is divided, and not the product: that SPU's compiler would move behind the rsqrt.

    Source: UFO-ViT, equation 4; MPCViT Table 2.
    Differs: the learnt gamma is left to the projection behind, and K^T V is a mean over
    tokens, which XN makes the same: the squared length of a row of the sum passes 2**17
    where tokens resemble each other, and from there on SPU's rsqrt is 0.
    """
    values = v if is_folded else ops.scale(v, 1 / k.shape[-2])
    context = ops.matmul(ops.transpose(k), values)  # (G, K, K)
    return ops.matmul(_unit_rows(ops, q), _unit_rows(ops, context))


def linformer(
    ops: Algebra[T], q: T, k: T, v: T, e: T, f: T, *, is_folded: bool = False
) -> T:
    """softmax(Q (E K)^T / sqrt K) (F V); E and F of (N/4, N), shared by all heads.

    All of G go through one product with E and one with F: two hops each, whatever G.

    Source: Wang et al. 2020 (arXiv 2006.04768), equation 7.
    """
    attend, keys, values = (
        attend_by(softmax_rows, has_sums=True),
        project_tokens(ops, e, k),
        project_tokens(ops, f, v),
    )
    attended: T = attend(ops, q, keys, values, is_folded=is_folded)
    return attended


def project_tokens(ops: Algebra[T], weight: T, x: T) -> T:
    """Return W x of (G, R, K), W of (R, N) and x of (G, N, K), as one product."""
    n_together, n_tokens, head_dim = x.shape
    side_by_side = ops.reshape(ops.swap(x), (n_tokens, n_together * head_dim))
    projected = ops.matmul(weight, side_by_side)  # (R, G K)
    rank = weight.shape[0]
    return ops.swap(ops.reshape(projected, (rank, n_together, head_dim)))  # (G, R, K)


Factors: TypeAlias = tuple[float, float, float]  # of queries, keys and values


def _of_queries(n_tokens: int, head_dim: int) -> Factors:
    return (head_dim**-0.5, 1.0, 1.0)


def _of_all(n_tokens: int, head_dim: int) -> Factors:
    """Return a third each: all of 1 / (N sqrt K) in one would cost its low bits."""
    return ((n_tokens * head_dim**0.5) ** (-1 / 3),) * 3


def _of_cube(n_tokens: int, head_dim: int) -> Factors:
    root = (n_tokens ** (-1 / 6) * head_dim**-0.5) ** 0.5
    return (root, root, 1.0)


def _of_context(n_tokens: int, head_dim: int) -> Factors:
    return (1.0, n_tokens**-0.5, n_tokens**-0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """An attention variant, and what its block gets and gives on SPU.

    Attributes:
        function: (algebra, q, k, v, *weights) to the attended values.
        source: Paper and equation.
        bounds: Largest magnitude of an entry of q, k, v, and of each own weight, where
            every primitive is accurate on SPU.
        atol: See `rtol`.
        rtol: |block on SPU - block in float64| <= atol + rtol |block in float64|.
        weight_shapes: Shapes of the variant's own weights at a number of tokens.
        factors: (tokens, width of a head) to the public factors of q, k and v that
            `function` leaves out if `is_folded`.
    """

    function: Function
    source: str
    bounds: tuple[float, ...]
    atol: float
    rtol: float = 0.0
    weight_shapes: Callable[[int], tuple[tuple[int, ...], ...]] = lambda n_tokens: ()
    factors: Callable[[int, int], Factors] = _of_queries

    @property
    def takes_bias(self) -> bool:
        """Whether `function` has scores to which it adds a bias."""
        return "bias" in inspect.signature(self.function).parameters


# Tolerances are what the errors of the primitives make of such inputs at 18 fraction
# bits, times two or more; another formula is off by ten times as much.
ATTENTIONS: Final = {
    # exp is low by exp(x) x^2 / 512; scores of deviation 0.75 reach x = -6: 2.6e-3
    "softmax": Attention(
        function=attend_by(softmax_rows, has_sums=True),
        source="Vaswani et al. 2017, equation 1",
        bounds=(1.5, 1.5, 1.0),
        atol=5e-3,
    ),
    # squaring five times doubles each time what a truncation lost: 1e-3
    "softmax_puma": Attention(
        function=attend_by(puma_softmax_rows, has_sums=True),
        source="PUMA, arXiv 2307.12533, section 4: exp within 0.0086",
        bounds=(1.5, 1.5, 1.0),
        atol=5e-3,
    ),
    # reciprocal within 1e-4, and 18 fraction bits of each weight: 2e-4
    "relu_softmax": Attention(
        function=attend_by(relu_softmax_rows, has_sums=True),
        source="RSAttn, MPCViT section 2.2",
        bounds=(2.0, 2.0, 1.0),
        atol=1e-3,
    ),
    # the public factor 1 / (N sqrt K) is a multiple of 2**-18: within 4e-3 of itself
    # for 257 tokens of 64, whence rtol; the rest is truncation
    "scale": Attention(
        function=scale,
        factors=_of_all,
        source="ScaleAttn as Q (K^T V), MPCViT section 2.1",
        bounds=(4.0, 4.0, 4.0),
        atol=2e-3,
        rtol=1e-2,
    ),
    "scale_plain": Attention(
        function=scale_plain,
        factors=_of_all,
        source="ScaleAttn, MPCViT section 2.1",
        bounds=(4.0, 4.0, 4.0),
        atol=2e-3,
        rtol=1e-2,
    ),
    # the reciprocal of an entry is no less exact than that of its row
    "softmax_by_entry": Attention(
        function=attend_by(
            functools.partial(softmax_rows, is_by_entry=True), has_sums=True
        ),
        source="softmax as the code of MPCViT has it",
        bounds=(1.5, 1.5, 1.0),
        atol=5e-3,
    ),
    "relu_softmax_by_entry": Attention(
        function=attend_by(
            functools.partial(relu_softmax_rows, is_by_entry=True), has_sums=True
        ),
        source="RSAttn as the code of MPCViT has it",
        bounds=(2.0, 2.0, 1.0),
        atol=1e-3,
    ),
    # of a row whose sum is below 1e-3 the reciprocal is off by more than 0.5 %
    "relu_softmax_mpcvit": Attention(
        function=attend_by(
            functools.partial(relu_softmax_rows, epsilon=MPCVIT_EPSILON), has_sums=True
        ),
        source="RSAttn with the epsilon of MPCViT's code, 1e-5; for imported weights",
        bounds=(2.0, 2.0, 1.0),
        atol=1e-3,
    ),
    # reciprocal of a sum up to 300, within 1e-3, and truncated squares: 5e-4
    "2quad": Attention(
        function=attend_by(two_quad_rows, has_sums=True),
        source="2Quad, MPCViT Table 2",
        bounds=(2.0, 2.0, 1.0),
        atol=2e-3,
    ),
    # truncations of N scores: 4e-4
    "square": Attention(
        function=attend_by(lambda ops, scores: ops.square(scores)),
        source="Square, MPCViT Table 2",
        bounds=(1.0, 1.0, 1.0),
        atol=2e-3,
    ),
    # truncations of N scores: 5e-4; one score in 50 is beyond 6
    "relu6": Attention(
        function=attend_by(relu6_rows),
        source="ReLU6, MPCViT Table 2",
        bounds=(3.0, 3.0, 0.5),
        atol=2e-3,
    ),
    # scores of deviation 3: six Newton steps come within 1e-3 of the root; for
    # scores of deviation 0.1 to 0.3 they would leave 0.6 too much (see the tests)
    "sparsemax": Attention(
        function=attend_by(sparsemax_rows),
        source="sparsemax, Martins and Astudillo 2016",
        bounds=(3.0, 3.0, 1.0),
        atol=5e-3,
    ),
    # the cube of a score near 1 triples its error, and N of them add up: 5e-4
    "cube": Attention(
        function=cube,
        factors=_of_cube,
        source="PolyAttn, Saratchandran et al. 2024 (arXiv 2410.18613), section 4",
        bounds=(2.0, 2.0, 1.0),
        atol=2e-3,
        rtol=1e-3,
    ),
    # as scale: the public factor is rounded
    "relu_n": Attention(
        function=relu_n,
        factors=_of_all,
        source="ReLU / N, Wortsman et al. 2023 (arXiv 2309.08586), equation 2",
        bounds=(4.0, 4.0, 4.0),
        atol=2e-3,
        rtol=1e-2,
    ),
    # rsqrt within 4e-4, twice, over a head's width: 5e-4
    "xnorm": Attention(
        function=xnorm,
        factors=_of_context,
        source="XNorm, UFO-ViT equation 4",
        bounds=(1.0, 0.5, 0.5),
        atol=2e-3,
    ),
    # as softmax: 1e-3; E K has deviation 0.3 at 257 tokens
    "linformer": Attention(
        function=linformer,
        source="Linformer, Wang et al. 2020, equation 7",
        bounds=(2.0, 1.0, 1.0, 0.0625, 0.125),
        atol=5e-3,
        weight_shapes=lambda n: ((math.ceil(n / LINFORMER_RATIO), n),) * 2,
    ),
}


def get_attention(name: str) -> Attention:
    """Return the variant of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("attention", name, ATTENTIONS)


SOFTMAXES: Final = ("softmax", "softmax_by_entry")
RELU_SOFTMAXES: Final = {  # what each adds to a sum
    "relu_softmax": EPSILON,
    "relu_softmax_by_entry": EPSILON,
    "relu_softmax_mpcvit": MPCVIT_EPSILON,
}


def within_scores(bounds: SoftmaxBounds) -> Attention:
    """Return a softmax without a maximum, for scores and sums in their range."""

    def attend(ops: Algebra[T], q: T, k: T, v: T, *, is_folded: bool = False) -> T:
        factor = bounds.score_factor * q.shape[-1] ** -0.5
        scaled = q if is_folded else ops.scale(q, factor)
        return bounded_softmax(ops, scaled, k, v, bounds)

    def factors(n_tokens: int, head_dim: int) -> Factors:
        root = (bounds.score_factor * head_dim**-0.5) ** 0.5
        return (root, root, 1.0)

    return replace(ATTENTIONS["softmax"], function=attend, factors=factors)


def within_totals(bounds: InverseBounds, epsilon: float = EPSILON) -> Attention:
    """Return a ReLU softmax for rows whose sums, epsilon added, are in their range.

    The reciprocal is multiplied behind the product with V, once for a row.
    """
    factor = (bounds.low * bounds.high) ** 0.5  # of the reciprocal, to be about 1

    def attend(ops: Algebra[T], q: T, k: T, v: T, *, is_folded: bool = False) -> T:
        scaled = q if is_folded else ops.scale(q, q.shape[-1] ** -0.5)
        weights = ops.relu(ops.matmul(scaled, ops.transpose(k)))  # (G, M, N)
        total = ops.shift(ops.row_sum(weights), epsilon)
        own = factor if is_folded else 1.0
        inverse = bounded_inverse(ops, total, bounds, -1.0, own)  # (G, M, 1)
        return ops.mul(ops.matmul(weights, v), inverse)

    def factors(n_tokens: int, head_dim: int) -> Factors:
        return (head_dim**-0.5, 1.0, 1 / factor)

    return replace(ATTENTIONS["relu_softmax"], function=attend, factors=factors)
