"""Truncation by each party for itself: what it saves, and how often it fails."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from mpcprof.costmodel.prediction import Prediction
from mpcprof.deployment import Deployment
from mpcprof.network import Network
from mpcprof.nn.steps import Step
from mpcprof.spu_options import MEASURED_AT, get_option, truncates_locally

_OPTION: Final = "trunc_allow_msb_error"
_BITS: Final = (18, 16, 14, 12)  # fewer fail more rarely: by 4 for each
_ONE: Final = (1.0, 4.0)  # hops, and bytes of an entry, of one truncation
_GELU_EXACT: Final = (14.0, {18: 60.0, 14: 64.0})  # the same, measured at 65 x 256
_MEASURED: Final = {18: f"{_OPTION}=true", 14: f"14 fraction bits, {_OPTION}=true"}


def local_deployments(deployment: Deployment, rate: float) -> Iterator[Deployment]:
    """Yield deployments with local truncation that a rate above 0 may allow.

    It changes something in semi2k only.
    """
    is_plain = deployment.protocol == "semi2k" and not truncates_locally(deployment)
    if not (rate and is_plain):
        return
    options = (*deployment.runtime_options, (_OPTION, True))
    for bits in _BITS:
        if bits <= deployment.fraction_bits:
            yield replace(deployment, runtime_options=options, fraction_bits=bits)


def without_local_truncation(deployment: Deployment) -> Deployment:
    """Return the deployment with SPU's usual truncation, which does not fail."""
    options = tuple(one for one in deployment.runtime_options if one[0] != _OPTION)
    return replace(deployment, runtime_options=options)


def price_locally(
    prediction: Prediction,
    steps: Iterable[Step],
    network: Network,
    *,
    fraction_bits: int = 18,
    profiled_bits: int = 18,
) -> Prediction:
    """Return the price without the messages of truncations, which a profile has.

    Each truncation is one hop and 4 bytes an entry and party; how many an operation has
    is measured. Those of operations that are not known stay. With fewer bits a few
    bytes less are sent besides, as measured with 14; a note says where with others.
    """
    savings = _savings(18 if fraction_bits >= 18 else 14)
    hops = n_bytes = 0.0
    for step in steps:
        own_hops, own_bytes = savings.get(step.operation, (0.0, 0.0))
        n_products, n_entries = 1, math.prod(step.size)
        if step.operation == "matmul":
            n_products, p, _, r = step.size
            n_entries = n_products * p * r
        hops += n_products * own_hops
        n_bytes += n_entries * own_bytes
    saved_s = hops * network.one_way_s + n_bytes / network.bandwidth_bytes_per_s
    low_s, high_s = prediction.interval_s
    notes = prediction.notes
    if fraction_bits not in _MEASURED or profiled_bits != 18:
        notes += (
            f"bytes with local truncation and {fraction_bits} fraction bits are "
            "approximate: they were measured from 18 bits to 18 and 14",
        )
    return replace(
        prediction,
        latency_s=prediction.latency_s - saved_s,
        interval_s=(max(low_s - saved_s, 0.0), high_s - saved_s),
        hops=prediction.hops - hops,
        bytes_sent=prediction.bytes_sent - n_bytes,
        total_bytes_sent=prediction.total_bytes_sent - 2 * n_bytes,
        notes=notes,
    )


def _savings(bits: int) -> dict[str, tuple[float, float]]:
    """Return the hops of an operation's truncations, and their bytes of an entry.

    Args:
        bits: Fraction bits that were measured; usual truncation has 18.
    """
    local = get_option(_MEASURED[bits]).effects
    usual = get_option("defaults").effects
    found = dict.fromkeys(("mul", "square", "truncation", "matmul"), _ONE)
    found["gelu_exact"] = (_GELU_EXACT[0], _GELU_EXACT[1][bits])
    for name in ("exp", "reciprocal", "rsqrt", "gelu_tanh"):
        dims = MEASURED_AT[name]
        by_head = dims.n_heads * dims.n_tokens**2
        by_token = dims.n_tokens * (dims.hidden or 1)
        saved = usual[name].bytes_sent - local[name].bytes_sent
        found[name] = (
            float(usual[name].hops - local[name].hops),
            saved / (by_head or by_token),
        )
    return found
