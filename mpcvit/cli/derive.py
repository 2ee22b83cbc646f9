"""`mpcvit derive`: architectures from a finished search."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import json_option
from mpcprof.errors import UsageError
from mpcprof.units import parse_duration_s

if TYPE_CHECKING:
    from mpcprof.nn.architecture import Heads


def _parse_shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r}: expected shares such as 0.5,0.3") from None


def _parse_durations_s(text: str) -> tuple[float, ...]:
    return tuple(parse_duration_s(part) for part in text.split(","))


@click.command("derive")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--mu",
    "mus",
    type=_parse_shares,
    help="Shares of alpha to keep, the largest: 0.5,0.3 (the paper's rule).",
)
@click.option(
    "--budget",
    "budgets_s",
    type=_parse_durations_s,
    help="Seconds to keep to: 40s,30s; the most alpha and beta that they buy.",
)
@click.option(
    "--sigma",
    type=click.FloatRange(0, 1),
    default=0.75,
    show_default=True,
    help="With --mu: beta above it keeps GeLU.",
)
@click.option(
    "--heads",
    type=click.Choice(["serial", "batched"]),
    help="Priced and written so. [default: as searched for]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
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
    """Choose architectures by the alpha and beta in RUN, the folder of a search.

    Each goes into an architecture.json; its predicted seconds are printed.
    """
    from mpcvit.search.derive import family, write_family
    from mpcvit.search.result import read_result

    derived = family(
        read_result(run),
        mus=mus or (),
        budgets_s=budgets_s or (),
        sigma=sigma,
        heads=heads,
    )
    written = write_family(derived, run, output)
    click.echo(written.to_json() if is_json else str(written))
