"""Studies, searches and outcomes that tests of studies are made from."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import get_model
from mpcprof.profile.io import read_profile
from mpcvit.search.alpha.cost import SearchCost
from mpcvit.search.alpha.result import SearchResult
from mpcvit.search.alpha.space import SearchSpace
from mpcvit.study.training import Candidate, Outcome, SeedRun, Study
from mpcvit.train.config import Hardware, RunConfig
from tests import ROOT
from tests.committed import small_profile
from tests.training_runs import tiny_architecture, tiny_recipe

PROFILE = ROOT / "profiles" / "semi2k.parquet"
QUICK = ("--limit", "40", "--epochs", "1", "--accelerator", "cpu")


def make_study(folder: Path, **changes: object) -> Study:
    run = RunConfig(
        dataset="digits",
        recipe=tiny_recipe(epochs=1),
        output=folder,
        limit=40,
        hardware=Hardware(accelerator="cpu"),
    )
    study = Study(run=run, profile=small_profile(), teacher="none", seeds=(0, 1))
    return replace(study, **changes)  # type: ignore[arg-type]


def make_candidates(*names: str) -> list[Candidate]:
    return [
        Candidate(group="uniform", name=name, architecture=tiny_architecture(name))
        for name in names
    ]


def make_result(form: str = "additive", activation: str = "none") -> SearchResult:
    """As a search would leave it, with alpha at random."""
    model, space = get_model("digits"), SearchSpace(activation=activation)  # type: ignore[arg-type]
    cost_model = fit_cost_model(read_profile(small_profile()))
    random = np.random.default_rng(0)
    shape = space.beta_shape(model)
    return SearchResult(
        model=model,
        space=space,
        dataset="digits",
        network=str(NETWORKS["wan"]),
        profile=PROFILE.name,
        records_digest=cost_model.records_digest,
        cost=SearchCost.from_model(cost_model, model, space, NETWORKS["wan"], form),  # type: ignore[arg-type]
        target_s=None,
        alpha=random.random(space.alpha_shape(model)),
        beta=None if shape is None else random.random(shape),
        lambda_per_s=0.01,
        eta_per_s=0.01,
        expected_latency_s=12.0,
        accuracy=0.5,
        n_epochs=1,
        duration_s=1.0,
    )


def make_outcome(*accuracies: float | None, name: str = "one") -> Outcome:
    return Outcome(
        candidate=Candidate(group="g", name=name, architecture=tiny_architecture()),
        predicted_s=10.0,
        n_test=360,
        runs=tuple(
            SeedRun(
                seed=seed,
                checkpoint=Path("x"),
                accuracy=accuracy,
                duration_s=1.0,
                n_resumed=0,
                failure="" if accuracy is not None else "not finite",
            )
            for seed, accuracy in enumerate(accuracies)
        ),
    )
