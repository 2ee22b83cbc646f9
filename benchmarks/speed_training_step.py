"""Images per second of a training step of the `cifar` model, and what bounds it.

    python benchmarks/speed_training_step.py [ATTENTION] [STEPS]

Prints a line for the CPU, and for a GPU in both precisions where there is one: images
per second, shares of augmentation and AdamW, and the rate of the matrix products beside
what the device reaches. A minute on two cores.
"""

import click

from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcvit.study.command import Script
from mpcvit.train.recipe import get_recipe
from mpcvit.train.throughput import devices_at_hand, measure_step


@click.command(cls=Script)
@click.argument("attention", default="relu_softmax")
@click.argument("steps", type=click.IntRange(min=1), default=10)
def main(attention: str, steps: int) -> None:
    """Time STEPS training steps of a network with ATTENTION in every head."""
    architecture = uniform_architecture(get_model("cifar"), attention=attention)
    for hardware, precision in devices_at_hand():
        recipe = get_recipe("cifar10").with_changes(precision=precision)
        click.echo(measure_step(architecture, recipe, hardware, n_steps=steps))


if __name__ == "__main__":
    main()
