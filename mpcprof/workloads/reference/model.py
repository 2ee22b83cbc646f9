"""A whole heterogeneous Vision Transformer in float64, one head and token at a time."""

from collections.abc import Mapping

import numpy as np

from mpcprof.blocks.architecture import Architecture, Head
from mpcprof.workloads.reference.attention import ATTENTIONS64, AnyFloat, Array64
from mpcprof.workloads.reference.layers import (
    fused64,
    head64,
    layernorm64,
    mlp64,
    patch_embedding64,
)


def vit64(
    architecture: Architecture, patches: AnyFloat, weights: Mapping[str, AnyFloat]
) -> Array64:
    """Logits (B, C) of images given as patches (B, N - 1, P).

    Args:
        weights: By the names of `mpcprof.blocks.transformer.weight_shapes`.
    """
    wide = {name: np.asarray(w, np.float64) for name, w in weights.items()}
    images = patch_embedding64(
        patches,
        wide["embedding.weight"],
        wide["embedding.bias"],
        wide["embedding.class_token"],
        wide["embedding.positions"],
    )
    logits = []
    for image in images:  # (N, D)
        tokens = image
        for layer in range(architecture.n_layers):
            tokens = tokens + _attention(architecture, layer, tokens, wide)
            tokens = tokens + _mlp(architecture, layer, tokens, wide)
        logits.append(
            head64(
                tokens[None],
                wide["norm.gamma"],
                wide["norm.beta"],
                wide["head.weight"],
                wide["head.bias"],
            )[0]
        )
    return np.stack(logits)


def _attention(
    architecture: Architecture, layer: int, x: Array64, weights: Mapping[str, Array64]
) -> Array64:
    own = f"layers.{layer}."
    normed = layernorm64(x, weights[f"{own}norm1.gamma"], weights[f"{own}norm1.beta"])
    queries, keys, values = np.split(normed @ weights[f"{own}attention.qkv"], 3, axis=1)
    found = np.empty_like(x)  # (N, D)
    head_dim = architecture.model.width // architecture.model.n_heads
    for number, head in enumerate(architecture.attention[layer]):
        columns = np.arange(number * head_dim, (number + 1) * head_dim)
        q, k, v = (full[:, columns] for full in (queries, keys, values))  # (N, K)
        found[:, columns] = _head(head, q, k, v, weights, f"{own}attention.")
    projection = weights[f"{own}attention.projection.weight"]
    return np.asarray(found @ projection + weights[f"{own}attention.projection.bias"])


def _head(
    head: Head,
    q: Array64,
    k: Array64,
    v: Array64,
    weights: Mapping[str, Array64],
    prefix: str,
) -> Array64:
    """One head: every row by each of its variants, of which the row keeps its own."""
    by_variant = {}
    for name in {*head}:
        own = [
            weights[key] for key in weights if key.startswith(f"{prefix}{name}.")
        ]  # Linformer's E, then F
        by_variant[name] = ATTENTIONS64[name](q[None], k[None], v[None], *own)[0]
    names = head if len(head) > 1 else head * len(q)
    return np.stack([by_variant[name][row] for row, name in enumerate(names)])


def _mlp(
    architecture: Architecture, layer: int, x: Array64, weights: Mapping[str, Array64]
) -> Array64:
    own = f"layers.{layer}."
    normed = layernorm64(x, weights[f"{own}norm2.gamma"], weights[f"{own}norm2.beta"])
    names = architecture.activation[layer]
    found = []
    for place, token in enumerate(normed):  # (D,)
        name = names[place] if len(names) > 1 else names[0]
        if f"{own}mlp.fused.weight" in weights:
            fused = (weights[f"{own}mlp.fused.{part}"] for part in ("weight", "bias"))
            found.append(fused64(name, token, *fused))
        else:
            parts = (
                weights[f"{own}mlp.{linear}.{part}"]
                for linear in ("linear1", "linear2")
                for part in ("weight", "bias")
            )
            found.append(mlp64(name, token, *parts))
    return np.stack(found)
