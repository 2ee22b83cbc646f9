"""What the blocks must give: their formulas in float64 numpy.

Nothing here runs under JAX or shares a line with `mpcprof.blocks`: one head, one image,
one token at a time, as the papers write it.
"""

from mpcprof.workloads.reference.attention import ATTENTIONS64
from mpcprof.workloads.reference.layers import (
    ACTIVATIONS64,
    fused64,
    head64,
    layernorm64,
    mlp64,
    patch_embedding64,
)
from mpcprof.workloads.reference.model import vit64

__all__ = [
    "ACTIVATIONS64",
    "ATTENTIONS64",
    "fused64",
    "head64",
    "layernorm64",
    "mlp64",
    "patch_embedding64",
    "vit64",
]
