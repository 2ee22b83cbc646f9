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
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from mpcprof.errors import look_up
from mpcprof.nn.algebra import Algebra, T
from mpcprof.nn.approximation import (
    Accuracy,
    InverseBounds,
    SoftmaxBounds,
    bounded_inverse,
    bounded_softmax,
)
from mpcprof.nn.norm import unit_norm
from mpcprof.nn.rows import (
    EPSILON,
    EXP_LOW,
    SECFORMER_DIVISOR,
    bumblebee_exp,
    goldschmidt_quad_rows,
    nimbus_exp,
    puma_exp,
    relu6_rows,
    relu_softmax_rows,
    shifted_quad_rows,
    softmax_rows,
    softmax_rows_by,
    sparsemax_rows,
    two_quad_rows,
)

MPCVIT_EPSILON: Final = 1e-5  # of MPCViT's code
LINFORMER_RATIO: Final = 4  # tokens per projected token; the quotient is rounded up
THEX_WIDTHS: Final = (64, 128)  # hidden, of the network that stands for a reciprocal

# Any: the algebra's own array
Function: TypeAlias = Callable[..., Any]


def attend_by(
    rows: Function, *, has_sums: bool = False, factor: float = 1.0
) -> Function:
    """Make attention of the weights of rows: rows(factor Q K^T / sqrt K) V.

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
        scaled = q if is_folded else ops.scale(q, factor * q.shape[-1] ** -0.5)
        if bias is not None and factor != 1.0:
            bias = ops.scale(bias, factor)
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


def thex(ops: Algebra[T], q: T, k: T, v: T, *layers: T, is_folded: bool = False) -> T:
    """(s T(sum relu((s / 2 + 1)^3))) V, s = Q K^T / sqrt K, T of three linear layers.

    T, with ReLUs between its layers, takes a row's sum to a factor for each key.

    Args:
        layers: Weight and bias of each layer: (1, 64), (1, 64), (64, 128) and so on.

    Source: THE-X, arXiv 2206.00216; sizes of T as MPCViT's code has it.
    Differs: in that code T has no ReLU, and so is one linear layer.
    """
    half = q if is_folded else ops.scale(q, 0.5 * q.shape[-1] ** -0.5)
    scores = ops.matmul(half, ops.transpose(k))  # (G, M, N), s / 2
    base = ops.shift(scores, 1.0)
    total = ops.row_sum(ops.relu(ops.mul(ops.square(base), base)))  # (G, M, 1)
    x = ops.reshape(total, (math.prod(total.shape), 1))
    for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
        x = ops.relu(ops.add(ops.matmul(x, weight), bias))
    x = ops.add(ops.matmul(x, layers[-2]), layers[-1])  # (G M, N)
    weights = ops.mul(ops.add(scores, scores), ops.reshape(x, scores.shape))
    return ops.matmul(weights, v)


def _thex_shapes(n_tokens: int) -> tuple[tuple[int, ...], ...]:
    sizes = (1, *THEX_WIDTHS, n_tokens)
    return tuple(
        shape for n, m in itertools.pairwise(sizes) for shape in ((n, m), (1, m))
    )


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
    return ops.matmul(unit_norm(ops, q, EPSILON), unit_norm(ops, context, EPSILON))


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


def _of_queries(n_tokens: int, head_dim: int, factor: float = 1.0) -> Factors:
    return (factor * head_dim**-0.5, 1.0, 1.0)


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
        accuracy: Error of the part that is approximated, of a published approximation.
    """

    function: Function
    source: str
    bounds: tuple[float, ...]
    atol: float
    rtol: float = 0.0
    weight_shapes: Callable[[int], tuple[tuple[int, ...], ...]] = lambda n_tokens: ()
    factors: Callable[[int, int], Factors] = _of_queries
    accuracy: Accuracy | None = None

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
        function=attend_by(softmax_rows_by(puma_exp), has_sums=True),
        source="PUMA, arXiv 2307.12533, section 4: exp within 0.0086",
        bounds=(1.5, 1.5, 1.0),
        atol=5e-3,
        accuracy=Accuracy(of="exp", low=EXP_LOW, high=0.0, max_error=0.0086),
    ),
    # as softmax_puma, squared once more
    "softmax_bumblebee": Attention(
        function=attend_by(softmax_rows_by(bumblebee_exp), has_sums=True),
        source="BumbleBee's released activation.cc, 6 squarings: exp within 0.0043",
        bounds=(1.5, 1.5, 1.0),
        atol=5e-3,
        accuracy=Accuracy(of="exp", low=EXP_LOW, high=0.0, max_error=0.0043),
    ),
    # powers within 4e-6, times coefficients below 1; a row's sum is above 0.97
    "softmax_nimbus": Attention(
        function=attend_by(softmax_rows_by(nimbus_exp), has_sums=True),
        source="Nimbus, arXiv 2411.15707: exp of degree 3 above -3.9, within 0.030",
        bounds=(1.5, 1.5, 1.0),
        atol=2e-3,
        accuracy=Accuracy(of="exp", low=EXP_LOW, high=0.0, max_error=0.030),
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
    # as 2quad, of sums near the number of tokens
    "2quad_shifted": Attention(
        function=attend_by(shifted_quad_rows, has_sums=True, factor=0.2),
        factors=functools.partial(_of_queries, factor=0.2),
        source="2Quad with c = 5, MPCFormer (arXiv 2211.01452), section 3",
        bounds=(3.0, 3.0, 1.0),
        atol=2e-3,
    ),
    # weights of 0.005 are multiples of 2**-18: within 1e-3, N of them average out
    "2quad_secformer": Attention(
        function=attend_by(
            goldschmidt_quad_rows, has_sums=True, factor=SECFORMER_DIVISOR**-0.5
        ),
        factors=functools.partial(_of_queries, factor=SECFORMER_DIVISOR**-0.5),
        source="SecFormer, arXiv 2401.00793, algorithm 3: eta = 5000, 13 steps",
        bounds=(2.0, 2.0, 1.0),  # sums of 257 tokens stay below 2 eta
        atol=5e-3,
        accuracy=Accuracy(
            of="1/x", low=5.0, high=9995.0, max_error=2.8e-4, is_relative=True
        ),
    ),
    # a sum of N cubes, truncated, times weights of T: 1e-3
    "thex": Attention(
        function=thex,
        factors=functools.partial(_of_queries, factor=0.5),
        source="THE-X, arXiv 2206.00216, reciprocals by a network of three layers",
        bounds=(1.0, 1.0, 0.5, 2.0**-8, 0.5, 0.125, 0.5, 0.125, 0.5),
        atol=5e-3,
        weight_shapes=_thex_shapes,
    ),
    # truncations of N scores: 4e-4
    "square": Attention(
        function=attend_by(lambda ops, scores: ops.square(scores)),
        source="Square, MPCViT Table 2",
        bounds=(1.0, 1.0, 1.0),
        atol=2e-3,
    ),
    # as relu6, and beyond 6 too
    "relu_unscaled": Attention(
        function=attend_by(lambda ops, scores: ops.relu(scores)),
        source="ReLU, MPCViT Table 2, where its training failed",
        bounds=(3.0, 3.0, 0.375),
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
