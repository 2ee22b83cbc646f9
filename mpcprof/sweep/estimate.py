"""How long calls of Cheetah take, roughly: to begin with the short, and to say it.

Its calls take milliseconds to minutes, where the other protocols need a second or so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpcprof.engine.measure import Case, MeasureConfig
from mpcprof.network import LOOPBACK, Network

_BYTES_PER_COMPUTE_S = 12e6  # about as many for each operation


@dataclass(frozen=True, slots=True)
class Rough:
    """What a primitive costs in Cheetah on two cores, within a factor of two.

    Attributes:
        s_per_entry: Seconds of computing per entry of the largest input.
        hops: Messages that wait for each other.
    """

    s_per_entry: float
    hops: int


_CHEETAH = {
    "sum": Rough(1e-7, 0),
    "local": Rough(1e-6, 0),
    "truncation": Rough(1e-6, 2),
    "mul": Rough(1e-5, 6),
    "square": Rough(1e-5, 6),
    "select": Rough(1e-5, 6),
    "less": Rough(2.2e-5, 20),
    "relu": Rough(2.2e-5, 22),
    "max": Rough(3e-5, 141),
    "rsqrt": Rough(6e-4, 60),
    "matmul": Rough(4.5e-5, 5),
    "exp": Rough(6e-5, 60),
    "tanh": Rough(2e-4, 110),
    "gelu_tanh": Rough(2.5e-4, 120),
    "reciprocal": Rough(4e-4, 150),
    "sigmoid": Rough(5e-4, 170),
    "gelu_exact": Rough(5e-4, 190),
}


def call_s(case: Case, network: Network = LOOPBACK) -> float:
    """Return the rough seconds of a call in Cheetah; infinite if nothing is known."""
    rough = _CHEETAH.get(case.workload.name)
    if rough is None:
        return math.inf
    n_entries = max(map(math.prod, case.workload.input_shapes(case.dims)))
    compute_s = rough.s_per_entry * n_entries
    transfer_s = compute_s * _BYTES_PER_COMPUTE_S / network.bandwidth_bytes_per_s
    return compute_s + transfer_s + rough.hops * network.one_way_s


def measuring_s(cases: Sequence[Case], plan: MeasureConfig) -> float:
    """Return the rough seconds of all calls; infinite if a case is unknown."""
    return sum(_calls_s(case, plan) for case in cases)


def _calls_s(case: Case, plan: MeasureConfig) -> float:
    loopback_s = call_s(case)
    on_s = [call_s(case, network) for network in plan.networks]
    if loopback_s >= plan.slow_s:
        return sum(on_s)
    repeats_s = [
        one_s if one_s >= plan.slow_s else max(plan.repeats * one_s, plan.enough_s)
        for one_s in on_s
    ]
    return (1 + plan.warmups) * loopback_s + sum(repeats_s)
