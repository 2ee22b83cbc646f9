"""A whole Transformer as a workload, made from its architecture."""

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import enable_x64
from numpy.typing import NDArray

from mpcprof.dims import Dims
from mpcprof.nn.algebra import Interval, Shape
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.catalogue import AnyNetwork
from mpcprof.nn.efficientvit import (
    KEY_DIM,
    EfficientViT,
    efficientvit,
    efficientvit_shapes,
    pixels_shape,
)
from mpcprof.nn.norm import get_norm
from mpcprof.nn.plan import Plan
from mpcprof.nn.transformer import input_shape, layer_variants, vit, weight_shapes
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.reference import vit64
from mpcprof.workloads.registry import Workload
from mpcprof.workloads.tolerance import Tolerance

# Logits have deviation 1; SPU's errors, emulated, are below 1e-2. Sparsemax stops after
# six Newton steps, which does not always reach the root of scores of deviation 1.
_USUAL: Final = Tolerance(atol=3e-2)
_SPARSEMAX: Final = Tolerance(atol=1e-1)
# Rows that are not divided by their sum: values grow with the root of the tokens.
_UNBOUNDED: Final = ("square", "relu_unscaled", "relu6", "thex")
# Folded, these hold the sqrt(D) of the norm in front, where there is one.
_BEHIND_NORM: Final = {
    "norm1": ("attention.qkv", "mixing.weight"),
    "norm2": ("mlp.linear1.weight", "mlp.fused.weight"),
    "norm": ("head.weight",),
}
# Where squares follow each other without a norm, values near 1 stay there if branches
# take and give a third of what they would.
_INTO_STREAM: Final = (
    *("attention.projection.weight", "mlp.linear2.weight", "mlp.fused.weight"),
    "mixing.weight",
)
_INTO_MAP: Final = (  # of an EfficientViT, whose units are added to its maps
    *("dw0.m.weight", "dw1.m.weight", "res1.0.m.weight", "res2.0.m.weight"),
    *("pw2.weight", "proj.1.weight"),
)
_OUT_OF_STREAM: Final = ("attention.qkv", "mlp.linear1.weight")
_WITHOUT_NORM: Final = 0.3
_INSIDE: Final = 4.0  # times the smallest deviation that a norm is stated for


