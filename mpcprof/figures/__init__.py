"""Figures of a profile: what was measured, how well it is predicted, where it goes.

The only home of matplotlib.
"""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from mpcprof.figures.agreement import (
    plot_measured_against_formula,
    plot_predicted_against_measured,
)
from mpcprof.figures.latency import plot_latency
from mpcprof.figures.shares import plot_shares
from mpcprof.profile.record import Profile

FIGURES: MappingProxyType[str, Callable[[Profile, Path], int]] = MappingProxyType(
    {
        "latency": plot_latency,
        "formula": plot_measured_against_formula,
        "predicted": plot_predicted_against_measured,
        "shares": plot_shares,
    }
)
