"""How much of a search step the cost term takes, forward and backward.

    python benchmarks/speed_cost_term.py [--models digits,cifar] [--device cpu]

Prints a line for each model, granularity and form of the cost: milliseconds of a step,
microseconds of the term, and their ratio. The term alone is timed beside the whole
step: the difference of two steps, with it and without, drowns in the noise of a busy
machine. Two minutes on two cores.
"""

import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Final

import click
import torch

from mpcprof.cli import ShieldedCommand
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.network import NETWORKS
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import read_profile
from mpcvit.search.alpha.cost import CostForm, SearchCost
from mpcvit.search.alpha.space import Granularity, SearchSpace
from mpcvit.search.alpha.supernet import Supernet
from mpcvit.train.recipe import get_recipe

REPEATS: Final = 5
DATASETS: Final = {"digits": "digits", "cifar": "cifar10"}  # by model
GRANULARITIES: Final[tuple[Granularity, ...]] = ("head", "row")
FORMS: Final[tuple[CostForm, ...]] = ("additive", "grouped")


@click.command(cls=ShieldedCommand)
@click.option(
    "--profile", type=click.Path(path_type=Path), default="profiles/semi2k.parquet"
)
@click.option("--models", default="digits,cifar", show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(profile: Path, models: str, device: str) -> None:
    """Time a search step and its cost term."""
    cost_model = fit_cost_model(read_profile(profile))
    for name, granularity, form in product(models.split(","), GRANULARITIES, FORMS):
        space = SearchSpace(granularity=granularity, activation="token")
        cost = SearchCost.from_model(
            cost_model, MODELS[name], space, NETWORKS["wan"], form
        )
        step_s, term_s = measure(name, space, cost, torch.device(device))
        click.echo(
            f"{name:8} {granularity:5} {form:9} step {step_s * 1e3:8.2f} ms, "
            f"cost term {term_s * 1e6:6.0f} us, {term_s / step_s:.2%}"
        )


def measure(
    name: str, space: SearchSpace, cost: SearchCost, device: torch.device
) -> tuple[float, float]:
    """Return the median seconds of a step without the cost term, and of the term."""
    recipe, model = get_recipe(DATASETS[name]), MODELS[name]
    supernet = Supernet(model, space, recipe.regularization).to(device)
    optimizer = torch.optim.AdamW(supernet.parameters())
    shape = (recipe.batch_size, model.n_channels, model.image_size, model.image_size)
    images = torch.randn(shape, device=device)
    labels = torch.randint(model.n_classes, shape[:1], device=device)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(supernet(images), labels)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        supernet.clamp()

    def term() -> None:
        torch.autograd.backward(0.1 * cost.latency_s(supernet.alpha, supernet.beta))

    return median_s(step, 1, device), median_s(term, 50, device)


def median_s(work: Callable[[], None], n_calls: int, device: torch.device) -> float:
    """Return the median seconds of one call, the first round left out."""
    seconds = []
    for _ in range(REPEATS + 1):
        begin_s = time.perf_counter()
        for _ in range(n_calls):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - begin_s) / n_calls)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
