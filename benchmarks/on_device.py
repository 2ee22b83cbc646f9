"""Training on one device that holds the images as bytes; it needs torch alone."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from torch.nn.utils import clip_grad_norm_

from mpcprof.errors import MpcprofError, UsageError
from mpcprof.files import replace_file
from mpcprof.nn.architecture import Architecture
from mpcvit.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from mpcvit.data.augmentation import crop, cutmix, draw_box, draw_share, soften
from mpcvit.data.normalization import WHITE, Normalization, measure_normalization
from mpcvit.models.norm import BatchNorm
from mpcvit.models.vit import VisionTransformer
from mpcvit.train.folder import RunFolder, read_state, write_state
from mpcvit.train.log import EpochRecord, read_log
from mpcvit.train.recipe import StepRecipe, check_numbers, split_by_decay

CLASSES: Final = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SIZE, N_CHANNELS, N_IMAGES = 32, 3, 50_000  # to train on
PADDING, HOLE, GREY = 4, 8, 120  # pixels, pixels, and the brightness of a hole
WARMUP: Final = 0.2  # share of the training until the peak of the learning rate
SAVE_S: Final = 10.0  # between two states: a killed run loses no more
_EVALUATED: Final = 2000  # images at once
_BINARY: Final = "cifar-10-binary.tar.gz"
_RECORD: Final = 1 + N_CHANNELS * SIZE**2  # bytes: a label and the pixels


class NotFiniteError(MpcprofError, ArithmeticError):
    """The loss is infinite or undefined."""


class Images(NamedTuple):
    """Images in bytes, (n, c, S, S), and their labels, (n,), on one device."""

    pixels: Tensor
    labels: Tensor

    def first(self, n_images: int | None) -> "Images":
        """Return so many of them; all if None."""
        return Images(self.pixels[:n_images], self.labels[:n_images])

    def to(self, device: torch.device) -> "Images":
        """Return them on that device."""
        return Images(self.pixels.to(device), self.labels.to(device))


class Data(NamedTuple):
    """Images to train on and to test on, and what they go through before a network."""

    train: Images
    test: Images
    normalization: Normalization


def read_data(folder: Path, device: torch.device, limit: int | None = None) -> Data:
    """Read CIFAR-10 onto a device.

    Args:
        limit: Most images of each split; None for all.

    Raises:
        UsageError: If there are none, or their form needs a package that is not there.
    """
    found = sorted(folder.rglob("test_batch.bin"))[:1]
    if found:
        batches = sorted(found[0].parent.glob("data_batch_*.bin"))
        train, test = _read_records(batches), _read_records(found)
    else:
        train, test = _read_other_form(folder)
    normalization = measure_normalization(train.pixels)
    train, test = (images.first(limit).to(device) for images in (train, test))
    return Data(train, test, normalization)


def _read_records(paths: list[Path]) -> Images:
    data = bytearray(b"".join(path.read_bytes() for path in paths))
    if not data or len(data) % _RECORD:
        raise UsageError(
            f"{len(data)} bytes in {', '.join(map(str, paths)) or 'data_batch_*.bin'}: "
            f"expected records of {_RECORD}; unpack {_BINARY} anew"
        )
    records = torch.frombuffer(data, dtype=torch.uint8).view(-1, _RECORD)
    pixels = records[:, 1:].reshape(-1, N_CHANNELS, SIZE, SIZE)
    return Images(pixels, records[:, 0].long())


def _read_other_form(folder: Path) -> tuple[Images, Images]:
    try:
        from mpcvit.data.cifar import load_cifar

        data = load_cifar("cifar10", folder, None, None)
    except ImportError as error:
        raise UsageError(
            f"images in {str(folder)!r}: {error}; install it, or unpack {_BINARY} "
            "there, which torch alone reads"
        ) from None
    train, test = (Images(s.images, s.labels) for s in (data.train, data.test))
    return train, test


def vary(pixels: Tensor) -> Tensor:
    """Move, mirror and pierce each image of (n, c, S, S), in bytes."""
    n_images, _, size, _ = pixels.shape
    is_mirrored = torch.rand(n_images, 1, 1, 1, device=pixels.device) < 0.5
    centres = torch.randint(size, (2, n_images, 1), device=pixels.device)
    near = (torch.arange(size, device=pixels.device) - centres).abs() < HOLE / 2
    hole = near[0, :, None, :, None] & near[1, :, None, None, :]  # (n, 1, S, S)
    moved = crop(pixels, PADDING)
    return torch.where(is_mirrored, moved.flip(3), moved).masked_fill(hole, GREY)


def one_cycle(share: float) -> float:
    """Return the learning rate over its peak, up and then down in straight lines."""
    return max(min(share / WARMUP, (1 - share) / (1 - WARMUP)), 1e-3)


@torch.no_grad()
def measure_accuracy(model: nn.Module, data: Data) -> float:
    """Return the share of test images whose largest logit is their label's."""
    model.eval()
    n_right = torch.zeros((), dtype=torch.int64, device=data.test.labels.device)
    parts = (torch.split(values, _EVALUATED) for values in data.test)
    for pixels, labels in zip(*parts, strict=True):
        logits = model(data.normalization.apply(pixels / WHITE))
        n_right += (logits.argmax(1) == labels).sum()
    return float(n_right) / len(data.test.labels)


Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecipe(StepRecipe):
    """Everything of a training but network, images and time.

    Attributes:
        cutmix: Probability that a batch is mixed.
        is_bf16: Whether the network is computed in bfloat16.
        is_compiled: Whether the network and its loss are compiled.

    Raises:
        UsageError: If a number is out of range.
    """

    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    cutmix: float = 0.0
    is_bf16: bool = False
    is_compiled: bool = False

    def __post_init__(self) -> None:
        StepRecipe.__post_init__(self)  # super() misses classes with slots
        check_numbers(self, cutmix=(0 <= self.cutmix <= 1, "a probability"))

    @property
    def gradual(self) -> float:
        """Share of the training in which something still gives way."""
        return max(self.gradual_norm, self.gradual_activation)


