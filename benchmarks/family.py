"""A searched family beside its baselines: trained alike, drawn by `mpcvit pareto`.

    mpcvit search --cost-table profiles/semi2k.parquet --output runs/search
    python benchmarks/family.py runs/search [--budgets 18s,14s] [--seeds 0] [--jobs 2]

Baselines: whole layers (a search by layer), equally many heads in every layer, random
heads, each at the same costs; one attention in every head.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from mpcvit.experiments.command import experiment_command, parse_budgets_s
from mpcvit.experiments.family import FamilyRequest, compare_family
from mpcvit.experiments.report import Report
from mpcvit.experiments.script_options import tolerance_option
from mpcvit.experiments.setting import Setting


@experiment_command(seeds="0", is_of_search=True)
@click.option("--budgets", type=parse_budgets_s, help="Such as 18s,14s.")
@click.option(
    "--n-budgets",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Without --budgets.",
)
@click.option(
    "--n-random",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="At each budget.",
)
@tolerance_option
def family(
    setting: Setting,
    search: Path,
    budgets: tuple[float, ...] | None,
    n_budgets: int,
    n_random: int,
    tolerance: float,
) -> Callable[..., Report]:
    """Train what SEARCH derives and every baseline alike; table and picture."""
    request = FamilyRequest(
        search=search,
        budgets_s=budgets or (),
        n_budgets=n_budgets,
        n_random=n_random,
        tolerance=tolerance,
    )
    return partial(compare_family, setting, request)


if __name__ == "__main__":
    family()
