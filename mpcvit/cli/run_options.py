"""Options that searching and training share; `training.run_request` takes them."""

from collections.abc import Callable
from pathlib import Path

import click

from mpcprof.cli.options import Command

_FILE = click.Path(path_type=Path)


def run_options(default_output: str) -> Callable[[Command], Command]:
    """On which images, how long, on which machine, and where to.

    Args:
        default_output: What help says of the folder.
    """
    options = [
        click.option(
            "--dataset",
            default="digits",
            show_default=True,
            help="digits, cifar10, cifar100, tiny-imagenet, or a folder of images.",
        ),
        click.option(
            "--data", "data_folder", type=_FILE, help="Where a named data set lies."
        ),
        click.option(
            "--limit", type=click.IntRange(min=1), help="Images of each split."
        ),
        click.option(
            "--recipe", help="quick, digits, cifar10 ... [default: by dataset]"
        ),
        click.option(
            "--epochs", type=click.IntRange(min=1), help="[default: the recipe's]"
        ),
        click.option(
            "--batch-size", type=click.IntRange(min=1), help="Over all devices."
        ),
        click.option("--learning-rate", type=float, help="The peak, of the weights."),
        click.option("--precision", type=click.Choice(["32-true", "bf16-mixed"])),
        click.option(
            "--accelerator", default="auto", show_default=True, help="cpu, cuda"
        ),
        click.option("--seed", type=click.IntRange(min=0), help="[default: 0]"),
        click.option(
            "--output", type=_FILE, help=f"Folder. [default: {default_output}]"
        ),
        click.option(
            "--fresh", "is_fresh", is_flag=True, help="Do not resume what is there."
        ),
    ]

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
