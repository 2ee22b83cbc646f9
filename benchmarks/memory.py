"""The memory of a party: what each operation needs, and networks against the forecast.

    python benchmarks/memory.py --protocol semi2k [--only exp,relu] [--networks]

Each line is of fresh parties that made two calls on loopback: the peak of their
resident memory (VmHWM in /proc/PID/status), of the rank that needs most. Without
`--networks`: bytes for an entry of an operation, as `mpcprof/costmodel/memory.py` has
them; five minutes. With it: peaks of networks beside their forecasts; five more. It
needs no quiet machine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import numpy as np

from mpcprof.cli import ShieldedCommand
from mpcprof.costmodel.memory import FOOTPRINTS, forecast_memory_bytes, n_entries
from mpcprof.deployment import Deployment, make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.nn.catalogue import AnyNetwork, count_inputs, trace_block, trace_model
from mpcprof.nn.steps import PRIMITIVES
from mpcprof.predict import choose_network
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import Workload, get_workload

LARGE: Final = {  # some 528,000 entries
    "n_heads": 8,
    "n_tokens": 257,
    "width": 768,
    "hidden": 2048,
}
STARTED_BYTES: Final = 8e6  # that a party grows by in its first call, whatever it is
N_ROOTS: Final = 524_288  # of rsqrt, whose only dimension is `n_tokens`
NETWORKS: Final = (  # model, attention, heads, layers, batch
    ("digits", "softmax", "batched", None, 1),
    ("cifar", "softmax", "batched", 2, 1),
    ("cifar", "scale", "serial", 2, 1),
    ("cifar", "relu_softmax", "batched", 1, 8),
    ("tiny-imagenet", "softmax", "batched", 1, 1),
    ("docs/models/vit-b16.json", "softmax", "batched", 1, 1),
    ("bert-base", "2quad", "batched", 1, 1),
    ("docs/models/efficientvit-m0-64.json", None, None, None, 1),
)


def peak_bytes(pids: tuple[int, ...]) -> int:
    """Return the largest resident memory that one of the processes ever had."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in texts) * 1024


def measure_peaks(
    deployment: Deployment, workload: Workload, dims: Dims
) -> tuple[int, int, int, int]:
    """Return peaks of a party: idle, with its inputs, after two calls; and entries."""
    inputs = workload.make_inputs(dims, np.random.default_rng(0))
    with Session(deployment, RelayEmulation()) as session:
        idle = peak_bytes(session.party_pids())
        lowered = session.lower("case", workload.function, inputs)
        session.load("case", lowered, inputs)
        loaded = peak_bytes(session.party_pids())
        for _ in range(2):
            session.run("case")
        peak = peak_bytes(session.party_pids())
    return idle, loaded, peak, sum(x.size for x in inputs)


def operation_line(deployment: Deployment, name: str) -> str:
    """Return what one operation needs for an entry, its inputs and result included."""
    names = PRIMITIVES[name].dim_names
    sizes = {key: LARGE[key] for key in names}
    dims = Dims(**(sizes if len(names) > 1 else {"n_tokens": N_ROOTS}))
    idle, loaded, peak, n_shared = measure_peaks(deployment, get_workload(name), dims)
    (step,) = trace_block(name, dims)
    own = peak - idle - STARTED_BYTES
    working = own / n_entries(step.operation, step.size)
    return (
        f"{name}: idle {idle / 1e6:.0f} MB, loading "
        f"{(loaded - idle) / n_shared:.0f} bytes an entry of the inputs, working "
        f"{max(working, 0.0):.0f} bytes an entry"
    )


def network_line(deployment: Deployment, network: AnyNetwork, n_batch: int) -> str:
    """Return the peak of a network beside its forecast."""
    *_, peak, _ = measure_peaks(
        deployment, model_workload(network), Dims(n_batch=n_batch)
    )
    forecast = forecast_memory_bytes(
        deployment, trace_model(network, n_batch), count_inputs(network, n_batch)
    )
    assert forecast is not None
    return (
        f"{model_workload(network).name}, batch {n_batch}: forecast "
        f"{forecast / 1e6:.0f} MB, measured {peak / 1e6:.0f} MB, "
        f"{forecast / peak - 1:+.1%}"
    )


def networks() -> Iterator[tuple[AnyNetwork, int]]:
    """Yield networks of different sizes, each with a batch."""
    for model, attention, heads, n_layers, n_batch in NETWORKS:
        yield (
            choose_network(
                model=model,
                attention=attention,
                heads=heads,  # type: ignore[arg-type]
                n_layers=n_layers,
            ),
            n_batch,
        )


@click.command(cls=ShieldedCommand)
@click.option("--protocol", type=click.Choice([*FOOTPRINTS]), default="semi2k")
@click.option("--only", default=",".join(PRIMITIVES), help="Operations.")
@click.option("--networks", "has_networks", is_flag=True, help="Networks instead.")
def main(protocol: str, only: str, has_networks: bool) -> None:
    """Print the memory that parties need."""
    deployment = make_deployment(protocol)
    if has_networks:
        for network, n_batch in networks():
            click.echo(network_line(deployment, network, n_batch))
        return
    for name in only.split(","):
        click.echo(operation_line(deployment, name))


if __name__ == "__main__":
    main()
