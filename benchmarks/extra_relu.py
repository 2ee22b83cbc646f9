"""Table 5: MPCViT+ with a ReLU behind fused linear layers, and without.

python benchmarks/extra_relu.py [--mu 0.3,0.7] [--sigma 0.75] [--jobs 2]
"""

from collections.abc import Callable
from functools import partial

import click

from mpcvit.experiments.command import experiment_command, parse_budgets_s, parse_shares
from mpcvit.experiments.extra_relu import ReluRequest, compare_extra_relu
from mpcvit.experiments.report import Report
from mpcvit.experiments.script_options import (
    lambda_option,
    search_epochs_option,
    search_seed_option,
)
from mpcvit.experiments.searches import SearchPlan
from mpcvit.experiments.setting import Setting
from mpcvit.search.objective import Penalty, parse_eta
from mpcvit.search.space import SearchedActivation


@experiment_command()
@click.option("--mu", type=parse_shares, default="0.3,0.7", show_default=True)
@click.option("--sigma", default=0.75, show_default=True, help="GeLU stays above it.")
@click.option("--budgets", type=parse_budgets_s, help="Besides, such as 14s.")
@click.option(
    "--activation",
    type=click.Choice(["layer", "token"]),
    default="token",
    show_default=True,
)
@lambda_option
@click.option(
    "--eta", type=parse_eta, default="0.05", show_default=True, help="Or paper."
)
@search_epochs_option
@search_seed_option
def extra_relu(
    setting: Setting,
    mu: tuple[float, ...],
    sigma: float,
    budgets: tuple[float, ...] | None,
    activation: SearchedActivation,
    lambda_per_s: float,
    eta: float | None,
    search_epochs: int | None,
    search_seed: int,
) -> Callable[..., Report]:
    """Search attention and GeLU; train what it derives with the ReLU and without."""
    plan = SearchPlan(
        penalty=Penalty(lambda_per_s=lambda_per_s, eta_per_s=eta),
        epochs=search_epochs,
        seed=search_seed,
    )
    request = ReluRequest(
        plan=plan, activation=activation, mus=mu, sigma=sigma, budgets_s=budgets or ()
    )
    return partial(compare_extra_relu, setting, request)


if __name__ == "__main__":
    extra_relu()
