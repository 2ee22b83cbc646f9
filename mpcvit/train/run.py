"""Train one architecture, from scratch, with a teacher or without."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from torch.distributed import barrier, is_initialized

from mpcprof import predict
from mpcprof.errors import UsageError
from mpcprof.files import check_apart
from mpcprof.nn.architecture import Architecture, Heads
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.preset import Convolution, ModelPreset
from mpcprof.progress import SILENT, Progress
from mpcvit.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from mpcvit.data.image_set import Dataset
from mpcvit.models.layers import NONE
from mpcvit.models.vit import VisionTransformer
from mpcvit.train.config import RunConfig, choose_model, seed_all
from mpcvit.train.distillation import KdTerm, Teacher, TrainingObjective, check_terms
from mpcvit.train.folder import MODEL
from mpcvit.train.log import EpochRecord
from mpcvit.train.loop import fit
from mpcvit.train.recipe import Recipe, get_recipe

OWN_TEACHER: Final = Path("cnn")  # in place of a checkpoint: a CNN, trained first
OWN_TEACHER_FOLDER: Final = "teacher"  # below that of its student


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What to train, on what, and where to put it.

        >>> mpcvit.TrainConfig(
        ...     run=mpcvit.RunConfig(dataset="digits", recipe=recipe, output=folder),
        ...     architecture=architecture,
        ... ).teacher is None
        True

    Attributes:
        teacher: A checkpoint, or `OWN_TEACHER`; needs `kd`, the terms it teaches by.
    """

    run: RunConfig
    architecture: Architecture
    teacher: Path | None = None
    kd: frozenset[KdTerm] = frozenset()

    def settings(self) -> dict[str, Any]:  # Any: JSON
        """Return what decides the result, as it stands in `config.json`."""
        return {
            "architecture": json.loads(self.architecture.to_json()),
            "dataset": self.run.dataset,
            "data": self.run.data_folder and str(self.run.data_folder),
            "limit": self.run.limit,
            "recipe": asdict(self.run.recipe),
            "teacher_sha256": self.teacher and _digest(self.teacher),
            "kd": sorted(self.kd),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Result of a training.

    Attributes:
        checkpoint: File of the trained model.
        accuracy: Share of the test images labelled right, after the last epoch.
        epochs: All epochs, those of an earlier run, too.
        duration_s: Seconds of this run's epochs.
        is_first_process: Whether this process prints, of those torchrun started.
    """

    checkpoint: Path
    accuracy: float
    epochs: tuple[EpochRecord, ...]
    n_resumed: int
    duration_s: float
    device: str
    is_first_process: bool = True

    @property
    def images_per_s(self) -> float:
        """Training images over the time of the steps, of all epochs."""
        steps_s = sum(record.duration_s for record in self.epochs)
        images = sum(record.images_per_s * record.duration_s for record in self.epochs)
        return images / steps_s

    def to_json(self) -> str:
        """Return one document; seconds, shares."""
        return json.dumps(
            {
                "checkpoint": str(self.checkpoint),
                "accuracy": self.accuracy,
                "losses": dict(self.epochs[-1].losses),
                "n_epochs": len(self.epochs),
                "n_resumed": self.n_resumed,
                "duration_s": self.duration_s,
                "images_per_s": self.images_per_s,
                "device": self.device,
            }
        )

    def __str__(self) -> str:
        return (
            f"{self.checkpoint}: test accuracy {self.accuracy:.2%} after "
            f"{len(self.epochs)} epochs ({self.n_resumed} of an earlier run); "
            f"{self.duration_s:.1f} s on {self.device}, "
            f"{self.images_per_s:.0f} images/s"
        )


def train(
    config: TrainConfig, progress: Progress = SILENT, *, dataset: Dataset | None = None
) -> TrainResult:
    """Train, or resume a training, and write the checkpoint.

        >>> run = mpcvit.RunConfig(
        ...     dataset="digits", recipe=recipe, output=folder / "run", limit=40
        ... )
        >>> config = mpcvit.TrainConfig(run=run, architecture=architecture)
        >>> mpcvit.run_training(config).checkpoint.name
        'model.safetensors'

    Args:
        dataset: The config's data set, where it is loaded already.

    Raises:
        UsageError: If parts of the config do not fit each other or the folder.
        DivergedError: If the loss is not finite.
    """
    check_terms(config.kd, has_teacher=config.teacher is not None)
    if config.teacher == OWN_TEACHER:
        config = replace(config, teacher=train_teacher(config, progress, dataset))
    check_apart(config.run.output / MODEL, teacher=config.teacher)
    taught_by = read_checkpoint(config.teacher) if config.teacher else None
    architecture, recipe = config.architecture, config.run.recipe
    dataset = dataset or config.run.load_dataset(architecture.model)
    dataset.check_fits(architecture.model)
    seed_all(recipe.seed)
    model = VisionTransformer(architecture, recipe.regularization, recipe.form)
    teacher = None
    if taught_by is not None:
        teacher = Teacher(taught_by, model, dataset, config.kd)
    objective = TrainingObjective(model, dataset, recipe, teacher=teacher, kd=config.kd)
    fitted = fit(objective, dataset, config.run, config.settings(), progress)
    accuracy = fitted.epochs[-1].metrics["accuracy"]
    if fitted.is_first_process:
        checkpoint = Checkpoint(
            architecture=architecture,
            weights=model.weights(),
            normalization=dataset.normalization,
            dataset=dataset.name,
            class_names=dataset.class_names,
            accuracy=accuracy,
        )
        write_checkpoint(fitted.folder.model, checkpoint)
    if is_initialized():
        barrier()  # the others may read it next, as a teacher
    return TrainResult(
        checkpoint=fitted.folder.model,
        accuracy=accuracy,
        epochs=fitted.epochs,
        n_resumed=fitted.n_resumed,
        duration_s=fitted.duration_s,
        device=str(fitted.device),
        is_first_process=fitted.is_first_process,
    )


_TEACHER_CHANNELS: Final = (32, 64, 128, 128)  # of the first convolutions
_TEACHER_SIDE: Final = 4  # of the smallest map
_TEACHER_EPOCHS: Final = 10


def train_teacher(
    config: TrainConfig, progress: Progress = SILENT, dataset: Dataset | None = None
) -> Path:
    """Train the CNN that teaches, in the folder `teacher` of the run, or resume it.

    Raises:
        UsageError: As `train`.
    """
    progress.say("training the teacher, a small CNN")
    run = replace(
        config.run,
        output=config.run.output / OWN_TEACHER_FOLDER,
        recipe=_teacher_recipe(config.run.recipe),
    )
    architecture = _teacher_architecture(config.architecture.model)
    taught = train(
        TrainConfig(run=run, architecture=architecture), progress, dataset=dataset
    )
    return taught.checkpoint


def _teacher_recipe(recipe: Recipe) -> Recipe:
    """Return ten epochs of plain training on images varied as the student's are."""
    own = recipe.augmentation
    return replace(
        get_recipe("", "quick"),
        epochs=_TEACHER_EPOCHS,
        batch_size=recipe.batch_size,
        augmentation=replace(own, mixup=0.0, cutmix=0.0, randaugment_magnitude=0.0),
        regularization=NONE,
        precision=recipe.precision,
        n_threads=recipe.n_threads,
        seed=recipe.seed,
    )


def _teacher_architecture(model: ModelPreset) -> Architecture:
    """Return convolutions with a pool of 2 down to a map of 4 x 4, and one more."""
    side = model.image_size
    stem: list[Convolution] = []
    while side % 2 == 0 and side > _TEACHER_SIDE:
        side //= 2
        stem.append(Convolution(channels=_channels(len(stem)), pool=2))
    stem.append(Convolution(channels=_channels(len(stem))))
    teacher = ModelPreset(
        name="cnn",
        n_layers=0,
        n_heads=1,
        width=stem[-1].channels,
        image_size=model.image_size,
        patch=1,
        n_channels=model.n_channels,
        n_classes=model.n_classes,
        pooling="mean",
        stem=tuple(stem),
    )
    return Architecture(model=teacher, attention=(), activation=())


def _channels(number: int) -> int:
    return _TEACHER_CHANNELS[min(number, len(_TEACHER_CHANNELS) - 1)]


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"cannot read teacher {str(path)!r}: {error.strerror}"
        ) from None


def choose_architecture(
    text: str,
    *,
    model: str | None,
    dataset: str,
    activation: str | None = None,
    heads: Heads | None = None,
) -> Architecture:
    """Return a file's architecture, or a variant in every head of the data set's model.

    Raises:
        UsageError: If a name is unknown, or the file says otherwise.
    """
    return predict.choose_architecture(
        attention=text,
        model=model,
        preset=choose_model(model, dataset) if text in ATTENTIONS else None,
        activation=activation,
        heads=heads,
    )


def default_output(text: str, dataset: str) -> Path:
    """Return `runs/DATASET-ARCHITECTURE`, by names alone."""
    return Path("runs", f"{Path(dataset).name}-{Path(text).stem}")