class Trainer:
    """A network with its optimiser, on the device of the images."""

    def __init__(
        self,
        architecture: Architecture,
        data: Data,
        recipe: DeviceRecipe,
        teacher: nn.Module | None = None,
    ) -> None:
        images, device = data.train, data.train.labels.device
        torch.manual_seed(recipe.seed)
        model = VisionTransformer(architecture, form=recipe.form).to(device)
        self.model, self.images, self.recipe = model, images, recipe
        self.teacher = None if teacher is None else teacher.to(device)
        self.normalization = data.normalization
        self.batch_size = min(recipe.batch_size, len(images.labels))
        self.n_steps = len(images.labels) // self.batch_size
        norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
        left = {id(p) for norm in norms for p in norm.parameters(recurse=False)}
        # statistics have no gradient, and their gamma and beta are not held back
        self.clipped = [p for p in model.parameters() if id(p) not in left]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": own, "weight_decay": recipe.weight_decay * is_decayed}
                for is_decayed, own in split_by_decay(model)
            ],
            fused=True,
        )
        self._compute: Loss = self.loss

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy, and what the recipe and a teacher add to it.

        Args:
            images: (B, c, S, S), normalised.
            targets: (B, C), probabilities.
        """
        kind, is_bf16 = images.device.type, self.recipe.is_bf16
        with torch.autocast(kind, torch.bfloat16, enabled=is_bf16):
            logits = self.model(images)
            with torch.no_grad():
                taught = self.teacher(images) if self.teacher else None
        loss = cross_entropy(logits.float(), targets)
        if self.recipe.range_penalty:
            loss = loss + self.recipe.range_penalty * self.model.excess()
        if taught is None:
            return loss
        own, other = log_softmax(logits.float(), 1), log_softmax(taught.float(), 1)
        return loss + kl_div(own, other, log_target=True, reduction="batchmean")

    def warm_up(self) -> str:
        """Compile, by a step that changes no weight; return why that failed, if so."""
        first, why = self.images.first(self.batch_size), ""
        self.model.train()
        # what is compiled: once nothing gives way, and once statistics stand still
        stages = [self.recipe.gradual, *([1.0] if self.recipe.frozen_norm else [])]
        if self.recipe.is_compiled:
            self._compute = torch.compile(self.loss)
            try:
                for share in stages:
                    self.model.begin_step(share)
                    self._backward(*first, self._compute)
            except Exception as error:  # whatever part of a compiler is missing
                why = f"not compiled: {str(error).splitlines()[0]}"
                self._compute = self.loss
        self._backward(*first, self.loss)
        self.optimizer.zero_grad()
        return why

    def _backward(self, pixels: Tensor, labels: Tensor, compute: Loss) -> Tensor:
        images = self.normalization.apply(pixels / WHITE)
        targets = soften(labels, len(CLASSES), self.recipe.label_smoothing)
        if self.recipe.cutmix and torch.rand(()) < self.recipe.cutmix:
            images, targets = cutmix(images, targets, draw_box(SIZE, draw_share(1.0)))
        loss = compute(images, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def run_epoch(
        self, epoch: int, share_done: Callable[[float], float]
    ) -> EpochRecord:
        """Train on every image once, or until the time of the training is over.

        Args:
            epoch: Number of the epoch, from 1 on; it decides all that is random.
            share_done: Share of the training that is done, after a share of the epoch.

        Raises:
            NotFiniteError: If the loss is not finite.
        """
        torch.manual_seed(self.recipe.seed * 1_000_003 + epoch)
        self.model.train()
        begin_s, n_steps, rate = time.perf_counter(), 0, 0.0
        pixels, labels = vary(self.images.pixels), self.images.labels
        total = torch.zeros((), device=labels.device)
        order = torch.randperm(len(labels), device=labels.device)
        for rows in torch.split(order, self.batch_size)[: self.n_steps]:
            share = share_done(n_steps / self.n_steps)
            if share >= 1 and n_steps:
                break
            rate = self.recipe.learning_rate * one_cycle(share)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.model.begin_step(share)
            # what changes at each step would be compiled at each step
            compute = self._compute if share >= self.recipe.gradual else self.loss
            total += self._backward(pixels[rows], labels[rows], compute)
            clip_grad_norm_(self.clipped, self.recipe.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            n_steps += 1
        loss = float(total) / n_steps  # waits for the device
        if not math.isfinite(loss):
            raise NotFiniteError(
                f"epoch {epoch}: loss {loss}; start anew with --fresh and a lower "
                f"--learning-rate than {self.recipe.learning_rate:g}"
            )
        duration_s = time.perf_counter() - begin_s
        return EpochRecord(
            epoch=epoch,
            learning_rate=rate,
            losses={"total": loss},
            metrics={},
            duration_s=duration_s,
            metrics_s=0.0,
            images_per_s=n_steps * self.batch_size / duration_s,
        )


def say(text: str) -> None:
    """Print a line at once, so that a killed run has printed it."""
    print(text, flush=True)


def measure_speed(
    architecture: Architecture, data: Data, recipe: DeviceRecipe, n_steps: int
) -> str:
    """Return images a second of so many steps, and the epochs a minute they make."""
    few = data._replace(train=data.train.first(n_steps * recipe.batch_size))
    trainer = Trainer(architecture, few, recipe)
    note = trainer.warm_up()
    rate = trainer.run_epoch(1, lambda share: share).images_per_s
    speed = f"{rate:.0f} images/s, {60 * rate / N_IMAGES:.2g} epochs a minute"
    return f"{speed} ({note})" if note else speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The training of one architecture in a folder, where it also goes on.

    Attributes:
        n_epochs: Number of epochs; None for a time.
        duration_s: Seconds of steps and evaluations; None for what `run` is given.
        taught_by: Name of the teacher, if there is one.
    """

    architecture: Architecture
    recipe: DeviceRecipe
    folder: Path
    n_epochs: int | None
    duration_s: float | None
    taught_by: str | None

    def run(
        self, data: Data, teacher: Checkpoint | None, left_s: float, *, is_fresh: bool
    ) -> Checkpoint:
        """Train, or go on, and write the checkpoint.

        Args:
            left_s: Seconds, compiling among them, where no duration is stated.
            is_fresh: Whether to remove what an earlier run left in the folder.

        Raises:
            UsageError: If the folder holds a run with other settings.
            NotFiniteError: If the loss is not finite.
        """
        end_s, names = time.perf_counter() + left_s, ("duration_s", "n_epochs")
        settings = {name: getattr(self, name) for name in (*names, "taught_by")}
        settings |= {"recipe": asdict(self.recipe), "n_images": len(data.train.labels)}
        settings["architecture"] = json.loads(self.architecture.to_json())
        folder = RunFolder(path=self.folder, settings=settings)
        with folder.opened(is_fresh=is_fresh):
            if folder.model.exists():
                return read_checkpoint(folder.model)
            taught_by = None if teacher is None else teacher.build_model()
            trainer = Trainer(self.architecture, data, self.recipe, taught_by)
            self._fit(folder, trainer, data, end_s)
            return write_result(folder.model, trainer.model, data)

    def _fit(
        self, folder: RunFolder, trainer: Trainer, data: Data, end_s: float
    ) -> None:
        model, optimizer, name = trainer.model, trainer.optimizer, self.folder.name
        say(f"{name}: {trainer.warm_up() or 'begins'}")
        is_begun = folder.state.exists()
        n_done = read_state(folder.state, model, optimizer) if is_begun else 0
        records = [*read_log(folder.log, n_done)]
        spent_s = sum(record.duration_s + record.metrics_s for record in records)
        begin_s = saved_s = time.perf_counter()
        duration_s = self.duration_s or max(end_s - begin_s, 1e-9) + spent_s

        def share_done(part: float) -> float:
            if self.n_epochs is not None:
                return (len(records) + part) / self.n_epochs
            return (spent_s + time.perf_counter() - begin_s) / duration_s

        while share_done(0.0) < 1 or not records:
            record = trainer.run_epoch(len(records) + 1, share_done)
            records.append(evaluated(record, model, data))
            say(f"{name}: {describe(records[-1])}")
            now_s = time.perf_counter()
            if now_s > saved_s + SAVE_S or share_done(0.0) >= 1:
                lines = "".join(f"{each.to_json()}\n" for each in records)
                replace_file(folder.log, lines)  # what the state has not seen is cut
                write_state(folder.state, model, optimizer, n_epochs=len(records))
                saved_s = now_s


def evaluated(record: EpochRecord, model: nn.Module, data: Data) -> EpochRecord:
    """Return the record of an epoch with the accuracy on the test images."""
    begin_s = time.perf_counter()
    metrics = {"accuracy": measure_accuracy(model, data)}
    metrics_s = time.perf_counter() - begin_s
    return replace(record, metrics=metrics, metrics_s=metrics_s)


def describe(record: EpochRecord) -> str:
    """Return an epoch's numbers, and how many such epochs a minute has."""
    per_minute = 60 / (record.duration_s + record.metrics_s)
    speed = f"{record.images_per_s:.0f} images/s, {per_minute:.2g} epochs a minute"
    return f"{record}, {speed}"


def write_result(path: Path, model: VisionTransformer, data: Data) -> Checkpoint:
    """Write the checkpoint, with the accuracy of the network as it is deployed."""
    checkpoint = Checkpoint(
        architecture=model.architecture,
        weights=model.weights(),
        normalization=data.normalization,
        dataset="cifar10",
        class_names=CLASSES,
    )
    deployed = checkpoint.build_model().to(data.test.labels.device)
    checkpoint = replace(checkpoint, accuracy=measure_accuracy(deployed, data))
    write_checkpoint(path, checkpoint)
    return checkpoint
