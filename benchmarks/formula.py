"""Emulated latency against compute + hops + bytes, by workload of a profile.

    python benchmarks/formula.py profiles/semi2k.parquet

Prints the relative error of the formula over the emulated records of each workload;
reads what is on file and takes a second.
"""

from pathlib import Path

import click
import numpy as np

from mpcprof.cli import ShieldedCommand
from mpcprof.figures.agreement import emulated_records, formula_s
from mpcprof.profile.io import read_profile


@click.command(cls=ShieldedCommand)
@click.argument("path", metavar="PROFILE", type=click.Path(path_type=Path))
def main(path: Path) -> None:
    """Print the error of the formula for each workload of PROFILE."""
    profile = read_profile(path)
    records = emulated_records(profile)
    errors = np.array([abs(formula_s(r) / profile.call_s(r) - 1) for r in records])
    names = np.array([record.workload for record in records])
    for name in ("all", *sorted({*names.tolist()})):
        (own,) = np.nonzero((names == name) | (name == "all"))
        worst = records[own[errors[own].argmax()]]
        click.echo(
            f"{name:12} n={len(own):4}  median {np.median(errors[own]):6.2%}  "
            f"95th percentile {np.percentile(errors[own], 95):6.2%}  "
            f"largest {errors[own].max():6.2%}  ({worst.workload} {worst.dims})"
        )


if __name__ == "__main__":
    main()
