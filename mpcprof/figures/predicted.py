"""Predicted against measured latency, of sizes that the fit has not seen."""

from pathlib import Path

import numpy as np

from mpcprof.costmodel import held_out_pairs
from mpcprof.errors import ProfileError
from mpcprof.figures.agreement import Agreement, draw_agreement
from mpcprof.figures.canvas import check_format, check_not_empty
from mpcprof.profiles import Profile

_BAND_PERCENT = 10.0


def plot_predicted_against_measured(profile: Profile, path: Path) -> int:
    """Each primitive's latency, by a fit that its size was left out of.

    Five folds by size, as `held_out_errors`. Returns the number of records drawn:
    those of primitives that were measured at two sizes or more. Below,
    (predicted - measured) / measured in percent, over measured seconds.

    Raises:
        UsageError: If the name ends in neither .png nor .svg.
        ProfileError: If there is nothing to draw, or the file cannot be written.
        MissingEntryError: If there is no record of a primitive.
    """
    check_format(path)
    check_not_empty(profile)
    pairs = held_out_pairs(profile)
    if not pairs:
        raise ProfileError(
            "nothing to leave out: no primitive was measured at two sizes; add sizes "
            "with `mpcprof sweep`"
        )
    measured_s = np.array([pair.measured_s for pair in pairs])
    predicted_s = np.array([pair.predicted_s for pair in pairs])
    networks = "; ".join(str(n) for n in sorted({pair.network for pair in pairs}))
    agreement = Agreement(
        title=f"{profile.deployment}\n{networks}, sizes held out of the fit",
        names=tuple(pair.operation for pair in pairs),
        x_s=measured_s,
        y_s=predicted_s,
        error_percent=100 * (predicted_s / measured_s - 1),
        x_label="measured latency (s)",
        y_label="predicted latency (s)",
        band_percent=_BAND_PERCENT,
        note=f"Cross-validation by size; grey: within {_BAND_PERCENT:g} %.",
    )
    draw_agreement(agreement, path)
    return len(pairs)
