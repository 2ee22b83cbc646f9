"""Attention of each variant in float64: q (G, M, K), k and v (G, N, K) to (G, M, K)."""

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mpcprof.blocks.attention import EPSILON

Array64: TypeAlias = NDArray[np.float64]
AnyFloat: TypeAlias = NDArray[np.floating[Any]]  # Any: float32 as drawn, or float64
Weights64: TypeAlias = Callable[[Array64], Array64]  # (M, N) scores to what weighs V


def one_head_at_a_time(
    head: Callable[..., Array64],
) -> Callable[..., Array64]:
    """Make attention of (G, M, K) out of that of one head, (M, K)."""

    def every_head(q: AnyFloat, k: AnyFloat, v: AnyFloat, *own: AnyFloat) -> Array64:
        q64, k64, v64, *own64 = (np.asarray(x, np.float64) for x in (q, k, v, *own))
        return np.stack([head(*qkv, *own64) for qkv in zip(q64, k64, v64, strict=True)])

    return every_head


def attend_by(weights: Weights64) -> Callable[..., Array64]:
    """weights(Q K^T / sqrt K) V of every head."""

    def head(q: Array64, k: Array64, v: Array64) -> Array64:
        return np.asarray(weights(q @ k.T / math.sqrt(q.shape[1])) @ v)

    return one_head_at_a_time(head)


def softmax_rows(scores: Array64) -> Array64:
    """exp(x_j - log sum_i exp(x_i)) in each row."""
    logs = np.logaddexp.reduce(scores, axis=1)[:, None]  # (M, 1)
    return np.asarray(np.exp(scores - logs), np.float64)


def sparsemax_rows(scores: Array64) -> Array64:
    """Projection of each row onto the simplex, exactly, by sorting.

    Source: Martins and Astudillo 2016, algorithm 1.
    """
    projected = np.empty_like(scores)
    for row, x in enumerate(scores):
        falling = np.sort(x)[::-1]
        above = np.cumsum(falling) - 1  # of the j largest, if they alone were kept
        places = np.arange(1, len(x) + 1)
        n_kept = int(np.max(places[places * falling > above]))
        projected[row] = np.clip(x - above[n_kept - 1] / n_kept, 0, None)
    return projected


def _relu_softmax_rows(scores: Array64) -> Array64:
    positive = np.where(scores > 0, scores, 0.0)
    return np.asarray(positive / (positive.sum(axis=1)[:, None] + EPSILON))


def _two_quad_rows(scores: Array64) -> Array64:
    return np.asarray(scores**2 / (np.sum(scores**2, axis=1)[:, None] + EPSILON))


def _square_rows(scores: Array64) -> Array64:
    return np.asarray(np.power(scores, 2))


def _relu6_rows(scores: Array64) -> Array64:
    return np.clip(scores, 0, 6)


@one_head_at_a_time
def scale64(q: Array64, k: Array64, v: Array64) -> Array64:
    """ScaleAttn / sqrt K = (1/N) (Q K^T) V / sqrt K.

    Source: MPCViT section 2.1; the root from equation 2.
    """
    n_tokens, head_dim = k.shape
    return np.asarray((1 / n_tokens) * ((q @ k.T) @ v) / math.sqrt(head_dim))


@one_head_at_a_time
def xnorm64(q: Array64, k: Array64, v: Array64) -> Array64:
    """Rows of Q and of K^T V / N over their length, multiplied.

    Source: UFO-ViT, equation 4, with our epsilon beneath the root.
    """

    def unit(x: Array64) -> Array64:
        return np.asarray([row / math.sqrt(row @ row + EPSILON) for row in x])

    return np.asarray(unit(q) @ unit(k.T @ v / len(k)))


@one_head_at_a_time
def linformer64(q: Array64, k: Array64, v: Array64, e: Array64, f: Array64) -> Array64:
    """Softmax attention over E K and F V. Source: arXiv 2006.04768, equation 7."""
    scores = q @ (e @ k).T / math.sqrt(q.shape[1])
    return np.asarray(softmax_rows(scores) @ (f @ v))


ATTENTIONS64: Final[dict[str, Callable[..., Array64]]] = {
    "softmax": attend_by(softmax_rows),
    "relu_softmax": attend_by(_relu_softmax_rows),
    "softmax_by_entry": attend_by(softmax_rows),
    "relu_softmax_by_entry": attend_by(_relu_softmax_rows),
    "scale": scale64,
    "scale_plain": scale64,
    "2quad": attend_by(_two_quad_rows),
    "square": attend_by(_square_rows),
    "relu6": attend_by(_relu6_rows),
    "sparsemax": attend_by(sparsemax_rows),
    "xnorm": xnorm64,
    "linformer": linformer64,
}
