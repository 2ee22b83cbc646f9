"""`mpcprof table`: show, export, merge and compare profiles.

Libraries that take long to import are imported inside the commands, so that `--help`
answers at once.
"""

import itertools
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import (
    FILE,
    MODELS,
    batch_option,
    example,
    json_option,
    network_option,
    parse_model,
    plan_option,
    profile_argument,
    refuse_options,
    workloads_option,
)
from mpcprof.errors import ProfileError
from mpcprof.network import Network
from mpcprof.units import parse_percent

if TYPE_CHECKING:
    from mpcprof.profile.record import Profile

# as profile.export.EXPORT_FORMATS, which costs half a second to import; a test compares
_FORMATS = ("csv", "json", "md", "parquet")


@click.group(name="table")
def command() -> None:
    """Show, export, merge and compare profiles."""


def print_table(header: tuple[str, ...], cells: list[tuple[str, ...]]) -> None:
    """Print a table that fits the terminal; in a pipe every row is one line."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    def make(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
        made = Table(header_style="bold")
        for name in names:
            made.add_column(name, overflow="fold")
        for row in rows:
            made.add_row(*(Text(cell) for cell in row))  # brackets are not markup
        return made

    console, table = Console(soft_wrap=False), make(header, cells)
    wide = console.options.update(width=10_000)
    n_columns = Measurement.get(console, wide, table).maximum
    if not console.is_terminal:
        console.width = n_columns
    elif n_columns > console.width:
        widths = _fitting_widths([header, *cells], console.width - len(header) + 1)
        names, *rows = (list(map(_fold, row, widths)) for row in (header, *cells))
        table = make(names, rows)
        table.box, table.show_edge, table.padding = SIMPLE_HEAD, False, (0, 0)
        for column, width in zip(table.columns, widths, strict=True):
            column.width = width
    console.print(table)


def print_markdown(text: str) -> None:
    """Print Markdown as it is; on a terminal its tables fit the width."""
    if not sys.stdout.isatty():
        click.echo(text, nl=not text.endswith("\n"))
        return
    groups = itertools.groupby(text.splitlines(), lambda line: line.startswith("|"))
    for is_table, lines in groups:
        if not is_table:
            click.echo("\n".join(lines))
            continue
        header, _, *rows = (line.strip().split("|")[1:-1] for line in lines)
        print_table(_stripped(header), [_stripped(row) for row in rows])


def _stripped(cells: list[str]) -> tuple[str, ...]:
    return tuple(cell.strip().strip("`") for cell in cells)


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines at blanks, and behind a hyphen within a word."""

    wordsep_re = re.compile(r"(\s+|(?<=[a-z]{2}-)(?=\w{2}))")


def _fold(cell: str, width: int) -> str:
    return "\n".join(_Wrapper(width=width).wrap(cell))


def _fitting_widths(rows: list[tuple[str, ...]], room: int) -> list[int]:
    """Return widths of columns that fill `room`, with words whole where they fit."""
    columns = [*zip(*rows, strict=True)]
    natural = [max(1, *map(len, column)) for column in columns]
    cut = _Wrapper(width=1, break_long_words=False).wrap
    words = [("-", *cut(" ".join(column))) for column in columns]
    widths = [max(map(len, own)) for own in words]
    while sum(widths) > room:
        widths[widths.index(max(widths))] -= 1
    while sum(widths) < room and widths != natural:
        missing = [whole - width for whole, width in zip(natural, widths, strict=True)]
        widths[missing.index(min(filter(None, missing)))] += 1  # short cells first
    return widths


@command.command(epilog=example("mpcprof table show semi2k --workload exp"))
@profile_argument
@workloads_option
@json_option
def show(profile: Path, workloads: tuple[str, ...], is_json: bool) -> None:
    """Print the records of PROFILE, sorted by case."""
    from mpcprof.profile.export import display_rows, export_profile
    from mpcprof.profile.io import read_profile
    from mpcprof.profile.parts import misfit

    shown = read_profile(profile).filtered(workloads)
    if is_json:
        click.echo(export_profile(shown, "json"), nl=False)
        return
    click.echo(f"{shown.deployment}, {len(shown)} records")
    print_table(*display_rows(shown))
    if line := misfit(shown.records, shown.deployment):
        click.echo(f"note: {line}")


