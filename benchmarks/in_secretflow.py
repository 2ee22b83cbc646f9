"""SecretFlow's SPU device beside SPU by itself, function by function.

    python benchmarks/in_secretflow.py [--network wan] [--repeats 5]

Real parties of each runtime, all alive, take turns: a product, a softmax and a network
for digits, on the emulated network. Prints a Markdown table; two minutes on the wan.
"""

import contextlib
from collections.abc import Sequence
from statistics import median

import click
import jax
import numpy as np

from mpcprof.cli import ShieldedCommand
from mpcprof.cli.options import network_option
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.calibration import trim_link
from mpcprof.engine.calls import Call
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.network import Network
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.units import format_bytes, format_duration
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import Workload
from mpcprof.workloads.user import make_user_workload

RUNTIMES = ("secretflow-1.14", "spu-0.9.4.dev20250618", "spu-0.9.5")


def workloads(n_tokens: int, width: int) -> list[tuple[Workload, Dims]]:
    """Return a product, a softmax of four heads, and a network for digits."""
    product = make_user_workload(
        lambda x, w: x @ w, ((n_tokens, width), (width, 2 * width)), name="product"
    )
    softmax = make_user_workload(
        lambda x: jax.nn.softmax(x, axis=-1), ((4, n_tokens, n_tokens),), name="softmax"
    )
    digits = uniform_architecture(
        get_model("digits"), attention="relu_softmax", heads="batched"
    )
    no_dims = Dims()
    return [
        (product, no_dims),
        (softmax, no_dims),
        (model_workload(digits), Dims(n_batch=1)),
    ]


def line(name: str, session: Session, calls: Sequence[Call], error: float) -> str:
    """Return the row of one function under one runtime."""
    latencies_s = [call.latency_s for call in calls]
    low, middle, high = (
        format_duration(of(latencies_s), digits=3) for of in (min, median, max)
    )
    runs = calls[-1].runs
    driver_s = median(call.driver_s for call in calls)
    cells = (
        *(name, session.deployment.build.title, f"{middle} ({low} to {high})"),
        format_bytes(sum(run.bytes_sent or 0 for run in runs), digits=7),
        f"{runs[0].send_actions}",
        format_duration(driver_s, digits=2) if driver_s else "none",
        f"{error:.2g}",
    )
    return f"| {' | '.join(cells)} |"


@click.command(cls=ShieldedCommand)
@network_option
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--runtime", "runtimes", multiple=True, default=RUNTIMES)
@click.option("--tokens", "n_tokens", default=65, show_default=True)
@click.option("--width", default=256, show_default=True)
def main(
    network: Network, repeats: int, runtimes: Sequence[str], n_tokens: int, width: int
) -> None:
    """Compare the runtimes that are installed."""
    click.echo("| function | runtime | SPU | bytes, all | hops | drivers | error |")
    click.echo("|---|---|---|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        sessions = []
        for runtime in runtimes:
            deployment = make_deployment("semi2k", runtime=runtime)
            sessions.append(stack.enter_context(Session(deployment, RelayEmulation())))
            if not network.is_loopback:
                trim_link(sessions[-1], network)
            sessions[-1].set_network(network)
        for workload, dims in workloads(n_tokens, width):
            inputs = workload.make_inputs(dims, np.random.default_rng(0))
            expected = workload.reference(*inputs)
            for session in sessions:
                lowered = session.lower("case", workload.function, inputs)
                session.load("case", lowered, inputs)
                session.run("case")  # cold
            rounds = [[s.run("case") for s in sessions] for _ in range(repeats)]
            for session, *calls in zip(sessions, *rounds, strict=True):
                error = np.max(np.abs(session.fetch("case") - expected))
                click.echo(line(workload.name, session, calls, float(error)))
                session.unload("case")


if __name__ == "__main__":
    main()
