"""`mpcprof plot`: a figure of a profile."""

import json
from pathlib import Path

import click

from mpcprof.cli.options import FILE, json_option, profile_argument, workloads_option

# as figures.FIGURES, which costs a second to import; a test compares
_KINDS = ("latency", "formula", "predicted", "shares")


@click.command("plot")
@profile_argument
@click.argument("kind", type=click.Choice(_KINDS))
@click.option("-o", "--output", type=FILE, required=True, help="FILE.png or FILE.svg.")
@workloads_option
@json_option
def command(
    profile: Path, kind: str, output: Path, workloads: tuple[str, ...], is_json: bool
) -> None:
    """Draw what PROFILE holds.

    KIND latency: seconds over heads, tokens, hidden width, a line per workload.
    KIND formula: emulated seconds against compute + hops x RTT/2 + bytes / bandwidth.
    KIND predicted: the cost model against latencies of sizes that it has not seen.
    KIND shares: seconds by operation of whole models, softmax against its rivals.
    """
    from mpcprof.figures import FIGURES
    from mpcprof.profile.io import read_profile

    shown = read_profile(profile).filtered(workloads)
    n_records = FIGURES[kind](shown, output)
    if is_json:
        drawn = {"path": str(output), "kind": kind, "n_records": n_records}
        click.echo(json.dumps(drawn))
    else:
        click.echo(str(output))
