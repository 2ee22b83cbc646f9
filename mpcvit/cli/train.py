"""`mpcvit train`: an architecture from scratch, with a teacher or without."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mpcprof.cli.options import IMAGE_MODELS, example, json_option, refuse_options
from mpcprof.cli.progress import progress_bar, resumable
from mpcvit.cli.run_options import run_options

if TYPE_CHECKING:
    from mpcprof.nn.architecture import Heads
    from mpcvit.train.run import TrainConfig

_OF_TERM: Final = {"logits": ("beta", "temperature"), "feature": ("gamma",)}


def _parse_kd(text: str) -> frozenset[str]:
    return frozenset(filter(None, (term.strip() for term in text.split(","))))


@click.command(
    "train",
    epilog=example(
        "mpcvit train softmax --heads batched --epochs 15 --output runs/softmax"
    ),
)
@click.argument("arch", metavar="ARCH")
@click.option(
    "--model", help=f"Sizes of a variant: {IMAGE_MODELS}. [default: by dataset]"
)
@click.option("--activation", help="Activation of a variant. [default: gelu_tanh]")
@click.option(
    "--heads",
    type=click.Choice(["serial", "batched"]),
    help="How private inference will run. [default: as in the file, else serial]",
)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Checkpoint to learn from; or cnn, a small one that is trained first.",
)
@click.option(
    "--kd",
    type=_parse_kd,
    help="What the teacher gives. [default: logits,feature, of cnn logits]",
)
@click.option("--chi", type=float, help="Weight of the labels.")
@click.option("--beta", type=float, help="Weight of the teacher's logits.")
@click.option("--gamma", type=float, help="Weight of the teacher's features.")
@click.option("--temperature", type=float, help="Temperature of the teacher's logits.")
@click.option(
    "--mlp-norm/--no-mlp-norm",
    default=None,
    help="A BatchNorm in front of each MLP's activation, folded in the end.",
)
@click.option(
    "--gradual-norm",
    type=float,
    metavar="SHARE",
    help="Share of the epochs in which a LayerNorm gives way to BatchNorm or RepBN.",
)
@click.option(
    "--gradual-activation",
    type=float,
    metavar="SHARE",
    help="Share of the epochs in which GeLU gives way to a square.",
)
@click.option(
    "--frozen-norm",
    type=float,
    metavar="SHARE",
    help="Share of the epochs, at the end, in which BatchNorms keep their statistics.",
)
@click.option(
    "--range-penalty",
    type=float,
    help="Weight of the penalty on squares' inputs that are too large.",
)
@click.option("--range-bound", type=float, help="Magnitude from which they are.")
@click.option("--clip-norm", type=float, help="Norm that gradients are clipped to.")
@click.option(
    "--clip-batchnorm/--no-clip-batchnorm",
    default=None,
    help="Whether clipping takes in what BatchNorms learn.",
)
@run_options(default_output="runs/DATASET-ARCH")
@json_option
def command(
    arch: str,
    model: str | None,
    activation: str | None,
    heads: "Heads | None",
    teacher: Path | None,
    kd: frozenset[str] | None,
    chi: float | None,
    beta: float | None,
    gamma: float | None,
    temperature: float | None,
    dataset: str,
    recipe: str | None,
    output: Path | None,
    is_json: bool,
    **asked: Any,  # one value per option of the recipe, and that searching shares
) -> None:
    """Train ARCH, an architecture.json or the name of a variant for every head.

    A run that was stopped, by Ctrl-C or by force, goes on by the same command, and ends
    with the weights of one that was not. Under torchrun it uses several devices.
    """
    from mpcvit.train.config import make_run_config
    from mpcvit.train.distillation import choose_terms
    from mpcvit.train.recipe import get_recipe
    from mpcvit.train.run import (
        OWN_TEACHER,
        TrainConfig,
        choose_architecture,
        default_output,
        train,
    )

    chosen = get_recipe(dataset, recipe).with_distillation(
        chi=chi, beta=beta, gamma=gamma, temperature=temperature
    )
    request = TrainConfig(
        run=make_run_config(
            chosen,
            dataset=dataset,
            output=output or default_output(arch, dataset),
            **asked,
        ),
        architecture=choose_architecture(
            arch, model=model, dataset=dataset, activation=activation, heads=heads
        ),
        teacher=teacher,
        kd=choose_terms(
            kd, has_teacher=teacher is not None, has_features=teacher != OWN_TEACHER
        ),
    )
    _check_options(request)
    with (
        resumable(request.run.output, kept="finished epochs are"),
        progress_bar("training") as progress,
    ):
        result = train(request, progress)
    if result.is_first_process:
        click.echo(result.to_json() if is_json else str(result))


def _check_options(request: "TrainConfig") -> None:
    """Refuse options that change nothing without another one.

    Raises:
        UsageError: If one was typed.
    """
    for term, names in _OF_TERM.items():
        if term not in request.kd:
            refuse_options(
                names,
                f"is of the teacher's {term}: give --teacher and --kd {term}, or "
                "leave it out",
            )
    if not request.run.recipe.range_penalty:
        refuse_options(
            ("range_bound",), "is of --range-penalty: add that or leave it out"
        )
    if request.run.recipe.clip_norm is None:
        refuse_options(
            ("clip_batchnorm",), "is of --clip-norm: add that or leave it out"
        )
