"""The steps of a graph, operation by operation, and what of it has no price."""

from collections.abc import Sequence
from dataclasses import dataclass

from mpcprof.costmodel.model import CostModel
from mpcprof.graph.fusion import find_fusions
from mpcprof.graph.onnx_file import OnnxGraph, OnnxNode
from mpcprof.graph.operations import OnnxCall, UnpricedError, price_call
from mpcprof.nn.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedNode:
    """One operation with the steps that it takes; none where no secret is touched."""

    node: OnnxNode
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTrace:
    """A network by operation.

    Attributes:
        unpriced: Each kind of operation without a price: how many, one of them, why.
        n_gelus: GeLUs that were written as several operations.
    """

    nodes: tuple[PricedNode, ...]
    unpriced: tuple[str, ...]
    n_gelus: int

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order of the file."""
        return tuple(step for one in self.nodes for step in one.steps)

    def hops(self, model: CostModel) -> float:
        """Return the hops of all steps, one after another."""
        return _hops(model, self.steps)

    def chain_hops(self, model: CostModel) -> float:
        """Return the hops of the longest chain of operations that need each other."""
        reached: dict[str, float] = {}
        for one in self.nodes:
            start = max((reached.get(name, 0.0) for name in one.node.inputs), default=0)
            end = start + _hops(model, one.steps)
            reached |= dict.fromkeys(one.node.outputs, end)
        return max(reached.values(), default=0.0)


def _hops(model: CostModel, steps: Sequence[Step]) -> float:
    return sum(
        step.n_products * model.costs(step.operation, step.size).hops
        for step in model.priced(steps)
    )


def trace_graph(graph: OnnxGraph) -> GraphTrace:
    """Return the steps of every operation that has a secret argument."""
    fusions, secrets = find_fusions(graph), {*graph.inputs}
    nodes, unpriced = [], dict[str, list[tuple[str, str]]]()
    for node in graph.nodes:
        if not secrets & {*node.inputs} and not node.has_body:
            continue  # who knows the weights computes it in the clear
        secrets.update(node.outputs)
        call = OnnxCall(graph, fusions, node, secrets, part_of(node.name))
        steps: Sequence[Step] = ()
        try:
            steps = price_call(call)
        except UnpricedError as error:
            unpriced.setdefault(node.operation, []).append((node.name, str(error)))
        nodes.append(PricedNode(node=node, steps=tuple(steps)))
    return GraphTrace(
        nodes=tuple(nodes),
        unpriced=tuple(
            f"{len(found)} x {operation} ({found[0][0]}: {found[0][1]})"
            for operation, found in unpriced.items()
        ),
        n_gelus=len(fusions.gelus),
    )


def part_of(name: str) -> str:
    """Return the place in the network that the name of an operation says.

    >>> part_of("/blocks/blocks.0/attn/MatMul")
    'blocks.0/attn'
    >>> part_of("MatMul_17")
    'MatMul_17'
    """
    names = [part for part in name.split("/") if part]
    places = names[:-1] or names
    kept = [
        place
        for place, inner in zip(places, [*places[1:], ""], strict=True)
        if not inner.startswith(f"{place}.")
    ]
    return "/".join(kept)
