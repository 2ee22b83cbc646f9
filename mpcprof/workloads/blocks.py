"""Every block of `mpcprof.nn` as a workload, and lists of steps of blocks."""

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mpcprof.nn.algebra import Shape
from mpcprof.nn.catalogue import BLOCKS, block_shapes
from mpcprof.nn.steps import PRODUCT_OPERATIONS, ROW_OPERATIONS, Step
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.reference import block64
from mpcprof.workloads.registry import Piece, Workload, get_workload, register
from mpcprof.workloads.tolerance import USUAL_STEPS, Tolerance

for _name, _block in BLOCKS.items():
    register(
        Workload(
            name=_name,
            kind="block",
            dim_names=_block.dim_names,
            shapes=functools.partial(block_shapes, _name),
            function=functools.partial(_block.function, JaxAlgebra()),
            reference=block64(_name),
            domain=_block.domain,
            tolerance=Tolerance(atol=_block.atol, rtol=_block.rtol, steps=USUAL_STEPS),
            source=_block.source,
        )
    )


def steps_workload(steps: Sequence[Step]) -> Workload:
    """Return a workload that takes steps one after another, each on its own inputs.

    Its output is the flat results of all steps, joined. Its name is `steps.` and 8
    hexadecimal digits that tell lists of sizes apart. It is not registered.

    Raises:
        UnknownNameError: If a step is no primitive.
    """
    text = repr([(step.operation, step.size) for step in steps])
    primitives = [get_workload(step.operation) for step in steps]
    shapes = [_input_shapes(step, p) for step, p in zip(steps, primitives, strict=True)]
    counts = [len(of_step) for of_step in shapes]
    return Workload(
        name=f"steps.{hashlib.sha256(text.encode()).hexdigest()[:8]}",
        kind="steps",
        dim_names=(),
        shapes=lambda dims: tuple(shape for of_step in shapes for shape in of_step),
        function=functools.partial(_run, jnp, [p.function for p in primitives], counts),
        reference=functools.partial(
            _run, np, [p.reference for p in primitives], counts
        ),
        domain=tuple(interval for p in primitives for interval in p.domain),
        dtypes=tuple(d for p in primitives for d in p.dtypes or _floats(p)),
        tolerance=Tolerance(),
        pieces=tuple(
            Piece(
                name=primitive.name,
                n_entries=_n_results(step),
                tolerance=primitive.tolerance,
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


def _run(
    xp: Any,  # Any: the module jax.numpy or numpy, as its arrays below
    functions: Sequence[Callable[..., Any]],
    counts: Sequence[int],
    *inputs: Any,
) -> Any:
    """Give each function its inputs; join the flat results."""
    results = []
    given = iter(inputs)
    for function, count in zip(functions, counts, strict=True):
        own = [*itertools.islice(given, count)]
        if own[0].ndim == 3:  # products, one after another, as SPU takes them
            result = xp.stack([function(*pair) for pair in zip(*own, strict=True)])
        else:
            result = function(*own)
        results.append(xp.ravel(result))
    return xp.concatenate(results)
