"""Which group of a figure a step belongs to."""

from typing import Final

from mpcprof.nn.steps import Step

# in the order of the stack, from below
GROUPS: Final = ("softmax", "GeLU", "MatMul", "LayerNorm", "other")
SOFTMAX_GROUPS: Final = ("exp", "reciprocal", "max", "rest of softmax")

_GELU: Final = ("gelu_tanh", "gelu_exact")
_SOFTMAXES: Final = ("softmax", "softmax_by_entry")  # parts of a model
_OF_SOFTMAX: Final = ("max", "exp", "sum", "reciprocal", "mul")


def operation_group(step: Step) -> str:
    """softmax, GeLU, MatMul, LayerNorm or other, as Figures 1 and 3(a) have them.

    Softmax is what stands between Q K^T and V; its scaling is `other`. LayerNorm is all
    of a normalisation, the classifier's too. MatMul is every product of matrices, with
    its truncation.
    """
    if step.operation == "matmul":
        return "MatMul"
    if step.operation in _GELU:
        return "GeLU"
    where = step.part.rpartition("/")[2]
    if where in _SOFTMAXES and step.operation in _OF_SOFTMAX:
        return "softmax"
    return "LayerNorm" if where in ("norm", "head") else "other"


def softmax_group(step: Step) -> str:
    """exp, reciprocal, max or the rest, of a step of softmax (Figure 3(b))."""
    is_named = step.operation in SOFTMAX_GROUPS
    return step.operation if is_named else "rest of softmax"
