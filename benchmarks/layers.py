"""What a search over layers found, and random networks of its space at that cost."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from candidates import Chosen
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.errors import UsageError
from mpcprof.network import parse_network
from mpcprof.nn.architecture import Architecture
from mpcprof.profile.io import read_profile
from mpcvit.search.layers.cost import Pricer
from mpcvit.search.layers.result import (
    Found,
    LayerSearchResult,
    find_within,
    read_layer_result,
)
from mpcvit.search.layers.sampling import Sampled, Sampler
from mpcvit.study.training import Candidate, Study
from mpcvit.train.recipe import Recipe

# of the search's recipe, in every training of the study
_PARTS: Final = (
    *("mlp_norm", "gradual_norm", "gradual_activation"),
    *("range_penalty", "range_bound"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedLayers:
    """A search over layers that a study rests on.

    Attributes:
        folder: Folder of the search, as it was given.
    """

    folder: Path
    result: LayerSearchResult

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the folder and all that the search left."""
        return {"folder": str(self.folder), **self.result.report_json()}

    def line(self) -> str:
        """Return space, networks and epochs in one line."""
        result = self.result
        return (
            f"{self.folder}: space {result.space.name}, {result.n_epochs} epochs, then "
            f"{len(result.finalists)} networks of {result.finalist_epochs}, seed "
            f"{result.recipe['seed']}"
        )


def recall_layers(folder: Path) -> SearchedLayers:
    """Return the search over layers in a folder.

    Raises:
        UsageError: If none has finished there.
    """
    return SearchedLayers(folder=folder, result=read_layer_result(folder))


def with_layers(study: Study, folder: Path) -> Study:
    """Return the study with the network, heads, model and recipe parts of a search."""
    result = read_layer_result(folder)
    recipe: Recipe = study.run.recipe.with_changes(
        **{name: result.recipe[name] for name in _PARTS}
    )
    return replace(
        study,
        run=replace(study.run, recipe=recipe),
        network=parse_network(result.network),
        heads=result.heads,
        model=result.preset.name,
    )


def draw_layers_at_cost(
    study: Study,
    result: LayerSearchResult,
    chosen: Found,
    *,
    n: int,
    tolerance: float,
    seed: int,
) -> tuple[Sampled, ...]:
    """Return n random networks of the space of the predicted latency of `chosen`.

    Raises:
        UsageError: If there are not so many, or the study has another profile.
    """
    cost_model = fit_cost_model(read_profile(study.profile))
    if cost_model.records_digest != result.records_digest:
        raise UsageError(
            f"the search has seconds of {result.profile} (records "
            f"{result.records_digest[:12]}): give it as --cost-table, found records "
            f"{cost_model.records_digest[:12]}"
        )
    pricer = Pricer(
        cost_model=cost_model,
        network=study.network,
        heads=result.heads,
        plan=result.plan or None,
    )
    most_s = chosen.predicted_s * (1 + tolerance)
    width = 1 - (1 - tolerance) / (1 + tolerance)
    drawn = Sampler(result.space, result.preset, pricer).draw(
        most_s, n + 1, seed=seed, tolerance=width
    )
    return tuple(o for o in drawn if o.architecture != chosen.architecture)[:n]


def make_layer_candidate(group: str, name: str, network: Found | Sampled) -> Candidate:
    """Return a network of the space as one to be trained."""
    return Candidate(
        group=group,
        name=name,
        architecture=network.architecture,
        detail=describe_layers(network.architecture),
    )


def describe_layers(architecture: Architecture) -> str:
    """Return each layer in a few words: mixing, norm, activation and ratio."""
    return "; ".join(
        f"{'+'.join(dict.fromkeys(name for head in heads for name in head))} {norm} "
        f"{activation[0] if ratio else 'no MLP'} {ratio:g}"
        for heads, norm, activation, ratio in zip(
            architecture.attention,
            architecture.norm,
            architecture.activation,
            architecture.mlp_ratio,
            strict=True,
        )
    )


def choose_layers(
    study: Study,
    search: Path,
    budget: float | None,
    n_random: int,
    tolerance: float,
    seed: int,
) -> Chosen:
    """Return what a search over layers found within the budget, and random networks."""
    found = recall_layers(search)
    result = found.result
    budget_s = budget or sorted(result.budgets_s)[len(result.budgets_s) // 2]
    searched = find_within(result, budget_s)
    others = draw_layers_at_cost(
        study, result, searched, n=n_random, tolerance=tolerance, seed=seed
    )
    candidates = [
        make_layer_candidate("searched", searched.label, searched),
        *(
            make_layer_candidate("random", f"random-{number}", one)
            for number, one in enumerate(others, 1)
        ),
    ]
    return Chosen(found, budget_s, candidates)
