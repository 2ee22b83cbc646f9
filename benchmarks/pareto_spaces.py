"""Networks of several families, trained alike: accuracy against seconds, one figure.

    python benchmarks/pareto_spaces.py --teacher none [--also found=runs/found.json]
    python benchmarks/pareto_spaces.py --dataset cifar10 --model cifar-small
        --limit 6000 --recipe quick --epochs 5 --teacher none

The paper's ViTs (softmax, ReLU softmax, 2Quad, ScaleAttn; layernorm and GeLU), a CNN of
seven convolutions, ResMLP, ConvMixer and two layers behind a stem, with ReLU or GeLU
and with squares; besides, architectures from files. All have the recipe of `mpcvit
search --space free`. Writes `architectures/GROUP-NAME.json` and `pareto.png`. With
three seeds on one core: digits half an hour, CIFAR-10 as above an hour.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from layers import describe_layers
from mpcprof.errors import UsageError
from mpcprof.files import replace_file
from mpcprof.nn.architecture import Architecture, read_architecture
from mpcprof.progress import Progress
from mpcvit.study.report import StudyReport, compare_outcomes
from mpcvit.study.training import Candidate, Outcome, Study, train_candidates
from networks import families
from pareto_family import draw
from script import study_command

_PARTS: Final = {"mlp_norm": True, "gradual_norm": 0.25, "gradual_activation": 0.25}


@study_command("runs/spaces", heads="batched")
@click.option("--also", multiple=True, metavar="GROUP=FILE", help="One network more.")
@click.option("--only", help="Groups, such as CNN,ResMLP. [default: all]")
def main(
    study: Study, progress: Progress, also: tuple[str, ...], only: str | None
) -> StudyReport:
    """Train networks of every family alike; table, picture, and what they say."""
    recipe = study.run.recipe.with_changes(**_PARTS)
    study = replace(study, run=replace(study.run, recipe=recipe))
    candidates = [
        _candidate(*names, one) for names, one in families(study.preset).items()
    ]
    wanted = only.split(",") if only else {one.group for one in candidates}
    candidates = [one for one in candidates if one.group in wanted]
    candidates += [_read(text) for text in also]
    for one in candidates:
        _write(study.folder / "architectures", one)
    outcomes = train_candidates(study, candidates, progress)
    return StudyReport(
        title="Networks of several families",
        study=study,
        outcomes=outcomes,
        findings=(*compare(outcomes), *draw(study, outcomes)),
    )


def _candidate(group: str, name: str, architecture: Architecture) -> Candidate:
    stem, layers = architecture.model.stem, describe_layers(architecture)
    details = [f"{len(stem)} convolutions, {stem[0].activation}"] if stem else []
    details += [f"{n} x {one}" for one, n in Counter(layers.split("; ")).items() if one]
    return Candidate(
        group=group, name=name, architecture=architecture, detail="; ".join(details)
    )


def _read(text: str) -> Candidate:
    group, separator, file = text.partition("=")
    if not separator:
        raise UsageError(f"--also {text}: expected GROUP=FILE, such as found=a.json")
    return _candidate(group, Path(file).stem, read_architecture(Path(file)))


def _write(folder: Path, one: Candidate) -> None:
    """Write `architecture.json` of a network, for `mpcvit train` and `predict`."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / f"{one.group}-{one.name}.json", one.architecture.to_json())


def compare(outcomes: Sequence[Outcome]) -> list[str]:
    """Return how each network stands to the softmax ViT, the first one."""
    first, *others = outcomes
    return [
        f"{one.candidate.group}, {one.candidate.name} less {first.candidate.name}: "
        f"{compare_outcomes(one, first)}, at {one.predicted_s / first.predicted_s:.3f} "
        "of its predicted seconds."
        for one in others
    ]


if __name__ == "__main__":
    main()
