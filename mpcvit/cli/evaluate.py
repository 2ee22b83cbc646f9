"""`mpcvit evaluate`: accuracy of a checkpoint, plain or by real parties."""

import json
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
)
from mpcprof.cli.progress import StepLines, progress_bar, spu_prints_to_stderr
from mpcprof.errors import UsageError

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcprof.nn.architecture import Heads


@click.command(
    "evaluate", epilog=example("mpcvit evaluate runs/found/model.safetensors")
)
@click.argument("checkpoint", type=FILE)
@click.option("--dataset", help="Name, or folder of images. [default: trained on]")
@click.option("--data", type=FILE, help="Folder of a named data set.")
@click.option("--secure", "is_secure", is_flag=True, help="By real parties.")
@click.option(
    "--images",
    "n_images",
    type=click.IntRange(min=1),
    help="Test images, classes in equal shares. [default: 200 if secure, else all]",
)
@click.option(
    "--batch", "n_batch", type=click.IntRange(min=1), default=50, show_default=True
)
@deployment_options
@network_option
@emulation_option
@parties_option
@heads_option("One by one, or a layer's together. [default: as in the checkpoint]")
@plan_option
@json_option
def command(
    checkpoint: Path,
    dataset: str | None,
    data: Path | None,
    is_secure: bool,
    n_images: int | None,
    n_batch: int,
    network: "Network",
    emulation: str,
    parties: Path | None,
    heads: "Heads | None",
    plan: str | None,
    is_json: bool,
    **deployment: Any,  # one value per option that other commands share
) -> None:
    """Test the model in CHECKPOINT on test images.

    With --secure by real parties, held against the plain model: same labels, error of
    the logits, accuracy of both. --batch and what follows it is for --secure.
    """
    if plan and not is_secure:
        raise UsageError("--plan is of the parties; add --secure or leave it out")
    if not is_secure:
        click.echo(_plain(checkpoint, dataset, data, n_images, is_json=is_json))
        return
    from mpcprof.engine.hosts.party_file import read_party_file
    from mpcvit.secure.evaluate import EvaluationConfig, evaluate_secure
    from mpcvit.secure.parties import Conditions
    from mpcvit.secure.report import evaluation_json, evaluation_lines

    conditions = Conditions(
        deployment=planned_deployment(plan, **deployment),
        network=network,
        emulation=emulation,
        parties=read_party_file(parties) if parties else None,
        is_network_seen=seen_network(parties, network) is None,
    )
    config = EvaluationConfig(
        checkpoint=checkpoint,
        conditions=conditions,
        dataset=dataset,
        data=data,
        n_images=n_images or 200,
        n_batch=n_batch,
        heads=heads,
        plan=plan,
    )
    with spu_prints_to_stderr(), StepLines() as progress:
        found = evaluate_secure(config, progress)
    lines = "\n".join(evaluation_lines(found))
    click.echo(evaluation_json(found) if is_json else lines)


def _plain(
    path: Path, name: str | None, data: Path | None, limit: int | None, *, is_json: bool
) -> str:
    from mpcvit.checkpoint import load_test_data, read_checkpoint
    from mpcvit.train.evaluate import evaluate_plain

    checkpoint = read_checkpoint(path)
    dataset = load_test_data(checkpoint, name, folder=data, limit=limit)
    with progress_bar("testing") as progress:
        accuracy = evaluate_plain(checkpoint, dataset, progress)
    n_images = len(dataset.test)
    if is_json:
        found = {"dataset": dataset.name, "n_images": n_images, "accuracy": accuracy}
        return json.dumps(found)
    return f"{dataset.name}: {accuracy:.2%} of {n_images} test images"
