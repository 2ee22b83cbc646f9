"""The parts of a Transformer around attention, in float64."""

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.special import expit, ndtr

from mpcprof.blocks.norm import NORM_EPSILON
from mpcprof.workloads.reference.attention import AnyFloat, Array64


def _gelu_exact(x: Array64) -> Array64:
    """x Phi(x), Phi being the normal distribution function."""
    return np.asarray(x * ndtr(x), np.float64)


def _gelu_tanh(x: Array64) -> Array64:
    """x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    return np.asarray(x * expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)), np.float64)


def _relu(x: Array64) -> Array64:
    return np.where(x > 0, x, 0.0)


def _quad(x: Array64) -> Array64:
    return np.asarray(np.polyval([0.125, 0.25, 0.5], x), np.float64)


def _identity(x: Array64) -> Array64:
    return x


ACTIVATIONS64: Final[dict[str, Callable[[Array64], Array64]]] = {
    "gelu_exact": _gelu_exact,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "quad": _quad,
    "identity": _identity,
    "identity_relu": _identity,
}


def mlp64(
    activation: str, x: AnyFloat, w1: AnyFloat, b1: AnyFloat, w2: AnyFloat, b2: AnyFloat
) -> Array64:
    """act(x W1 + b1) W2 + b2, and a ReLU behind `identity_relu`; x (N, D) or (D,)."""
    x, w1, b1, w2, b2 = _float64(x, w1, b1, w2, b2)
    hidden = ACTIVATIONS64[activation](np.dot(x, w1) + b1)
    return _behind(activation, np.dot(hidden, w2) + b2)


def fused64(activation: str, x: AnyFloat, weight: AnyFloat, bias: AnyFloat) -> Array64:
    """x W + b, and a ReLU behind `identity_relu`; x (N, D) or (D,)."""
    x, weight, bias = _float64(x, weight, bias)
    return _behind(activation, np.dot(x, weight) + bias)


def _behind(activation: str, x: Array64) -> Array64:
    return _relu(x) if activation == "identity_relu" else x


def layernorm64(x: AnyFloat, gamma: AnyFloat, beta: AnyFloat) -> Array64:
    """Each token to mean 0 and variance 1, times gamma, plus beta; x (..., D).

    Source: Ba et al. 2016 (arXiv 1607.06450), equation 4.
    """
    x, gamma, beta = _float64(x, gamma, beta)
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True)
    return np.asarray((x - mean) * gamma / np.sqrt(variance + NORM_EPSILON) + beta)


def patch_embedding64(
    patches: AnyFloat,
    weight: AnyFloat,
    bias: AnyFloat,
    class_token: AnyFloat,
    positions: AnyFloat,
) -> Array64:
    """(B, N - 1, F) patches to (B, N, D): the class token first, positions added."""
    patches, weight, bias = _float64(patches, weight, bias)
    n_batch, n_patches, _ = patches.shape
    tokens = np.empty((n_batch, n_patches + 1, weight.shape[1]))
    tokens[:, 0] = class_token[0, 0]
    for place in range(n_patches):
        tokens[:, place + 1] = patches[:, place] @ weight + bias
    return np.asarray(tokens + positions.astype(np.float64))


def head64(
    x: AnyFloat, gamma: AnyFloat, beta: AnyFloat, weight: AnyFloat, bias: AnyFloat
) -> Array64:
    """Logits (B, C) of the class token of (B, N, D), normalised."""
    weight, bias = _float64(weight, bias)
    return np.asarray(layernorm64(x, gamma, beta)[:, 0] @ weight + bias)


def _float64(*arrays: AnyFloat) -> tuple[Array64, ...]:
    return tuple(np.asarray(x, np.float64) for x in arrays)
