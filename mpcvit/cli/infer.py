"""`mpcvit infer`: labels of images that only their owner sees."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpcprof.cli.options import (
    FILE,
    deployment_options,
    emulation_option,
    example,
    heads_option,
    json_option,
    network_option,
    parties_option,
    plan_option,
    planned_deployment,
    seen_network,
    trace_options,
)
from mpcprof.cli.progress import StepLines, spu_prints_to_stderr
from mpcprof.errors import UsageError

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcprof.nn.architecture import Heads
    from mpcprof.trace.files import TraceUnit


@click.command(
    "infer",
    epilog=example("mpcvit infer runs/found/model.safetensors digits:17 --network lan"),
)
@click.argument("checkpoint", type=FILE)
@click.argument("images", metavar="IMAGE...", nargs=-1)
@deployment_options
@network_option
@emulation_option
@parties_option
@heads_option("One by one, or a layer's together. [default: as in the checkpoint]")
@plan_option
@click.option(
    "--batch",
    "n_batch",
    type=click.IntRange(min=1),
    help="Images of a call. [default: all]",
)
@click.option(
    "--profile",
    type=FILE,
    help="Profile to predict from. [default: profiles/PROTOCOL.parquet, or the "
    "packaged one]",
)
@click.option("--data", type=FILE, help="Folder of the data set of NAME:INDEX.")
@trace_options
@click.option(
    "--once",
    "is_once",
    is_flag=True,
    help="As model owner: end with one session, or after the party file's wait_limit.",
)
@json_option
def command(
    checkpoint: Path,
    images: tuple[str, ...],
    network: "Network",
    emulation: str,
    parties: Path | None,
    heads: "Heads | None",
    plan: str | None,
    n_batch: int | None,
    profile: Path | None,
    data: Path | None,
    trace: Path | None,
    trace_unit: "TraceUnit",
    is_json: bool,
    is_once: bool,
    **deployment: Any,  # one value per option that other commands share
) -> None:
    """Classify each IMAGE with the model in CHECKPOINT, by real parties.

    IMAGE is a file, or a test image: digits:17. Party 0 owns the images and alone
    learns the logits, party 1 owns the weights; each reads its own file.

    With --parties each owner starts this at a host of his own: the image owner with
    IMAGE... and what `mpcvit public` wrote of the model, the model owner with his
    CHECKPOINT and no image; he serves until Ctrl-C. See docs/deploying.md.
    """
    from mpcprof.engine.hosts.party_file import read_party_file
    from mpcprof.trace.files import check_trace, write_trace
    from mpcvit.secure.inference import InferenceConfig, infer
    from mpcvit.secure.parties import Conditions
    from mpcvit.secure.report import inference_json, inference_lines
    from mpcvit.secure.serving import serve_model

    check_trace(trace, trace_unit)
    conditions = Conditions(
        deployment=planned_deployment(plan, **deployment),
        network=network,
        emulation=emulation,
        is_traced=trace is not None,
        parties=read_party_file(parties) if parties else None,
        is_network_seen=seen_network(parties, network) is None,
    )
    if conditions.parties and conditions.parties.rank:
        if images:
            raise UsageError(f"{images[0]}: images are given at the host of rank 0")
        with spu_prints_to_stderr(), StepLines() as progress:
            serve_model(
                checkpoint,
                conditions,
                progress,
                heads=heads,
                plan=plan,
                n_batch=n_batch or 1,
                is_once=is_once,
            )
        return
    config = InferenceConfig(
        checkpoint=checkpoint,
        images=images,
        conditions=conditions,
        heads=heads,
        profile=profile,
        n_batch=n_batch,
        data=data,
        plan=plan,
    )
    with spu_prints_to_stderr(), StepLines() as progress:
        result = infer(config, progress)
    if trace and result.timeline:
        write_trace(result.timeline, trace, trace_unit)
    lines = "\n".join(inference_lines(result))
    click.echo(inference_json(result) if is_json else lines)
