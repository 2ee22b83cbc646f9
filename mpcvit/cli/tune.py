"""`mpcvit tune`: the fastest plan under which a trained network says the same."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.completion import offer_profiles
from mpcprof.cli.options import (
    FILE,
    batch_option,
    beside,
    emulation_option,
    example,
    heads_option,
    json_option,
    network_option,
    seed_option,
)
from mpcprof.cli.progress import progress_bar, spu_prints_to_stderr
from mpcprof.units import parse_percent

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcprof.nn.architecture import Heads

_COUNT = click.IntRange(min=1)


@click.command(
    "tune",
    epilog=example("mpcvit tune runs/found/model.safetensors --cost-table semi2k"),
)
@click.argument("checkpoint", type=FILE)
@click.option(
    "--cost-table",
    "profile",
    type=FILE,
    shell_complete=offer_profiles,
    required=True,
    help="Profile of mpcprof, whose deployment is tuned for.",
)
@network_option
@click.option(
    "--agreement",
    type=parse_percent,
    default="99.5%",
    show_default=True,
    help="Least share of labels that stay the plain network's.",
)
@click.option(
    "--images",
    "n_images",
    type=_COUNT,
    default=1000,
    show_default=True,
    help="Test images that decide, at most, and as many others that are reported; "
    "of fewer, half. Classes in equal shares.",
)
@click.option(
    "--calibration",
    "n_calibration",
    type=_COUNT,
    default=1000,
    show_default=True,
    help="Training images that ranges are taken from, at most.",
)
@click.option(
    "--margin",
    type=float,
    default=1.5,
    show_default=True,
    help="Factor by which ranges are wider than what was seen.",
)
@batch_option
@heads_option("How they ran before. [default: as in the checkpoint]")
@click.option("--dataset", help="Name, or folder of images. [default: trained on]")
@click.option("--data", type=FILE, help="Folder of a named data set.")
@click.option(
    "--accept-failures",
    type=float,
    default=0.0,
    metavar="RATE",
    help="Wrong truncations an inference, such as 0.001, that local truncation may "
    "cost; each ruins its image. [default: 0, no local truncation]",
)
@click.option(
    "--parties",
    "n_by_parties",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Test images that real parties classify in the end; 0 for none.",
)
@emulation_option
@seed_option
@click.option(
    "-o", "--output", type=FILE, help="[default: plan.json beside CHECKPOINT]"
)
@json_option
def command(
    checkpoint: Path,
    profile: Path,
    network: "Network",
    agreement: float,
    n_images: int,
    n_calibration: int,
    margin: float,
    n_batch: int,
    heads: "Heads | None",
    dataset: str | None,
    data: Path | None,
    accept_failures: float,
    n_by_parties: int,
    emulation: str,
    seed: int,
    output: Path | None,
    is_json: bool,
) -> None:
    """Choose rewrites and approximations for the trained network in CHECKPOINT.

    Of the plans under which at least --agreement of the labels stay, the one of fewest
    predicted seconds is written. Labels are emulated on the ring of the profile's
    deployment. `infer`, `evaluate --secure` and `predict` take the plan with --plan.
    """
    from mpcvit.tune.config import TuneConfig

    config = TuneConfig(
        checkpoint=checkpoint,
        profile=profile,
        network=network,
        output=output or beside(checkpoint, "plan.json"),
        agreement=agreement,
        n_images=n_images,
        n_calibration=n_calibration,
        margin=margin,
        n_batch=n_batch,
        heads=heads,
        dataset=dataset,
        data=data,
        accept_failures=accept_failures,
        n_by_parties=n_by_parties,
        emulation=emulation,
        seed=seed,
    )
    # torch and the cost model take seconds to load, which wrong options need not wait
    from mpcvit.tune.report import tune_json, tune_lines
    from mpcvit.tune.run import tune

    with spu_prints_to_stderr(), progress_bar("tuning") as progress:
        result = tune(config, progress)
    lines = "\n".join(tune_lines(result))
    click.echo(tune_json(result) if is_json else lines)
