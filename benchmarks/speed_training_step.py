"""Images per second of a training step of the `cifar` model, and what bounds it.

    python benchmarks/speed_training_step.py [ATTENTION] [STEPS]

Prints a line for the CPU, and for a GPU in both precisions where there is one: images
per second, shares of augmentation and AdamW, and the rate of the matrix products beside
what the device reaches. Another line holds a step on the CPU, without augmentation,
beside one as the official MPCViT repository takes it, in turn. A minute on two cores.
"""

import time
from collections.abc import Callable
from statistics import median

import click
import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from mpcprof.cli import ShieldedCommand
from mpcprof.nn.architecture import Architecture, get_model, uniform_architecture
from mpcvit.data.augmentation import NO_AUGMENTATION, Augment
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.train.config import Hardware, seed_all
from mpcvit.train.distillation import soft_cross_entropy
from mpcvit.train.recipe import Precision, Recipe, get_recipe
from official_loop import make_official_step

SQUARE = 2048  # side of the matrix product that a device is judged by
Work = Callable[[], object]


@click.command(cls=ShieldedCommand)
@click.argument("attention", default="relu_softmax")
@click.argument("steps", type=click.IntRange(min=1), default=10)
def main(attention: str, steps: int) -> None:
    """Time STEPS training steps of a network with ATTENTION in every head."""
    architecture = uniform_architecture(get_model("cifar"), attention=attention)
    devices: list[tuple[str, Precision]] = [("cpu", "32-true")]
    if torch.cuda.is_available():
        devices += [("cuda", "32-true"), ("cuda", "bf16-mixed")]
    for accelerator, precision in devices:
        recipe = get_recipe("cifar10").with_changes(precision=precision)
        fabric = Hardware(accelerator=accelerator).launch(precision)
        click.echo(describe_step(fabric, architecture, recipe, steps))
    click.echo(describe_official(architecture, get_recipe("cifar10"), steps))


def describe_step(
    fabric: Fabric, architecture: Architecture, recipe: Recipe, n_steps: int
) -> str:
    """Time a training step, and its parts by themselves, and say what bounds it."""
    seed_all(recipe.seed)
    plain_recipe = recipe.with_changes(augmentation=NO_AUGMENTATION)
    whole, _ = make_step(fabric, architecture, recipe)
    plain, optimize = make_step(fabric, architecture, plain_recipe)
    dtype = torch.bfloat16 if recipe.precision == "bf16-mixed" else torch.float32
    square = torch.randn(SQUARE, SQUARE, device=fabric.device, dtype=dtype)
    step_s, enqueue_s = time_call(whole, fabric.device, n_steps)
    plain_s, _ = time_call(plain, fabric.device, n_steps)
    optimizer_s, _ = time_call(optimize, fabric.device, n_steps)
    square_s, _ = time_call(lambda: square @ square, fabric.device, n_steps)
    with FlopCounterMode(display=False) as counter:
        plain()
    rate = counter.get_total_flops() / (plain_s - optimizer_s)  # FLOP per second
    peak_rate = 2 * SQUARE**3 / square_s
    augmentation_s = max(step_s - plain_s, 0.0)
    bound = "memory: small matrices and what goes entry by entry between them"
    if fabric.device.type != "cpu" and enqueue_s > 0.9 * step_s:
        bound = "the program asks for kernels more slowly than the device runs them"
    elif augmentation_s > step_s / 2:
        bound = "augmentation"
    elif rate > peak_rate / 2:
        bound = "matrix products"
    return (
        f"{fabric.device.type} {recipe.precision}, batch {recipe.batch_size}: "
        f"{recipe.batch_size / step_s:.0f} images/s, step {step_s * 1e3:.1f} ms "
        f"(augmentation {augmentation_s / step_s:.0%}, AdamW "
        f"{optimizer_s / step_s:.0%}); {rate / 1e9:.0f} of {peak_rate / 1e9:.0f} "
        f"GFLOP/s ({rate / peak_rate:.0%}); bound by {bound}"
    )


def describe_official(architecture: Architecture, recipe: Recipe, n_steps: int) -> str:
    """Time our step and the official one in turn, and say how far both use the CPU."""
    fabric = Hardware(accelerator="cpu").launch("32-true")
    plain_recipe = recipe.with_changes(augmentation=NO_AUGMENTATION)
    ours, _ = make_step(fabric, architecture, plain_recipe)
    works = (ours, make_official_step(architecture.model, recipe.batch_size))
    timed = [
        [time_call(work, fabric.device, 1)[0] for work in works] for _ in range(n_steps)
    ]
    seconds = [median(column) for column in zip(*timed, strict=True)]
    rates = []
    for work, step_s in zip(works, seconds, strict=True):
        with FlopCounterMode(display=False) as counter:
            work()
        rates.append(f"{counter.get_total_flops() / step_s / 1e9:.0f}")
    ratios = sorted(official_s / own_s for own_s, official_s in timed)
    return (
        f"without augmentation: {recipe.batch_size / seconds[0]:.0f} images/s, as the "
        f"official loop {recipe.batch_size / seconds[1]:.0f}: {median(ratios):.2f} "
        f"times ({ratios[0]:.2f} to {ratios[-1]:.2f}); {rates[0]} and {rates[1]} "
        "GFLOP/s"
    )


def make_step(
    fabric: Fabric, architecture: Architecture, recipe: Recipe
) -> tuple[Work, Work]:
    """Return a training step on images of noise, and its part of the optimiser."""
    model, device = architecture.model, fabric.device
    size = (recipe.batch_size, model.n_channels, model.image_size, model.image_size)
    pixels = torch.rand(size, device=device)
    labels = torch.randint(model.n_classes, size[:1], device=device)
    half = (0.5,) * model.n_channels
    normalization = Normalization(mean=half, deviation=half)
    augment = Augment(recipe.augmentation, n_classes=model.n_classes)
    network = VisionTransformer(architecture, recipe.regularization).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        images, targets = augment(pixels, labels)
        with fabric.autocast():
            loss = soft_cross_entropy(network(normalization.apply(images)), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)  # the optimiser alone needs gradients

    return step, optimizer.step


def time_call(work: Work, device: torch.device, n: int) -> tuple[float, float]:
    """Return the seconds of a call until it is done, and until it returns."""
    wait: Work = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for n_calls in (2, n):  # the first two do not count
        begin_s = time.perf_counter()
        for _ in range(n_calls):
            work()
        returned_s = time.perf_counter()
        wait()
        done_s = time.perf_counter()
    return (done_s - begin_s) / n, (returned_s - begin_s) / n


if __name__ == "__main__":
    main()
