"""`mpcprof fit`: the cost model of a profile, and how good it is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import example, json_option, profile_argument, seed_option

if TYPE_CHECKING:
    from mpcprof.costmodel.fit import HeldOutErrors


@click.command("fit", epilog=example("mpcprof fit semi2k"))
@profile_argument
@click.option(
    "--folds", "n_folds", type=click.IntRange(min=2), default=5, show_default=True
)
@seed_option
@click.option("--save", is_flag=True, help="Accepted; nothing needs saving.")
@json_option
def command(profile: Path, n_folds: int, seed: int, save: bool, is_json: bool) -> None:
    """Fit PROFILE, and print the error on shapes that each fit has not seen.

    Coefficients are fitted whenever a profile is read, so --save changes nothing.
    """
    from mpcprof.costmodel.fit import held_out_errors
    from mpcprof.profile.io import read_profile

    errors = held_out_errors(read_profile(profile), n_folds=n_folds, seed=seed)
    if save:
        click.echo("--save: fitted on every reading, so nothing needs saving", err=True)
    if is_json:
        click.echo(json.dumps({"workloads": [_as_row(one) for one in errors]}))
    else:
        click.echo(_as_text(errors))


def _as_row(one: "HeldOutErrors") -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def _as_text(errors: "tuple[HeldOutErrors, ...]") -> str:
    lines = ["on shapes that the fit has not seen, |predicted - measured| / measured:"]
    lines += [
        f"  {one.operation:12} {one.n_records:4} cases: latency {_percent(one.median)} "
        f"median, {_percent(one.percentile_95)} 95th percentile, "
        f"{_percent(one.largest)} at most; bytes {_percent(one.max_bytes_error)}, "
        f"hops {_percent(one.max_hops_error)} at most"
        for one in errors
    ]
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "(one size only)" if share is None else f"{share:.2%}"
