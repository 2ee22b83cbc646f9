"""Input shapes that several primitives share."""

from mpcprof.dims import Dims
from mpcprof.workloads.registry import Shape

ATTENTION_DIMS = ("n_heads", "n_tokens")
HIDDEN_DIMS = ("n_tokens", "hidden")


def attention_map(dims: Dims) -> Shape:
    """(H, N, N): the scores of every head of one layer."""
    return (dims.n_heads, dims.n_tokens, dims.n_tokens)


def hidden_layer(dims: Dims) -> Shape:
    """(N, D): what the activation of an MLP sees, D being the hidden width."""
    return (dims.n_tokens, dims.hidden)
