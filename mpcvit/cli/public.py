"""`mpcvit public`: what an image owner may have of a checkpoint."""

from pathlib import Path

import click

from mpcprof.cli.options import FILE, example


@click.command(
    "public", epilog=example("mpcvit public model.safetensors -o public.safetensors")
)
@click.argument("checkpoint", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="FILE.safetensors.")
def command(checkpoint: Path, output: Path) -> None:
    """Write the public part of CHECKPOINT: the network without a weight.

    It has the architecture, the normalization, the names of the classes and of the data
    set, and the accuracy. With it an image owner runs `mpcvit infer --parties`.
    """
    from mpcprof.files import replace_file
    from mpcvit.checkpoint_header import public_part, read_header

    replace_file(output, public_part(read_header(checkpoint)))
    click.echo(f"{output}: the network of {checkpoint}, without a weight")
