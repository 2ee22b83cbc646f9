"""Table 4: one architecture, taught by nothing, logits, features, or both.

    python benchmarks/table4_distillation.py runs/search [--mu 0.7] [--jobs 2]
    python benchmarks/table4_distillation.py arch.json --teacher model.safetensors

Trains the architecture four times per seed and prints a line for each combination of
terms beside the paper's accuracy, and each difference from labels alone. On digits
4 minutes per seed on two cores.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from candidates import find_published
from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcprof.progress import Progress
from mpcvit.paper.published import TABLE_4
from mpcvit.search.alpha.derive import derive_by_mu
from mpcvit.search.alpha.result import read_result
from mpcvit.study.report import StudyReport, compare_outcomes
from mpcvit.study.training import NO_TEACHER, Candidate, Study, train_candidates
from mpcvit.train.distillation import KdTerm
from mpcvit.train.run import choose_architecture
from script import study_command
from searches import with_search

TERMS: Final[dict[str, frozenset[KdTerm]]] = {
    "CE": frozenset(),
    "CE + logits": frozenset({"logits"}),
    "CE + feature": frozenset({"feature"}),
    "CE + logits + feature": frozenset({"logits", "feature"}),
}


@study_command("runs/distillation_terms")
@click.argument("student")
@click.option(
    "--mu",
    type=click.FloatRange(0, 1),
    default=0.7,
    show_default=True,
    help="Share of alpha to keep, where STUDENT is a search.",
)
def main(study: Study, progress: Progress, student: str, mu: float) -> StudyReport:
    """Train STUDENT (a search, an architecture.json or a variant) with each term."""
    if study.teacher == NO_TEACHER:
        raise UsageError("teacher none: expected one, its terms are compared")
    study, architecture = choose_student(student, study, mu)
    dataset = "Tiny-ImageNet" if study.run.dataset == "tiny-imagenet" else "CIFAR-10"
    candidates = [
        Candidate(
            group="kd",
            name="-".join(["ce", *sorted(kd)]),
            architecture=architecture,
            kd=kd,
            detail=losses,
            published=find_published(TABLE_4, f"MPCViT, {losses}", dataset=dataset),
        )
        for losses, kd in TERMS.items()
    ]
    labels, *taught = train_candidates(study, candidates, progress)
    return StudyReport(
        title="Terms of the distillation (Table 4)",
        study=study,
        outcomes=(labels, *taught),
        findings=tuple(
            f"{one.candidate.detail} against CE: {compare_outcomes(one, labels)}."
            for one in taught
        ),
    )


def choose_student(source: str, study: Study, mu: float) -> tuple[Study, Architecture]:
    """Return what a search derives by the share mu, or a file's or variant's network.

    Returns:
        The study with the model of that student, and the network and heads of its
        search, as well.

    Raises:
        UsageError: If the source is none of these, or of another model than asked for.
    """
    if Path(source).is_dir():
        own = with_search(study, Path(source))
        if study.model not in (None, own.model):
            raise UsageError(
                f"--model {study.model}: {source!r} is a search of model "
                f"{own.model}; leave --model out"
            )
        result = read_result(Path(source))
        return own, derive_by_mu(result, mu, heads=own.heads).architecture
    architecture = choose_architecture(
        source, model=study.model, dataset=study.run.dataset, heads=study.heads
    )
    return replace(study, model=architecture.model.name), architecture


if __name__ == "__main__":
    main()
