"""Blocks and whole models, written once over an abstract algebra.

The same function runs under JAX on secret shares, and on bare shapes, where it leaves
the list of its steps. What is priced is therefore what is measured and deployed.
"""

from mpcprof.blocks.architecture import Architecture, read_architecture
from mpcprof.blocks.presets import MODELS, ModelPreset
from mpcprof.blocks.steps import Size, Step, primitive_step
from mpcprof.blocks.tracing import trace_block, trace_model

__all__ = [
    "MODELS",
    "Architecture",
    "ModelPreset",
    "Size",
    "Step",
    "primitive_step",
    "read_architecture",
    "trace_block",
    "trace_model",
]
