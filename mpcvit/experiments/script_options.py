"""Options that several scripts in benchmarks/ have, but not all."""

from typing import Final

import click

from mpcvit.search.objective import LAMBDA_PER_S

lambda_option: Final = click.option(
    "--lambda", "lambda_per_s", default=LAMBDA_PER_S, show_default=True
)
search_epochs_option: Final = click.option(
    "--search-epochs", type=click.IntRange(min=1), help="[default: the recipe's]"
)
search_seed_option: Final = click.option(
    "--search-seed", type=click.IntRange(min=0), default=0, show_default=True
)
tolerance_option: Final = click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share by which the cost of random choices may differ.",
)
