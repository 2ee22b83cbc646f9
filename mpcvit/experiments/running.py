"""Every architecture of an experiment, trained by the same recipe, with every seed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path

from mpcprof.blocks import trace_model
from mpcprof.blocks.architecture import Architecture, uniform_architecture
from mpcprof.blocks.attention import ATTENTIONS
from mpcprof.blocks.presets import ModelPreset
from mpcprof.costmodel import CostModel, load_cost_model
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.profile_io import read_profile
from mpcvit.data.dataset import Dataset, load_dataset
from mpcvit.experiments.jobs import JobsObserver, run_jobs
from mpcvit.experiments.setting import NO_TEACHER, Setting
from mpcvit.experiments.trial import Outcome, SeedRun, Trial
from mpcvit.pareto.family import Request, gather
from mpcvit.training.distillation import choose_terms
from mpcvit.training.loop import DivergedError, FitObserver
from mpcvit.training.train import TrainRequest, TrainResult, train

TRAINED = "trained"  # below the experiment's folder: GROUP/NAME-seed-SEED


def run_trials(
    setting: Setting, trials: Sequence[Trial], observer: JobsObserver | None = None
) -> tuple[Outcome, ...]:
    """Train all that is not trained yet; the outcomes in the order of the trials.

    Raises:
        UsageError: If two trials would share a folder, or a folder holds a run with
            other settings.
        MissingEntryError: If the profile lacks an operation.
    """
    _check_names(trials)
    model = load_cost_model(read_profile(setting.profile))
    predicted_s = [_predict_s(setting, model, trial.architecture) for trial in trials]
    teacher = prepare_teacher(setting, observer)
    runs = [*product(trials, setting.seeds)]
    requests = [
        setting.train_request(
            trial.architecture,
            setting.folder / TRAINED / trial.folder_name(seed),
            seed=seed,
            teacher=teacher if trial.kd != frozenset() else None,
            kd=choose_terms(
                trial.kd, has_teacher=teacher is not None and trial.kd != frozenset()
            ),
        )
        for trial, seed in runs
    ]
    answers = run_jobs(train_one, requests, n_jobs=setting.n_jobs, observer=observer)
    measured_s = _find_measured_s(setting, trials)
    done: dict[Trial, list[SeedRun]] = {trial: [] for trial in trials}
    for (trial, seed), request, answer in zip(runs, requests, answers, strict=True):
        output = request.run.output
        done[trial].append(_seed_run(seed, output, answer, measured_s.get(output)))
    n_test = len(_load(setting.run.dataset, *_images(requests[0])).test)
    return tuple(
        Outcome(trial=trial, predicted_s=s, n_test=n_test, runs=tuple(done[trial]))
        for trial, s in zip(trials, predicted_s, strict=True)
    )


def _check_names(trials: Sequence[Trial]) -> None:
    names = [(trial.group, trial.name) for trial in trials]
    repeated = sorted({"/".join(name) for name in names if names.count(name) > 1})
    if repeated or not names:
        raise UsageError(
            f"trials {', '.join(repeated) or 'none'}: expected each once, and some; "
            "ask for other budgets or shares"
        )


def prepare_teacher(
    setting: Setting, observer: JobsObserver | None = None
) -> Path | None:
    """The checkpoint that all learn from; trained first where it is a variant.

    Raises:
        UsageError: If it is neither a file, a variant nor `none`.
        DivergedError: If its training diverges.
    """
    text = setting.teacher
    if text == NO_TEACHER:
        return None
    if text not in ATTENTIONS:
        if not Path(text).is_file():
            raise UnknownNameError(
                f"teacher {text!r} is neither a checkpoint, a variant nor none; "
                f"{did_you_mean(text, [*ATTENTIONS])}"
            )
        return Path(text)
    request = setting.train_request(
        uniform_architecture(setting.preset, attention=text),
        setting.folder / f"teacher-{text}",
        seed=setting.seeds[0],
        teacher=None,
        kd=frozenset(),
    )
    (answer,) = run_jobs(train_one, [request], observer=observer)
    if isinstance(answer, DivergedError):
        raise answer
    return answer.checkpoint


def train_one(request: TrainRequest, observer: FitObserver | None) -> TrainResult:
    """`train` with images that are loaded once a process."""
    dataset = _load(request.run.dataset, *_images(request))
    return train(request, observer, dataset=dataset)


def _images(request: TrainRequest) -> tuple[ModelPreset, Path | None, int | None]:
    run = request.run
    return request.architecture.model, run.data_folder, run.limit


@lru_cache(maxsize=1)
def _load(
    name: str, model: ModelPreset, folder: Path | None, limit: int | None
) -> Dataset:
    return load_dataset(name, model=model, folder=folder, limit=limit)


def _predict_s(setting: Setting, model: CostModel, architecture: Architecture) -> float:
    steps = trace_model(replace(architecture, heads=setting.heads))
    return model.predict(steps, setting.network).latency_s


def _seed_run(
    seed: int,
    output: Path,
    answer: TrainResult | DivergedError,
    measured_s: float | None,
) -> SeedRun:
    if isinstance(answer, DivergedError):
        return SeedRun(
            seed=seed,
            checkpoint=output,
            accuracy=None,
            duration_s=0.0,
            n_resumed=0,
            failure=str(answer),
        )
    epochs = answer.epochs
    return SeedRun(
        seed=seed,
        checkpoint=answer.checkpoint,
        accuracy=answer.accuracy,
        duration_s=sum(epoch.duration_s + epoch.metrics_s for epoch in epochs),
        n_resumed=answer.n_resumed,
        measured_s=measured_s,
    )


def _find_measured_s(setting: Setting, trials: Sequence[Trial]) -> dict[Path, float]:
    """By folder of the run: what `mpcvit pareto --measured` left under this setting."""
    found = {}
    for folder in group_folders(setting, trials).values():
        if not any(folder.rglob("model.safetensors")):
            continue  # every training of the group diverged
        request = Request(
            runs=(str(folder),), profile=setting.profile, network=setting.network
        )
        for member in gather(request):
            if member.measured_s is not None:
                found[folder / member.name] = member.measured_s
    return found


def group_folders(setting: Setting, trials: Sequence[Trial]) -> dict[str, Path]:
    """Where the trainings of each group are, in the groups' order."""
    groups = dict.fromkeys(trial.group for trial in trials)
    return {group: setting.folder / TRAINED / group for group in groups}
