"""Folding: what the weights' owner computes in the clear, so that nobody pays for it.

Every product with a public number costs a hop under MPC; in front of or behind a linear
layer it can be in the weights. The network stays the same function, up to rounding.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.nn.activation import ActivationFold, fold_of
from mpcprof.nn.approximation import InverseBounds
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.mixing import N_COPIES
from mpcprof.nn.mlp import has_relu_behind
from mpcprof.nn.norm import norm_factor
from mpcprof.nn.plan import LayerPlan, Plan
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.transformer import is_pure, layer_weights, weight_shapes

Matrix = NDArray[np.float64]
Weights = dict[str, Matrix]
_INTO_STREAM: Final = ("weight", "bias", "class_token", "positions")


def fold_weights(
    architecture: Architecture, plan: Plan, weights: Mapping[str, Matrix]
) -> Weights:
    """Return the weights of the network as the plan deploys it.

    - gamma, beta and sqrt(D) of each layernorm go into the linear layer behind it, but
      of those that the residual stream itself goes through;
    - what is added to a residual stream that layernorms alone read has mean 0 over the
      width, and the factor `stream_scale`, so that no norm has to subtract the mean;
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
    """Fold the stem, the embedding and the classifier."""
    names = [f"embedding.{name}" for name in _INTO_STREAM]
    into_stream = _stream_fold(architecture, plan)
    folded = {name: into_stream(weights[name]) for name in names if name in weights}
    folded |= {
        name: weight
        for name, weight in weights.items()
        if name.startswith(("embedding.norm.", "pooler."))
    }
    model = architecture.model
    folded |= _fold_stem(model, weights)
    n_summed = model.n_tokens if model.pooling == "mean" else 1
    factor = _norm_factor(architecture, plan.last_norm)
    head = _behind_norm(weights, "norm", "head.weight", "head.bias", factor)
    folded["head.weight"], folded["head.bias"] = head[0] / n_summed, head[1]
    return folded


def _stream_fold(
    architecture: Architecture, plan: Plan, *, has_relu_behind: bool = False
) -> Callable[[Matrix], Matrix]:
    """Return what is done to a weight whose product is added to the residual stream.

    A ReLU behind makes values whose mean is not 0, whatever goes into it.
    """
    if not architecture.is_centred:
        return lambda weight: weight
    centre = np.asarray if has_relu_behind else _centre
    return lambda weight: plan.stream_scale * centre(weight)


def _fold_stem(model: ModelPreset, weights: Weights) -> Weights:
    """Fold what activations have in front; what they have behind is public there."""
    folded = {}
    for number, one in enumerate(model.stem):
        weight, bias = f"stem.{number}.weight", f"stem.{number}.bias"
        fold = fold_of([one.activation]) or ActivationFold(function=lambda ops, x: x)
        folded[weight] = weights[weight] * fold.in_factor
        folded[bias] = weights[bias] * fold.in_factor + fold.in_shift
    return folded


def _norm_factor(architecture: Architecture, bounds: InverseBounds | None) -> float:
    """Return the factor that `unit_norm` leaves to the weights behind a norm."""
    root = architecture.model.width**0.5 if architecture.is_centred else 1.0
    return root / norm_factor(bounds)


def _behind_norm(
    weights: Weights, norm: str, weight: str, bias: str, factor: float
) -> tuple[Matrix, Matrix]:
    """Fold what `unit_norm` leaves of a norm, if there is one, into what is behind."""
    matrix = weights[weight]
    own = weights.get(bias, np.zeros(matrix.shape[-1]))
    if f"{norm}.gamma" not in weights:
        return matrix, own
    gamma, beta = weights[f"{norm}.gamma"], weights[f"{norm}.beta"]
    return factor * gamma[:, None] * matrix, own + beta @ matrix


def _fold_layer(
    architecture: Architecture, layer: int, plan: Plan, weights: Weights
) -> Weights:
    own = plan.layers[layer]
    factor = _norm_factor(architecture, own.norm1)
    folded = dict(weights)
    for norm in architecture.model.stream_norms:  # which reads what they make
        gamma = f"{norm}.gamma"
        if gamma in weights:
            bounds, _ = own.norm(norm)
            folded[gamma] = _norm_factor(architecture, bounds) * weights[gamma]
        weights = {key: w for key, w in weights.items() if not key.startswith(norm)}
    folded |= _fold_mlp(architecture, layer, plan, weights)
    if architecture.mixer(layer):
        if "norm1.gamma" in weights:
            folded |= _fold_mixing(weights, architecture.model.grid_side, factor)
        return folded
    qkv = _behind_norm(weights, "norm1", "attention.qkv", "attention.qkv_bias", factor)
    factors = _qkv_factors(architecture, layer, own)  # (3 H K,)
    names = ("attention.projection.weight", "attention.projection.bias")
    into_stream = _stream_fold(architecture, plan)
    return {
        **folded,
        "attention.qkv": qkv[0] * factors,
        "attention.qkv_bias": qkv[1] * factors,
        **{name: into_stream(weights[name]) for name in names},
    }


def _fold_mixing(weights: Weights, n_rows: int, factor: float) -> Weights:
    """Fold a layernorm into a convolution, of channels together or one by one.

    Beta is missing outside of the grid, so its part of the bias differs by token.
    """
    weight, bias = weights["mixing.weight"], weights["mixing.bias"]
    gamma, beta = weights["norm1.gamma"], weights["norm1.beta"]
    copies = weight.reshape(N_COPIES, -1, weight.shape[-1])  # (9, D, D) or (9, 1, D)
    is_depthwise = copies.shape[1] == 1
    of_copies = beta * copies[:, 0] if is_depthwise else beta @ copies  # (9, D)
    by_channel = gamma if is_depthwise else gamma[:, None]
    return {
        "mixing.weight": (factor * by_channel * copies).reshape(weight.shape),
        "mixing.bias": bias + _inside(n_rows) @ of_copies,
    }


def _inside(n_rows: int) -> Matrix:
    """Return 1 where a token of the grid has a neighbour of each kind: (N, 9)."""
    places = np.arange(n_rows)[:, None] + np.arange(-1, 2)  # (R, 3)
    is_inside = ((places >= 0) & (places < n_rows)).astype(np.float64)
    both = is_inside[:, None, :, None] * is_inside[None, :, None, :]
    return np.asarray(both.reshape(n_rows**2, N_COPIES))


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
    if not architecture.hidden(layer):
        return {}
    names = architecture.activation[layer]
    factor = _norm_factor(architecture, plan.layers[layer].norm2)
    into_stream = _stream_fold(
        architecture, plan, has_relu_behind=has_relu_behind(names)
    )
    if architecture.is_fused(layer):
        matrix, bias = _behind_norm(
            _fused(weights), "norm2", "mlp.fused.weight", "mlp.fused.bias", factor
        )
        return {
            "mlp.fused.weight": into_stream(matrix),
            "mlp.fused.bias": into_stream(bias),
        }
    w1, b1 = _behind_norm(
        weights, "norm2", "mlp.linear1.weight", "mlp.linear1.bias", factor
    )
    w2, b2 = weights["mlp.linear2.weight"], weights["mlp.linear2.bias"]
    if fold := fold_of(names):
        w1, b1 = w1 * fold.in_factor, b1 * fold.in_factor + fold.in_shift
        w2, b2 = w2 * fold.out_factor, b2 + fold.out_shift * w2.sum(axis=0)
    return {
        "mlp.linear1.weight": w1,
        "mlp.linear1.bias": b1,
        "mlp.linear2.weight": into_stream(w2),
        "mlp.linear2.bias": into_stream(b2),
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
