"""The loop of training and search: epochs of AdamW steps, resumable at each epoch.

Every epoch begins by seeding all randomness from (seed, epoch, rank). So what a resume
needs is the module, the optimiser and the number of epochs done, and a run that was
killed gives the weights that an unbroken one gives: on a CPU, bit for bit.

Several processes (torchrun) share each batch: its images, its mean loss and the
statistics of its BatchNorms are those of one process, up to the order of sums. What is
drawn beside the order of the images (augmentation, dropout) each process draws for
its own images. Any number of processes goes on with what another number left.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import AdamW

from mpcprof.errors import MpcprofError
from mpcprof.progress import SILENT, Progress
from mpcvit.data.augmentation import Augment
from mpcvit.data.image_set import Dataset, batches, count_batches
from mpcvit.models.norm import BatchNorm
from mpcvit.train.config import RunConfig, seed_all
from mpcvit.train.folder import NO_RUN, RunFolder, check_shared, read_state, write_state
from mpcvit.train.log import EpochLog, EpochRecord, read_log
from mpcvit.train.recipe import Recipe, split_by_decay


class DivergedError(MpcprofError, ArithmeticError):
    """The loss is infinite or undefined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay."""

    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    min_learning_rate: float
    weight_decay: float


class Objective(Protocol):
    """A loss over images, and the module that it trains.

    Attributes:
        module: All that a resume needs: parameters, and as buffers whatever else
            changes while training (a multiplier, say). Teachers do not belong here.
    """

    @property
    def module(self) -> nn.Module:
        """Module that is trained and saved."""

    def groups(self) -> Sequence[ParameterGroup]:
        """Return every trained parameter, once, in an order that never changes."""

    def to(self, device: torch.device) -> None:
        """Move what is not part of the module, such as a teacher."""

    def begin_step(self, progress: float) -> None:
        """Set what depends on the share of the training that is done, from 0 to 1.

        What it sets is not saved: after a resume it follows from the epoch.
        """

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        """Return scalars by name; "total" is minimised, the others are logged.

        Args:
            images: (B, c, S, S), augmented and normalised.
            targets: (B, C), probabilities.
        """

    def after_step(self) -> None:
        """Project or clamp parameters after a step of the optimiser."""

    def metrics(self) -> Mapping[str, float]:
        """Return what to log of the epoch that just ended, changing nothing."""


def decayed_groups(
    module: nn.Module, recipe: Recipe, apart: Iterable[nn.Parameter] = ()
) -> tuple[ParameterGroup, ...]:
    """Return the groups of `split_by_decay` at the rates of a recipe."""
    return tuple(
        ParameterGroup(
            parameters=tuple(own),
            learning_rate=recipe.learning_rate,
            min_learning_rate=recipe.min_learning_rate,
            weight_decay=recipe.weight_decay if is_decayed else 0.0,
        )
        for is_decayed, own in split_by_decay(module, apart)
    )


def clipped_parameters(
    module: nn.Module, groups: Sequence[ParameterGroup], recipe: Recipe
) -> list[nn.Parameter]:
    """Return the parameters whose gradients are clipped together."""
    is_free = not recipe.clip_batchnorm
    norms = [m for m in module.modules() if is_free and isinstance(m, BatchNorm)]
    left = {id(own) for norm in norms for own in norm.parameters(recurse=False)}
    return [p for group in groups for p in group.parameters if id(p) not in left]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """What a loop did.

    Attributes:
        folder: Where its files are.
        epochs: Of all epochs, those of an earlier run too.
        n_resumed: Epochs that an earlier run had done.
        duration_s: Of this run's epochs, with metrics and saving.
        is_first_process: Whether this process writes the files; always without
            torchrun.
    """

    folder: RunFolder
    epochs: tuple[EpochRecord, ...]
    n_resumed: int
    duration_s: float
    device: torch.device
    is_first_process: bool


def fit(
    objective: Objective,
    dataset: Dataset,
    request: RunConfig,
    settings: Mapping[str, Any],  # Any: JSON
    progress: Progress = SILENT,
    *,
    results: tuple[str, ...] = (),
) -> FitResult:
    """Minimise the objective on the dataset's training images; resumes by itself.

    The objective's module holds the result; it is on the device of the loop.

    Args:
        dataset: That of the request.
        settings: All that decides what comes out but the number of processes; see
            `RunFolder`.
        results: Names of what is written into the folder after the loop; a fresh run
            removes them.

    Raises:
        UsageError: If the folder holds a run with other settings, or a damaged one, or
            is not the same for all processes.
        DivergedError: If the loss is not finite; the last good epoch stays saved.
    """
    recipe = request.recipe
    fabric = request.hardware.launch(recipe.precision)
    folder = RunFolder(
        path=request.output,
        settings={**settings, "n_processes": fabric.world_size},
        results=results,
    )
    if recipe.n_threads is not None:
        torch.set_num_threads(recipe.n_threads)
    if not fabric.is_global_zero:
        return _Loop(fabric, objective, dataset, recipe, folder).run(None, SILENT)
    with folder.opened(is_fresh=request.is_fresh):
        loop = _Loop(fabric, objective, dataset, recipe, folder)
        with EpochLog(folder.log, folder.tensorboard, n_epochs=loop.n_done) as log:
            return loop.run(log, progress)


class _LossModule(nn.Module):
    """The objective's losses as a forward pass, which is what Fabric can wrap."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.trained = objective.module
        self._objective = objective

    def forward(self, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return dict(self._objective.losses(images, targets))


class _Loop:
    def __init__(
        self,
        fabric: Fabric,
        objective: Objective,
        dataset: Dataset,
        recipe: Recipe,
        folder: RunFolder,
    ) -> None:
        self._fabric = fabric
        self._objective = objective
        self._dataset = dataset
        self._recipe = recipe
        self._folder = folder
        self._groups = tuple(group for group in objective.groups() if group.parameters)
        self._clipped = clipped_parameters(objective.module, self._groups, recipe)
        self._images = dataset.train.to(fabric.device)
        self._augment = Augment(
            recipe.augmentation,
            n_classes=len(dataset.class_names),
            label_smoothing=recipe.label_smoothing,
        )
        optimizer = AdamW(
            [
                {"params": [*group.parameters], "weight_decay": group.weight_decay}
                for group in self._groups
            ],
            lr=recipe.learning_rate,
            fused=True,  # a fifth of the time of one kernel by parameter
        )
        self._step, self._optimizer = fabric.setup(_LossModule(objective), optimizer)
        objective.to(fabric.device)
        fabric.barrier()  # by now the first process has opened the folder
        self.n_done = self._resume()
        check_shared(fabric, folder.path, self.n_done)

    def _resume(self) -> int:
        """Epochs done, by the folder as this process sees it."""
        if not self._folder.config.exists():
            return NO_RUN
        if not self._folder.state.exists():
            return 0
        module, optimizer = self._objective.module, self._optimizer.optimizer
        return read_state(self._folder.state, module, optimizer)

    def run(self, log: EpochLog | None, progress: Progress) -> FitResult:
        begin_s = time.perf_counter()
        records = [*read_log(self._folder.log, self.n_done)]
        n_steps = count_batches(
            len(self._images),
            batch_size=self._recipe.batch_size,
            world_size=self._fabric.world_size,
        )
        n_epochs, n_done = self._recipe.epochs, self.n_done
        if n_done:
            progress.say(f"{n_done} of {n_epochs} epochs are done already")
        progress.begin(n_epochs * n_steps, n_done=n_done * n_steps)
        for epoch in range(n_done + 1, n_epochs + 1):
            progress.describe(f"epoch {epoch} of {n_epochs}")
            record = self._run_epoch(epoch, n_steps, progress)
            if log is not None:
                log.append(record)
                module, optimizer = self._objective.module, self._optimizer.optimizer
                write_state(self._folder.state, module, optimizer, n_epochs=epoch)
            self._fabric.barrier()  # nobody goes on from what is not saved
            records.append(record)
            progress.say(str(record))
        self._objective.module.eval()
        return FitResult(
            folder=self._folder,
            epochs=tuple(records),
            n_resumed=self.n_done,
            duration_s=time.perf_counter() - begin_s,
            device=self._fabric.device,
            is_first_process=self._fabric.is_global_zero,
        )

    def _run_epoch(self, epoch: int, n_steps: int, progress: Progress) -> EpochRecord:
        fabric = self._fabric
        seed_all(self._recipe.seed, epoch, fabric.global_rank)
        self._step.train()
        begin_s = time.perf_counter()
        sums: dict[str, Tensor] = {}
        for number, (images, labels) in enumerate(self._batches(epoch)):
            n_done = epoch - 1 + number / n_steps
            self._set_learning_rates(n_done)
            self._objective.begin_step(n_done / self._recipe.epochs)
            is_last = number == n_steps - 1
            n_rest = len(self._images) - number * self._recipe.batch_size
            n_batch = n_rest if is_last else self._recipe.batch_size
            weight = len(labels) * fabric.world_size / n_batch
            for name, loss in self._take_step(images, labels, epoch, weight).items():
                weighted = loss * len(labels)  # stays on the device: no waiting here
                sums[name] = sums[name] + weighted if name in sums else weighted
            progress.advance()
        losses = self._mean_losses(epoch, sums)
        steps_s = time.perf_counter() - begin_s
        metrics = dict(self._objective.metrics())
        return EpochRecord(
            epoch=epoch,
            learning_rate=self._optimizer.param_groups[0]["lr"],
            losses=losses,
            metrics=metrics,
            duration_s=steps_s,
            metrics_s=time.perf_counter() - begin_s - steps_s,
            images_per_s=len(self._images) / steps_s,
        )

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(
            self._images,
            batch_size=self._recipe.batch_size,
            seed=self._recipe.seed,
            epoch=epoch,
            rank=self._fabric.global_rank,
            world_size=self._fabric.world_size,
            device=self._fabric.device,
            is_shuffled=True,
        )

    def _set_learning_rates(self, epoch: float) -> None:
        for group, values in zip(
            self._groups, self._optimizer.param_groups, strict=True
        ):
            values["lr"] = self._recipe.schedule.learning_rate(
                epoch, peak=group.learning_rate, least=group.min_learning_rate
            )

    def _take_step(
        self, images: Tensor, labels: Tensor, epoch: int, weight: float
    ) -> dict[str, Tensor]:
        """Take a step; the weight is this process's images over their mean number."""
        varied, targets = self._augment(images, labels, epoch=epoch)
        losses = self._step(self._dataset.normalization.apply(varied), targets)
        # the mean over processes, some of which may have an image more, is the batch's
        self._fabric.backward(losses["total"] * weight)
        if (
            self._recipe.clip_norm is not None
        ):  # what is not finite `_mean_losses` tells
            nn.utils.clip_grad_norm_(self._clipped, self._recipe.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._objective.after_step()
        return {name: loss.detach() for name, loss in losses.items()}

    def _mean_losses(self, epoch: int, sums: Mapping[str, Tensor]) -> dict[str, float]:
        together = torch.stack([value.double() for value in sums.values()])
        totals: Any = self._fabric.all_reduce(together, reduce_op="sum")
        means = dict(zip(sums, (totals / len(self._images)).tolist(), strict=True))
        if not all(map(math.isfinite, means.values())):
            raise DivergedError(
                f"epoch {epoch}: losses {means} are not finite; start anew with a "
                "lower learning rate (--fresh --learning-rate)"
            )
        return means
