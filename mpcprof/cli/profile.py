"""`mpcprof profile`: any JAX function, measured."""

import json
from typing import Any

import click

from mpcprof.cli.options import deployment_options, json_option, measure_options
from mpcprof.cli.progress import progress_bar, spu_prints_to_stderr
from mpcprof.units import parse_percent, parse_shape


def parse_domain(text: str) -> tuple[float, float]:
    """Return `-8,0` as (low, high).

    Raises:
        ValueError: If it is not two numbers, the lower one first.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a domain; expected -8,0") from None
    if not low < high:
        raise ValueError(f"{text!r} is an empty domain; expected the lower one first")
    return low, high


@click.command()
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option(
    "--input",
    "shapes",
    type=parse_shape,
    multiple=True,
    required=True,
    help="Shape of a secret input, such as 4x65x65; one per parameter.",
)
@click.option(
    "--domain",
    "domains",
    type=parse_domain,
    multiple=True,
    help="Values of the inputs, once for all or one per input. [default: -1,1]",
)
@click.option(
    "--tolerance",
    type=parse_percent,
    metavar="PERCENT",
    default="2%",
    show_default=True,
    help="Largest error of an output, of its own size and of the typical one.",
)
@deployment_options
@measure_options
@json_option
def command(
    target: str,
    shapes: tuple[tuple[int, ...], ...],
    domains: tuple[tuple[float, float], ...],
    tolerance: float,
    is_json: bool,
    repeats: int | None,
    **asked: Any,  # one value per option that other commands share
) -> None:
    """Measure a JAX function of yours on real parties.

    MODULE:FUNCTION is importable from here, or a path: model.py:attention. The function
    takes one secret array per --input and returns one array.
    """
    from mpcprof.sweep.function import profile_function
    from mpcprof.workloads.user import load_user_function

    with spu_prints_to_stderr():
        workload = load_user_function(
            target, shapes, domain=domains or ((-1.0, 1.0),), rtol=tolerance
        )
        with progress_bar("setting up") as progress:
            report = profile_function(workload, progress, repeats=repeats or 3, **asked)
    document = json.dumps(report.to_json(), allow_nan=False)
    click.echo(document if is_json else str(report))
