"""What each operation of ONNX costs: the steps that it is, by kind of its arguments.

An argument is public (everybody knows it), the owner's (a weight), or secret. What
needs no secret argument is computed in the clear by who knows it, and costs nothing.
A new operation is one entry of `OPERATIONS`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np

from mpcprof.graph.fusion import Fusions
from mpcprof.graph.onnx_file import OnnxGraph, OnnxNode, Values
from mpcprof.nn.algebra import Shape
from mpcprof.nn.norm import layernorm
from mpcprof.nn.rows import softmax_rows
from mpcprof.nn.steps import LOCAL, Bare, CountingAlgebra, Step

_LARGEST_POWER: Final = 16
_ONE_AXIS: Final = 13  # opset from which on a softmax is of one axis
_WHOLE_TYPES: Final = (2, 3, 4, 5, 6, 7, 12, 13)  # integers of TensorProto


class UnpricedError(Exception):
    """An operation, or this form of it, has no price; the message says why."""


class OnnxCall:
    """One operation with its arguments, and the steps that it takes.

    Attributes:
        node: The operation.
        steps: Steps so far.
    """

    def __init__(
        self,
        graph: OnnxGraph,
        fusions: Fusions,
        node: OnnxNode,
        secrets: set[str],
        part: str,
    ) -> None:
        self.node, self.fusions = node, fusions
        self._graph, self._secrets, self._part = graph, secrets, part
        self.steps: list[Step] = []

    def shape(self, index: int) -> Shape:
        """Return the shape of an argument."""
        return self.shape_of(self.node.inputs[index])

    @property
    def opset(self) -> int:
        """Version of ONNX's operations."""
        return self._graph.opset

    @property
    def out(self) -> Shape:
        """Shape of the first result."""
        return self.shape_of(self.node.outputs[0])

    def shape_of(self, name: str) -> Shape:
        """Return the shape of a tensor."""
        if name not in self._graph.shapes:
            raise UnpricedError(f"the shape of {name} depends on values")
        return self._graph.shapes[name]

    @property
    def n(self) -> int:
        """Number of arguments that are given."""
        return len(self.node.inputs)

    def is_secret(self, index: int) -> bool:
        """Return whether an argument is secret."""
        return self.n > index and self.node.inputs[index] in self._secrets

    def value(self, index: int) -> Values | None:
        """Return an argument that everybody knows; None for another, or for none."""
        if self.n <= index:
            return None
        return self._graph.constants.get(self.node.inputs[index])

    def add(self, operation: str, *sizes: int) -> None:
        """Take a step."""
        self.steps.append(Step(operation, sizes, self._part))

    def each(self, operation: str, shape: Shape | None = None) -> None:
        """Take a step on every entry, of the result unless a shape is given."""
        self.add(operation, math.prod(self.out if shape is None else shape))

    def count(self, function: Callable[[CountingAlgebra], object]) -> None:
        """Take the steps of a function of `mpcprof.nn`."""
        ops = CountingAlgebra()
        with ops.part(self._part):
            function(ops)
        self.steps += ops.steps

    def scale(self, factor: Values, shape: Shape | None = None) -> None:
        """Multiply by numbers that everybody knows; by whole ones it is local."""
        if not _is_number(factor, 1):
            is_whole = np.array_equal(factor, np.round(factor))
            self.each(LOCAL if is_whole else "truncation", shape)


Price: TypeAlias = Callable[[OnnxCall], None]


def _each(*operations: str) -> Price:
    """Return the price of steps on every entry of the result, one after another."""

    def price(call: OnnxCall) -> None:
        for operation in operations:
            call.each(operation)

    return price


def _free(call: OnnxCall) -> None:
    """Take no step: the same entries in another shape."""


def _sum(call: OnnxCall) -> None:
    for _ in range(call.n - 1):
        call.each(LOCAL)


def _slice(call: OnnxCall) -> None:
    if call.out != call.shape(0):  # as an export cuts all heads from all heads
        call.each(LOCAL)


def _split(call: OnnxCall) -> None:
    for name in call.node.outputs:
        call.each(LOCAL, call.shape_of(name))


def _gather(call: OnnxCall) -> None:
    if call.is_secret(1):
        raise UnpricedError("indices are secret: words are looked up by their owner")
    call.each(LOCAL)


def _cast(call: OnnxCall) -> None:
    if call.node.get("to") in _WHOLE_TYPES:
        raise UnpricedError("it rounds to whole numbers")


def _where(call: OnnxCall) -> None:
    call.each("select" if call.is_secret(0) else LOCAL)


def _mul(call: OnnxCall) -> None:
    for index in (0, 1):
        if (factor := call.value(index)) is not None:
            return call.scale(factor)
    return call.each("mul")


