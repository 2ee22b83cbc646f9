"""An ONNX file as a graph of static shapes, without the values of its weights."""

import importlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import UsageError, did_you_mean
from mpcprof.nn.algebra import Shape

_ROUNDS: Final = 20  # of inferring shapes, and computing what follows from them
_RANDOM: Final = ("RandomNormal", "RandomUniform")
_FLOATS: Final = (1, 10, 11, 16)  # float, half, double, bfloat16 of TensorProto
Values = NDArray[Any]  # Any: of any type


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxNode:
    """One operation of a graph.

    Attributes:
        inputs: Names of tensors; "" for one that is left out.
        attributes: Values by name.
    """

    operation: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)  # Any: as ONNX has it

    @property
    def has_body(self) -> bool:
        """Whether it runs a graph of its own, which may read any tensor."""
        return any(hasattr(value, "node") for value in self.attributes.values())

    def get(self, name: str, usual: Any = None) -> Any:  # Any: as ONNX has it
        """Return an attribute, or the usual value."""
        return self.attributes.get(name, usual)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnnxGraph:
    """A network, each operation behind those that it needs.

    Attributes:
        shapes: Shape of every tensor.
        weights: Names of tensors that the owner of the weights knows.
        constants: Values that everybody knows: numbers, shapes, indices.
        opset: Version of ONNX's operations.
    """

    nodes: tuple[OnnxNode, ...]
    inputs: tuple[str, ...]
    shapes: Mapping[str, Shape]
    weights: frozenset[str]
    constants: Mapping[str, Values]
    opset: int

    @property
    def n_shared(self) -> int:
        """Entries of all that parties hold in shares: inputs and weights."""
        return sum(math.prod(self.shapes[n]) for n in {*self.inputs} | self.weights)


def read_onnx(
    path: Path, n_batch: int = 1, lengths: Mapping[str, int] | None = None
) -> OnnxGraph:
    """Return the graph in a file; weights in files beside it are not read.

    A float of one entry is a number that everybody knows, a larger tensor of floats a
    weight; what follows from such numbers and from shapes alone is computed.

    Args:
        n_batch: Length of the first axis of inputs that do not fix it.
        lengths: Lengths of other axes by the names that the file gives them.

    Raises:
        UsageError: If the package `onnx` is missing, the file is none, or a shape
            depends on more than these lengths.
    """
    onnx = _import_onnx()
    what = f"cannot read {str(path)!r}"
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise UsageError(f"{what}: {error.strerror}; expected an ONNX file") from None
    except Exception as error:  # protobuf raises errors of its own
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{what}: {reason}; expected an ONNX file") from None
    if not model.graph.node:
        raise UsageError(f"{what}: it holds no operation; expected an ONNX file")
    try:
        return _Reader(onnx, model, n_batch, lengths or {}).read()
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from None


def _import_onnx() -> Any:  # Any: an extra, which may be missing
    try:
        for part in ("shape_inference", "reference", "numpy_helper", "helper"):
            importlib.import_module(f"onnx.{part}")
        return importlib.import_module("onnx")
    except ImportError:
        raise UsageError(
            "reading ONNX needs the package onnx, which is not installed: pip install "
            "'mpcprof[onnx]'"
        ) from None


