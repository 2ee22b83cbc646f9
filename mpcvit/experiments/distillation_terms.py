"""Table 4: what the teacher gives: nothing, logits, features, or both."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcvit.experiments.comparison import compare_means
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import run_trials
from mpcvit.experiments.searches import with_search
from mpcvit.experiments.setting import NO_TEACHER, Setting
from mpcvit.experiments.trial import Outcome, Trial
from mpcvit.paper.published import TABLE_4, Published
from mpcvit.search.derive import derive_by_mu
from mpcvit.search.result import read_result
from mpcvit.train.distillation import KdTerm
from mpcvit.train.run import choose_architecture

_KD: Final[dict[str, frozenset[KdTerm]]] = {
    "CE": frozenset(),
    "CE + logits": frozenset({"logits"}),
    "CE + feature": frozenset({"feature"}),
    "CE + logits + feature": frozenset({"logits", "feature"}),
}


def compare_distillation_terms(
    setting: Setting,
    architecture: Architecture,
    *,
    command: str,
    observer: JobsObserver | None = None,
) -> Report:
    """Train one architecture with every combination of terms, each by weight 1.

    Raises:
        UsageError: If there is no teacher.
    """
    if setting.teacher == NO_TEACHER:
        raise UsageError("teacher none: expected one, its terms are compared")
    trials = [
        Trial(
            group="kd",
            name="-".join(["ce", *sorted(kd)]),
            architecture=architecture,
            kd=kd,
            detail=losses,
            published=_published(losses, setting.run.dataset),
        )
        for losses, kd in _KD.items()
    ]
    outcomes = run_trials(setting, trials, observer)
    return Report(
        title="Terms of the distillation (Table 4)",
        setting=setting,
        outcomes=outcomes,
        findings=tuple(_against_labels(outcomes[0], one) for one in outcomes[1:]),
        values={},
        command=command,
    )


def choose_student(
    source: str, setting: Setting, mu: float
) -> tuple[Setting, Architecture]:
    """What a search derives by the share mu; or the file or variant of that name.

    Returns:
        The setting with the model of that student, and the network and heads of its
        search, as well.

    Raises:
        UsageError: If it is none of these, or of another model than was asked for.
    """
    if Path(source).is_dir():
        own = with_search(setting, Path(source))
        if setting.model not in (None, own.model):
            raise UsageError(
                f"--model {setting.model}: {source!r} is a search of model "
                f"{own.model}; leave --model out"
            )
        result = read_result(Path(source))
        return own, derive_by_mu(result, mu, heads=own.heads).architecture
    architecture = choose_architecture(
        source, model=setting.model, dataset=setting.run.dataset, heads=setting.heads
    )
    return replace(setting, model=architecture.model.name), architecture


def _published(losses: str, dataset: str) -> Published | None:
    known = "Tiny-ImageNet" if dataset == "tiny-imagenet" else "CIFAR-10"
    wanted = (f"MPCViT, {losses}", known)
    return next((one for one in TABLE_4 if (one.what, one.dataset) == wanted), None)


def _against_labels(labels: Outcome, taught: Outcome) -> str:
    name = f"{taught.trial.detail} against {labels.trial.detail}"
    if not labels.accuracies or not taught.accuracies:
        return f"{name}: a training diverged."
    found = compare_means(taught.accuracies, labels.accuracies, n_test=labels.n_test)
    return f"{name}: {found}."
