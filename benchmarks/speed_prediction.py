"""How long loading a profile, fitting it, and predicting whole models take.

    python benchmarks/speed_prediction.py profiles/semi2k.parquet

Prints seconds of loading and fitting, and milliseconds of a prediction: the first one,
and the best of seven. Takes seconds.
"""

import timeit
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

import click

from mpcprof.cli import ShieldedCommand
from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import Architecture, Heads, uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import read_profile

REPEATS: Final = 7
NAMES: Final = ("cifar", "tiny-imagenet", "bert-base", "bert-large")
HEADS: Final[tuple[Heads, ...]] = ("serial", "batched")


@click.command(cls=ShieldedCommand)
@click.argument("profile", type=click.Path(path_type=Path))
def main(profile: Path) -> None:
    """Time predictions from PROFILE."""
    start_s = timeit.default_timer()
    cost_model = fit_cost_model(read_profile(profile))
    click.echo(f"load and fit: {timeit.default_timer() - start_s:.3f} s")
    for name, heads in product(NAMES, HEADS):
        chosen = uniform_architecture(MODELS[name], attention="softmax", heads=heads)
        work = partial(predict, cost_model, chosen)
        times_s = timeit.repeat(work, number=1, repeat=REPEATS)
        click.echo(
            f"{name:13} {heads:7}  first {1e3 * times_s[0]:5.2f} ms  "
            f"best of {REPEATS} {1e3 * min(times_s):5.2f} ms per prediction"
        )


def predict(model: CostModel, architecture: Architecture) -> None:
    """Trace the steps of the architecture anew, and price them."""
    trace_model.cache_clear()
    model.predict(trace_model(architecture), NETWORKS["wan"])


if __name__ == "__main__":
    main()
