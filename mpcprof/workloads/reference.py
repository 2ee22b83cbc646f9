"""Every block in float64, written independently of `mpcprof.nn`.

Attention takes q (G, M, K), k and v (G, N, K) to (G, M, K).
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from jax.experimental import enable_x64
from numpy.typing import NDArray

from mpcprof.nn.activation import get_activation
from mpcprof.nn.architecture import Architecture, Head
from mpcprof.nn.attention import MPCVIT_EPSILON
from mpcprof.nn.catalogue import grid_rows
from mpcprof.nn.norm import NORM_EPSILON, get_norm, layernorm
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.rows import EPSILON
from mpcprof.nn.transformer import EMBEDDING_WEIGHTS, MIXING_WEIGHTS, layer_weights
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.primitives import Array64, gelu_exact64, gelu_tanh64, relu64

AnyFloat: TypeAlias = NDArray[np.floating[Any]]  # Any: float32 as drawn, or float64
Weights64: TypeAlias = Callable[[Array64], Array64]  # (M, N) scores to the weights of V


def one_head_at_a_time(head: Callable[..., Array64]) -> Callable[..., Array64]:
    """Make attention of (G, M, K) from attention of one head, (M, K)."""

    def every_head(q: AnyFloat, k: AnyFloat, v: AnyFloat, *own: AnyFloat) -> Array64:
        q64, k64, v64, *own64 = (np.asarray(x, np.float64) for x in (q, k, v, *own))
        return np.stack([head(*qkv, *own64) for qkv in zip(q64, k64, v64, strict=True)])

    return every_head


def attend_by64(weights: Weights64) -> Callable[..., Array64]:
    """Make attention of the weights of rows: weights(Q K^T / sqrt K) V of each head."""

    def head(q: Array64, k: Array64, v: Array64) -> Array64:
        return np.asarray(weights(q @ k.T / math.sqrt(q.shape[1])) @ v)

    return one_head_at_a_time(head)


def softmax_rows64(scores: Array64) -> Array64:
    """Return exp(x_j - log sum_i exp(x_i)) in each row."""
    logs = np.logaddexp.reduce(scores, axis=1)[:, None]  # (M, 1)
    return np.asarray(np.exp(scores - logs), np.float64)


def _softmax_by64(exp: Callable[[Array64], Array64]) -> Weights64:
    """Divide an exponential of score - maximum by its sum, in each row."""

    def rows(scores: Array64) -> Array64:
        weights = exp(scores - np.max(scores, axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    return rows


def puma_exp64(x: Array64, power: int = 32) -> Array64:
    """Return (1 + x / 32)^32, 0 up to x = -14."""
    powers = np.exp(power * np.log1p(np.maximum(x, -14) / power))
    return np.asarray(powers * (x > -14))


def nimbus_exp64(x: Array64) -> Array64:
    """Return Nimbus' polynomial, 0 up to x = -3.9, by Horner."""
    coefficients = (
        *(0.0291786417536755, 0.26332572942924737),
        *(0.8318065569430768, 0.9708981428645548),
    )
    return np.asarray(np.polyval(coefficients, x) * (x > -3.9))


@one_head_at_a_time
def _thex64(q: Array64, k: Array64, v: Array64, *layers: Array64) -> Array64:
    """Weight values by scores times what a network makes of a row's sum of cubes."""
    scores = q @ k.T / math.sqrt(q.shape[1])
    x = np.sum(np.maximum(scores / 2 + 1, 0) ** 3, axis=1, keepdims=True)
    w1, b1, w2, b2, w3, b3 = layers
    factors = relu64(relu64(x @ w1 + b1) @ w2 + b2) @ w3 + b3
    return np.asarray((scores * factors) @ v)


def sparsemax_rows64(scores: Array64) -> Array64:
    """Project each row onto the simplex, exactly, by sorting.

    Source: Martins and Astudillo 2016, algorithm 1.
    """
    projected = np.empty_like(scores)
    for row, x in enumerate(scores):
        falling = np.sort(x)[::-1]
        above = np.cumsum(falling) - 1  # sum of the j largest, if they alone were kept
        places = np.arange(1, len(x) + 1)
        n_kept = int(np.max(places[places * falling > above]))
        projected[row] = np.clip(x - above[n_kept - 1] / n_kept, 0, None)
    return projected


def relu_softmax_rows64(scores: Array64, epsilon: float = EPSILON) -> Array64:
    """Return relu(x) over its sum + epsilon in each row."""
    positive = relu64(scores)
    return np.asarray(positive / (positive.sum(axis=1)[:, None] + epsilon))


