"""What each choice of a network costs: hops, bytes and predicted seconds.

    python benchmarks/design_choices.py [--parties]

Prints the tables of docs/designing-for-mpc.md: what mixing, norm and MLP of a layer,
and a convolution of the stem, add to a network of `cifar` size; and whole networks. All
are rewritten, as `--plan rewrites` deploys them. With `--parties` each network also
runs between two parties on loopback, whose hops and bytes must be those predicted;
minutes.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import click
import numpy as np

from mpcprof.cli import ShieldedCommand
from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.costmodel.prediction import Prediction
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.plan import rewrites_only
from mpcprof.nn.preset import Convolution
from mpcprof.profile.io import read_profile
from mpcprof.workloads.models import model_workload
from networks import NAMED, make_network

MIXING: Final = (
    *("softmax", "linformer", "relu_softmax", "2quad", "relu_n", "cube", "scale"),
    *("convolution", "depthwise", "token_mix", "pool", "shift"),
)
ACTIVATIONS: Final = ("gelu_tanh", "gelu_spline", "relu", "quad", "identity")
BATCH: Final = 32


class Choice(NamedTuple):
    """A choice, as the difference of two networks, which have it `n_times`."""

    name: str
    network: Architecture
    without: Architecture
    n_times: int = 1


def choices() -> Iterator[Choice]:
    """Yield mixing, norms, MLPs and convolutions of the stem."""
    for name in MIXING:
        yield Choice(name, make_network(name), make_network())
    own = make_network("scale", norm="layernorm")
    # in front of the attention, of the MLP and of the classifier
    yield Choice("layernorm", own, make_network("scale"), 3)
    without = make_network("token_mix", ratio=0)
    for name in (*ACTIVATIONS, "quad_linear"):
        own = make_network("token_mix", activation=name)
        yield Choice(f"MLP, ratio 2, {name}", own, without)
    for ratio in (1, 4):
        own = make_network("token_mix", ratio=ratio)
        yield Choice(f"MLP, ratio {ratio}, quad_linear", own, without)
    for name in ("relu", "quad_linear"):
        first = Convolution(channels=32, activation=name, pool=2)
        second = replace(first, channels=64)
        one = make_network(stem=(first,), patch=2)
        two = make_network(stem=(first, second), patch=1)
        what = f"of 32 channels at 32 x 32, {name}"
        yield Choice(f"first convolution {what}", one, make_network())
        yield Choice("another of 64 at 16 x 16", two, one)


def cost_of(model: CostModel, network: Architecture, n_batch: int = 1) -> Prediction:
    """Return the predicted cost of a rewritten network."""
    plan = rewrites_only(network, n_batch)
    return model.predict(trace_model(network, n_batch, plan), NETWORKS["wan"])


def ask_parties(session: Session, model: CostModel, network: Architecture) -> None:
    """Run a network; hops and bytes must be those predicted."""
    workload = model_workload(network, rewrites_only(network))
    inputs = workload.make_inputs(Dims(n_batch=1), np.random.default_rng(0))
    session.load("case", session.lower("case", workload.function, inputs), inputs)
    run = session.run("case").runs[0]
    session.unload("case")
    cost = cost_of(model, network)
    if (run.send_actions, run.bytes_sent) != (cost.hops, cost.bytes_sent):
        raise EngineError(f"{network.to_json()}: {run} is not {cost}")


def choice_line(choice: Choice, models: list[CostModel]) -> str:
    """Return hops, bytes sent by a party and seconds of a choice, by protocol."""
    cells = [choice.name]
    for model, n_parties in zip(models, (2, 3), strict=True):
        own, less = (cost_of(model, each) for each in choice[1:3])
        sent = (own.total_bytes_sent - less.total_bytes_sent) / n_parties / 1e6
        cells += [
            f"{(own.hops - less.hops) / choice.n_times:.0f}",
            f"{sent / choice.n_times:.2f}",
            f"{(own.latency_s - less.latency_s) / choice.n_times:.2f}",
        ]
    return f"| {' | '.join(cells)} |"


def network_line(name: str, network: Architecture, model: CostModel) -> str:
    """Return hops, bytes sent by a party and seconds, alone and in a batch."""
    one, many = (cost_of(model, network, n_batch) for n_batch in (1, BATCH))
    cells = [name, f"{one.hops:.0f}", f"{one.bytes_sent / 1e6:.1f}"]
    cells += [f"{one.latency_s:.2f}", f"{many.latency_s / BATCH:.2f}"]
    return f"| {' | '.join(cells)} |"


@click.command(cls=ShieldedCommand)
@click.option("--parties", "has_parties", is_flag=True, help="Ask parties, too.")
def main(has_parties: bool) -> None:
    """Print hops, bytes and predicted seconds of choices and of whole networks."""
    paths = (Path("profiles", f"{name}.parquet") for name in ("semi2k", "aby3"))
    models = [fit_cost_model(read_profile(path)) for path in paths]
    click.echo("| choice | hops | MB | s | aby3: hops | MB | s |\n" + "|---" * 7 + "|")
    for choice in choices():
        click.echo(choice_line(choice, models))
    click.echo("\n| network | hops | MB | s | s, one of 32 |\n" + "|---" * 5 + "|")
    for name, network in NAMED.items():
        click.echo(network_line(name, network, models[0]))
    if has_parties:
        asked = [each for choice in choices() for each in choice[1:3]]
        asked += NAMED.values()
        with Session(make_deployment("semi2k"), RelayEmulation()) as session:
            for network in dict.fromkeys(asked):
                ask_parties(session, models[0], network)
        click.echo("\ntwo parties: every network took these hops and bytes")


if __name__ == "__main__":
    main()
