"""How much of a search step the cost term takes, forward and backward.

    python benchmarks/cost_term.py [--models digits,cifar] [--device cpu]

The term alone is timed beside the whole step: the difference of two steps, with it and
without, drowns in the noise of a busy machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import MODELS
from mpcprof.profile.io import read_profile
from mpcvit.search.cost import SearchCost
from mpcvit.search.space import SearchSpace
from mpcvit.search.supernet import Supernet
from mpcvit.train.recipe import get_recipe

REPEATS = 5


def main() -> None:
    """Print a line for each model, granularity and form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path, default="profiles/semi2k.parquet")
    parser.add_argument("--models", default="digits,cifar")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    cost_model = fit_cost_model(read_profile(given.profile))
    for name in given.models.split(","):
        for granularity in ("head", "row"):
            for form in ("additive", "grouped"):
                space = SearchSpace(granularity=granularity, activation="token")
                cost = SearchCost.from_model(
                    cost_model, MODELS[name], space, NETWORKS["wan"], form
                )
                step_s, term_s = measure(name, space, cost, torch.device(given.device))
                print(
                    f"{name:8} {granularity:5} {form:9} step {step_s * 1e3:8.2f} ms, "
                    f"cost term {term_s * 1e6:6.0f} us, {term_s / step_s:.2%}"
                )


def measure(
    name: str, space: SearchSpace, cost: SearchCost, device: torch.device
) -> tuple[float, float]:
    """Seconds of a step without the cost term, and of the term; medians."""
    dataset = {"digits": "digits", "cifar": "cifar10"}[name]
    recipe = get_recipe(dataset)
    model = MODELS[name]
    supernet = Supernet(model, space, recipe.regularization).to(device)
    optimizer = torch.optim.AdamW(supernet.parameters())
    shape = (recipe.batch_size, model.n_channels, model.image_size, model.image_size)
    images = torch.randn(shape, device=device)
    labels = torch.randint(model.n_classes, shape[:1], device=device)

    def step() -> None:
        torch.nn.functional.cross_entropy(supernet(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        supernet.clamp()

    def term() -> None:
        (0.1 * cost.latency_s(supernet.alpha, supernet.beta)).backward()

    return median_s(step, 1, device), median_s(term, 50, device)


def median_s(work: Callable[[], None], n_calls: int, device: torch.device) -> float:
    """Seconds of one call."""
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
