"""`mpcprof zoo`: published private Transformers beside each other."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpcprof.cli.completion import offering
from mpcprof.cli.options import (
    FILE,
    MODELS,
    batch_option,
    beside,
    combine,
    emulation_option,
    example,
    heads_option,
    json_option,
    network_option,
    networks_option,
    offer_models,
    parse_model,
    profile_argument,
    seed_option,
    verifying_options,
)
from mpcprof.cli.progress import progress_bar, resumable, spu_prints_to_stderr
from mpcprof.cli.table import print_table

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcprof.nn.architecture import Heads
    from mpcprof.zoo.compare import Sort

# as zoo.compare.SORTS, which takes long to import; a test compares
_SORTS = ("seconds", "bytes", "hops", "name")

_system_options = combine(
    click.option(
        "--system",
        "names",
        multiple=True,
        help="Only this one; repeatable.",
        shell_complete=offering("mpcprof.zoo.systems:SYSTEMS"),
    ),
    click.option(
        "--model",
        type=parse_model,
        default="cifar",
        show_default=True,
        help=f"{MODELS}.",
        shell_complete=offer_models,
    ),
    heads_option("One by one, or together.", "batched"),
)


@click.group("zoo")
def command() -> None:
    """List, predict and measure published approximations as whole systems."""


@command.command("list", epilog=example("mpcprof zoo list"))
@json_option
def list_command(is_json: bool) -> None:
    """Print every system: its parts, its source, and what is wrong in it."""
    from mpcprof.zoo.systems import SYSTEMS

    if is_json:
        rows = [{"name": name, **asdict(own)} for name, own in SYSTEMS.items()]
        click.echo(json.dumps({"systems": rows}, indent=1))
        return
    for name, system in SYSTEMS.items():
        click.echo("\n".join(system.lines(name)))


@command.command(
    "predict", epilog=example("mpcprof zoo predict semi2k --model cifar --sort hops")
)
@profile_argument
@_system_options
@network_option
@batch_option
@click.option("--sort", type=click.Choice(_SORTS), default="seconds", show_default=True)
@click.option("-o", "--output", type=FILE, help="Figure too: FILE.png or FILE.svg.")
@json_option
def predict_command(
    profile: Path,
    names: tuple[str, ...],
    model: str,
    heads: "Heads",
    network: "Network",
    n_batch: int,
    sort: "Sort",
    output: Path | None,
    is_json: bool,
) -> None:
    """Predict a network as each system would have it, from the records in PROFILE.

    Seconds, bytes of rank 0, hops, shares of the seconds, and the largest error of
    each approximated part in exact arithmetic.
    """
    from mpcprof.costmodel.model import fit_cost_model
    from mpcprof.nn.architecture import get_model
    from mpcprof.profile.io import read_profile
    from mpcprof.zoo.compare import compare_systems

    report = compare_systems(
        fit_cost_model(read_profile(profile)),
        get_model(model),
        network,
        names=names,
        sort=sort,
        heads=heads,
        n_batch=n_batch,
    )
    if output:
        from mpcprof.figures.systems import plot_systems

        plot_systems(report, output)
    if is_json:
        click.echo(report.to_json())
        return
    click.echo(f"{report.title}; {report.deployment}, {report.network}")
    print_table(report.header(), report.rows())
    for line in report.remarks():
        click.echo(line)


@command.command(
    "measure", epilog=example("mpcprof zoo measure semi2k --system puma --model digits")
)
@profile_argument
@_system_options
@networks_option
@emulation_option
@seed_option
@verifying_options
@click.option(
    "-o",
    "--output",
    "path",
    type=FILE,
    help="Where measurements are kept. [default: PROFILE-zoo.parquet]",
)
@json_option
@click.pass_context
def measure_command(
    ctx: click.Context,
    /,
    profile: Path,
    path: Path | None,
    model: str,
    networks: "tuple[Network, ...]",
    tolerance: float,
    is_json: bool,
    **asked: Any,  # one value per option; see measure_systems
) -> None:
    """Measure one layer of each system by real parties; hold it against PROFILE.

    Stopped at any moment, the same command goes on where it was.
    """
    from mpcprof.nn.architecture import get_model
    from mpcprof.profile.io import read_profile
    from mpcprof.zoo.measure import measure_systems

    path = path or beside(profile, f"{profile.stem}-zoo.parquet")
    with (
        resumable(path, kept="what was measured is"),
        spu_prints_to_stderr(),
        progress_bar("setting up") as progress,
    ):
        found = measure_systems(
            read_profile(profile), get_model(model), networks, path, progress, **asked
        )
    click.echo(found.to_json() if is_json else "\n".join(found.lines()))
    ctx.exit(1 if found.verified.summary.max_error > tolerance else 0)
