"""`mpcvit search`: which heads, or which layers, are worth their seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mpcprof.cli.completion import offer_profiles
from mpcprof.cli.options import (
    IMAGE_MODELS,
    example,
    json_option,
    network_option,
    parse_durations_s,
    plan_option,
    refuse_options,
)
from mpcprof.cli.progress import progress_bar, resumable
from mpcprof.units import parse_duration_s
from mpcvit.cli.run_options import run_options
from mpcvit.search.alpha.objective import parse_eta

if TYPE_CHECKING:
    from mpcvit.search.alpha.run import SearchConfig
    from mpcvit.search.layers.run import LayerSearchConfig
    from mpcvit.train.config import RunConfig

_PAPER: Final = {"mpcvit": "none", "mpcvit+": "token"}  # activation that is searched
_OF_HEADS: Final = ("granularity", "activation", "accurate", "cheap", "linear", "eta")
_OF_LAYERS: Final = ("budgets_s", "n_finalists", "finalist_epochs", "n_jobs")
_OF_BOTH: Final = ("profile", "model", "form", "network", "alpha_learning_rate", "plan")
_OWN: Final = (*_OF_BOTH, *_OF_HEADS, *_OF_LAYERS, "lambda_per_s", "target_s")


@click.command(
    "search", epilog=example("mpcvit search --cost-table semi2k --output runs/search")
)
@click.option(
    "--cost-table",
    "profile",
    type=click.Path(path_type=Path),
    shell_complete=offer_profiles,
    required=True,
    help="Profile of mpcprof.",
)
@click.option("--model", help=f"{IMAGE_MODELS}. [default: by dataset]")
@click.option(
    "--space",
    default="mpcvit",
    show_default=True,
    help="mpcvit, mpcvit+ (GeLU too), free (every choice of a layer), or FILE.json.",
)
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
    help="What has one beta. [default: none; token in the space mpcvit+]",
)
@click.option("--accurate", default="relu_softmax", show_default=True)
@click.option("--cheap", default="scale", show_default=True)
@click.option("--linear", default="identity_relu", show_default=True)
@click.option(
    "--cost",
    "form",
    type=click.Choice(["additive", "grouped"]),
    help="Heads one by one, or batched. [default: additive; grouped in free]",
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
@network_option
@click.option(
    "--alpha-learning-rate",
    type=float,
    help="The peak. [default: 5 x the weights', in free 20 x]",
)
@click.option(
    "--budget",
    "budgets_s",
    type=parse_durations_s,
    help="Free: seconds to find networks for. [default: 1/16, 1/8, 1/4 of softmax]",
)
@click.option(
    "--finalists",
    "n_finalists",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Free: networks to train for each budget.",
)
@click.option(
    "--finalist-epochs",
    type=click.IntRange(min=1),
    help="Free: epochs of each of them. [default: half of --epochs]",
)
@click.option(
    "--jobs",
    "n_jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Free: networks trained at once, each in a process of its own.",
)
@plan_option
@run_options(default_output="runs/search-DATASET")
@json_option
def command(
    space: str,
    dataset: str,
    recipe: str | None,
    output: Path | None,
    is_json: bool,
    **asked: Any,  # one value per option
) -> None:
    """Learn weights and choices together: CE + lambda x seconds, or at --target.

    In the spaces mpcvit and mpcvit+ a choice is the attention of a head and the
    activation of a layer or token; in free, and in a file, the mixing, norm, activation
    and MLP of each layer, and networks near the front are then trained alike.

    A run that was stopped, by Ctrl-C or by force, goes on by the same command. Derive
    architectures from it with `mpcvit derive`.
    """
    from mpcvit.search.alpha.run import search
    from mpcvit.search.base import default_output, search_recipe
    from mpcvit.search.layers.run import layer_recipe, search_layers
    from mpcvit.train.config import make_run_config

    is_paper = space in _PAPER
    _check_options(space, asked["activation"])
    own = {name: asked.pop(name) for name in _OWN}
    run = make_run_config(
        (search_recipe if is_paper else layer_recipe)(dataset, recipe),
        dataset=dataset,
        output=output or default_output(dataset),
        **asked,
    )
    with (
        resumable(run.output, kept="finished epochs are"),
        progress_bar("search") as progress,
    ):
        report: Any = (  # Any: one of two reports
            search(_alpha_search(run, space, own), progress)
            if is_paper
            else search_layers(_layer_search(run, space, own), progress)
        )
    if report.is_first_process:
        click.echo(report.to_json() if is_json else str(report))


def _check_options(space: str, activation: str | None) -> None:
    """Refuse options that change nothing in the space.

    Raises:
        UsageError: If one was typed.
    """
    refuse_options(
        _OF_LAYERS if space in _PAPER else _OF_HEADS,
        f"does not go with the space {space}: leave it out, or choose another --space",
    )
    if (activation or _PAPER.get(space)) == "none":
        refuse_options(
            ("linear", "eta"),
            "is of a searched activation: add --activation layer or token, or leave it "
            "out",
        )


def _alpha_search(
    run: "RunConfig",
    space: str,
    own: dict[str, Any],  # Any: one value per option
) -> "SearchConfig":
    from mpcvit.search.alpha.objective import choose_penalty
    from mpcvit.search.alpha.run import SearchConfig
    from mpcvit.search.alpha.space import SearchSpace

    names = ("granularity", "activation", "accurate", "cheap", "linear")
    options = {name: own[name] for name in names}
    options["activation"] = options["activation"] or _PAPER[space]
    penalty = choose_penalty(own["lambda_per_s"], own["eta"], own["target_s"])
    kept = {name: own[name] for name in _OF_BOTH}
    kept["form"] = own["form"] or "additive"
    space_of = SearchSpace(**options)
    return SearchConfig(run=run, space=space_of, penalty=penalty, **kept)


def _layer_search(
    run: "RunConfig",
    space: str,
    own: dict[str, Any],  # Any: one value per option
) -> "LayerSearchConfig":
    from mpcvit.search.alpha.cost import HEADS_OF_FORM
    from mpcvit.search.layers.run import LayerSearchConfig
    from mpcvit.search.layers.space import get_layer_space
    from mpcvit.train.config import choose_model

    kept = {name: own[name] for name in (*_OF_BOTH, *_OF_LAYERS) if name != "form"}
    return LayerSearchConfig(
        run=run,
        space=get_layer_space(space, choose_model(own["model"], run.dataset)),
        heads=HEADS_OF_FORM[own["form"] or "grouped"],
        lambda_per_s=own["lambda_per_s"],
        target_s=own["target_s"],
        **kept,
    )
