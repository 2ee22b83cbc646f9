"""Emulated against priced latency."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpcprof.errors import ProfileError
from mpcprof.figures.agreement import Agreement, draw_agreement
from mpcprof.figures.canvas import check_format, check_not_empty
from mpcprof.pricing import price_s
from mpcprof.profiles import Profile
from mpcprof.records import Record


def plot_measured_against_formula(profile: Profile, path: Path) -> int:
    """Emulated latency against `price_s`: compute + hops x RTT/2 + bytes / bandwidth.

    Records that really waited on an emulated network are drawn, as many as it returns.
    Below, (formula - emulated) / emulated in percent.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If there is nothing to compare, or the file cannot be written.
    """
    check_format(path)
    check_not_empty(profile)
    records = [r for r in profile if r.mode == "emulated" and not r.network.is_loopback]
    if not records:
        raise ProfileError(
            f"nothing to compare: none of the {len(profile)} records was emulated; "
            "measure with `mpcprof sweep --mode emulated`"
        )
    emulated_s = np.array([profile.call_s(r) for r in records])
    formula_s = np.array([_formula_s(r) for r in records])
    networks = "; ".join(str(n) for n in sorted({r.network for r in records}))
    agreement = Agreement(
        title=f"{profile.deployment}\n{networks}, emulated",
        names=tuple(r.workload for r in records),
        x_s=formula_s,
        y_s=emulated_s,
        error_percent=100 * (formula_s / emulated_s - 1),
        x_label=_formula_label(records),
        y_label="emulated latency (s)",
    )
    draw_agreement(agreement, path)
    return len(records)


def _formula_s(record: Record) -> float:
    return price_s(
        record.network,
        compute_s=record.compute_s,
        hops=record.hops,
        wire_bytes=record.wire_bytes,
        hidden_s=record.hidden_s,
    )


def _formula_label(records: Sequence[Record]) -> str:
    network = "hops x RTT/2 + bytes/bandwidth"
    if any(record.hidden_s for record in records):
        network = f"max(hidden, {network})"
    return f"compute + {network} (s)"
