"""The command line of the scripts in benchmarks/: options, progress, output, errors."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from mpcprof.cli import ShieldedCommand
from mpcprof.cli.options import (
    FILE,
    Decorator,
    combine,
    heads_option,
    json_option,
    network_option,
    parse_seeds,
    spread_options,
)
from mpcprof.cli.progress import progress_bar, resumable
from mpcvit.cli.run_options import loop_options
from mpcvit.search.alpha.objective import LAMBDA_PER_S

if TYPE_CHECKING:
    from mpcvit.study.report import StudyReport
    from mpcvit.study.training import Study

# called with the study, its progress and the script's own options
Experiment = Callable[..., "StudyReport"]


def study_command(
    output: str,
    *,
    seeds: str = "0,1,2",
    heads: str = "serial",
    has_search: bool = False,
) -> Callable[[Experiment], click.Command]:
    """Make a command of an experiment: it prints and writes the report.

    Args:
        output: Default folder of the study.
        seeds: Default of `--seeds`.
        heads: Default of `--heads`.
        has_search: Whether the first argument is the folder of a search, whose network,
            heads and model are then those of the study.
    """

    def make(experiment: Experiment) -> click.Command:
        # Any: click's values
        def command(*, is_json: bool, **given: Any) -> None:
            from mpcvit.study.training import ShardDone

            try:
                report: StudyReport | ShardDone = _run(experiment, given)
            except ShardDone as done:
                report = done
            click.echo(report.to_json() if is_json else str(report))

        # the options that stand between the two decorators
        own = getattr(experiment, "__click_params__", [])
        command.__click_params__ = own  # type: ignore[attr-defined]
        model = (
            click.argument("search", type=FILE)
            if has_search
            else combine(
                click.option("--model", help="Preset. [default: by dataset]"),
                network_option,
                heads_option("How private inference runs the heads.", heads),
            )
        )
        add = combine(model, loop_options, _study_options(output, seeds), json_option)
        return click.command(cls=ShieldedCommand, help=experiment.__doc__)(add(command))

    return make


def _study_options(output: str, seeds: str) -> Decorator[Any]:
    return combine(
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
            type=FILE,
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
        click.option("--output", type=FILE, default=output, show_default=True),
        spread_options,
    )


search_epochs_option: Final = click.option(
    "--search-epochs", type=click.IntRange(min=1), help="[default: the recipe's]"
)
tolerance_option: Final = click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share by which the cost of random choices may differ.",
)


# lambda, epochs and seed of the searches of a study
search_options: Final = combine(
    click.option("--lambda", "lambda_per_s", default=LAMBDA_PER_S, show_default=True),
    search_epochs_option,
    click.option(
        "--search-seed", type=click.IntRange(min=0), default=0, show_default=True
    ),
)


def _run(experiment: Experiment, given: dict[str, Any]) -> "StudyReport":
    study = _pop_study(given)
    with (
        resumable(study.folder, kept="finished epochs are"),
        progress_bar("experiment") as progress,
    ):
        report = experiment(study, progress, **given)
    command = shlex.join(["python", *sys.argv])
    report = replace(report, command=command, options=_options())
    report.write()
    return report


def _pop_study(given: dict[str, Any]) -> "Study":
    """Make the study of its options, and leave the script's own ones in `given`."""
    from layers import with_layers
    from mpcvit.search.layers.result import is_layer_search
    from mpcvit.study.training import Study
    from mpcvit.train.config import make_run_config
    from mpcvit.train.recipe import get_recipe
    from searches import with_search

    def pop(names: Sequence[str]) -> dict[str, Any]:
        return {name: given.pop(name) for name in names if name in given}

    recipe = given["recipe"]
    run = make_run_config(
        get_recipe(given["dataset"], recipe),
        **pop(["dataset", "data_folder", "limit", "epochs", "batch_size"]),
        **pop(["learning_rate", "precision", "accelerator", "output", "is_fresh"]),
    )
    study = Study(
        run=run,
        **pop(["profile", "network", "heads", "seeds", "teacher", "model", "n_jobs"]),
        **pop(["recipe", "shard", "cluster"]),
    )
    if "search" not in given:
        return study
    use = with_layers if is_layer_search(given["search"]) else with_search
    return use(study, given["search"])


def _options() -> dict[str, Any]:  # Any: JSON
    """Return the value of every option and argument, typed or default, by flag."""
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
