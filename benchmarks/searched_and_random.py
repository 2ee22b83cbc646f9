"""The searched architecture against random ones of equal predicted latency.

mpcvit search --cost-table profiles/semi2k.parquet --output runs/search
python benchmarks/searched_and_random.py runs/search [--budget 14s] [--jobs 2]
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from mpcprof.units import parse_duration_s
from mpcvit.experiments.command import experiment_command
from mpcvit.experiments.random_comparison import RandomRequest, compare_with_random
from mpcvit.experiments.report import Report
from mpcvit.experiments.script_options import tolerance_option
from mpcvit.experiments.setting import Setting


@experiment_command(is_of_search=True)
@click.option("--budget", type=parse_duration_s, help="[default: half-way]")
@click.option("--n-random", type=click.IntRange(min=1), default=10, show_default=True)
@tolerance_option
@click.option(
    "--random-seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the choices.",
)
def searched_and_random(
    setting: Setting,
    search: Path,
    budget: float | None,
    n_random: int,
    tolerance: float,
    random_seed: int,
) -> Callable[..., Report]:
    """Train what SEARCH derives and random choices at its cost alike; the verdict."""
    request = RandomRequest(
        search=search,
        budget_s=budget,
        n_random=n_random,
        tolerance=tolerance,
        seed=random_seed,
    )
    return partial(compare_with_random, setting, request)


if __name__ == "__main__":
    searched_and_random()
