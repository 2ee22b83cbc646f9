"""The memory that a party needs, forecast from the steps of a network.

    peak = process + the larger of (inputs as they are loaded,
                                    inputs kept + the largest working set of a step)

SPU frees a value behind its last use, so that of what is made on the way one step's
working set counts, and all inputs, weights among them, as they are kept in shares. It
is a forecast: what steps before it leave behind in a heap is a factor for all networks.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mpcprof.builds import DEFAULT_BUILD
from mpcprof.deployment import Deployment
from mpcprof.nn.steps import PRODUCT_OPERATIONS, Size, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Resident bytes of a party under one protocol, of the rank that needs most.

    Attributes:
        process: Of a party that has computed little; idle it has some 8 MB less.
        kept: Of an entry of an input, in shares.
        loaded: Of the same while it comes in.
        working: Of an entry of an operation while it runs alone, its own inputs and
            result included; of `matmul`, of an entry of its sides and of its result.
    """

    process: float
    kept: float
    loaded: float
    working: Mapping[str, float]

    def of_step(self, operation: str, size: Size) -> float:
        """Return the working set of a step; of an operation not known, the largest."""
        each = self.working.get(operation, max(self.working.values()))
        return each * n_entries(operation, size)


def n_entries(operation: str, size: Size) -> int:
    """Return the entries that a step works on at once."""
    if operation in PRODUCT_OPERATIONS:
        n, p, q, r = size
        return n * (p * q + q * r + p * r)
    return math.prod(size)


# Measured by `python benchmarks/memory.py`: peaks of fresh parties in two calls of some
# 528,000 entries, ring of 64 bits, SPU 0.9.5; docs/methodology.md
_SEMI2K: Final = Footprint(
    process=233e6,
    kept=8,
    loaded=24,
    working=MappingProxyType(
        {
            "exp": 193,
            "gelu_exact": 1389,
            "gelu_tanh": 454,
            "less": 338,
            "local": 27,
            "matmul": 76,
            "max": 203,
            "mul": 201,
            "reciprocal": 1298,
            "relu": 383,
            "rsqrt": 1310,
            "select": 231,
            "sigmoid": 1325,
            "square": 202,
            "sum": 9,
            "tanh": 411,
            "truncation": 71,
        }
    ),
)
_ABY3: Final = Footprint(
    process=235e6,
    kept=16,
    loaded=48,
    working=MappingProxyType(
        {
            "exp": 269,
            "gelu_exact": 773,
            "gelu_tanh": 616,
            "less": 327,
            "local": 64,
            "matmul": 86,
            "max": 190,
            "mul": 201,
            "reciprocal": 719,
            "relu": 346,
            "rsqrt": 736,
            "select": 280,
            "sigmoid": 703,
            "square": 183,
            "sum": 31,
            "tanh": 571,
            "truncation": 172,
        }
    ),
)
FOOTPRINTS: Final = MappingProxyType({"semi2k": _SEMI2K, "aby3": _ABY3})
_AFTER_OTHERS: Final = 1.25  # a softmax of 12 x 197 tokens over its maximum alone


def forecast_memory_bytes(
    deployment: Deployment, steps: Iterable[Step], n_shared: int
) -> float | None:
    """Return the peak resident bytes of a party; None where nobody measured any.

    Args:
        n_shared: Entries of all inputs, weights included.
    """
    known = FOOTPRINTS.get(deployment.protocol)
    is_measured = deployment.build is DEFAULT_BUILD and deployment.field_bits == 64
    if known is None or not is_measured:
        return None
    taken = {(step.operation, step.size) for step in steps}
    working = _AFTER_OTHERS * max((known.of_step(*one) for one in taken), default=0.0)
    running = known.kept * n_shared + working
    return known.process + max(known.loaded * n_shared, running)
