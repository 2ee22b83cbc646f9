"""`mpcvit import`: a checkpoint of another framework as one of ours."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import FILE, MODELS, example, json_option, parse_numbers

if TYPE_CHECKING:
    from mpcprof.nn.preset import Embedding


@click.command(
    "import", epilog=example("mpcvit import model.safetensors -o imported.safetensors")
)
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
@click.option(
    "--tokens", "n_tokens", type=click.IntRange(min=1), help="Length of a text."
)
@click.option(
    "--embedding",
    type=click.Choice(["client", "one_hot"]),
    help="Who embeds words: the client looks them up, or shares one-hot rows.",
)
@click.option(
    "--image",
    "image_size",
    type=click.IntRange(min=1),
    help="Pixels a side of an EfficientViT's images. [default: 224, if they fit]",
)
@click.option("--mean", type=parse_numbers, help="Mean of each channel: 0.5,0.5,0.5.")
@click.option(
    "--std", "deviation", type=parse_numbers, help="Deviation of each channel."
)
@click.option("--dataset", help="Name or folder of images, whose classes it tells.")
@click.option("--data", type=FILE, help="Folder of a named data set.")
@json_option
def command(
    source: Path,
    output: Path,
    settings: Path | None,
    model: str | None,
    n_heads: int | None,
    n_tokens: int | None,
    embedding: "Embedding | None",
    image_size: int | None,
    mean: tuple[float, ...] | None,
    deviation: tuple[float, ...] | None,
    dataset: str | None,
    data: Path | None,
    is_json: bool,
) -> None:
    """Import FILE: MPCViT's .pth.tar, timm's or Hugging Face's ViT, BERT, EfficientViT.

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
            n_tokens=n_tokens,
            embedding=embedding,
            image_size=image_size,
            mean=mean,
            deviation=deviation,
            dataset=dataset,
            data=data,
        )
    )
    click.echo(result.to_json() if is_json else "\n".join(result.lines()))
