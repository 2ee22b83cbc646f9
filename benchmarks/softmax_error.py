"""Figure 1(c) alone: the error of softmax under MPC, by real parties.

    python benchmarks/softmax_error.py [spu-0.9.5|spu-0.3.1b0] [FOLDER]

Prints a line for each softmax and variance of its input, and writes the table, as CSV,
to the folder from which `mpcvit breakdown fig1` draws; a minute.
"""

from pathlib import Path

import click

from mpcprof.cli import ShieldedCommand
from mpcprof.deployment import make_deployment
from mpcvit.paper.measuring import measure_softmax_error
from mpcvit.paper.softmax_error import errors_path, write_errors


@click.command(cls=ShieldedCommand)
@click.argument("runtime", default="spu-0.9.5")
@click.argument("folder", type=click.Path(path_type=Path), default="profiles")
def main(runtime: str, folder: Path) -> None:
    """Measure the error under RUNTIME and write it below FOLDER."""
    deployment = make_deployment("semi2k", runtime=runtime)
    table = measure_softmax_error(deployment)
    path = errors_path(folder, deployment)
    write_errors(path, table)
    for point in table.points:
        click.echo(
            f"{point.kernel:12} variance {point.variance:8g}  relative error "
            f"{point.relative_error:.3g}, of the norm {point.norm_error:.3g}"
        )
    click.echo(path)


if __name__ == "__main__":
    main()
