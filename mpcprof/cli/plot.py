"""`mpcprof plot`: a figure of a profile, or of a tuned network."""

import json
from functools import partial
from pathlib import Path

import click

from mpcprof.cli.options import (
    FILE,
    MODELS,
    example,
    json_option,
    parse_model,
    profile_argument,
    workloads_option,
)
from mpcprof.errors import UsageError

# as figures.FIGURES, which costs a second to import; a test compares
_KINDS = ("latency", "formula", "predicted", "shares")
_STEPS = "waterfall"  # of the steps of a tuning


@click.command("plot", epilog=example("mpcprof plot semi2k latency -o latency.png"))
@profile_argument
@click.argument("kind", type=click.Choice([*_KINDS, _STEPS]))
@click.option("-o", "--output", type=FILE, required=True, help="FILE.png or FILE.svg.")
@workloads_option
@click.option(
    "--model",
    "models",
    type=parse_model,
    multiple=True,
    help=f"Of shares: {MODELS}; repeatable.",
)
@json_option
def command(
    profile: Path,
    kind: str,
    output: Path,
    workloads: tuple[str, ...],
    models: tuple[str, ...],
    is_json: bool,
) -> None:
    """Draw what PROFILE holds, or for waterfall the PLAN.steps.json of mpcvit tune.

    KIND latency: seconds over heads, tokens, hidden width, a line per workload.
    KIND formula: emulated seconds against compute + hops x RTT/2 + bytes / bandwidth.
    KIND predicted: the cost model against latencies of sizes that it has not seen.
    KIND shares: seconds by operation of whole models, softmax against its rivals.
    KIND waterfall: what each choice of a tuned network saves.
    """
    from mpcprof.figures import FIGURES
    from mpcprof.figures.shares import plot_shares
    from mpcprof.figures.waterfall import plot_waterfall, read_waterfall
    from mpcprof.nn.architecture import get_model
    from mpcprof.profile.io import read_profile

    if models and kind != "shares":
        raise UsageError(f"--model is of shares: leave it out of {kind}")
    if kind == _STEPS:
        if workloads:
            raise UsageError(f"--workload is of profiles: leave it out of {kind}")
        drawn = {"n_steps": plot_waterfall(read_waterfall(profile), output)}
    else:
        sizes = [get_model(name) for name in models]
        shown = read_profile(profile).filtered(workloads)
        draw = partial(plot_shares, models=sizes) if sizes else FIGURES[kind]
        drawn = {"n_records": draw(shown, output)}
    if is_json:
        click.echo(json.dumps({"path": str(output), "kind": kind, **drawn}))
    else:
        click.echo(str(output))
