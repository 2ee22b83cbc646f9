"""Every architecture of a study, trained by the same recipe with every seed."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Final

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.network import NETWORKS, Network
from mpcprof.nn.architecture import Architecture, Heads, uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.preset import ModelPreset
from mpcprof.profile.io import read_profile
from mpcprof.progress import SILENT, Progress
from mpcprof.shard import Shard
from mpcvit.data.dataset import load_dataset
from mpcvit.data.image_set import Dataset
from mpcvit.paper.published import Published
from mpcvit.pareto import MEASURED, ParetoConfig, gather, predict_s, read_measured
from mpcvit.train.config import RunConfig, choose_model
from mpcvit.train.distillation import KdTerm, choose_terms
from mpcvit.train.folder import MODEL, RunFolder
from mpcvit.train.jobs import run_jobs
from mpcvit.train.log import read_log
from mpcvit.train.loop import DivergedError
from mpcvit.train.run import TrainConfig, TrainResult, train

NO_TEACHER: Final = "none"
TRAINED: Final = "trained"  # below the study's folder: GROUP/NAME-seed-SEED


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One recipe, one data set and one profile for every architecture.

    Attributes:
        run: Images, recipe and machine. Its output is the folder of the study, and its
            recipe's seed gives way to `seeds`.
        seeds: Seeds of the trainings of each architecture.
        profile: File of measured seconds.
        heads: How private inference runs the heads; predicted seconds are for that.
        teacher: A checkpoint, a variant that is trained first, or `none`.
        model: Name of a preset; None for the data set's own.
        recipe: Name of the recipe that searches start from; None for the data set's.
        n_jobs: Trainings at once, each in a process of its own.
        shard: Part of the trainings to do; None for all. The teacher and the searches,
            which all parts need, are done by whoever comes first.
        cluster: Address of a Ray cluster whose hosts train, each as many at once as
            `n_jobs` says; "" for this one.

    Raises:
        UsageError: If there is no seed, or one twice, or a shard is to begin anew.
    """

    run: RunConfig
    profile: Path
    network: Network = NETWORKS["wan"]
    heads: Heads = "serial"
    seeds: tuple[int, ...] = (0,)
    teacher: str = "softmax"
    model: str | None = None
    recipe: str | None = None
    n_jobs: int = 1
    shard: Shard | None = None
    cluster: str = ""

    def __post_init__(self) -> None:
        if not self.seeds or len({*self.seeds}) != len(self.seeds):
            raise UsageError(f"seeds {self.seeds}: expected at least one, each once")
        if self.shard is not None and self.run.is_fresh:
            raise UsageError(
                f"--fresh with --shard {self.shard}: each part would remove what the "
                f"others need; remove {str(self.folder)!r}, then leave --fresh out"
            )

    @property
    def spread(self) -> dict[str, Any]:  # Any: options of `run_jobs`
        """How its jobs are run, and how long one waits for another shard."""
        patience_s = 0.0 if self.shard is None else math.inf
        jobs = {"n_jobs": self.n_jobs, "cluster": self.cluster}
        return {**jobs, "patience_s": patience_s}

    @property
    def folder(self) -> Path:
        """Folder of everything that the study writes."""
        return self.run.output

    @property
    def preset(self) -> ModelPreset:
        """Sizes of the models."""
        return choose_model(self.model, self.run.dataset)

    @property
    def label(self) -> str:
        """Title of a figure: data set, network and profile."""
        return f"{self.run.dataset}, {self.network}, {self.profile.stem}"

    def train_config(
        self,
        architecture: Architecture,
        output: Path,
        *,
        seed: int,
        teacher: Path | None = None,
        kd: frozenset[KdTerm] = frozenset(),
    ) -> TrainConfig:
        """Return the training of one architecture with one seed."""
        recipe = replace(self.run.recipe, seed=seed)
        return TrainConfig(
            run=replace(self.run, recipe=recipe, output=output),
            architecture=replace(architecture, heads=self.heads),
            teacher=teacher,
            kd=kd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One architecture to be trained.

    Attributes:
        group: Name of its kind: `searched`, `random`, ...
        name: Name within its group.
        kd: Terms that the teacher gives; None for all it can give.
        detail: What tells it from the others, for the table.
        published: Number that the paper prints for its like.
    """

    group: str
    name: str
    architecture: Architecture
    kd: frozenset[KdTerm] | None = None
    detail: str = ""
    published: Published | None = None

    def folder_name(self, seed: int) -> Path:
        """Return GROUP/NAME-seed-SEED, below the folder of all trainings."""
        return Path(self.group, f"{self.name}-seed-{seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRun:
    """One training.

    Attributes:
        accuracy: Share of the test images; None if the training diverged.
        duration_s: Seconds of all its epochs, those of an earlier run too.
        n_resumed: Number of epochs that an earlier run had done.
        failure: Why there is no accuracy; empty if there is one.
        measured_s: Seconds of a private inference by real parties; None if nobody
            measured it.
    """

    seed: int
    checkpoint: Path
    accuracy: float | None = None
    duration_s: float = 0.0
    n_resumed: int = 0
    failure: str = ""
    measured_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One architecture, trained with every seed.

    Attributes:
        predicted_s: Seconds of a private inference of one image.
        n_test: Number of test images behind each accuracy.
    """

    candidate: Candidate
    predicted_s: float
    n_test: int
    runs: tuple[SeedRun, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracies of the seeds whose training did not diverge."""
        return tuple(run.accuracy for run in self.runs if run.accuracy is not None)

    @property
    def accuracy(self) -> float | None:
        """Mean over seeds, equal where the sums are; None if every one diverged."""
        return round(fmean(self.accuracies), 12) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1); None for fewer than two."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of one accuracy that comes from the choice of test images."""
        mean = self.accuracy
        return None if mean is None else standard_error(mean, self.n_test)

    @property
    def measured_s(self) -> float | None:
        """Mean of the measured seconds; None if nothing was measured."""
        known = [run.measured_s for run in self.runs if run.measured_s is not None]
        return fmean(known) if known else None


class ShardDone(Exception):  # noqa: N818 - it ends a study early, and is no error
    """A shard has done its part, and the report needs parts that are not there yet.

    Attributes:
        folder: Folder of the study.
        n_trainings: Trainings of all shards.
        n_missing: Those of them that are not done.
    """

    def __init__(
        self, *, shard: Shard, folder: Path, n_trainings: int, n_missing: int
    ) -> None:
        super().__init__(
            f"shard {shard} is done: {n_trainings - n_missing} of {n_trainings} "
            f"trainings are in {folder}; when the others are, the same command writes "
            "the report"
        )
        self.shard, self.folder = shard, folder
        self.n_trainings, self.n_missing = n_trainings, n_missing

    def to_json(self) -> str:
        """Return the shard, the folder, and how many trainings are there."""
        values = {"n_trainings": self.n_trainings, "n_missing": self.n_missing}
        return json.dumps(
            {"shard": str(self.shard), "folder": str(self.folder), **values}
        )


def standard_error(accuracy: float, n_images: int) -> float:
    """Return sqrt(p (1 - p) / n): how far other test images would move an accuracy.

    Seeds share the test images: more seeds do not make it smaller.
    """
    return math.sqrt(accuracy * (1 - accuracy) / n_images)


def train_candidates(
    study: Study, candidates: Sequence[Candidate], progress: Progress = SILENT
) -> tuple[Outcome, ...]:
    """Train all that is not trained yet; return outcomes in the candidates' order.

    Raises:
        UsageError: If two candidates would share a folder, or a folder holds a run with
            other settings, or a measurement that is damaged.
        MissingEntryError: If the profile lacks an operation.
        ShardDone: If the trainings of other shards are not there yet.
    """
    _check(study, candidates)
    model = fit_cost_model(read_profile(study.profile))
    predicted_s = [
        predict_s(model, replace(one.architecture, heads=study.heads), study.network)
        for one in candidates
    ]
    teacher = prepare_teacher(study, progress)
    runs = product(candidates, study.seeds)
    configs = [_config(study, one, seed, teacher) for one, seed in runs]
    if study.shard is not None:
        _train_shard(study, study.shard, configs, progress)
    answers = run_jobs(train_one, configs, progress=progress, **study.spread)
    done = map(_seed_run, configs, answers)
    n_test = len(_load_images(configs[0]).test)
    outcomes = [
        Outcome(
            candidate=one,
            predicted_s=seconds,
            n_test=n_test,
            runs=tuple(islice(done, len(study.seeds))),
        )
        for one, seconds in zip(candidates, predicted_s, strict=True)
    ]
    return _with_measured(study, outcomes)


def _train_shard(
    study: Study, shard: Shard, configs: Sequence[TrainConfig], progress: Progress
) -> None:
    shard.check_size(len(configs), "trainings")

    def name(config: TrainConfig) -> str:
        return config.run.output.relative_to(study.folder).as_posix()

    own = shard.take(configs, name)
    run_jobs(train_one, own, progress=progress, **study.spread)
    n_missing = len(configs) - sum(map(_is_trained, configs))
    if n_missing:
        raise ShardDone(
            shard=shard,
            folder=study.folder,
            n_trainings=len(configs),
            n_missing=n_missing,
        )


def _is_trained(config: TrainConfig) -> bool:
    folder = RunFolder(path=config.run.output, settings={})
    n_done = len(read_log(folder.log))
    return folder.model.exists() and n_done == config.run.recipe.epochs


def _check(study: Study, candidates: Sequence[Candidate]) -> None:
    """Refuse equal names, and damaged measurements, before all the training."""
    names = [f"{one.group}/{one.name}" for one in candidates]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise UsageError(
            f"trainings {', '.join(repeated) or 'none'}: expected each once, and some; "
            "ask for other budgets or shares"
        )
    for one, seed in product(candidates, study.seeds):
        read_measured(study.folder / TRAINED / one.folder_name(seed) / MEASURED)


def _config(
    study: Study, candidate: Candidate, seed: int, teacher: Path | None
) -> TrainConfig:
    taught_by = None if candidate.kd == frozenset() else teacher
    return study.train_config(
        candidate.architecture,
        study.folder / TRAINED / candidate.folder_name(seed),
        seed=seed,
        teacher=taught_by,
        kd=choose_terms(candidate.kd, has_teacher=taught_by is not None),
    )


def prepare_teacher(study: Study, progress: Progress = SILENT) -> Path | None:
    """Return the checkpoint that all learn from; train it first if it is a variant.

    Raises:
        UsageError: If the teacher is neither a file, a variant nor `none`.
        DivergedError: If its training diverges.
    """
    text = study.teacher
    if text == NO_TEACHER:
        return None
    if text not in ATTENTIONS:
        if not Path(text).is_file():
            raise UnknownNameError(
                f"teacher {text!r} is neither a checkpoint, a variant nor none; "
                f"{did_you_mean(text, [*ATTENTIONS])}"
            )
        return Path(text)
    config = study.train_config(
        uniform_architecture(study.preset, attention=text),
        study.folder / f"teacher-{text}-seed-{study.seeds[0]}",
        seed=study.seeds[0],
    )
    if study.shard is None and _is_done(config):
        return _model_file(config)
    (answer,) = run_jobs(_teach, [config], progress=progress, **study.spread)
    if isinstance(answer, DivergedError):
        raise answer
    return _model_file(config)


def _teach(config: TrainConfig, progress: Progress) -> TrainResult | Path:
    """Train the teacher, unless somebody has meanwhile."""
    return _model_file(config) if _is_done(config) else train_one(config, progress)


def _model_file(config: TrainConfig) -> Path:
    return config.run.output / MODEL


def _is_done(config: TrainConfig) -> bool:
    """Return whether the run is complete, under these settings.

    Then its file stays as it is: what learnt from a teacher goes on only with the very
    same bytes, and safetensors orders its metadata by chance.
    """
    run = config.run
    folder = RunFolder(path=run.output, settings=config.settings())
    if not folder.model.exists():
        return False
    with folder.opened(is_fresh=run.is_fresh):
        n_done = len(read_log(folder.log)) if folder.log.exists() else 0
        return folder.model.exists() and n_done == run.recipe.epochs


def train_one(config: TrainConfig, progress: Progress) -> TrainResult:
    """Train on images that are loaded once a process."""
    return train(config, progress, dataset=_load_images(config))


def _load_images(config: TrainConfig) -> Dataset:
    run, model = config.run, config.architecture.model
    return _load(run.dataset, model=model, folder=run.data_folder, limit=run.limit)


_load: Final = lru_cache(maxsize=1)(load_dataset)


def _seed_run(config: TrainConfig, answer: TrainResult | DivergedError) -> SeedRun:
    run = config.run
    if isinstance(answer, DivergedError):
        return SeedRun(seed=run.recipe.seed, checkpoint=run.output, failure=str(answer))
    return SeedRun(
        seed=run.recipe.seed,
        checkpoint=answer.checkpoint,
        accuracy=answer.accuracy,
        duration_s=sum(one.duration_s + one.metrics_s for one in answer.epochs),
        n_resumed=answer.n_resumed,
    )


def _with_measured(study: Study, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Add what `mpcvit pareto --measured` left beside these runs under this study."""
    trained = pareto_runs(outcomes)
    request = ParetoConfig(runs=trained, profile=study.profile, network=study.network)
    known_s = {(one.group, one.name): one.measured_s for one in gather(request)}

    def add(group: str, run: SeedRun) -> SeedRun:
        return replace(run, measured_s=known_s.get((group, run.checkpoint.parent.name)))

    return tuple(
        replace(one, runs=tuple(add(one.candidate.group, run) for run in one.runs))
        for one in outcomes
    )


def pareto_runs(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return GROUP=CHECKPOINT of each training, as `mpcvit pareto` takes them.

    Folders of groups would not do: they keep what earlier budgets, seeds and recipes
    left.
    """
    return tuple(
        f"{outcome.candidate.group}={run.checkpoint}"
        for outcome in outcomes
        for run in outcome.runs
        if run.accuracy is not None
    )
