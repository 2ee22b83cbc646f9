"""`mpcvit train`: an architecture from scratch, with a teacher or without."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import json_option

if TYPE_CHECKING:
    from mpcprof.blocks.architecture import Heads
    from mpcvit.training.recipe import Precision

_FILE = click.Path(path_type=Path)


def _parse_kd(text: str) -> frozenset[str]:
    return frozenset(filter(None, (term.strip() for term in text.split(","))))


@click.command("train")
@click.argument("arch", metavar="ARCH")
@click.option("--model", help="Of a variant: digits, cifar ... [default: by dataset]")
@click.option("--activation", default="gelu_tanh", show_default=True)
@click.option(
    "--heads",
    type=click.Choice(["serial", "batched"]),
    default="serial",
    show_default=True,
    help="How a variant's private inference will run.",
)
@click.option(
    "--dataset",
    default="digits",
    show_default=True,
    help="digits, cifar10, cifar100, tiny-imagenet, or a folder of images.",
)
@click.option("--data", "data_folder", type=_FILE, help="Where a named data set lies.")
@click.option("--limit", type=click.IntRange(min=1), help="Images of each split.")
@click.option("--teacher", type=_FILE, help="Checkpoint to learn from.")
@click.option(
    "--kd",
    type=_parse_kd,
    help="What the teacher gives. [default: logits,feature with a teacher]",
)
@click.option("--chi", type=float, help="Weight of the labels.")
@click.option("--beta", type=float, help="Weight of the teacher's logits.")
@click.option("--gamma", type=float, help="Weight of the teacher's features.")
@click.option("--temperature", type=float, help="Of the teacher's logits.")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: the recipe's]")
@click.option("--batch-size", type=click.IntRange(min=1), help="Over all devices.")
@click.option("--learning-rate", type=float, help="The peak.")
@click.option("--precision", type=click.Choice(["32-true", "bf16-mixed"]))
@click.option("--accelerator", default="auto", show_default=True, help="cpu, cuda")
@click.option("--seed", type=click.IntRange(min=0), help="[default: 0]")
@click.option("--output", type=_FILE, help="Folder. [default: runs/DATASET-ARCH]")
@click.option("--fresh", "is_fresh", is_flag=True, help="Do not resume what is there.")
@json_option
def command(
    arch: str,
    model: str | None,
    activation: str,
    heads: "Heads",
    dataset: str,
    data_folder: Path | None,
    limit: int | None,
    teacher: Path | None,
    kd: frozenset[str] | None,
    chi: float | None,
    beta: float | None,
    gamma: float | None,
    temperature: float | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    precision: "Precision | None",
    accelerator: str,
    seed: int | None,
    output: Path | None,
    is_fresh: bool,
    is_json: bool,
) -> None:
    """Train ARCH, an architecture.json or the name of a variant for every head.

    A run that was stopped, by Ctrl-C or by force, goes on by the same command, and ends
    with the weights of one that was not. Under torchrun it uses several devices.
    """
    from mpcprof.errors import EngineError
    from mpcvit.training.choice import choose_architecture, default_output
    from mpcvit.training.distillation import choose_terms
    from mpcvit.training.hardware import Hardware
    from mpcvit.training.progress import FitProgress
    from mpcvit.training.recipe import get_recipe
    from mpcvit.training.train import TrainRequest, train

    recipe = get_recipe(dataset).with_changes(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
    )
    recipe = recipe.with_distillation(
        chi=chi, beta=beta, gamma=gamma, temperature=temperature
    )
    request = TrainRequest(
        architecture=choose_architecture(
            arch, model=model, dataset=dataset, activation=activation, heads=heads
        ),
        dataset=dataset,
        data_folder=data_folder,
        limit=limit,
        recipe=recipe,
        teacher=teacher,
        kd=choose_terms(kd, has_teacher=teacher is not None),
        output=output or default_output(arch, dataset),
        hardware=Hardware(accelerator=accelerator),
        is_fresh=is_fresh,
    )
    try:
        with FitProgress("training") as progress:
            result = train(request, progress)
    except KeyboardInterrupt:
        raise EngineError(
            f"stopped; finished epochs are in {request.output}, the same command goes "
            "on there"
        ) from None
    if result.is_first_process:
        click.echo(result.to_json() if is_json else str(result))
