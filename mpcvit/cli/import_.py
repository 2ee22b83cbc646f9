"""`mpcvit import`: a checkpoint of another framework as one of ours."""

from pathlib import Path

import click

from mpcprof.cli.options import FILE, MODELS, json_option, parse_numbers


@click.command("import")
@click.argument("source", metavar="FILE", type=FILE)
@click.option("-o", "--output", required=True, type=FILE, help="Checkpoint to write.")
@click.option(
    "--config",
    "settings",
    type=FILE,
    help="File config.json of the weights. [default: the one beside FILE]",
)
@click.option("--model", help=f"Sizes it must have: {MODELS}. [default: any]")
@click.option(
    "--heads", "n_heads", type=click.IntRange(min=1), help="Number of heads of a layer."
)
@click.option("--mean", type=parse_numbers, help="Of each channel: 0.5,0.5,0.5.")
@click.option("--std", "deviation", type=parse_numbers, help="As --mean.")
@click.option("--dataset", help="Name or folder of images, whose classes it tells.")
@click.option("--data", type=FILE, help="Folder of a named data set.")
@json_option
def command(
    source: Path,
    output: Path,
    settings: Path | None,
    model: str | None,
    n_heads: int | None,
    mean: tuple[float, ...] | None,
    deviation: tuple[float, ...] | None,
    dataset: str | None,
    data: Path | None,
    is_json: bool,
) -> None:
    """Import FILE: MPCViT's .pth.tar, or a ViT of timm or Hugging Face.

    Safetensors, or what torch.save wrote: tensors alone are read, no code is run. What
    cannot be expressed is refused. The checkpoint gives the same logits, and its
    architecture goes beside it into a .json file.
    """
    from mpcvit.importing.run import ImportConfig, import_checkpoint

    result = import_checkpoint(
        ImportConfig(
            source=source,
            output=output,
            settings=settings,
            model=model,
            n_heads=n_heads,
            mean=mean,
            deviation=deviation,
            dataset=dataset,
            data=data,
        )
    )
    click.echo(result.to_json() if is_json else "\n".join(result.lines()))
