"""`mpcvit pareto`: accuracy against seconds of a family of trained networks."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from mpcprof.cli.completion import offer_profiles
from mpcprof.cli.options import (
    FILE,
    example,
    heads_option,
    json_option,
    money_options,
    network_option,
    plan_option,
)
from mpcprof.cli.table import print_markdown

if TYPE_CHECKING:
    from mpcprof.money import Money
    from mpcprof.network import Network
    from mpcprof.nn.architecture import Heads
    from mpcvit.pareto import Measure


@click.command(
    "pareto",
    epilog=example("mpcvit pareto found=runs/found softmax=runs/softmax -o pareto.png"),
)
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--cost-table",
    "profile",
    type=FILE,
    shell_complete=offer_profiles,
    help="Profile of mpcprof. [default: profiles/semi2k.parquet, or the packaged one]",
)
@network_option
@heads_option("One by one, or a layer's together. [default: as in the checkpoint]")
@plan_option
@click.option(
    "--measured",
    "is_measured",
    is_flag=True,
    help="Measure each by real parties too; resumes.",
)
@click.option(
    "--published", "is_published", is_flag=True, help="Show the paper's points too."
)
@click.option("-o", "--output", type=FILE, help="Picture: FILE.png or FILE.svg.")
@money_options
@json_option
def command(
    runs: tuple[str, ...],
    profile: Path | None,
    network: "Network",
    heads: "Heads | None",
    plan: str | None,
    is_measured: bool,
    is_published: bool,
    output: Path | None,
    per_hour: "Money | None",
    per_gb: "Money | None",
    is_json: bool,
) -> None:
    """Compare the trained networks in and below each of RUNS.

    A run is a folder, or GROUP=FOLDER to name it in the legend:
    searched=runs/searched random=runs/random. Trainings of a group that differ in
    nothing but the seed are one network, with the interval of its mean. With --plan
    plan.json, each network is deployed by the plan of that name beside it.
    """
    from mpcprof.figures.canvas import check_format
    from mpcprof.files import check_writable
    from mpcprof.money import make_tariff
    from mpcprof.profile.io import default_profile
    from mpcvit.front import draw_pareto, find_published, pareto_json, pareto_table
    from mpcvit.pareto import ParetoConfig, gather

    if output:  # before hours of measuring
        check_format(output)
        check_writable(output)
    profile = profile or default_profile("semi2k")
    config = ParetoConfig(
        runs=runs,
        profile=profile,
        network=network,
        heads=heads,
        plan=plan,
        tariff=make_tariff(per_hour, per_gb),
    )
    measure = _by_parties(profile, network) if is_measured else None
    members = gather(config, measure)
    published = find_published(members) if is_published else ()
    if output:
        draw_pareto(members, f"{network}, {profile.stem}", output, published)
    currency = config.tariff.currency if config.tariff else ""
    if is_json:
        click.echo(pareto_json(members, published, currency=currency))
    else:
        print_markdown(pareto_table(members, published, currency=currency))


def _by_parties(profile: Path, network: "Network") -> "Measure":
    """Of a black image: what it shows changes neither messages nor seconds."""
    from PIL import Image

    from mpcprof.cli.progress import StepLines, spu_prints_to_stderr
    from mpcprof.profile.io import read_profile
    from mpcvit.secure.inference import InferenceConfig, infer
    from mpcvit.secure.parties import Conditions

    deployment = read_profile(profile).deployment

    def measure(path: Path, heads: "Heads | None", plan: str | None) -> float:
        with (
            TemporaryDirectory() as folder,
            spu_prints_to_stderr(),
            StepLines(f"{path}: ") as progress,
        ):
            image = Path(folder, "black.png")
            Image.new("L", (1, 1)).save(image)  # brought to the model's size
            config = InferenceConfig(
                checkpoint=path,
                images=(str(image),),
                conditions=Conditions(deployment=deployment, network=network),
                heads=heads,
                profile=profile,
                plan=plan,
            )
            return infer(config, progress).latency_s

    return measure
