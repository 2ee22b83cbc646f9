"""Figure 9: what the search finds under several lambdas; expected latency, alpha.

python benchmarks/lambda_sweep.py [--lambda 0,0.003,0.01,0.03] [--mu 0.5] [--jobs 2]
"""

from collections.abc import Callable
from functools import partial

import click

from mpcvit.experiments.command import experiment_command, parse_numbers
from mpcvit.experiments.lambda_sweep import LambdaRequest, sweep_lambda
from mpcvit.experiments.report import Report
from mpcvit.experiments.script_options import search_epochs_option
from mpcvit.experiments.searches import SearchPlan
from mpcvit.experiments.setting import Setting
from mpcvit.search.objective import Penalty
from mpcvit.search.space import SearchSpace


@experiment_command(seeds="0")
@click.option(
    "--lambda",
    "lambdas",
    type=parse_numbers,
    default="0,0.001,0.003,0.01,0.03",
    show_default=True,
)
@click.option(
    "--mu",
    type=click.FloatRange(0, 1),
    help="Train what each lambda's first search derives. [default: none]",
)
@click.option("--activation", default="none", show_default=True, help="none, layer ...")
@search_epochs_option
def lambda_sweep(
    setting: Setting,
    lambdas: tuple[float, ...],
    mu: float | None,
    activation: str,
    search_epochs: int | None,
) -> Callable[..., Report]:
    """Search under each lambda, with every seed."""
    request = LambdaRequest(
        lambdas_per_s=lambdas,
        plan=SearchPlan(penalty=Penalty(), epochs=search_epochs),
        space=SearchSpace(activation=activation),
        mu=mu,
    )
    return partial(sweep_lambda, setting, request)


if __name__ == "__main__":
    lambda_sweep()
