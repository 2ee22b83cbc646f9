"""Table 5: MPCViT+ with a ReLU behind fused linear layers, and without.

    python benchmarks/table5_extra_relu.py [--mu 0.3,0.7] [--sigma 0.75] [--jobs 2]

Searches attention and GeLU once, trains every derived network with the ReLU and
without it, and prints both beside the paper's numbers, and each difference. On digits
8 minutes with one seed on two cores.
"""

from dataclasses import replace
from itertools import chain

import click

from candidates import find_published, make_candidate
from mpcprof.cli.options import parse_durations_s, parse_shares
from mpcprof.errors import UsageError
from mpcprof.progress import Progress
from mpcprof.units import format_duration
from mpcvit.paper.published import TABLE_5
from mpcvit.search.alpha.derive import SIGMA, Derived, family
from mpcvit.search.alpha.objective import Penalty, parse_eta
from mpcvit.search.alpha.result import SearchResult
from mpcvit.search.alpha.space import SearchedActivation, SearchSpace
from mpcvit.study.report import StudyReport, compare_outcomes
from mpcvit.study.training import Candidate, Study, train_candidates
from script import search_options, study_command
from searches import make_search, run_searches

WITH, WITHOUT = "identity_relu", "identity"


@study_command("runs/extra_relu")
@click.option("--mu", "mus", type=parse_shares, default="0.3,0.7", show_default=True)
@click.option("--sigma", default=SIGMA, show_default=True, help="GeLU stays above it.")
@click.option(
    "--budgets", "budgets_s", type=parse_durations_s, help="Besides, such as 14s."
)
@click.option(
    "--activation",
    type=click.Choice(["layer", "token"]),
    default="token",
    show_default=True,
)
@click.option(
    "--eta", type=parse_eta, default="0.05", show_default=True, help="Or paper."
)
@search_options
def main(
    study: Study,
    progress: Progress,
    mus: tuple[float, ...],
    sigma: float,
    budgets_s: tuple[float, ...] | None,
    activation: SearchedActivation,
    eta: float | None,
    lambda_per_s: float,
    search_epochs: int | None,
    search_seed: int,
) -> StudyReport:
    """Search attention and GeLU; train what it derives with the ReLU and without."""
    space = SearchSpace(activation=activation, linear=WITH)
    penalty = Penalty(lambda_per_s=lambda_per_s, eta_per_s=eta)
    search = make_search(
        study, "plus", space, penalty, epochs=search_epochs, seed=search_seed
    )
    (found,) = run_searches(study, [search], progress)
    derived = family(
        found.result, mus=mus, budgets_s=budgets_s or (), sigma=sigma, heads=study.heads
    )
    pairs = [with_and_without(one, found.result, sigma) for one in derived]
    outcomes = train_candidates(study, [*chain(*pairs)], progress)
    return StudyReport(
        title="A ReLU behind fused layers (Table 5)",
        study=study,
        outcomes=outcomes,
        findings=tuple(
            f"{relu.candidate.name}: with the ReLU against without it "
            f"{compare_outcomes(relu, none)}, for "
            f"{format_duration(relu.predicted_s - none.predicted_s, digits=3)} more."
            for relu, none in zip(outcomes[::2], outcomes[1::2], strict=True)
        ),
        values={"sigma": sigma},
        searches=(found,),
    )


def with_and_without(
    derived: Derived, result: SearchResult, sigma: float
) -> tuple[Candidate, Candidate]:
    """Return a derived architecture, and the same with nothing in place of each ReLU.

    Raises:
        UsageError: If every activation stays GeLU.
    """
    if derived.n_gelu == derived.n_gelu_units:
        raise UsageError(
            f"{derived.label}: all {derived.n_gelu} activations stay GeLU at sigma="
            f"{sigma:g}, there is nothing to compare; search with a larger --lambda, "
            "or give a larger --sigma or a --budget"
        )
    paper, paper_without = (
        find_published(TABLE_5, f"MPCViT+{what}, sigma 0.75", derived.label)
        for what in ("", " without ReLU")
    )
    relu = make_candidate("with-relu", derived, result, paper)
    activation = tuple(
        tuple(WITHOUT if name == WITH else name for name in layer)
        for layer in relu.architecture.activation
    )
    architecture = replace(relu.architecture, activation=activation)
    return relu, replace(
        relu, group="without-relu", architecture=architecture, published=paper_without
    )


if __name__ == "__main__":
    main()
