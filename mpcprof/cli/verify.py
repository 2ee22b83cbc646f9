"""`mpcprof verify`: predictions against real parties."""

from pathlib import Path
from typing import Any

import click

from mpcprof.cli.options import (
    FILE,
    batch_option,
    beside,
    emulation_option,
    example,
    json_option,
    networks_option,
    parties_option,
    plan_option,
    profile_argument,
    seed_option,
    sharded,
    spread_options,
    verifying_options,
)
from mpcprof.cli.progress import progress_bar, resumable, spu_prints_to_stderr
from mpcprof.cli.table import print_markdown
from mpcprof.files import check_writable
from mpcprof.units import parse_duration_s


@click.command(
    "verify", epilog=example("mpcprof verify semi2k --cases 4 --limit 2s --repeats 2")
)
@profile_argument
@click.option(
    "--cases",
    "n_cases",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Primitives and blocks, in turn, at sizes of no preset.",
)
@click.option(
    "--models",
    "n_models",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Heterogeneous Vision Transformers besides.",
)
@click.option(
    "--architecture",
    "architectures",
    multiple=True,
    help="arch.json, or MODEL:ATTENTION:HEADS (cifar:scale:batched), where "
    "MODEL may be a file of sizes; repeatable.",
)
@click.option(
    "--layers",
    "n_layers",
    type=click.IntRange(min=1),
    help="Layers of each --architecture MODEL:ATTENTION:HEADS, instead of its own.",
)
@batch_option
@plan_option
@seed_option
@networks_option
@emulation_option
@parties_option
@verifying_options
@click.option(
    "--limit",
    "limit_s",
    type=parse_duration_s,
    default="20s",
    show_default=True,
    help="Draw only cases that are predicted to take at most this long.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=FILE,
    help="Where measurements are kept. [default: PROFILE-verify-SEED.parquet]",
)
@click.option("--report", type=FILE, help="Write the table to a file: FILE.md.")
@spread_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    profile: Path,
    path: Path | None,
    report: Path | None,
    tolerance: float,
    is_fresh: bool,
    is_json: bool,
    **asked: Any,  # one value per option; see make_config
) -> None:
    """Measure cases that are not in PROFILE, and say how far predictions were off.

    Stopped at any moment, the same command goes on where it was.
    """
    from mpcprof.files import replace_file
    from mpcprof.verify.run import make_config, verify

    own = beside(profile, f"{profile.stem}-verify-{asked['seed']}.parquet")
    path = path or sharded(own, asked["shard"])
    if report:  # before hours of measuring
        check_writable(report)
    config = make_config(profile, **asked)
    with (
        resumable(path, kept="what was measured is"),
        spu_prints_to_stderr(),
        progress_bar("setting up") as progress,
    ):
        result = verify(config, path, progress, is_fresh=is_fresh)
    text = result.to_markdown()
    if report:
        replace_file(report, text)
    if is_json:
        click.echo(result.to_json())
    else:
        print_markdown(text)
    ctx.exit(1 if result.summary.max_error > tolerance else 0)
