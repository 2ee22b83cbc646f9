"""The paper's latencies beside those of a profile: published, ours, ratio.

    python benchmarks/published.py profiles/semi2k.parquet

Prints a line for each latency and ratio in the paper's tables and text; takes seconds.
"""

from pathlib import Path

import click

from benchmarks.script import Script
from mpcprof.network import NETWORKS
from mpcvit.paper.costs import read_fitted
from mpcvit.paper.published import compare


@click.command(cls=Script)
@click.argument("profile", type=click.Path(path_type=Path))
def main(profile: Path) -> None:
    """Print every latency of the paper beside the prediction of PROFILE."""
    fitted, wan = read_fitted(profile), NETWORKS["wan"]
    click.echo(f"{fitted.deployment}, {wan}, heads one by one, predicted")
    click.echo(f"{'where':22} {'what':58} {'published':>13} {'ours':>12} {'ratio':>6}")
    for row in compare(fitted.model, wan):
        click.echo(row)


if __name__ == "__main__":
    main()