def _div(call: OnnxCall) -> None:
    divisor, is_one = call.value(1), _is_number(call.value(0), 1)
    if divisor is not None:
        return call.scale(1 / divisor)
    if call.node.inputs[1] in call.fusions.roots:  # the root is an inverse already
        return None if is_one else call.each("mul")
    if not call.is_secret(1):  # the owner inverts the weight
        return call.each("mul")
    call.each("reciprocal")
    if not is_one:
        call.each("mul")
    return None


def _is_number(value: Values | None, number: float) -> bool:
    return value is not None and bool(np.all(value == number))


def _reciprocal(call: OnnxCall) -> None:
    if call.node.inputs[0] not in call.fusions.roots:
        call.each("reciprocal")


def _sqrt(call: OnnxCall) -> None:
    """Take x / sqrt(x), or the inverse root alone where only that is needed."""
    call.each("rsqrt")
    if call.node.outputs[0] not in call.fusions.roots:
        call.each("mul")


def _pow(call: OnnxCall) -> None:
    exponent = call.value(1)
    if exponent is None or exponent.size != 1:
        raise UnpricedError("its exponent is no public number")
    power = float(exponent.item())
    if power in (0.5, -0.5):
        call.each("rsqrt")
        if power > 0:
            call.each("mul")
    elif power == round(power) and 1 <= abs(power) <= _LARGEST_POWER:
        if power < 0:
            call.each("reciprocal")
        bits = f"{abs(round(power)):b}"[1:]  # squares, and a product for each 1
        for bit in bits:
            call.each("square")
            if bit == "1":
                call.each("mul")
    else:
        raise UnpricedError(f"its exponent is {power:g}")


def _matmul(call: OnnxCall) -> None:
    x, y = call.shape(0), call.shape(1)
    x = (1, *x) if len(x) == 1 else x
    y = (*y, 1) if len(y) == 1 else y
    is_one = len(y) == 2  # all rows of x by one matrix
    n_products = 1 if is_one else math.prod(np.broadcast_shapes(x[:-2], y[:-2]))
    n_rows = math.prod(x[:-1]) if is_one else x[-2]
    _product(call, n_products, n_rows, x[-1], y[-1])


def _gemm(call: OnnxCall) -> None:
    x, y = call.shape(0), call.shape(1)
    p, q = reversed(x) if call.node.get("transA", 0) else x
    r = y[0] if call.node.get("transB", 0) else y[1]
    _product(call, 1, p, q, r)
    _add_bias(call)


def _product(call: OnnxCall, n_products: int, p: int, q: int, r: int) -> None:
    """Take products of secrets; with a public matrix only the truncation is paid."""
    if call.value(0) is not None or call.value(1) is not None:
        return call.each("truncation")
    return call.add("matmul", n_products, p, q, r)


