"""Random programs over the algebra of `mpcprof.nn`, each from a seed.

A program is a list of operations on arrays made so far, values of a few units. What an
operation needs is made first: positive numbers for a reciprocal, negative ones for exp.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import torch

from mpcvit.models.algebra import OPS

LIMIT = 16.0  # of a value
MAX_ENTRIES = 200
SHAPE = (2, 3, 4)  # of inputs


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        operands: Places of its arrays among those made so far, inputs first.
        extra: Arguments that are no arrays.
    """

    name: str
    operands: tuple[int, ...]
    extra: tuple = ()

    def __call__(self, ops, arrays):
        own = [arrays[place] for place in self.operands]
        if self.name == "join":
            return ops.join(own, *self.extra)
        return getattr(ops, self.name)(*own, *self.extra)


@dataclass
class RandomProgram:
    """A function of `inputs` over any algebra."""

    inputs: list
    operations: list[Operation] = field(default_factory=list)

    def __call__(self, ops, *inputs):
        arrays = [*inputs]
        for operation in self.operations:
            arrays.append(operation(ops, arrays))
        return arrays[-1]


def draw_program(seed, n_operations=4):
    """Return the program of a seed; one operation, drawn often, is its theme."""
    rng = np.random.default_rng([16, seed])
    grid = np.trunc(rng.uniform(-3, 3, (2, *SHAPE)) * 2**18) / 2**18
    program = RandomProgram([*grid.astype(np.float32)])
    arrays = [torch.from_numpy(x).double() for x in grid]
    theme = [*DRAWS][seed % len(DRAWS)]
    while len(program.operations) < n_operations:
        name = theme if rng.random() < 0.3 else str(rng.choice([*DRAWS]))
        operations = DRAWS[name](rng, arrays)
        results = _run(operations, arrays)
        if results and not _merge([*program.operations, *operations]):
            program.operations += operations
            arrays += results
    return program


def _run(operations, arrays):
    """Return the results, or none if one of them does not fit."""
    results = []
    for operation in operations:
        try:
            results.append(operation(OPS, [*arrays, *results]))
        except (RuntimeError, IndexError):
            return []
        # the compiler drops what is 0 for every input
        if not (0 < results[-1].abs().max() <= LIMIT) or (
            results[-1].numel() > MAX_ENTRIES
        ):
            return []
    return results


def _merge(operations):
    """Tell whether the compiler makes one of two, with a public number of its own."""
    names = [one.name for one in operations if one.name not in MOVES]
    return any(pair in MERGED for pair in itertools.pairwise(names))


def _behind(*chain):
    """Draw operations one behind the other, each (name, draw of its extra)."""

    def draw(rng, arrays):
        return [
            Operation(name, (len(arrays) - 1 + place,), extra(rng, arrays[-1]))
            for place, (name, extra) in enumerate(chain)
        ]

    return draw


def _unary(name, extra=lambda rng, x: ()):
    return _behind((name, extra))


def _fixed(*extra):
    return lambda rng, x: extra


def _binary(name):
    def draw(rng, arrays):
        return [Operation(name, (len(arrays) - 1, int(rng.integers(len(arrays)))))]

    return draw


def _divide(rng, arrays):
    newest = len(arrays) - 1
    *divisor, _ = DRAWS["reciprocal"](rng, arrays)
    return [*divisor, Operation("divide", (newest, newest + len(divisor)))]


def _matmul(rng, arrays):
    newest = len(arrays) - 1
    pair = (newest, newest + 1) if rng.random() < 0.5 else (newest + 1, newest)
    return [Operation("transpose", (newest,)), Operation("matmul", pair)]


def _row_sum(rng, arrays):
    newest = len(arrays) - 1
    return [Operation("row_sum", (newest,))] if arrays[-1].shape[-1] > 1 else []


def _join(rng, arrays):
    newest = len(arrays) - 1
    return [Operation("join", (newest, newest), (int(rng.integers(arrays[-1].ndim)),))]


def _number(low, high):
    return lambda rng, x: (float(np.float32(rng.uniform(low, high))),)


def _matrix(rng, x):
    return (np.float32(rng.uniform(-1, 1, (x.shape[-1], 2))).tolist(),)


def _slice(rng, x):
    axis = int(rng.integers(x.ndim))
    return axis, 0, int(rng.integers(1, x.shape[axis] + 1))


def _flat(rng, x):
    return ((*x.shape[:-2], x.shape[-2] * x.shape[-1], 1),)


POSITIVE = (("square", _fixed()), ("shift", _fixed(0.5)))
NEGATIVE = (("square", _fixed()), ("scale", _fixed(-0.7)))
DRAWS = {
    "matmul": _matmul,
    "mul": _binary("mul"),
    "add": _binary("add"),
    "subtract": _binary("subtract"),
    "gate": _binary("gate"),
    "divide": _divide,
    "square": _unary("square"),
    "scale": _unary("scale", _number(-2, 2)),
    "shift": _unary("shift", _number(0, 4)),
    "exp": _behind(*NEGATIVE, ("exp", _fixed())),
    "reciprocal": _behind(*POSITIVE, ("reciprocal", _fixed())),
    "rsqrt": _behind(*POSITIVE, ("rsqrt", _fixed())),
    "relu": _unary("relu"),
    "gelu_exact": _unary("gelu_exact"),
    "gelu_tanh": _unary("gelu_tanh"),
    "row_max": _unary("row_max"),
    "row_sum": _row_sum,
    "transpose": _unary("transpose"),
    "swap": _unary("swap"),
    "combine": _unary("combine", _matrix),
    "cut": _unary("cut", _slice),
    "reshape": _unary("reshape", _flat),
    "join": _join,
}
MOVES = ("transpose", "swap", "reshape", "cut", "join")
MERGED = (
    ("scale", "scale"),
    ("scale", "gelu_tanh"),
    ("scale", "gelu_exact"),
    ("shift", "shift"),
    ("exp", "square"),
    ("exp", "mul"),
    ("exp", "divide"),
)
