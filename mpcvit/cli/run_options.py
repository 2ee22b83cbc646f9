"""Options that searches, trainings and studies share; `make_run_config` takes them."""

from typing import Any

import click

from mpcprof.cli.options import FILE, Decorator, combine

# on which images, how long, on which machine
loop_options = combine(
    click.option(
        "--dataset",
        default="digits",
        show_default=True,
        help="digits, cifar10, cifar100, tiny-imagenet, or a folder of images.",
    ),
    click.option("--data", "data_folder", type=FILE, help="Folder of a named one."),
    click.option("--limit", type=click.IntRange(min=1), help="Images of each split."),
    click.option("--recipe", help="quick, digits, cifar10 ... [default: by dataset]"),
    click.option(
        "--epochs", type=click.IntRange(min=1), help="[default: the recipe's]"
    ),
    click.option("--batch-size", type=click.IntRange(min=1), help="Images of a step."),
    click.option("--learning-rate", type=float, help="Largest one, of weights."),
    click.option("--precision", type=click.Choice(["32-true", "bf16-mixed"])),
    click.option("--accelerator", default="auto", show_default=True, help="cpu, cuda"),
    click.option(
        "--fresh", "is_fresh", is_flag=True, help="Do not resume what is there."
    ),
)


def run_options(default_output: str) -> Decorator[Any]:
    """Return the options of one search or training.

    Args:
        default_output: Default folder, as help names it.
    """
    return combine(
        loop_options,
        click.option("--seed", type=click.IntRange(min=0), help="[default: 0]"),
        click.option(
            "--output", type=FILE, help=f"Folder. [default: {default_output}]"
        ),
    )
