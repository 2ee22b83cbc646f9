"""Table 3: one alpha for a layer, a row of a head, or a head.

    python benchmarks/table3_granularity.py [--mu 0.5,0.7] [--jobs 2]

Searches three times, trains what each search derives, and prints a line for each
architecture beside the paper's accuracy. On digits 15 minutes with one seed on two
cores; the paper's 300 epochs on CIFAR-10 need a GPU.
"""

from collections.abc import Sequence
from typing import Final

import click

from candidates import find_published, make_candidate
from mpcprof.cli.options import parse_shares
from mpcprof.progress import Progress
from mpcvit.paper.published import TABLE_3
from mpcvit.search.alpha.derive import family
from mpcvit.search.alpha.objective import Penalty
from mpcvit.search.alpha.space import Granularity, SearchSpace
from mpcvit.study.report import StudyReport
from mpcvit.study.training import Outcome, Study, train_candidates
from script import search_options, study_command
from searches import make_search, run_searches

GRANULARITIES: Final[tuple[Granularity, ...]] = ("layer", "row", "head")


@study_command("runs/granularity")
@click.option("--mu", "mus", type=parse_shares, default="0.5,0.7", show_default=True)
@search_options
def main(
    study: Study,
    progress: Progress,
    mus: tuple[float, ...],
    lambda_per_s: float,
    search_epochs: int | None,
    search_seed: int,
) -> StudyReport:
    """Search by layer, row and head; train what each search derives alike."""
    searches = [
        make_search(
            study,
            f"by-{granularity}",
            SearchSpace(granularity=granularity),
            Penalty(lambda_per_s=lambda_per_s),
            epochs=search_epochs,
            seed=search_seed,
        )
        for granularity in GRANULARITIES
    ]
    found = run_searches(study, searches, progress)
    candidates = [
        make_candidate(
            f"by-{granularity}",
            one,
            searched.result,
            find_published(TABLE_3, f"MPCViT, {granularity}-wise search", one.label),
        )
        for granularity, searched in zip(GRANULARITIES, found, strict=True)
        for one in family(searched.result, mus=mus, heads=study.heads)
    ]
    outcomes = train_candidates(study, candidates, progress)
    labels = dict.fromkeys(one.name for one in candidates)
    return StudyReport(
        title="Granularity of the search (Table 3)",
        study=study,
        outcomes=outcomes,
        findings=(
            *(rank(label, outcomes) for label in labels),
            "The same mu is not the same cost: a head whose rows differ computes both "
            "attentions.",
        ),
        searches=found,
    )


def rank(label: str, outcomes: Sequence[Outcome]) -> str:
    """Return the accuracies at one mu, the highest first."""
    named = [
        (one.accuracy, one.candidate.group)
        for one in outcomes
        if one.candidate.name == label and one.accuracy is not None
    ]
    ranked = sorted(named, key=lambda pair: -pair[0])
    text = ", ".join(f"{group} {accuracy:.2%}" for accuracy, group in ranked)
    return f"{label}, the most accurate first: {text}."


if __name__ == "__main__":
    main()
