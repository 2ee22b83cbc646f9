"""How many images a second a training step takes, and what bounds it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from mpcprof.nn.architecture import Architecture
from mpcvit.data.augmentation import NO_AUGMENTATION, Augment
from mpcvit.data.image_set import Dataset, ImageSet
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.train.config import Hardware, seed_all
from mpcvit.train.distillation import TrainingObjective
from mpcvit.train.recipe import Precision, Recipe

_SQUARE: Final = 2048  # of the matrix product that a device is judged by
_MOSTLY: Final = 0.9  # from here on a part is called the whole


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpeed:
    """One training step, and its parts timed by themselves.

    Attributes:
        step_s: Augmentation, forward, backward, optimiser.
        augmentation_s: Of it, varying the images.
        optimizer_s: Of it, AdamW.
        enqueue_s: Until the program has asked for a step's work; on a CPU all of it.
        flop_per_s: Of the step's matrix products, over the time of the model.
        peak_flop_per_s: What one large matrix product reaches on the same device.
    """

    device: str
    precision: Precision
    batch_size: int
    step_s: float
    augmentation_s: float
    optimizer_s: float
    enqueue_s: float
    flop_per_s: float
    peak_flop_per_s: float

    @property
    def images_per_s(self) -> float:
        """Images over seconds."""
        return self.batch_size / self.step_s

    @property
    def bound(self) -> str:
        """What would have to be faster."""
        if self.device != "cpu" and self.enqueue_s > _MOSTLY * self.step_s:
            return "the program asks for kernels more slowly than the device runs them"
        if self.augmentation_s > self.step_s / 2:
            return "augmentation"
        if self.flop_per_s > self.peak_flop_per_s / 2:
            return "matrix products"
        return "memory: small matrices and what goes entry by entry between them"

    def __str__(self) -> str:
        used = self.flop_per_s / self.peak_flop_per_s
        return (
            f"{self.device} {self.precision}, batch {self.batch_size}: "
            f"{self.images_per_s:.0f} images/s, step {self.step_s * 1e3:.1f} ms "
            f"(augmentation {self.augmentation_s / self.step_s:.0%}, AdamW "
            f"{self.optimizer_s / self.step_s:.0%}); {self.flop_per_s / 1e9:.0f} of "
            f"{self.peak_flop_per_s / 1e9:.0f} GFLOP/s ({used:.0%}); bound by "
            f"{self.bound}"
        )


def measure_step(
    architecture: Architecture,
    recipe: Recipe,
    hardware: Hardware,
    *,
    n_steps: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> StepSpeed:
    """Time steps of the recipe on noise, after two that nobody times."""
    seed_all(recipe.seed)
    fabric = hardware.launch(recipe.precision)
    whole = _Step(fabric, architecture, recipe)
    plain = _Step(
        fabric, architecture, recipe.with_changes(augmentation=NO_AUGMENTATION)
    )
    step_s, enqueue_s = _seconds(whole.run, fabric.device, n_steps, clock)
    plain_s, _ = _seconds(plain.run, fabric.device, n_steps, clock)
    optimizer_s, _ = _seconds(plain.optimize, fabric.device, n_steps, clock)
    with FlopCounterMode(display=False) as counter:
        plain.run()
    return StepSpeed(
        device=fabric.device.type,
        precision=recipe.precision,
        batch_size=recipe.batch_size,
        step_s=step_s,
        augmentation_s=max(step_s - plain_s, 0.0),
        optimizer_s=optimizer_s,
        enqueue_s=enqueue_s,
        flop_per_s=counter.get_total_flops() / (plain_s - optimizer_s),
        peak_flop_per_s=_peak(fabric, recipe.precision, n_steps, clock),
    )


class _Step:
    def __init__(
        self, fabric: Fabric, architecture: Architecture, recipe: Recipe
    ) -> None:
        model = architecture.model
        size = (recipe.batch_size, model.n_channels, model.image_size, model.image_size)
        pixels = torch.randint(256, size, dtype=torch.uint8)
        labels = torch.randint(model.n_classes, size[:1])
        noise = ImageSet(images=pixels, labels=labels)
        dataset = Dataset(
            name="noise",
            train=noise,
            test=noise,
            class_names=tuple(map(str, range(model.n_classes))),
            normalization=Normalization(
                mean=(0.5,) * model.n_channels, deviation=(0.25,) * model.n_channels
            ),
        )
        network = VisionTransformer(architecture, recipe.regularization)
        self._objective = TrainingObjective(network, dataset, recipe)
        self._fabric = fabric
        self._images = (pixels.float() / 255).to(fabric.device)
        self._labels = labels.to(fabric.device)
        self._normalization = dataset.normalization
        self._augment = Augment(recipe.augmentation, n_classes=model.n_classes)
        self._network = network.to(fabric.device)
        self._optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def run(self) -> None:
        images, targets = self._augment(self._images, self._labels)
        with self._fabric.autocast():
            normalised = self._normalization.apply(images)
            losses = self._objective.losses(normalised, targets)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=False)  # `optimize` needs gradients

    def optimize(self) -> None:
        self._optimizer.step()


def _seconds(
    work: Callable[[], object],
    device: torch.device,
    n_repeats: int,
    clock: Callable[[], float],
) -> tuple[float, float]:
    """Of one call: until it is done, and until it has returned."""
    work()
    work()
    _wait(device)
    begin_s = clock()
    for _ in range(n_repeats):
        work()
    returned_s = clock()
    _wait(device)
    return (clock() - begin_s) / n_repeats, (returned_s - begin_s) / n_repeats


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(
    fabric: Fabric, precision: Precision, n_repeats: int, clock: Callable[[], float]
) -> float:
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    square = torch.randn(_SQUARE, _SQUARE, device=fabric.device, dtype=dtype)
    once_s, _ = _seconds(lambda: square @ square, fabric.device, n_repeats, clock)
    return 2 * _SQUARE**3 / once_s


def devices_at_hand() -> tuple[tuple[Hardware, Precision], ...]:
    """The CPU, and a GPU in both precisions where there is one."""
    found: list[tuple[Hardware, Precision]] = [
        (Hardware(accelerator="cpu"), "32-true"),
    ]
    if torch.cuda.is_available():
        gpu = replace(found[0][0], accelerator="cuda")
        found += [(gpu, "32-true"), (gpu, "bf16-mixed")]
    return tuple(found)
