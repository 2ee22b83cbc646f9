"""`mpcprof explore`: one page that prices networks live."""

from pathlib import Path

import click

from mpcprof.cli.completion import offer_profiles
from mpcprof.cli.options import FILE, example, json_option


@click.command(
    "explore", epilog=example("mpcprof explore semi2k aby3 cheetah -o page.html")
)
@click.argument(
    "profiles",
    type=FILE,
    nargs=-1,
    required=True,
    metavar="PROFILE...",
    shell_complete=offer_profiles,
)
@click.option("-o", "--output", type=FILE, required=True, help="FILE.html.")
@json_option
def command(profiles: tuple[Path, ...], output: Path, is_json: bool) -> None:
    """Write one page that prices any network from each PROFILE, live in a browser.

    Nothing is installed or asked of the network: the page holds the cost models, and
    its prices are those of `mpcprof predict`. It compares two networks side by side.
    """
    from mpcprof.explore.page import write_page

    report = write_page(profiles, output)
    click.echo(report.to_json() if is_json else "\n".join(report.lines()))
