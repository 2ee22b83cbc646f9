"""Operations of a graph that are one function: as one they are measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mpcprof.graph.onnx_file import OnnxGraph, OnnxNode, consumers_of

_PRODUCTS = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fusions:
    """What is priced otherwise than operation by operation.

    Attributes:
        gelus: Names of the Erf of each GeLU.
        parts: Names of operations that a GeLU has taken over.
        roots: Tensors that are square roots, and of which only inverses are taken.
        folded: Names of BatchNorms that the owner folds into the weights in front.
    """

    gelus: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset()
    folded: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Search:
    graph: OnnxGraph
    producers: Mapping[str, OnnxNode] = field(init=False)
    consumers: Mapping[str, list[OnnxNode]] = field(init=False)

    def __post_init__(self) -> None:
        self.producers = {
            name: node for node in self.graph.nodes for name in node.outputs
        }
        self.consumers = consumers_of(self.graph)

    def number(self, name: str) -> float:
        """Return the value of a constant of one entry, else not a number."""
        value = self.graph.constants.get(name)
        return (
            float(value.item()) if value is not None and value.size == 1 else math.nan
        )

    def is_near(self, name: str, value: float) -> bool:
        """Return whether a tensor is that number, to the digits of 16-bit floats."""
        return math.isclose(self.number(name), value, rel_tol=1e-3)

    def only_consumer(self, node: OnnxNode) -> OnnxNode | None:
        """Return the one operation that reads what another one makes."""
        readers = self.consumers.get(node.outputs[0], [])
        return readers[0] if len(readers) == 1 else None

    def other(self, node: OnnxNode, name: str) -> str:
        """Return the second argument of an operation beside `name`."""
        return next((one for one in node.inputs if one != name), name)

    def gelu(self, erf: OnnxNode) -> list[OnnxNode] | None:
        """Return what stands around an Erf in x (1 + erf(x / sqrt 2)) / 2."""
        inside = self.producers.get(erf.inputs[0])
        added = self.only_consumer(erf)
        if inside is None or added is None or added.operation != "Add":
            return None
        x = self._scaled_by_root(inside)
        if not x or not self.is_near(self.other(added, erf.outputs[0]), 1):
            return None
        found, last, is_halved, has_x = [inside, added], added, False, False
        while not (is_halved and has_x):
            node = self.only_consumer(last)
            if node is None or node.operation != "Mul":
                return None
            factor = self.other(node, last.outputs[0])
            half = self._half_of(factor, x)
            is_halved |= self.is_near(factor, 0.5) or half is not None
            is_x = factor == x or half is not None
            if (has_x and is_x) or not (is_x or self.is_near(factor, 0.5)):
                return None
            has_x |= is_x
            found += [node, *([half] if half else [])]
            last = node
        return found

    def _scaled_by_root(self, node: OnnxNode) -> str:
        """Return x where the operation makes x / sqrt 2, else ""."""
        x, factor = node.inputs[0], self.other(node, node.inputs[0])
        if node.operation == "Div" and self.is_near(factor, math.sqrt(2)):
            return x
        for own, other in ((x, factor), (factor, x)):
            if node.operation == "Mul" and self.is_near(other, math.sqrt(0.5)):
                return own
        return ""

    def _half_of(self, name: str, x: str) -> OnnxNode | None:
        """Return the operation that makes x / 2."""
        node = self.producers.get(name)
        if node is None or node.operation not in ("Mul", "Div") or x not in node.inputs:
            return None
        factor = 0.5 if node.operation == "Mul" else 2.0
        return node if self.is_near(self.other(node, x), factor) else None

    def is_inverted(self, root: OnnxNode) -> bool:
        """Return whether only inverses are taken of what a Sqrt makes."""
        name = root.outputs[0]
        readers = self.consumers.get(name, [])
        return bool(readers) and all(
            one.operation == "Reciprocal"
            or (one.operation == "Div" and one.inputs[1] == name != one.inputs[0])
            for one in readers
        )

    def is_foldable(self, norm: OnnxNode) -> bool:
        """Return whether a product of weights alone stands in front of a BatchNorm."""
        front = self.producers.get(norm.inputs[0])
        return (
            front is not None
            and front.operation in _PRODUCTS
            and front.inputs[1] in self.graph.weights
            and self.only_consumer(front) is norm
        )


def find_fusions(graph: OnnxGraph) -> Fusions:
    """Return what of the graph is priced as one function."""
    search, gelus, parts = _Search(graph), [], []
    for node in graph.nodes:
        if node.operation == "Erf" and (around := search.gelu(node)):
            gelus.append(node.name)
            parts += [one.name for one in around]
    return Fusions(
        gelus=frozenset(gelus),
        parts=frozenset(parts),
        roots=frozenset(
            node.outputs[0]
            for node in graph.nodes
            if node.operation == "Sqrt" and search.is_inverted(node)
        ),
        folded=frozenset(
            node.name
            for node in graph.nodes
            if node.operation == "BatchNormalization" and search.is_foldable(node)
        ),
    )