def model_workload(architecture: AnyNetwork, plan: Plan | None = None) -> Workload:
    """Return private inference by a random network, its weights secret.

    Inputs are (B, N - 1, P) patches, or embeddings of deviation 0.6, then the weights
    in the order of `weight_shapes`. Weights have variance 1 / fan-in, so that
    activations stay near 1, less where no norm keeps them there, and tokens are larger
    where a norm is stated for larger ones. The workload is not registered: there are
    endless architectures. Its name is `vit.cifar.` and 8 hexadecimal digits that tell
    them apart.

    Args:
        plan: How the network is deployed; the weights are folded if it says so.
    """
    if isinstance(architecture, EfficientViT):
        return _efficientvit_workload(architecture)
    model = architecture.model
    identity = architecture.to_json() + (plan.to_json() if plan else "")
    digest = hashlib.sha256(identity.encode()).hexdigest()
    shapes = weight_shapes(architecture, plan)
    variants = {
        name for layer in architecture.attention for name in layer_variants(layer)
    }

    def function(patches: Array, *weights: Array) -> Array:
        named = dict(zip(shapes, weights, strict=True))
        logits: Array = vit(JaxAlgebra(), architecture, patches, named, plan)
        return logits

    def reference(
        patches: NDArray[np.float32], *weights: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        if plan is None:
            return vit64(architecture, patches, dict(zip(shapes, weights, strict=True)))
        return _in_float64(function, patches, *weights)

    def input_shapes(dims: Dims) -> tuple[Shape, ...]:
        return (input_shape(architecture, dims.n_batch), *shapes.values())

    return Workload(
        name=f"vit.{model.name}.{digest[:8]}",
        kind="model",
        dim_names=("n_batch",),
        shapes=input_shapes,
        function=function,
        reference=reference,
        domain=(
            _input_domain(architecture),
            *weight_domains(architecture, plan).values(),
        ),
        tolerance=_SPARSEMAX if "sparsemax" in variants else _USUAL,
        source=f"Transformer {model.name}; MPCViT section 5.1",
    )


def _in_float64(
    function: Callable[..., Array], *inputs: NDArray[np.float32]
) -> NDArray[np.float64]:
    with enable_x64():
        wide = (jnp.asarray(x, jnp.float64) for x in inputs)
        return np.asarray(jax.jit(function)(*wide))


def _efficientvit_workload(network: EfficientViT) -> Workload:
    """Return private inference by a random EfficientViT, as `model_workload` does."""
    shapes = efficientvit_shapes(network)

    def function(pixels: Array, *weights: Array) -> Array:
        named = dict(zip(shapes, weights, strict=True))
        logits: Array = efficientvit(JaxAlgebra(), network, pixels, named)
        return logits

    return Workload(
        name=f"{network.name}.{network.digest}",
        kind="model",
        dim_names=("n_batch",),
        shapes=lambda dims: (pixels_shape(network, dims.n_batch), *shapes.values()),
        function=function,
        reference=functools.partial(_in_float64, function),
        domain=((-1.0, 1.0), *(_unit_domain(network, *own) for own in shapes.items())),
        tolerance=_USUAL,
        source="EfficientViT, Liu et al. 2023 (arXiv 2305.07027)",
    )


def _unit_domain(network: EfficientViT, name: str, shape: Shape) -> Interval:
    """Return the interval of a random weight that keeps values near 1."""
    if name.endswith((".bias", "_biases")):
        return (-0.1, 0.1)
    bound = math.sqrt(3 / shape[0]) * _public_factor(network, name)
    return (-bound, bound)


def _public_factor(network: EfficientViT, name: str) -> float:
    """Return what the owner of trained weights has multiplied into one, or damps."""
    stage = int(name.split(".")[1]) if name.startswith("stages.") else -1
    if name.endswith("se.fc1.weight") or name == "head.linear.weight":
        return 1 / network.map_sides[stage] ** 2  # of a sum, for the mean
    if ".dws." in name:
        n_places = network.window_side(stage) ** 2
        return math.prod(network.variant.factors(n_places, KEY_DIM))
    return _WITHOUT_NORM if name.endswith(_INTO_MAP) else 1.0


def weight_domains(
    architecture: Architecture, plan: Plan | None = None
) -> dict[str, Interval]:
    """Return the interval from which each weight of a random network is drawn."""
    return {
        name: _domain(architecture, name, shape, bool(plan and plan.is_folded))
        for name, shape in weight_shapes(architecture, plan).items()
    }


def _domain(
    architecture: Architecture, name: str, shape: Shape, is_folded: bool
) -> Interval:
    if name.endswith(".gamma"):
        return (0.8, 1.2)
    if name.endswith((".bias", ".qkv_bias", ".beta")):
        return (-0.1, 0.1)
    scale = _token_scale(architecture) if name.startswith("embedding.") else 1.0
    if name in ("embedding.class_token", "embedding.positions"):
        return (-0.5 * scale, 0.5 * scale)
    bound = scale * math.sqrt(3 / _fan_in(architecture, name, shape))
    is_normed = _is_behind_norm(architecture, name)
    if is_folded and architecture.is_centred and is_normed:
        bound *= math.sqrt(architecture.model.width)
    is_damped = name.endswith(_OUT_OF_STREAM) and not is_normed
    if any(get_norm(own).is_folded for own in {*architecture.norm}):
        is_damped |= name.endswith(_INTO_STREAM)
    if is_damped:
        bound *= _WITHOUT_NORM
    return (-bound, bound)


def _input_domain(architecture: Architecture) -> Interval:
    model = architecture.model
    if not model.n_embeddings:
        return (0.0, 1.0)
    scale = 1.0 if model.has_embedding else _token_scale(architecture)
    return (-scale, scale)


def _token_scale(architecture: Architecture) -> float:
    """Return the factor that brings the variance of tokens to where norms are stated.

    Without it the variance is 0.1 to 1. SecFormer's norm takes 1 / 2048 of it: so few
    steps of 2**-18 that Cheetah's truncations move logits by up to 0.05.
    """
    stated = (get_norm(name).accuracy for name in {*architecture.norm})
    lowest = max((accuracy.low for accuracy in stated if accuracy), default=None)
    return 1.0 if lowest is None else _INSIDE * math.sqrt(lowest)


def _is_behind_norm(architecture: Architecture, name: str) -> bool:
    """Return whether a layernorm stands in front of the weight."""
    layer = int(name.split(".")[1]) if name.startswith("layers.") else -1
    if name.endswith(_BEHIND_NORM["norm1"]):
        return architecture.has_norm1(layer)
    if name.endswith(_BEHIND_NORM["norm2"]):
        return architecture.has_norm2(layer)
    return name in _BEHIND_NORM["norm"] and architecture.has_last_norm


def _fan_in(architecture: Architecture, name: str, shape: Shape) -> int:
    """Count the entries summed over; more behind heads whose values sum over tokens.

    Behind a pool, whose sums are the mean times their number, more by its square.
    """
    if ".attention.linformer." in name:
        return shape[1]  # (R, N), from the left
    if name.endswith(".attention.thex.0"):  # takes the sum of a row of cubes near 1
        return (2 * architecture.model.n_tokens) ** 2
    if name.endswith("attention.projection.weight"):
        layer = int(name.split(".")[1])
        if {*_UNBOUNDED} & {*layer_variants(architecture.attention[layer])}:
            return shape[0] * architecture.model.n_tokens
    return shape[0] * _pool_in_front(architecture, name) ** 4


def _pool_in_front(architecture: Architecture, name: str) -> int:
    """Return the side of the squares whose sums the weight takes; 1 for none."""
    behind = "head.weight" if not architecture.n_layers else "embedding.weight"
    stem = architecture.model.stem
    names = [*(f"stem.{number}.weight" for number in range(1, len(stem))), behind]
    pools = {own: one.pool for own, one in zip(names, stem, strict=False)}
    return pools.get(name, 1)
