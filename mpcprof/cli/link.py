"""`mpcprof link`: the real link between hosts, measured."""

from pathlib import Path
from typing import Any

import click

from mpcprof.cli.options import FILE, deployment_options, example, json_option
from mpcprof.cli.progress import StepLines, spu_prints_to_stderr

_N_ROUNDS = 3


@click.command(
    "link", epilog=example("mpcprof link --parties party.toml --output link.json")
)
@click.option(
    "--parties",
    type=FILE,
    required=True,
    metavar="PARTY.toml",
    help="Party file of this host, which is of rank 0.",
)
@click.option(
    "-o", "--output", "path", type=FILE, help="File for `--network FILE.json`."
)
@deployment_options
@json_option
def command(
    parties: Path,
    path: Path | None,
    is_json: bool,
    **deployment: Any,  # one value per option that other commands share
) -> None:
    """Measure the link to parties that were started on other hosts.

    Round trip, goodput of each way alone and of all at once. `predict --network
    FILE.json` prices with it, every --network takes it.
    """
    from mpcprof.deployment import make_deployment
    from mpcprof.engine.hosts.link import measure_link, write_link
    from mpcprof.engine.hosts.party_file import read_party_file
    from mpcprof.engine.hosts.session import HostedSession
    from mpcprof.files import check_writable

    if path:
        check_writable(path)
    session = HostedSession(make_deployment(**deployment), read_party_file(parties))
    with spu_prints_to_stderr(), StepLines() as progress:
        progress.describe("waiting for the other parties")
        with session:
            progress.describe("measuring the link")
            link = measure_link(session, _N_ROUNDS)
    if path:
        write_link(path, link)
    click.echo(link.to_json() if is_json else "\n".join(link.lines()))