def _shifted_quad_rows64(scores: Array64) -> Array64:
    """Divide (x + 5)^2 by its sum in each row."""
    squares = scores**2 + 10 * scores + 25
    return np.asarray(squares / squares.sum(axis=1, keepdims=True))


def _two_quad_rows64(scores: Array64) -> Array64:
    return np.asarray(scores**2 / (np.sum(scores**2, axis=1)[:, None] + EPSILON))


@one_head_at_a_time
def scale64(q: Array64, k: Array64, v: Array64) -> Array64:
    """Return ScaleAttn / sqrt K = (1/N) (Q K^T) V / sqrt K.

    Source: MPCViT section 2.1; the root from equation 2.
    """
    n_tokens, head_dim = k.shape
    return np.asarray((1 / n_tokens) * ((q @ k.T) @ v) / math.sqrt(head_dim))


@one_head_at_a_time
def xnorm64(q: Array64, k: Array64, v: Array64) -> Array64:
    """Multiply Q by K^T V / N, the rows of both divided by their length.

    Source: UFO-ViT, equation 4, with our epsilon beneath the root.
    """

    def unit(x: Array64) -> Array64:
        return np.asarray([row / math.sqrt(row @ row + EPSILON) for row in x])

    return np.asarray(unit(q) @ unit(k.T @ v / len(k)))


@one_head_at_a_time
def linformer64(q: Array64, k: Array64, v: Array64, e: Array64, f: Array64) -> Array64:
    """Attend by softmax over E K and F V. Source: arXiv 2006.04768, equation 7."""
    scores = q @ (e @ k).T / math.sqrt(q.shape[1])
    return np.asarray(softmax_rows64(scores) @ (f @ v))


ATTENTIONS64: Final[dict[str, Callable[..., Array64]]] = {
    "softmax": attend_by64(softmax_rows64),
    "relu_softmax": attend_by64(relu_softmax_rows64),
    "softmax_puma": attend_by64(_softmax_by64(puma_exp64)),
    "softmax_bumblebee": attend_by64(
        _softmax_by64(functools.partial(puma_exp64, power=64))
    ),
    "softmax_nimbus": attend_by64(_softmax_by64(nimbus_exp64)),
    "softmax_by_entry": attend_by64(softmax_rows64),
    "relu_softmax_by_entry": attend_by64(relu_softmax_rows64),
    "relu_softmax_mpcvit": attend_by64(
        functools.partial(relu_softmax_rows64, epsilon=MPCVIT_EPSILON)
    ),
    "scale": scale64,
    "scale_plain": scale64,
    "2quad": attend_by64(_two_quad_rows64),
    "2quad_shifted": attend_by64(_shifted_quad_rows64),
    "2quad_secformer": attend_by64(_shifted_quad_rows64),  # within 3e-4
    "thex": _thex64,
    "square": attend_by64(lambda scores: np.power(scores, 2)),
    "relu_unscaled": attend_by64(relu64),
    "relu6": attend_by64(lambda scores: np.clip(scores, 0, 6)),
    "sparsemax": attend_by64(sparsemax_rows64),
    "xnorm": xnorm64,
    "linformer": linformer64,
    "cube": one_head_at_a_time(
        lambda q, k, v: np.asarray(
            (q @ k.T) ** 3 @ v / len(q[0]) ** 1.5 / len(k) ** 0.5
        )
    ),
    "relu_n": attend_by64(lambda scores: relu64(scores) / scores.shape[1]),
}


