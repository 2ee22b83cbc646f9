"""`mpcprof profile`: any JAX function, measured."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpcprof.cli.options import (
    deployment_options,
    example,
    json_option,
    measure_options,
    seen_network,
    trace_options,
)
from mpcprof.cli.progress import progress_bar, spu_prints_to_stderr
from mpcprof.errors import UsageError
from mpcprof.units import parse_percent

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcprof.trace.files import TraceUnit


def parse_domain(text: str) -> tuple[str, tuple[float, float]]:
    """Return `-8,0` as ("", (low, high)), and `mask=0,1` with that name.

    Raises:
        ValueError: If it is not two numbers, the lower one first.
    """
    name, is_named, interval = text.rpartition("=")
    try:
        low, high = (float(part) for part in interval.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a domain; expected -8,0 or x=-8,0") from None
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError(f"{text!r} has no end; expected two finite numbers")
    if not low < high:
        raise ValueError(f"{text!r} is an empty domain; expected the lower one first")
    if is_named and not name:
        raise ValueError(f"{text!r} names no input; expected -8,0 or x=-8,0")
    return name, (low, high)


@click.command(
    epilog=example("mpcprof profile my_layer.py:relu_softmax --input 4x65x65")
)
@click.argument("target", metavar="MODULE:FUNCTION")
@click.option(
    "--input",
    "inputs",
    metavar="[NAME=]SHAPE[:TYPE] or [NAME=]FILE",
    multiple=True,
    help="A secret input: 4x65x65, mask=4x4:bool, labels=8:int32, scalar, part.w=4x4, "
    "or the arrays in a .npz, .npy or .safetensors; one per parameter.",
)
@click.option(
    "--inputs",
    "maker",
    default="",
    metavar="[MODULE:]NAME",
    help="Instead: what makes example arguments, a tuple or a dict, in your module; "
    "the arrays in them are secret.",
)
@click.option(
    "--domain",
    "domains",
    type=parse_domain,
    multiple=True,
    metavar="[NAME=]LOW,HIGH",
    help="Values of the inputs, once for all, one per input, or by name. "
    "[default: -1,1; integers 0,9]",
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
@trace_options
@json_option
def command(
    target: str,
    inputs: tuple[str, ...],
    maker: str,
    domains: tuple[tuple[str, tuple[float, float]], ...],
    tolerance: float,
    trace: Path | None,
    trace_unit: "TraceUnit",
    is_json: bool,
    repeats: int | None,
    parties: Path | None,
    network: "Network",
    **asked: Any,  # one value per option that other commands share
) -> None:
    """Measure a JAX function of yours on real parties.

    MODULE:FUNCTION is importable from here, or a path: model.py:attention, or
    model.py:layer.apply. It takes the secret --input, and returns one array or several,
    which are checked. Arrays that it holds itself are public; the report says so.

    With --parties of another rank than 0: agree to this function alone, and take part
    in the one profile of it that rank 0 makes and prints; --json prints the rank here.
    """
    from mpcprof.sweep.function import (
        follow_with_function,
        is_follower,
        profile_function,
    )
    from mpcprof.trace.files import check_trace, write_trace
    from mpcprof.workloads.user import load_user_function

    check_trace(trace, trace_unit)
    asked |= {"is_traced": trace is not None}
    with spu_prints_to_stderr():
        workload = load_user_function(
            target, inputs, maker=maker, domain=_domain(domains), rtol=tolerance
        )
        asked.update(parties=parties, network=seen_network(parties, network))
        with progress_bar("setting up") as progress:
            report = None
            if parties and is_follower(parties):
                rank = follow_with_function(workload, progress, **asked)
            else:
                asked["repeats"] = repeats or 3
                report = profile_function(workload, progress, **asked)
    if report is None:
        if is_json:
            click.echo(json.dumps({"rank": rank, "workload": workload.name}))
        return
    if trace and report.timeline:
        write_trace(report.timeline, trace, trace_unit)
    document = json.dumps(report.to_json(), allow_nan=False)
    click.echo(document if is_json else str(report))


def _domain(
    domains: tuple[tuple[str, tuple[float, float]], ...],
) -> tuple[tuple[float, float], ...] | dict[str, tuple[float, float]]:
    """Return domains in order, or by name where one has a name."""
    if not any(name for name, _ in domains):
        return tuple(interval for _, interval in domains)
    by_name = dict(domains)
    if len(by_name) < len(domains):
        raise UsageError(
            f"--domain {domains[-1][0] or 'without a name'} is given twice"
        )
    return by_name
