"""`mpcvit derive`: architectures from a finished search."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import (
    FILE,
    example,
    heads_option,
    json_option,
    parse_durations_s,
    parse_shares,
    refuse_options,
)

if TYPE_CHECKING:
    from mpcprof.nn.architecture import Heads


@click.command(
    "derive", epilog=example("mpcvit derive runs/search --budget 10s -o found.json")
)
@click.argument("run", type=FILE)
@click.option(
    "--mu",
    "mus",
    type=parse_shares,
    help="Shares of alpha to keep, the largest: 0.5,0.3 (the paper's rule).",
)
@click.option(
    "--budget",
    "budgets_s",
    type=parse_durations_s,
    help="Seconds to keep to: 40s,30s; the most that they buy.",
)
@click.option(
    "--sigma",
    type=click.FloatRange(0, 1),
    default=0.75,
    show_default=True,
    help="With --mu: beta above it keeps GeLU.",
)
@heads_option("Priced and written so. [default: as searched for]")
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="File.json of one, or folder of several. [default: RUN]",
)
@json_option
def command(
    run: Path,
    mus: tuple[float, ...] | None,
    budgets_s: tuple[float, ...] | None,
    sigma: float,
    heads: "Heads | None",
    output: Path | None,
    is_json: bool,
) -> None:
    """Choose architectures by what the search in the folder RUN has found.

    In the spaces mpcvit and mpcvit+ by alpha and beta; in others the best network that
    the search trained within each budget, by default its own budgets.

    Each goes into an architecture.json; its predicted seconds are printed.
    """
    from mpcvit.search.family import derive, write_family

    if not mus:
        refuse_options(("sigma",), "is of --mu: add that or leave it out")
    derived = derive(
        run, mus=mus or (), budgets_s=budgets_s or (), sigma=sigma, heads=heads
    )
    written = write_family(derived, run, output)
    click.echo(written.to_json() if is_json else str(written))
