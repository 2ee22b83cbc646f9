"""Folding: what the weights' owner computes in the clear, so that nobody pays for it.

Every product with a public number costs a hop under MPC; in front of or behind a linear
layer it can be in the weights. The network stays the same function, up to rounding.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.nn.activation import fold_of
from mpcprof.nn.approximation import InverseBounds
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.norm import norm_factor
from mpcprof.nn.plan import LayerPlan, Plan
from mpcprof.nn.transformer import (
    has_relu_behind,
    is_pure,
    layer_weights,
    weight_shapes,
)

Matrix = NDArray[np.float64]
Weights = dict[str, Matrix]
_INTO_STREAM: Final = ("weight", "bias", "class_token", "positions")


def fold_weights(
    architecture: Architecture, plan: Plan, weights: Mapping[str, Matrix]
) -> Weights:
    """Return the weights of the network as the plan deploys it.

    - gamma, beta and sqrt(D) of each norm go into the linear layer behind it;
    - what is added to the residual stream has mean 0 over the width, and the factor
      `stream_scale`, so that no norm has to subtract the mean;
    - public factors of attention go into queries, keys and values, head by head;
    - numbers of activations, and 1 / N of a mean, go into the layers around.

    Args:
        weights: Weights by name, as in `mpcprof.nn.transformer.weight_shapes`.
    """
    wide = {name: np.asarray(weight, np.float64) for name, weight in weights.items()}
    if not plan.is_folded:
        return wide
    target = plan.apply(architecture)
    folded = _fold_ends(target, plan, wide)
    for layer in range(target.n_layers):
        own = _fold_layer(target, layer, plan, layer_weights(wide, layer))
        folded |= {f"layers.{layer}.{name}": weight for name, weight in own.items()}
    return {name: folded[name] for name in weight_shapes(architecture, plan)}


def _centre(weight: Matrix) -> Matrix:
    centred: Matrix = weight - weight.mean(axis=-1, keepdims=True)
    return centred


def _fold_ends(architecture: Architecture, plan: Plan, weights: Weights) -> Weights:
    """Fold the embedding and the classifier."""
    names = [f"embedding.{name}" for name in _INTO_STREAM]
    folded = {
        name: plan.stream_scale * _centre(weights[name])
        for name in names
        if name in weights
    }
    model = architecture.model
    n_summed = model.n_tokens if model.pooling == "mean" else 1
    head = _behind_norm(weights, "norm", "head.weight", "head.bias", plan.last_norm)
    folded["head.weight"], folded["head.bias"] = head[0] / n_summed, head[1]
    return folded


def _behind_norm(
    weights: Weights, norm: str, weight: str, bias: str, bounds: InverseBounds | None
) -> tuple[Matrix, Matrix]:
    """Fold what `unit_norm` leaves of a norm into the linear layer behind it."""
    gamma, beta = weights[f"{norm}.gamma"], weights[f"{norm}.beta"]
    matrix = weights[weight]
    own = weights.get(bias, np.zeros(matrix.shape[-1]))
    factor = len(gamma) ** 0.5 / norm_factor(bounds)
    return factor * gamma[:, None] * matrix, own + beta @ matrix


def _fold_layer(
    architecture: Architecture, layer: int, plan: Plan, weights: Weights
) -> Weights:
    own = plan.layers[layer]
    qkv = _behind_norm(
        weights, "norm1", "attention.qkv", "attention.qkv_bias", own.norm1
    )
    factors = _qkv_factors(architecture, layer, own)  # (3 H K,)
    names = ("attention.projection.weight", "attention.projection.bias")
    return {
        **weights,
        "attention.qkv": qkv[0] * factors,
        "attention.qkv_bias": qkv[1] * factors,
        **{name: plan.stream_scale * _centre(weights[name]) for name in names},
        **_fold_mlp(architecture, layer, plan, weights),
    }


def _qkv_factors(architecture: Architecture, layer: int, own: LayerPlan) -> Matrix:
    """Return the public factor of each column of queries, keys and values."""
    model = architecture.model
    by_head = [
        own.attention(head[0]).factors(model.n_tokens, model.head_dim)
        if is_pure(head)
        else (1.0, 1.0, 1.0)
        for head in architecture.attention[layer]
    ]
    return np.repeat(np.array(by_head).T.ravel(), model.head_dim)


def _fold_mlp(
    architecture: Architecture, layer: int, plan: Plan, weights: Weights
) -> Weights:
    names, bounds = architecture.activation[layer], plan.layers[layer].norm2
    # a ReLU behind makes values whose mean is not 0, whatever goes into it
    centre = np.asarray if has_relu_behind(names) else _centre
    if architecture.is_fused(layer):
        matrix, bias = _behind_norm(
            _fused(weights), "norm2", "mlp.fused.weight", "mlp.fused.bias", bounds
        )
        return {
            "mlp.fused.weight": plan.stream_scale * centre(matrix),
            "mlp.fused.bias": plan.stream_scale * centre(bias),
        }
    w1, b1 = _behind_norm(
        weights, "norm2", "mlp.linear1.weight", "mlp.linear1.bias", bounds
    )
    w2, b2 = weights["mlp.linear2.weight"], weights["mlp.linear2.bias"]
    if fold := fold_of(names):
        w1, b1 = w1 * fold.in_factor, b1 * fold.in_factor + fold.in_shift
        w2, b2 = w2 * fold.out_factor, b2 + fold.out_shift * w2.sum(axis=0)
    return {
        "mlp.linear1.weight": w1,
        "mlp.linear1.bias": b1,
        "mlp.linear2.weight": plan.stream_scale * centre(w2),
        "mlp.linear2.bias": plan.stream_scale * centre(b2),
    }


def _fused(weights: Weights) -> Weights:
    """Return weights with both linear layers as one, where pruning left linear ones."""
    if "mlp.fused.weight" in weights:
        return weights
    w2 = weights["mlp.linear2.weight"]
    return {
        **weights,
        "mlp.fused.weight": weights["mlp.linear1.weight"] @ w2,
        "mlp.fused.bias": weights["mlp.linear1.bias"] @ w2
        + weights["mlp.linear2.bias"],
    }
