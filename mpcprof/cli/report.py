"""`mpcprof report`: what a profile says, as a page and as tables."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import FILE, example, json_option, networks_option, parse_model

if TYPE_CHECKING:
    from mpcprof.network import Network


@click.command(
    "report", epilog=example("mpcprof report semi2k aby3 -o report --network wan")
)
@click.argument("profiles", metavar="PROFILE...", type=FILE, nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, required=True, help="Folder of the report.")
@click.option(
    "--model",
    "models",
    type=parse_model,
    multiple=True,
    default=("cifar", "tiny-imagenet"),
    show_default=True,
    help="Model to predict; repeatable.",
)
@networks_option
@json_option
def command(
    profiles: tuple[Path, ...],
    output: Path,
    models: tuple[str, ...],
    networks: "tuple[Network, ...]",
    is_json: bool,
) -> None:
    """Write what each PROFILE says: report.html, report.md and tables.tex.

    Deployment, machine, network as calls saw it, measured workloads, whole models
    predicted, errors on sizes left out, figures, and what to be careful about. The page
    needs no other file; the tables go into a paper.
    """
    from mpcprof.files import check_writable
    from mpcprof.report.contents import ReportConfig, make_report
    from mpcprof.report.write import write_report

    check_writable(output / "report.html")
    config = ReportConfig(profiles=profiles, models=models, networks=networks)
    document = make_report(config)
    paths = [str(path) for path in write_report(document, output)]
    warnings = [line for one in document.sections for line in one.warnings]
    if is_json:
        click.echo(json.dumps({"files": paths, "warnings": warnings}))
    else:
        click.echo("\n".join([*paths, *(f"note: {line}" for line in warnings)]))