class _Reader:
    """What is known so far of a model: values, shapes, and the operations left."""

    def __init__(
        self,
        onnx: Any,  # Any: an extra, which may be missing
        model: Any,  # Any: ModelProto
        n_batch: int,
        lengths: Mapping[str, int],
    ) -> None:
        self.onnx, self.model, self.graph = onnx, model, model.graph
        self.constants: dict[str, Values] = {}
        self.weights: dict[str, Any] = {}  # Any: ValueInfoProto
        for one in self.graph.initializer:
            self._keep(one.name, one)
        known = {*self.weights, *self.constants}
        self.inputs = [one for one in self.graph.input if one.name not in known]
        self.outputs = {one.name for one in self.graph.output}
        _check_names(self.inputs, lengths)
        for one in self.inputs:
            _fix_lengths(one, n_batch, lengths)

    def read(self) -> OnnxGraph:
        """Infer shapes and compute constants in turn, until nothing new follows."""
        nodes = [*self.graph.node]
        for _ in range(_ROUNDS):
            shapes = self._infer(nodes)
            nodes, is_new = self._compute(nodes, shapes)
            if not is_new:
                break
        return OnnxGraph(
            nodes=tuple(self._node(node, number) for number, node in enumerate(nodes)),
            inputs=tuple(one.name for one in self.inputs),
            shapes=shapes,
            weights=frozenset(self.weights),
            constants=self.constants,
            opset=max(
                (one.version for one in self.model.opset_import if not one.domain),
                default=0,
            ),
        )

    def _keep(self, name: str, tensor: Any) -> None:  # Any: TensorProto
        """Take a tensor of the file for a weight or, by type or size, a constant."""
        if tensor.data_type in _FLOATS and math.prod(tensor.dims) > 1:
            make = self.onnx.helper.make_tensor_value_info
            self.weights[name] = make(name, tensor.data_type, [*tensor.dims])
        else:
            self.constants[name] = self.onnx.numpy_helper.to_array(tensor)

    def _infer(self, nodes: list[Any]) -> dict[str, Shape]:
        """Return the shape of each tensor whose shape is known."""
        onnx = self.onnx
        graph = onnx.helper.make_graph(
            nodes,
            "network",
            [*self.inputs, *self.weights.values()],
            [onnx.ValueInfoProto(name=name) for name in self.outputs],
            [onnx.numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        made = onnx.helper.make_model(graph, opset_imports=self.model.opset_import)
        made.ir_version = max(self.model.ir_version, 4)
        made.functions.extend(self.model.functions)
        try:
            found = onnx.shape_inference.infer_shapes(made, data_prop=True).graph
        except Exception as error:  # of its own kind, for a graph that is damaged
            reason = str(error).partition("\n")[0]
            raise UsageError(f"its shapes do not fit each other: {reason}") from None
        shapes = {name: value.shape for name, value in self.constants.items()}
        for one in (*found.input, *found.value_info, *found.output):
            tensor = one.type.tensor_type
            lengths = [axis.dim_value for axis in tensor.shape.dim]
            if tensor.HasField("shape") and all(lengths):
                shapes[one.name] = tuple(lengths)
        return shapes

    def _compute(
        self, nodes: list[Any], shapes: Mapping[str, Shape]
    ) -> tuple[list[Any], bool]:
        """Compute what follows from constants and shapes; return what is left."""
        known, ready, left = {*self.constants, ""}, [], []
        for node in nodes:
            tensors = [one.t for one in node.attribute if one.name == "value"]
            has_body = any(one.HasField("g") for one in node.attribute)
            if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
                self._keep_shape(node, shapes[node.input[0]])
                known.update(node.output)
            elif node.op_type == "Constant" and tensors:
                self._keep(node.output[0], tensors[0])
                known.update({*node.output} & {*self.constants})
            elif has_body or node.op_type in _RANDOM:
                left.append(node)
            elif {*node.input} <= known:
                ready.append(node)
                known.update(node.output)
            else:
                left.append(node)
        if ready:
            self._evaluate(ready)
        return left, len(left) < len(nodes)

    def _keep_shape(self, node: Any, shape: Shape) -> None:  # Any: NodeProto
        given = {one.name: one.i for one in node.attribute}
        kept = shape[given.get("start", 0) : given.get("end", len(shape))]
        value = math.prod(shape) if node.op_type == "Size" else kept
        self.constants[node.output[0]] = np.asarray(value, np.int64)

    def _evaluate(self, nodes: list[Any]) -> None:
        onnx = self.onnx
        names = [name for node in nodes for name in node.output if name]
        needed = {name for node in nodes for name in node.input} & {*self.constants}
        graph = onnx.helper.make_graph(
            nodes,
            "constants",
            [],
            [onnx.ValueInfoProto(name=name) for name in names],
            [onnx.numpy_helper.from_array(self.constants[n], n) for n in needed],
        )
        made = onnx.helper.make_model(graph, opset_imports=self.model.opset_import)
        try:
            values = onnx.reference.ReferenceEvaluator(made).run(names, {})
        except Exception as error:  # whatever an operation comes across
            reason = str(error).partition("\n")[0]
            raise UsageError(f"a constant cannot be computed: {reason}") from None
        for name, value in zip(names, values, strict=True):
            self.constants[name] = np.asarray(value)

    def _node(self, node: Any, number: int) -> OnnxNode:  # Any: NodeProto
        read = self.onnx.helper.get_attribute_value
        is_standard = node.domain in ("", "ai.onnx")
        prefix = "" if is_standard else f"{node.domain}."
        return OnnxNode(
            operation=f"{prefix}{node.op_type}",
            name=node.name or f"{node.op_type}_{number}",
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes={one.name: read(one) for one in node.attribute},
        )


def _open_axes(one: Any) -> Iterator[tuple[str, int, Any]]:  # Any: ValueInfoProto
    """Yield name, place and the axis itself of each axis without a length."""
    for place, axis in enumerate(one.type.tensor_type.shape.dim):
        if not axis.dim_value:
            yield axis.dim_param or f"axis {place}", place, axis


def _check_names(inputs: list[Any], lengths: Mapping[str, int]) -> None:
    """Refuse a length of an axis that no input leaves open."""  # Any: ValueInfoProto
    known = [*dict.fromkeys(name for one in inputs for name, *_ in _open_axes(one))]
    for name in lengths:
        if name not in known:
            hint = did_you_mean(name, known) if known else "it leaves none open"
            raise UsageError(f"--dim {name}: no input has such an axis; {hint}")


def _fix_lengths(one: Any, n_batch: int, lengths: Mapping[str, int]) -> None:
    """Give every axis of an input a length."""  # Any: ValueInfoProto
    shape = one.type.tensor_type.shape.dim
    first = shape[0].dim_value if shape else 0
    if first and n_batch not in (1, first):
        raise UsageError(
            f"input {one.name} is for a batch of {first}: asked for {n_batch}; export "
            "it with a batch of that length, or of any"
        )
    for name, place, axis in [*_open_axes(one)]:
        length = lengths.get(name, 0 if place else n_batch)
        if not length:
            raise UsageError(
                f"input {one.name}: {name} has no length; give --dim {name}=N"
            )
        if place == 0 and n_batch not in (1, length):
            raise UsageError(
                f"input {one.name}: a batch of {n_batch}, and --dim {name}={length}; "
                "expected one of them"
            )
        axis.dim_value = length


def consumers_of(graph: OnnxGraph) -> dict[str, list[OnnxNode]]:
    """Return the operations that read each tensor, by its name."""
    found: dict[str, list[OnnxNode]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            found.setdefault(name, []).append(node)
    return found
