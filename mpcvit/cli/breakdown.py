"""`mpcvit breakdown`: where the seconds go, as Figures 1, 3 and 8 of the paper."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.builds import BUILDS, DEFAULT_BUILD
from mpcprof.cli.options import FILE, example, heads_option, json_option, network_option

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcprof.nn.architecture import Heads
    from mpcvit.paper.cases import Division
    from mpcvit.paper.make import FigureConfig, FigureName
    from mpcvit.paper.output import FigureResult


@click.command("breakdown", epilog=example("mpcvit breakdown fig8 -o figures"))
@click.argument("figure", type=click.Choice(["fig1", "fig3", "fig8"]))
@click.option(
    "--profile",
    "given",
    type=FILE,
    multiple=True,
    help="Read this one; for fig3 the outer ring's, then the inner's.",
)
@click.option(
    "--runtime",
    type=click.Choice([*BUILDS]),
    help=f"Which committed profiles. [default: {DEFAULT_BUILD.name}]",
)
@click.option(
    "--profiles",
    type=FILE,
    help="Folder of the profiles. [default: profiles, or those of the package]",
)
@click.option("--compare", "is_compared", is_flag=True, help="Both runtimes, in rows.")
@click.option(
    "--measured", "is_measured", is_flag=True, help="By real parties; may take hours."
)
@network_option
@heads_option("One by one, as in the paper, or a layer's together.", "serial")
@click.option(
    "--activation",
    type=click.Choice(["gelu_tanh", "gelu_exact"]),
    default="gelu_tanh",
    show_default=True,
)
@click.option(
    "--division",
    type=click.Choice(["row", "entry"]),
    default="row",
    show_default=True,
    help="Softmax by one reciprocal a row, or entry by entry as the paper ran it.",
)
@click.option("--arch", "architecture", type=FILE, help="MPCViT of fig8: arch.json.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("-o", "--output", type=FILE, required=True, help="Folder.")
@json_option
def command(
    figure: "FigureName",
    given: tuple[Path, ...],
    runtime: str | None,
    profiles: Path | None,
    is_compared: bool,
    is_measured: bool,
    network: "Network",
    heads: "Heads",
    activation: str,
    division: "Division",
    architecture: Path | None,
    repeats: int,
    output: Path,
    is_json: bool,
) -> None:
    """Draw FIGURE into a folder: picture (png, svg), data (csv), provenance (json).

    fig1: a Transformer block over heads and tokens, and the error of softmax under MPC.
    fig3: shares of a 4-head, 65-token ViT and of its softmax, for two protocols.
    fig8: latency and communication by layer of a 9-layer, 12-head ViT, or of the sizes
    in --arch.

    What the paper says of the figure is held against the numbers, and printed.
    """
    from mpcvit.paper.cases import CaseConfig
    from mpcvit.paper.make import FigureConfig, choose_profiles, make_figure

    profiles = profiles or _default_folder(is_measured=is_measured)
    config = FigureConfig(
        figure=figure,
        rows=choose_profiles(figure, given, runtime, profiles, is_compared=is_compared),
        profiles=profiles,
        case=CaseConfig(
            network=network,
            heads=heads,
            activation=activation,
            division=division,
            architecture=architecture,
        ),
        output=output,
        command=shlex.join(["mpcvit", *sys.argv[1:]]),
    )
    result = _measure(config, repeats) if is_measured else make_figure(config)
    click.echo(result.to_json() if is_json else "\n".join(result.lines()))


def _default_folder(*, is_measured: bool) -> Path:
    """Return profiles/; where there is none, what is only read is the package's."""
    from mpcprof.profile.io import PACKAGED

    own = Path("profiles")
    return own if own.exists() or is_measured else PACKAGED


def _measure(config: "FigureConfig", repeats: int) -> "FigureResult":
    from mpcprof.cli.progress import progress_bar, resumable, spu_prints_to_stderr
    from mpcvit.paper.make import make_figure
    from mpcvit.paper.measuring import FigureMeasurer

    with (
        resumable(config.output, kept="what was measured is"),
        spu_prints_to_stderr(),
        progress_bar("setting up") as progress,
    ):
        return make_figure(config, FigureMeasurer(progress=progress, repeats=repeats))