@command.command(
    epilog=example("mpcprof table export semi2k --format csv -o semi2k.csv")
)
@profile_argument
@click.option(
    "--format",
    "export_format",
    type=click.Choice(_FORMATS),
    help="[default: as --output ends, else csv]",
)
@click.option("-o", "--output", type=FILE, help="A file; otherwise stdout.")
@click.option("--terms", "has_terms", is_flag=True, help="Lat(ATTN_ij), Lat(Act_ij).")
@click.option(
    "--model",
    type=parse_model,
    help=f"Whose terms: {MODELS}. [default: the plan's, else cifar]",
)
@network_option
@batch_option
@plan_option
def export(
    profile: Path,
    export_format: str | None,
    output: Path | None,
    has_terms: bool,
    model: str | None,
    network: Network,
    n_batch: int,
    plan: str | None,
) -> None:
    """Convert PROFILE for another program; the default is csv.

    With --terms, the seconds of every attention and activation in every layer of a
    model, as the search reads them, instead of the records; --model, --network,
    --batch and --plan are of the terms.
    """
    from mpcprof.files import replace_file
    from mpcprof.profile.export import export_profile
    from mpcprof.profile.io import read_profile

    if not has_terms:
        refuse_options(
            ("model", "network", "n_batch", "plan"),
            "is of the terms; add --terms or leave it out",
        )
    read = read_profile(profile)
    export_format = export_format or _format_of(output)
    if has_terms:
        content = _export_terms(read, export_format, model, network, n_batch, plan)
    else:
        content = export_profile(read, export_format)
    if output is None:
        click.echo(content, nl=False)
        return
    replace_file(output, content)


def _format_of(output: Path | None) -> str:
    """Return the format that a file's name ends in, or csv."""
    ending = output.suffix.lower().removeprefix(".") if output else ""
    return ending if ending in _FORMATS else "csv"


def _export_terms(
    profile: "Profile",
    export_format: str,
    model: str | None,
    network: Network,
    n_batch: int,
    plan: str | None,
) -> str | bytes:
    from mpcprof.costmodel.model import fit_cost_model
    from mpcprof.nn.architecture import get_model
    from mpcprof.nn.plan import choose_planner, planned_model
    from mpcprof.terms import compute_terms, export_terms

    cost_model = fit_cost_model(profile)
    preset = get_model(model or planned_model(plan) or "cifar")
    deployment = profile.deployment
    planner = choose_planner(
        plan, preset, n_batch, deployment=deployment, network=network
    )
    terms = compute_terms(cost_model, preset, network, n_batch, planner=planner)
    for line in terms.left_out:
        click.echo(f"left out: {line}", err=True)
    return export_terms(terms, export_format)


@command.command(
    epilog=example("mpcprof table merge monday.parquet tuesday.parquet -o both.parquet")
)
@click.argument("profiles", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, help="The merged one.")
@click.option("--force", is_flag=True, help="Overwrite it if it exists.")
def merge(profiles: tuple[Path, ...], output: Path, force: bool) -> None:
    """Put the records of PROFILES, all of one deployment, into one file."""
    from mpcprof.profile.io import read_profile, write_profile
    from mpcprof.profile.merge import merge_profiles

    if output.exists() and not force:
        raise ProfileError(f"{str(output)!r} exists; overwrite it with --force")
    merged = merge_profiles(*(read_profile(path) for path in profiles))
    write_profile(output, merged)
    click.echo(f"{len(merged)} records in {output}", err=True)


@command.command(
    epilog=example("mpcprof table diff before.parquet after.parquet --tolerance 5%")
)
@click.argument("a", type=FILE)
@click.argument("b", type=FILE)
@click.option(
    "--tolerance",
    type=parse_percent,
    default="5%",
    metavar="PERCENT",
    show_default=True,
    help="How much slower a case of B may be.",
)
@json_option
@click.pass_context
def diff(ctx: click.Context, a: Path, b: Path, tolerance: float, is_json: bool) -> None:
    """Compare B with A; exit code 1 if a case is slower, or bytes or hops differ."""
    from mpcprof.profile.export import diff_rows, diff_to_json
    from mpcprof.profile.io import read_profile
    from mpcprof.profile.merge import diff_profiles

    compared = diff_profiles(read_profile(a), read_profile(b), tolerance)
    if is_json:
        click.echo(diff_to_json(compared), nl=False)
    else:
        print_table(*diff_rows(compared))
        click.echo(compared.summary)
    ctx.exit(1 if compared.has_regressions else 0)
