"""What the scripts in benchmarks/ have in common: options, progress, output, errors."""

import functools
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpcprof.cli.options import json_option
from mpcprof.cli.progress import resumable
from mpcprof.errors import MpcprofError, UsageError
from mpcprof.network import parse_network
from mpcprof.units import parse_duration_s

if TYPE_CHECKING:
    from mpcvit.experiments.report import Report
    from mpcvit.experiments.setting import Setting

_FILE = click.Path(path_type=Path)


# of the setting and the script's own options: what makes the report, given `command`
# and `observer`
Experiment = Callable[..., Callable[..., "Report"]]


def parse_numbers(text: str) -> tuple[float, ...]:
    """Numbers from 0 on such as 0.5,0.7.

    Raises:
        UsageError: If it is something else.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (-1.0,)
    if not all(0 <= number < float("inf") for number in numbers):
        raise UsageError(f"{text!r}: expected numbers from 0 on such as 0.5,0.7")
    return numbers


def parse_shares(text: str) -> tuple[float, ...]:
    """Numbers from 0 to 1 such as 0.5,0.7.

    Raises:
        UsageError: If it is something else.
    """
    try:
        shares = parse_numbers(text)
    except UsageError:
        shares = (2.0,)
    if max(shares) > 1:
        raise UsageError(f"{text!r}: expected shares from 0 to 1 such as 0.5,0.7")
    return shares


def parse_seeds(text: str) -> tuple[int, ...]:
    """Whole numbers from 0 on such as 0,1,2.

    Raises:
        UsageError: If it is something else.
    """
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise UsageError(f"seeds {text!r}: expected whole numbers such as 0,1,2")
    return tuple(int(part) for part in text.split(","))


def parse_budgets_s(text: str) -> tuple[float, ...]:
    """Durations such as 18s,14s.

    Raises:
        UnitError: If one is not a duration.
    """
    return tuple(parse_duration_s(part) for part in text.split(","))


class _Script(click.Command):
    """An error of ours is one line on stderr and its exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except MpcprofError as error:
            click.echo(f"{ctx.info_name}: {' '.join(str(error).split())}", err=True)
            ctx.exit(error.exit_code)


def experiment_command(
    *, seeds: str = "0,1,2", heads: str = "serial", is_of_search: bool = False
) -> Callable[[Experiment], click.Command]:
    """A command that sets the experiment up, runs it, prints and writes its report.

    Args:
        seeds: The default.
        heads: Likewise.
        is_of_search: It is given the folder of a search, `search`, whose network, heads
            and model are those of the setting.
    """

    def make(experiment: Experiment) -> click.Command:
        def command(*, is_json: bool, **given: Any) -> None:  # Any: click's values
            _run(experiment, given, is_json=is_json)

        functools.update_wrapper(command, experiment)
        options = _shared_options(f"runs/{experiment.__name__}", seeds)
        if is_of_search:
            options.insert(0, click.argument("search", type=_FILE))
        else:
            options += _price_options(heads)
        for option in reversed(options):
            command = option(command)
        return click.command(cls=_Script, help=experiment.__doc__)(command)

    return make


def _shared_options(output: str, seeds: str) -> list[Callable[..., Any]]:
    return [
        click.option("--dataset", default="digits", show_default=True),
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
            "--epochs",
            type=click.IntRange(min=1),
            help="Of each training. [default: the recipe's]",
        ),
        click.option("--batch-size", type=click.IntRange(min=1)),
        click.option("--learning-rate", type=float, help="The peak of each training."),
        click.option("--precision", type=click.Choice(["32-true", "bf16-mixed"])),
        click.option("--accelerator", default="auto", show_default=True),
        click.option(
            "--seeds",
            type=parse_seeds,
            default=seeds,
            show_default=True,
            help="Each architecture is trained with each.",
        ),
        click.option(
            "--teacher",
            default="softmax",
            show_default=True,
            help="A checkpoint, a variant that is trained first, or none.",
        ),
        click.option(
            "--cost-table",
            "profile",
            type=_FILE,
            default="profiles/semi2k.parquet",
            show_default=True,
        ),
        click.option(
            "--jobs",
            "n_jobs",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Trainings at once, each in a process of its own.",
        ),
        click.option("--output", type=_FILE, default=output, show_default=True),
        click.option(
            "--fresh", "is_fresh", is_flag=True, help="Do not resume what is there."
        ),
        json_option,
    ]


def _price_options(heads: str) -> list[Callable[..., Any]]:
    return [
        click.option("--model", help="Preset. [default: by dataset]"),
        click.option("--network", type=parse_network, default="wan", show_default=True),
        click.option(
            "--heads",
            type=click.Choice(["serial", "batched"]),
            default=heads,
            show_default=True,
        ),
    ]


def _run(experiment: Experiment, given: dict[str, Any], *, is_json: bool) -> None:
    from mpcvit.experiments.progress import JobsProgress

    setting, own = _make_setting(given)
    ready = experiment(setting, **own)
    with (
        resumable(setting.folder, kept="finished epochs are"),
        JobsProgress("experiment") as progress,
    ):
        report = ready(command=shlex.join(["python", *sys.argv]), observer=progress)
    report = replace(report, options=_options())
    report.write(setting.folder)
    click.echo(report.to_json() if is_json else str(report))


def _options() -> dict[str, Any]:  # Any: JSON
    """Every option and argument by its flag, with its value, typed or default."""
    context = click.get_current_context()
    return {
        max(parameter.opts, key=len).lstrip("-"): _plain(context.params[parameter.name])
        for parameter in context.command.params
        if parameter.name and parameter.name != "is_json"
    }


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    is_plain = value is None or isinstance(value, bool | int | float)
    return value if is_plain else str(value)


def _make_setting(given: dict[str, Any]) -> tuple["Setting", dict[str, Any]]:
    """The setting, and what is the script's own."""
    from mpcvit.experiments.searches import with_search
    from mpcvit.experiments.setting import Setting
    from mpcvit.train.config import make_run_config
    from mpcvit.train.recipe import get_recipe

    own = dict(given)
    run_names = (
        *("dataset", "data_folder", "limit", "epochs", "batch_size"),
        *("learning_rate", "precision", "accelerator", "output", "is_fresh"),
    )
    names = (
        *("profile", "network", "heads", "seeds", "teacher", "model", "n_jobs"),
        "recipe",
    )
    run = make_run_config(
        get_recipe(own["dataset"], own["recipe"]),
        **{name: own.pop(name) for name in run_names},
        seed=None,
    )
    setting = Setting(run=run, **{name: own.pop(name) for name in names if name in own})
    return (with_search(setting, own["search"]) if "search" in own else setting), own
