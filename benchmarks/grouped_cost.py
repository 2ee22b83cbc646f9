"""Additive against grouped cost in search and derivation, heads batched.

    python benchmarks/grouped_cost.py [--lambda 0.005] [--seeds 0,1,2] [--jobs 2]

It prints the command that measures every network by real parties; run it, and this
again, for measured seconds in the table.
"""

from collections.abc import Callable
from functools import partial

import click

from mpcvit.experiments.command import experiment_command
from mpcvit.experiments.grouped import GroupedRequest, compare_costs
from mpcvit.experiments.report import Report
from mpcvit.experiments.script_options import (
    lambda_option,
    search_epochs_option,
    search_seed_option,
)
from mpcvit.experiments.setting import Setting
from mpcvit.search.space import SearchSpace


@experiment_command(heads="batched")
@lambda_option
@click.option("--activation", default="none", show_default=True, help="none, layer ...")
@click.option(
    "--n-budgets",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Of additive seconds.",
)
@search_epochs_option
@search_seed_option
def grouped_cost(
    setting: Setting,
    lambda_per_s: float,
    activation: str,
    n_budgets: int,
    search_epochs: int | None,
    search_seed: int,
) -> Callable[..., Report]:
    """Search and derive under both costs, train alike, price with heads batched."""
    request = GroupedRequest(
        lambda_per_s=lambda_per_s,
        space=SearchSpace(activation=activation),
        n_budgets=n_budgets,
        epochs=search_epochs,
        seed=search_seed,
    )
    return partial(compare_costs, setting, request)


if __name__ == "__main__":
    grouped_cost()