def _conv(call: OnnxCall) -> None:
    """Take one product of all windows; SPU runs a depthwise convolution as a full one.

    Groups of several channels are convolved one after another.
    """
    n_channels, (n_made, _, *kernel) = call.shape(0)[1], call.shape(1)
    n_batch, _, *places = call.out
    n_groups = int(call.node.get("group", 1))
    if n_groups == n_channels:
        n_groups = 1
    window = math.prod(kernel) * n_channels // n_groups
    n_rows = n_batch * math.prod(places)
    if [*kernel] != [*call.node.get("strides", [1] * len(kernel))]:  # windows overlap
        for _ in range(math.prod(kernel)):
            call.each(LOCAL, (n_rows, n_channels))
        call.each(LOCAL, (n_rows, math.prod(kernel), n_channels))
    _product(call, n_groups, n_rows, window, n_made // n_groups)
    _add_bias(call)


def _add_bias(call: OnnxCall) -> None:
    if call.n > 2 and call.node.inputs[2]:
        call.each(LOCAL)


def _axes(call: OnnxCall, shape: Shape) -> tuple[int, ...]:
    given = call.value(1)
    axes = call.node.get("axes", ()) if given is None else given.ravel().tolist()
    is_all = not len(axes) and not call.node.get("noop_with_empty_axes", 0)
    return tuple(range(len(shape))) if is_all else tuple(a % len(shape) for a in axes)


def _reduce(*before: str, over: str = "sum", mean: bool = False) -> Price:
    """Return the price of a reduction over some axes."""

    def price(call: OnnxCall) -> None:
        shape = call.shape(0)
        length = math.prod(shape[axis] for axis in _axes(call, shape))
        for operation in before:
            call.each(operation, shape)
        _rows(call, over, math.prod(shape) // length, length, mean=mean)

    return price


def _rows(call: OnnxCall, over: str, n_rows: int, length: int, *, mean: bool) -> None:
    if length > 1:
        call.add(over, n_rows, length)
    if mean and length > 1:
        call.scale(np.asarray(1 / length), (n_rows,))


def _pool(over: str, *, mean: bool = False, is_global: bool = False) -> Price:
    def price(call: OnnxCall) -> None:
        window = call.shape(0)[2:] if is_global else call.node.get("kernel_shape")
        _rows(call, over, math.prod(call.out), math.prod(window), mean=mean)

    return price


def _softmax(call: OnnxCall) -> None:
    """Take the softmax of an axis; before opset 13, of it and all behind it."""
    shape, is_old = call.shape(0), call.opset < _ONE_AXIS
    axis = call.node.get("axis", 1 if is_old else -1) % len(shape)
    length = math.prod(shape[axis:]) if is_old else shape[axis]
    rows = Bare((math.prod(shape) // length, length))
    call.count(lambda ops: softmax_rows(ops, rows))


def _layernorm(call: OnnxCall) -> None:
    shape = call.shape(0)
    axis = call.node.get("axis", -1) % len(shape)
    length = math.prod(shape[axis:])
    rows, own = Bare((math.prod(shape[:axis]), length)), Bare((length,))
    call.count(lambda ops: layernorm(ops, rows, own, own))


def _batchnorm(call: OnnxCall) -> None:
    if call.node.name not in call.fusions.folded:
        call.each("mul")
    call.each(LOCAL)


def _gelu(call: OnnxCall) -> None:
    is_tanh = call.node.get("approximate", b"none") in (b"tanh", "tanh")
    call.each("gelu_tanh" if is_tanh else "gelu_exact")


def _clip(call: OnnxCall) -> None:
    """Take a ReLU for each end: the larger of x and a is a + relu(x - a)."""
    ends = [call.value(index) for index in (1, 2)]
    ends += [call.node.attributes.get(name) for name in ("min", "max")]
    for _ in [end for end in ends if end is not None]:
        call.each("relu")


def _extremum(call: OnnxCall) -> None:
    for _ in range(call.n - 1):
        call.each("relu")


_SAME_ENTRIES: Final = (
    *("Identity", "Dropout", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    *("Transpose", "Expand", "DepthToSpace", "SpaceToDepth"),
)
_COPIES: Final = ("Add", "Sub", "Neg", "Concat", "Pad", "Tile", "Trilu")
OPERATIONS: Final[dict[str, Price]] = {
    **dict.fromkeys(_SAME_ENTRIES, _free),
    **dict.fromkeys(_COPIES, _each(LOCAL)),
    "Sum": _sum,
    "Slice": _slice,
    "Split": _split,
    **dict.fromkeys(("Gather", "GatherElements", "GatherND"), _gather),
    "Cast": _cast,
    "Where": _where,
    "Mul": _mul,
    "Div": _div,
    "Reciprocal": _reciprocal,
    "Sqrt": _sqrt,
    "Pow": _pow,
    "Exp": _each("exp"),
    "Abs": _each("relu"),  # 2 relu(x) - x
    "Relu": _each("relu"),
    "LeakyRelu": _each("relu", "truncation"),
    "PRelu": _each("relu", "mul"),
    "Sigmoid": _each("sigmoid"),
    "Tanh": _each("tanh"),
    "Swish": _each("sigmoid", "mul"),
    "HardSigmoid": _each("truncation", "relu", "relu"),
    "HardSwish": _each("truncation", "relu", "relu", "mul"),
    "Gelu": _gelu,
    "Erf": _each("gelu_exact"),  # which has an erf in it
    "Clip": _clip,
    **dict.fromkeys(("Max", "Min"), _extremum),
    **dict.fromkeys(
        ("Less", "LessOrEqual", "Greater", "GreaterOrEqual"), _each("less")
    ),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ReduceSum": _reduce(),
    "ReduceMean": _reduce(mean=True),
    "ReduceSumSquare": _reduce("square"),
    **dict.fromkeys(("ReduceMax", "ReduceMin"), _reduce(over="max")),
    "GlobalAveragePool": _pool("sum", mean=True, is_global=True),
    "AveragePool": _pool("sum", mean=True),
    "GlobalMaxPool": _pool("max", is_global=True),
    "MaxPool": _pool("max"),
    "Softmax": _softmax,
    "LayerNormalization": _layernorm,
    "BatchNormalization": _batchnorm,
}


def price_call(call: OnnxCall) -> Sequence[Step]:
    """Return the steps of an operation with a secret argument.

    Raises:
        UnpricedError: If it, or this form of it, has no price.
    """
    if call.node.name in call.fusions.parts:
        return ()
    if call.node.operation not in OPERATIONS:
        raise UnpricedError("no price is known")
    OPERATIONS[call.node.operation](call)
    return call.steps
