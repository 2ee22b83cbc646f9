"""Every block of `mpcprof.nn` as a workload: attention, MLP, LayerNorm, both ends.

Domains keep each primitive where SPU is accurate (exp from -8 to 0, reciprocal from
0.1 to 300, rsqrt from 0.01 to 1000) and outputs within 50, up to 257 tokens, width 768
and hidden width 3072. A tolerance is what the errors that the primitives' docstrings
state make of such inputs in an emulation of 18 fraction bits, times two or more: see
the comments. Another formula is off by ten times as much.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from mpcprof.nn.catalogue import BLOCKS, block_shapes
from mpcprof.nn.steps import PRODUCT_OPERATIONS, ROW_OPERATIONS, Step
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.reference import (
    ATTENTIONS64,
    Array64,
    fused64,
    head64,
    layernorm64,
    mlp64,
    patch_embedding64,
)
from mpcprof.workloads.registry import (
    Interval,
    Piece,
    Shape,
    Workload,
    get_workload,
    register,
)


class _Promise(NamedTuple):
    """What inputs a block gets, and how near to the reference it comes."""

    domain: tuple[Interval, ...]
    atol: float
    rtol: float
    source: str


def _within(*bounds: float) -> tuple[Interval, ...]:
    return tuple((-bound, bound) for bound in bounds)


_GAMMA: Final = (0.5, 1.5)
_TABLE_2: Final = "MPCViT Table 2"
_MLP_DOMAIN: Final = _within(1.0, 0.125, 1.0, 0.125, 0.5)  # x, W1, b1, W2, b2

_PROMISES: Final = {
    # exp is low by exp(x) x^2 / 512; scores of deviation 0.75 reach x = -6: 2.6e-3
    "attn.softmax": _Promise(
        _within(1.5, 1.5, 1.0), 5e-3, 0.0, "Vaswani et al. 2017, equation 1"
    ),
    # reciprocal within 1e-4, and 18 fraction bits of each weight: 2e-4
    "attn.relu_softmax": _Promise(
        _within(2.0, 2.0, 1.0), 1e-3, 0.0, "RSAttn, MPCViT section 2.2"
    ),
    # the reciprocal of an entry is no less exact than that of its row
    "attn.softmax_by_entry": _Promise(
        _within(1.5, 1.5, 1.0), 5e-3, 0.0, "softmax as the code of MPCViT has it"
    ),
    "attn.relu_softmax_by_entry": _Promise(
        _within(2.0, 2.0, 1.0), 1e-3, 0.0, "RSAttn as the code of MPCViT has it"
    ),
    # the public factor 1 / (N sqrt K) is a multiple of 2**-18: within 4e-3 of itself
    # for 257 tokens of 64, whence rtol; the rest is truncation
    "attn.scale": _Promise(
        _within(4.0, 4.0, 4.0),
        2e-3,
        1e-2,
        "ScaleAttn as Q (K^T V), MPCViT section 2.1",
    ),
    "attn.scale_plain": _Promise(
        _within(4.0, 4.0, 4.0), 2e-3, 1e-2, "ScaleAttn, MPCViT section 2.1"
    ),
    # reciprocal of a sum up to 300, within 1e-3, and truncated squares: 5e-4
    "attn.2quad": _Promise(_within(2.0, 2.0, 1.0), 2e-3, 0.0, f"2Quad, {_TABLE_2}"),
    # truncations of N scores: 4e-4 (square), 5e-4 (relu6); a score in 50 is beyond 6
    "attn.square": _Promise(_within(1.0, 1.0, 1.0), 2e-3, 0.0, f"Square, {_TABLE_2}"),
    "attn.relu6": _Promise(_within(3.0, 3.0, 0.5), 2e-3, 0.0, f"ReLU6, {_TABLE_2}"),
    # scores of deviation 3: six Newton steps come within 1e-3 of the root; for
    # scores of deviation 0.1 to 0.3 they would leave 0.6 too much (see the tests)
    "attn.sparsemax": _Promise(
        _within(3.0, 3.0, 1.0), 5e-3, 0.0, "sparsemax, Martins and Astudillo 2016"
    ),
    # rsqrt within 4e-4, twice, over a head's width: 5e-4
    "attn.xnorm": _Promise(
        _within(1.0, 0.5, 0.5), 2e-3, 0.0, "XNorm, UFO-ViT equation 4"
    ),
    # as softmax: 1e-3; E K has deviation 0.3 at 257 tokens
    "attn.linformer": _Promise(
        _within(2.0, 1.0, 1.0, 0.0625, 0.125),
        5e-3,
        0.0,
        "Linformer, Wang et al. 2020, equation 7",
    ),
    # 7e-4 an entry, over up to 3072 entries of W2: 1e-2
    "mlp.gelu_exact": _Promise(_MLP_DOMAIN, 2e-2, 0.0, "MLP of ViT, GeLU by erf"),
    # 1.4e-3 |x| an entry, 4e-3 where tanh bends: 3e-2 for 3072, 3e-3 for 64
    "mlp.gelu_tanh": _Promise(_MLP_DOMAIN, 5e-2, 0.0, "MLP of ViT, GeLU by tanh"),
    # truncations of the hidden entries: 4e-5
    "mlp.relu": _Promise(_MLP_DOMAIN, 2e-4, 0.0, "MLP with ReLU"),
    "mlp.quad": _Promise(_MLP_DOMAIN, 2e-4, 0.0, "Quad, MPCFormer section 3"),
    "mlp.identity": _Promise(
        _MLP_DOMAIN, 2e-4, 0.0, "GeLU linearised, not fused; MPCViT section 4.5"
    ),
    # one truncation: as matmul
    "mlp.fused": _Promise(
        _within(1.0, 0.25, 0.5), 2e-5, 1e-6, "W1 W2 fused; MPCViT section 4.5"
    ),
    "mlp.fused_relu": _Promise(
        _within(1.0, 0.25, 0.5), 2e-5, 1e-6, "W1 W2 fused, a ReLU behind; MPCViT 4.5"
    ),
    "patch_embedding": _Promise(
        ((0.0, 1.0), *_within(0.25, 0.5, 0.5, 0.5)),
        2e-5,
        1e-6,
        "patches, class token and positions of ViT, Dosovitskiy et al. 2020",
    ),
    # rsqrt within 4e-4, 1/D rounded to 2**-18 (half of 1e-3 for width 768)
    "layernorm": _Promise(
        ((-1.0, 1.0), _GAMMA, (-0.5, 0.5)),
        1e-3,
        2e-3,
        "LayerNorm, Ba et al. 2016 (arXiv 1607.06450), equation 4",
    ),
    # LayerNorm's error is a factor, the same for all of the token
    "head": _Promise(
        ((-1.0, 1.0), _GAMMA, *_within(0.5, 0.25, 0.5)),
        2e-3,
        2e-3,
        "LayerNorm and linear classifier on the class token, ViT",
    ),
}

_ENDS: Final[dict[str, Callable[..., Array64]]] = {
    "mlp.fused": functools.partial(fused64, "identity"),
    "mlp.fused_relu": functools.partial(fused64, "identity_relu"),
    "layernorm": layernorm64,
    "patch_embedding": patch_embedding64,
    "head": head64,
}


def _reference(name: str) -> Callable[..., Array64]:
    if name in _ENDS:
        return _ENDS[name]
    family, _, variant = name.partition(".")
    if family == "attn":
        return ATTENTIONS64[variant]
    return functools.partial(mlp64, variant)


def block_workload(name: str) -> Workload:
    """A block of `mpcprof.nn.catalogue` as a workload; not registered by this."""
    promise = _PROMISES[name]
    return Workload(
        name=name,
        kind="block",
        dim_names=BLOCKS[name].dim_names,
        shapes=functools.partial(block_shapes, name),
        function=functools.partial(BLOCKS[name].function, JaxAlgebra()),
        reference=_reference(name),
        domain=promise.domain,
        atol=promise.atol,
        rtol=promise.rtol,
        source=promise.source,
    )


for _name in BLOCKS:
    register(block_workload(_name))


def steps_name(steps: Sequence[Step]) -> str:
    """`steps.` and 8 hexadecimal digits that tell lists of sizes apart."""
    text = repr([(step.operation, step.size) for step in steps])
    return f"steps.{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def steps_workload(steps: Sequence[Step]) -> Workload:
    """The steps one after another, in the order given; not registered.

    The output is all results, flat, behind each other.

    Raises:
        UnknownNameError: If a step is no primitive.
    """
    primitives = [get_workload(step.operation) for step in steps]
    shapes = [_input_shapes(step, p) for step, p in zip(steps, primitives, strict=True)]
    counts = [len(of_step) for of_step in shapes]

    def function(*inputs: Array) -> Array:
        results = _apply([p.function for p in primitives], counts, inputs, jnp.stack)
        return jnp.concatenate([jnp.ravel(result) for result in results])

    def reference(*inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        results = _apply([p.reference for p in primitives], counts, inputs, np.stack)
        return np.concatenate([np.ravel(result) for result in results])

    return Workload(
        name=steps_name(steps),
        kind="steps",
        dim_names=(),
        shapes=lambda dims: tuple(shape for of_step in shapes for shape in of_step),
        function=function,
        reference=reference,
        domain=tuple(interval for p in primitives for interval in p.domain),
        dtypes=tuple(d for p in primitives for d in p.dtypes or _floats(p)),
        atol=max(p.atol for p in primitives),
        rtol=max(p.rtol for p in primitives),
        pieces=tuple(
            Piece(
                name=primitive.name,
                n_entries=_n_results(step),
                atol=primitive.atol,
                rtol=primitive.rtol,
            )
            for step, primitive in zip(steps, primitives, strict=True)
        ),
        source=f"{len(steps)} steps of a block, each with inputs of its own",
    )


def _n_results(step: Step) -> int:
    if step.operation in PRODUCT_OPERATIONS:
        n_products, p, _, r = step.size
        return n_products * p * r
    if step.operation in ROW_OPERATIONS:
        return step.size[0]
    return math.prod(step.size)


def _floats(primitive: Workload) -> tuple[Any, ...]:  # Any: a literal of its own
    return ("float32",) * len(primitive.domain)


def _input_shapes(step: Step, primitive: Workload) -> tuple[Shape, ...]:
    if step.operation in PRODUCT_OPERATIONS:
        n_products, p, q, r = step.size
        return ((n_products, p, q), (n_products, q, r))
    if step.operation in ROW_OPERATIONS:
        return (step.size,)
    return ((math.prod(step.size),),) * len(primitive.domain)


def _apply(
    functions: Sequence[Callable[..., Any]],  # Any: arrays of JAX, or of numpy
    counts: Sequence[int],
    inputs: Sequence[Any],
    stack: Callable[..., Any],
) -> Iterator[Any]:
    begin = 0
    for function, count in zip(functions, counts, strict=True):
        own = inputs[begin : begin + count]
        begin += count
        if own[0].ndim == 3:  # products, one after another, as SPU takes them
            yield stack([function(*pair) for pair in zip(*own, strict=True)])
        else:
            yield function(*own)
