"""`mpcvit search`: which heads need the accurate attention, by loss and seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mpcprof.cli.options import json_option
from mpcprof.network import parse_network
from mpcprof.units import parse_duration_s
from mpcvit.search.penalty import parse_eta

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcvit.cost import CostForm
    from mpcvit.search_space import Granularity, SearchedActivation
    from mpcvit.training.recipe import Precision

_FILE = click.Path(path_type=Path)


@click.command("search")
@click.option(
    "--cost-table", "profile", type=_FILE, required=True, help="Profile of mpcprof."
)
@click.option(
    "--dataset",
    default="digits",
    show_default=True,
    help="digits, cifar10, cifar100, tiny-imagenet, or a folder of images.",
)
@click.option("--data", "data_folder", type=_FILE, help="Where a named data set lies.")
@click.option("--limit", type=click.IntRange(min=1), help="Images of each split.")
@click.option("--model", help="digits, cifar ... [default: by dataset]")
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
@click.option("--epochs", type=click.IntRange(min=1), help="[default: by dataset]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Over all devices.")
@click.option("--learning-rate", type=float, help="The peak, of the weights.")
@click.option(
    "--alpha-learning-rate", type=float, help="The peak. [default: 5 x the weights']"
)
@click.option("--precision", type=click.Choice(["32-true", "bf16-mixed"]))
@click.option("--accelerator", default="auto", show_default=True, help="cpu, cuda")
@click.option("--seed", type=click.IntRange(min=0), help="[default: 0]")
@click.option("--output", type=_FILE, help="Folder. [default: runs/search-DATASET]")
@click.option("--fresh", "is_fresh", is_flag=True, help="Do not resume what is there.")
@json_option
def command(
    profile: Path,
    dataset: str,
    data_folder: Path | None,
    limit: int | None,
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
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    alpha_learning_rate: float | None,
    precision: "Precision | None",
    accelerator: str,
    seed: int | None,
    output: Path | None,
    is_fresh: bool,
    is_json: bool,
) -> None:
    """Learn weights, alpha and beta together: CE + lambda x seconds + eta x seconds.

    A run that was stopped, by Ctrl-C or by force, goes on by the same command. Derive
    architectures from it with `mpcvit derive`.
    """
    from mpcprof.errors import EngineError
    from mpcvit.search.penalty import choose_penalty
    from mpcvit.search.search import (
        SearchRequest,
        default_output,
        search,
        search_recipe,
    )
    from mpcvit.search_space import SearchSpace
    from mpcvit.training.hardware import Hardware
    from mpcvit.training.progress import FitProgress

    request = SearchRequest(
        profile=profile,
        dataset=dataset,
        data_folder=data_folder,
        limit=limit,
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
        recipe=search_recipe(dataset).with_changes(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            precision=precision,
            seed=seed,
        ),
        alpha_learning_rate=alpha_learning_rate,
        output=output or default_output(dataset),
        hardware=Hardware(accelerator=accelerator),
        is_fresh=is_fresh,
    )
    try:
        with FitProgress("search") as progress:
            report = search(request, progress)
    except KeyboardInterrupt:
        raise EngineError(
            f"stopped; finished epochs are in {request.output}, the same command goes "
            "on there"
        ) from None
    if report.is_first_process:
        click.echo(report.to_json() if is_json else str(report))
