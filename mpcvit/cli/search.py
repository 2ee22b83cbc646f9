"""`mpcvit search`: which heads need the accurate attention, by loss and seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mpcprof.cli.options import MODELS, json_option, plan_option
from mpcprof.cli.progress import progress_bar, resumable
from mpcprof.network import parse_network
from mpcprof.units import parse_duration_s
from mpcvit.cli.run_options import run_options
from mpcvit.search.objective import parse_eta

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcvit.search.cost import CostForm
    from mpcvit.search.space import Granularity, SearchedActivation


@click.command("search")
@click.option(
    "--cost-table",
    "profile",
    type=click.Path(path_type=Path),
    required=True,
    help="Profile of mpcprof.",
)
@click.option("--model", help=f"{MODELS}. [default: by dataset]")
@click.option(
    "--granularity",
    type=click.Choice(["layer", "head", "row"]),
    default="head",
    show_default=True,
    help="What has one alpha.",
)
@click.option(
    "--activation",
    type=click.Choice(["none", "layer", "token"]),
    default="none",
    show_default=True,
    help="What has one beta: MPCViT+.",
)
@click.option("--accurate", default="relu_softmax", show_default=True)
@click.option("--cheap", default="scale", show_default=True)
@click.option("--linear", default="identity_relu", show_default=True)
@click.option(
    "--cost",
    "form",
    type=click.Choice(["additive", "grouped"]),
    default="additive",
    show_default=True,
    help="Of heads one by one, or batched.",
)
@click.option("--lambda", "lambda_per_s", type=float, help="Loss per second.")
@click.option(
    "--eta",
    type=parse_eta,
    help="Loss per second of MLPs, or paper. [default: as lambda]",
)
@click.option(
    "--target", "target_s", type=parse_duration_s, help="40s: finds lambda instead."
)
@click.option("--network", type=parse_network, default="wan", show_default=True)
@click.option(
    "--alpha-learning-rate", type=float, help="The peak. [default: 5 x the weights']"
)
@plan_option
@run_options(default_output="runs/search-DATASET")
@json_option
def command(
    profile: Path,
    model: str | None,
    granularity: "Granularity",
    activation: "SearchedActivation",
    accurate: str,
    cheap: str,
    linear: str,
    form: "CostForm",
    lambda_per_s: float | None,
    eta: float | Literal["paper"] | None,
    target_s: float | None,
    network: "Network",
    alpha_learning_rate: float | None,
    plan: str | None,
    dataset: str,
    recipe: str | None,
    output: Path | None,
    is_json: bool,
    **asked: Any,  # one value per option that training shares
) -> None:
    """Learn weights, alpha and beta together: CE + lambda x seconds + eta x seconds.

    A run that was stopped, by Ctrl-C or by force, goes on by the same command. Derive
    architectures from it with `mpcvit derive`.
    """
    from mpcvit.search.objective import choose_penalty
    from mpcvit.search.run import SearchConfig, default_output, search, search_recipe
    from mpcvit.search.space import SearchSpace
    from mpcvit.train.config import make_run_config

    request = SearchConfig(
        profile=profile,
        run=make_run_config(
            search_recipe(dataset, recipe),
            dataset=dataset,
            output=output or default_output(dataset),
            **asked,
        ),
        model=model,
        space=SearchSpace(
            granularity=granularity,
            activation=activation,
            accurate=accurate,
            cheap=cheap,
            linear=linear,
        ),
        form=form,
        penalty=choose_penalty(lambda_per_s, eta, target_s),
        network=network,
        alpha_learning_rate=alpha_learning_rate,
        plan=plan,
    )
    with (
        resumable(request.run.output, kept="finished epochs are"),
        progress_bar("search") as progress,
    ):
        report = search(request, progress)
    if report.is_first_process:
        click.echo(report.to_json() if is_json else str(report))