def _windows64(x: Array64, n_rows: int) -> Array64:
    """Return the 3x3 neighbours of each token, zeros around: (B, R, C, D, 3, 3)."""
    grid = x.reshape(len(x), n_rows, -1, x.shape[-1])
    padded = np.pad(grid, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.empty((*grid.shape, 3, 3))
    for i, j in np.ndindex(3, 3):
        windows[..., i, j] = padded[:, i:, j:][:, : grid.shape[1], : grid.shape[2]]
    return windows


def convolve64(x: Array64, n_rows: int, weight: Array64, bias: Array64) -> Array64:
    """Convolve a map (B, N, c) by a 3x3 kernel of (9 c, d), zeros around."""
    kernel = weight.reshape(3, 3, x.shape[-1], -1)
    made = np.einsum("brckij,ijkd->brcd", _windows64(x, n_rows), kernel)
    return np.asarray(made.reshape(*x.shape[:2], -1) + bias)


def _depthwise64(x: Array64, n_rows: int, weight: Array64, bias: Array64) -> Array64:
    kernel = weight.reshape(3, 3, -1)
    made = np.einsum("brckij,ijk->brck", _windows64(x, n_rows), kernel)
    return np.asarray(made.reshape(x.shape) + bias)


def _token_mix64(x: Array64, n_rows: int, weight: Array64, bias: Array64) -> Array64:
    return np.asarray(np.einsum("mn,bnd->bmd", weight, x) + bias)


def _pool64(x: Array64, n_rows: int) -> Array64:
    return np.asarray(_windows64(x, n_rows).mean(axis=(-1, -2)).reshape(x.shape) - x)


def _shift64(x: Array64, n_rows: int) -> Array64:
    """Move a twelfth of the channels down, up, right and left, each by one token."""
    grid = x.reshape(len(x), n_rows, -1, x.shape[-1])
    part = max(x.shape[-1] // 12, 1)
    down, up, right, left = (slice(i * part, (i + 1) * part) for i in range(4))
    moved = grid.copy()
    moved[..., : 4 * part] = 0
    moved[:, 1:, :, down] = grid[:, :-1, :, down]
    moved[:, :-1, :, up] = grid[:, 1:, :, up]
    moved[:, :, 1:, right] = grid[:, :, :-1, right]
    moved[:, :, :-1, left] = grid[:, :, 1:, left]
    return np.asarray(moved.reshape(x.shape) - x)


MIXERS64: Final[dict[str, Callable[..., Array64]]] = {
    "none": lambda x, n_rows: np.zeros_like(x),
    "shift": _shift64,
    "pool": _pool64,
    "token_mix": _token_mix64,
    "convolution": convolve64,
    "depthwise": _depthwise64,
}


def _mixer64(name: str, x: AnyFloat, *weights: AnyFloat) -> Array64:
    """Mix tokens (B, N, D) of the grid that `grid_rows` makes of them."""
    x64, *own = _float64(x, *weights)
    return MIXERS64[name](x64, grid_rows(x64.shape[1]), *own)


ACTIVATIONS64: Final[dict[str, Callable[[Array64], Array64]]] = {
    "gelu_exact": gelu_exact64,
    "gelu_tanh": gelu_tanh64,
    "relu": relu64,
    "gelu_nimbus": lambda x: np.select(
        [x > 0.5, x > -1.8],
        [
            x,
            np.polyval(
                [0.17025471961795552, 0.32421075145645123, -0.006946478426716862], x
            ),
        ],
    ),
    "quad": lambda x: np.asarray(np.polyval([0.125, 0.25, 0.5], x)),
    "quad_linear": lambda x: np.asarray(np.polyval([0.125, 0.5, 0.25], x)),
    "identity": lambda x: x,
    "identity_relu": lambda x: x,
}


def activation64(name: str) -> Callable[[Array64], Array64]:
    """Return the float64 form of an activation, independent where there is one.

    A new approximation is run itself, in float64; a test holds it against the function
    that it approximates.

    Raises:
        UnknownNameError: If there is no such activation.
    """
    if name in ACTIVATIONS64:
        return ACTIVATIONS64[name]
    function = get_activation(name).function

    def activate(x: Array64) -> Array64:
        with enable_x64():
            return np.asarray(function(JaxAlgebra(), x), np.float64)

    return activate


def mlp64(
    activation: str, x: AnyFloat, w1: AnyFloat, b1: AnyFloat, w2: AnyFloat, b2: AnyFloat
) -> Array64:
    """Return act(x W1 + b1) W2 + b2, a ReLU behind `identity_relu`; x (..., D)."""
    x, w1, b1, w2, b2 = _float64(x, w1, b1, w2, b2)
    hidden = activation64(activation)(np.dot(x, w1) + b1)
    return _behind(activation, np.dot(hidden, w2) + b2)


def fused64(activation: str, x: AnyFloat, weight: AnyFloat, bias: AnyFloat) -> Array64:
    """Return x W + b, a ReLU behind `identity_relu`; x (..., D)."""
    x, weight, bias = _float64(x, weight, bias)
    return _behind(activation, np.dot(x, weight) + bias)


def _behind(activation: str, x: Array64) -> Array64:
    return relu64(x) if activation == "identity_relu" else x


def layernorm64(
    x: AnyFloat, gamma: AnyFloat, beta: AnyFloat, epsilon: float = NORM_EPSILON
) -> Array64:
    """Bring tokens of (..., D) to mean 0 and variance 1, times gamma, plus beta.

    Source: Ba et al. 2016 (arXiv 1607.06450), equation 4.
    """
    x, gamma, beta = _float64(x, gamma, beta)
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True)
    return np.asarray((x - mean) * gamma / np.sqrt(variance + epsilon) + beta)


def norm64(name: str) -> Callable[..., Array64]:
    """Return the float64 form of a norm of tokens, independent where there is one.

    An approximation is run itself; a test holds its inverse root against x**-0.5.
    """
    if name == "layernorm":
        return layernorm64
    root = get_norm(name).inverse_root

    def normalise(
        x: AnyFloat, gamma: AnyFloat, beta: AnyFloat, epsilon: float = NORM_EPSILON
    ) -> Array64:
        with enable_x64():
            x, gamma, beta = _float64(x, gamma, beta)
            ops: Any = JaxAlgebra()  # Any: it takes numpy's arrays for JAX's
            own = layernorm(ops, x, gamma, beta, epsilon, root)
            return np.asarray(own, np.float64)

    return normalise


def patch_embedding64(
    patches: AnyFloat,
    weight: AnyFloat,
    bias: AnyFloat,
    class_token: AnyFloat,
    positions: AnyFloat,
) -> Array64:
    """Embed (B, N - 1, F) patches as (B, N, D): class token first, positions added."""
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
    """Return logits (B, C) of the class token of (B, N, D), normalised."""
    weight, bias = _float64(weight, bias)
    normed = layernorm64(x, gamma, beta)
    return np.asarray(normed[:, 0] @ weight + bias)


_OTHERS64: Final[dict[str, Callable[..., Array64]]] = {
    "mlp.fused": functools.partial(fused64, "identity"),
    "mlp.fused_relu": functools.partial(fused64, "identity_relu"),
    "layernorm": layernorm64,
    "layernorm_secformer": norm64("layernorm_secformer"),
    "patch_embedding": patch_embedding64,
    "head": head64,
}


def block64(name: str) -> Callable[..., Array64]:
    """Return the float64 form of a block of `mpcprof.nn.catalogue`."""
    if name in _OTHERS64:
        return _OTHERS64[name]
    family, _, variant = name.partition(".")
    if family == "attn":
        return ATTENTIONS64[variant]
    return functools.partial(_mixer64 if family == "mix" else mlp64, variant)


def _float64(*arrays: AnyFloat) -> tuple[Array64, ...]:
    return tuple(np.asarray(x, np.float64) for x in arrays)


def vit64(
    architecture: Architecture, patches: AnyFloat, weights: Mapping[str, AnyFloat]
) -> Array64:
    """Return logits (B, C) of patches (B, N - 1, P), of embeddings, or of pixels.

    Args:
        weights: By the names of `mpcprof.nn.transformer.weight_shapes`.
    """
    wide = {name: np.asarray(w, np.float64) for name, w in weights.items()}
    layers = [layer_weights(wide, layer) for layer in range(architecture.n_layers)]
    model = architecture.model
    normed = functools.partial(_normed64, architecture)
    logits = []
    for tokens in _embedding64(_stem64(model, patches, wide), wide):
        tokens = normed(0, tokens, wide, "embedding.norm")
        for layer, own in enumerate(layers):  # tokens of (N, D)
            inner = {name: w for name, w in own.items() if not name.startswith("norm")}
            for norm, branch in (("norm1", _mix64), ("norm2", _mlp)):
                if model.norm_order == "post":
                    added = branch(architecture, layer, tokens, inner)
                    tokens = normed(layer, tokens + added, own, norm)
                else:
                    taken = normed(layer, tokens, own, norm)
                    added = branch(architecture, layer, taken, inner)
                    is_between = (model.norm_order, norm) == ("between", "norm2")
                    tokens = (taken if is_between else tokens) + added
        tokens = normed(-1, tokens, wide, "norm")
        logits.append(_classify64(model, tokens, wide))
    return np.stack(logits)


def _classify64(
    model: ModelPreset, tokens: Array64, wide: Mapping[str, Array64]
) -> Array64:
    pooled = tokens.mean(axis=0) if model.pooling == "mean" else tokens[0]
    if "pooler.weight" in wide:
        pooled = np.tanh(pooled @ wide["pooler.weight"] + wide["pooler.bias"])
    return np.asarray(pooled @ wide["head.weight"] + wide["head.bias"])


def _normed64(
    architecture: Architecture,
    layer: int,
    x: Array64,
    own: Mapping[str, Array64],
    norm: str,
) -> Array64:
    """Apply the layer's norm if the network has its weights, else it is folded."""
    if f"{norm}.gamma" not in own:
        return x
    normalise, epsilon = (
        norm64(architecture.norm[layer]),
        architecture.model.norm_epsilon,
    )
    return normalise(x, own[f"{norm}.gamma"], own[f"{norm}.beta"], epsilon)


def _stem64(
    model: ModelPreset, inputs: AnyFloat, wide: Mapping[str, Array64]
) -> AnyFloat:
    """Return the patches of the stem's map; without a stem, the input as it is."""
    if not model.stem:
        return inputs
    (x,), side = _float64(inputs), model.image_size
    for number, one in enumerate(model.stem):
        weights = (wide[f"stem.{number}.{part}"] for part in ("weight", "bias"))
        x = activation64(one.activation)(convolve64(x, side, *weights))
        side //= one.pool
        squares = x.reshape(len(x), side, one.pool, side, one.pool, -1)
        x = squares.sum(axis=(2, 4)).reshape(len(x), side**2, -1)
    n, patch = side // model.patch, model.patch
    cut = x.reshape(len(x), n, patch, n, patch, -1).swapaxes(2, 3)
    return cut.reshape(len(x), n * n, -1)


def _mix64(
    architecture: Architecture, layer: int, x: Array64, own: Mapping[str, Array64]
) -> Array64:
    if architecture.mixer(layer) is None:
        return _attention(architecture, layer, x, own)
    ((name,),) = architecture.attention[layer]
    weights = [own[key] for key in MIXING_WEIGHTS if key in own]
    side = architecture.model.grid_side
    return np.asarray(MIXERS64[name](x[None], side, *weights)[0])


def _embedding64(inputs: AnyFloat, wide: Mapping[str, Array64]) -> Array64:
    """Embed patches, or take embeddings; a class token in front if there is one."""
    if all(name in wide for name in EMBEDDING_WEIGHTS):
        return patch_embedding64(inputs, *(wide[name] for name in EMBEDDING_WEIGHTS))
    (tokens,) = _float64(inputs)
    if "embedding.weight" in wide:
        tokens = tokens @ wide["embedding.weight"] + wide.get("embedding.bias", 0.0)
    if "embedding.class_token" in wide:
        first = np.repeat(wide["embedding.class_token"], len(tokens), axis=0)
        tokens = np.concatenate([first, tokens], axis=1)
    return np.asarray(tokens + wide.get("embedding.positions", 0.0))


def _attention(
    architecture: Architecture, layer: int, x: Array64, own: Mapping[str, Array64]
) -> Array64:
    qkv = x @ own["attention.qkv"] + own.get("attention.qkv_bias", 0.0)
    queries, keys, values = np.split(qkv, 3, axis=1)
    found = np.empty_like(queries)  # (N, D)
    head_dim = architecture.model.head_dim
    for number, head in enumerate(architecture.attention[layer]):
        columns = np.arange(number * head_dim, (number + 1) * head_dim)
        q, k, v = (full[None, :, columns] for full in (queries, keys, values))
        found[:, columns] = _head(head, q, k, v, own)
    projection, bias = (own[f"attention.projection.{p}"] for p in ("weight", "bias"))
    return np.asarray(found @ projection + bias)


def _head(
    head: Head, q: Array64, k: Array64, v: Array64, own: Mapping[str, Array64]
) -> Array64:
    """Compute all rows of one head, (1, N, K), by each variant; each keeps its own."""
    by_variant = {}
    for name in {*head}:
        prefix = f"attention.{name}."
        matrices = [own[key] for key in own if key.startswith(prefix)]  # E, then F
        by_variant[name] = ATTENTIONS64[name](q, k, v, *matrices)[0]
    names = head if len(head) > 1 else head * q.shape[1]
    return np.stack([by_variant[name][row] for row, name in enumerate(names)])


def _mlp(
    architecture: Architecture, layer: int, x: Array64, own: Mapping[str, Array64]
) -> Array64:
    if not architecture.hidden(layer):
        return np.zeros_like(x)
    is_fused = "mlp.fused.weight" in own
    parts = [
        own[f"mlp.{linear}.{part}"]
        for linear in (("fused",) if is_fused else ("linear1", "linear2"))
        for part in ("weight", "bias")
    ]
    names = architecture.activation[layer]
    names = names if len(names) > 1 else names * len(x)
    apply = fused64 if is_fused else mlp64
    return np.stack(
        [apply(name, token, *parts) for name, token in zip(names, x, strict=True)]
    )
