"""Every architecture of an experiment, trained by the same recipe, with every seed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.nn.architecture import Architecture, ModelPreset, uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.profile.io import read_profile
from mpcprof.progress import Progress
from mpcvit.data.dataset import load_dataset
from mpcvit.data.image_set import Dataset
from mpcvit.experiments.jobs import JobsObserver, run_jobs
from mpcvit.experiments.setting import NO_TEACHER, Setting
from mpcvit.experiments.trial import Outcome, SeedRun, Trial
from mpcvit.pareto import MEASURED, ParetoConfig, gather, predict_s, read_measured
from mpcvit.train.distillation import choose_terms
from mpcvit.train.folder import RunFolder
from mpcvit.train.log import read_log
from mpcvit.train.loop import DivergedError
from mpcvit.train.run import TrainConfig, TrainResult, train

TRAINED = "trained"  # below the experiment's folder: GROUP/NAME-seed-SEED


def run_trials(
    setting: Setting, trials: Sequence[Trial], observer: JobsObserver | None = None
) -> tuple[Outcome, ...]:
    """Train all that is not trained yet; the outcomes in the order of the trials.

    Raises:
        UsageError: If two trials would share a folder, or a folder holds a run with
            other settings, or damaged seconds of a measurement.
        MissingEntryError: If the profile lacks an operation.
    """
    _check_names(trials)
    _check_measured(setting, trials)
    model = fit_cost_model(read_profile(setting.profile))
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
    done: dict[Trial, list[SeedRun]] = {trial: [] for trial in trials}
    for (trial, seed), request, answer in zip(runs, requests, answers, strict=True):
        done[trial].append(_seed_run(seed, request.run.output, answer))
    n_test = len(_load(setting.run.dataset, *_images(requests[0])).test)
    outcomes = tuple(
        Outcome(trial=trial, predicted_s=s, n_test=n_test, runs=tuple(done[trial]))
        for trial, s in zip(trials, predicted_s, strict=True)
    )
    return _with_measured(setting, outcomes)


def _check_names(trials: Sequence[Trial]) -> None:
    names = [(trial.group, trial.name) for trial in trials]
    repeated = sorted({"/".join(name) for name in names if names.count(name) > 1})
    if repeated or not names:
        raise UsageError(
            f"trials {', '.join(repeated) or 'none'}: expected each once, and some; "
            "ask for other budgets or shares"
        )


def _check_measured(setting: Setting, trials: Sequence[Trial]) -> None:
    """Read what was measured before all the training, not only after it."""
    for trial, seed in product(trials, setting.seeds):
        read_measured(setting.folder / TRAINED / trial.folder_name(seed) / MEASURED)


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
        setting.folder / f"teacher-{text}-seed-{setting.seeds[0]}",
        seed=setting.seeds[0],
        teacher=None,
        kd=frozenset(),
    )
    if _is_done(request):
        return request.run.output / "model.safetensors"
    (answer,) = run_jobs(train_one, [request], observer=observer)
    if isinstance(answer, DivergedError):
        raise answer
    return answer.checkpoint


def _is_done(request: TrainConfig) -> bool:
    """Whether the run is complete, under these settings.

    Then its file stays as it is: what learnt from a teacher goes on only with the very
    same bytes, and safetensors orders its metadata by chance.
    """
    run = request.run
    folder = RunFolder(path=run.output, settings=request.settings())
    if not folder.model.exists():
        return False
    with folder.opened(is_fresh=run.is_fresh):
        n_done = len(read_log(folder.log)) if folder.log.exists() else 0
        return folder.model.exists() and n_done == run.recipe.epochs


def train_one(request: TrainConfig, progress: Progress) -> TrainResult:
    """`train` with images that are loaded once a process."""
    dataset = _load(request.run.dataset, *_images(request))
    return train(request, progress, dataset=dataset)


def _images(request: TrainConfig) -> tuple[ModelPreset, Path | None, int | None]:
    run = request.run
    return request.architecture.model, run.data_folder, run.limit


@lru_cache(maxsize=1)
def _load(
    name: str, model: ModelPreset, folder: Path | None, limit: int | None
) -> Dataset:
    return load_dataset(name, model=model, folder=folder, limit=limit)


def _predict_s(setting: Setting, model: CostModel, architecture: Architecture) -> float:
    own = replace(architecture, heads=setting.heads)
    return predict_s(model, own, setting.network)


def _seed_run(seed: int, output: Path, answer: TrainResult | DivergedError) -> SeedRun:
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
    )


def _with_measured(
    setting: Setting, outcomes: tuple[Outcome, ...]
) -> tuple[Outcome, ...]:
    """With what `mpcvit pareto --measured` left of these runs under this setting."""
    runs = pareto_runs(outcomes)
    if not runs:
        return outcomes  # every training diverged
    request = ParetoConfig(runs=runs, profile=setting.profile, network=setting.network)
    known = {(one.group, one.name): one.measured_s for one in gather(request)}
    return tuple(
        replace(
            outcome,
            runs=tuple(
                replace(
                    run,
                    measured_s=known.get(
                        (outcome.trial.group, run.checkpoint.parent.name)
                    ),
                )
                for run in outcome.runs
            ),
        )
        for outcome in outcomes
    )


def pareto_runs(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """GROUP=CHECKPOINT of each training, as `mpcvit pareto` takes them.

    Not folders of groups: these keep what earlier budgets, seeds and recipes left.
    """
    return tuple(
        f"{outcome.trial.group}={run.checkpoint}"
        for outcome in outcomes
        for run in outcome.runs
        if run.accuracy is not None
    )
