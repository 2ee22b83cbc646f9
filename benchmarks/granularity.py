"""Table 3: search by layer, row and head, and accuracy of what each derives.

python benchmarks/granularity.py [--mu 0.5,0.7] [--jobs 2]
"""

from collections.abc import Callable
from functools import partial

import click

from mpcvit.experiments.command import experiment_command, parse_shares
from mpcvit.experiments.granularity import GranularityRequest, compare_granularities
from mpcvit.experiments.report import Report
from mpcvit.experiments.script_options import (
    lambda_option,
    search_epochs_option,
    search_seed_option,
)
from mpcvit.experiments.searches import SearchPlan
from mpcvit.experiments.setting import Setting
from mpcvit.search.objective import Penalty


@experiment_command()
@click.option("--mu", type=parse_shares, default="0.5,0.7", show_default=True)
@lambda_option
@search_epochs_option
@search_seed_option
def granularity(
    setting: Setting,
    mu: tuple[float, ...],
    lambda_per_s: float,
    search_epochs: int | None,
    search_seed: int,
) -> Callable[..., Report]:
    """Search by layer, row and head; train what each derives alike."""
    plan = SearchPlan(
        penalty=Penalty(lambda_per_s=lambda_per_s),
        epochs=search_epochs,
        seed=search_seed,
    )
    request = GranularityRequest(plan=plan, mus=mu)
    return partial(compare_granularities, setting, request)


if __name__ == "__main__":
    granularity()
