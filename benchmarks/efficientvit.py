"""EfficientViT M0 to M5 under MPC: what its cascade costs, and what would save it.

    python benchmarks/efficientvit.py [--profile FILE] [--parties] [--image 64]

Prints the tables of docs/efficientvit.md: parameters, multiply-adds, hops, bytes and
predicted seconds of each network with softmax, 2Quad and ScaleAttn in its heads. With
`--parties` M0 of random weights, its BatchNorms with the statistics of random images,
also runs between two parties on loopback: hops and bytes must be those predicted, and
the logits are held against torch's; two minutes.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
import numpy as np
import torch
from torch import nn

from mpcprof.cli import ShieldedCommand
from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError
from mpcprof.network import NETWORKS
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.efficientvit import EFFICIENTVITS, EfficientViT
from mpcprof.profile.io import read_profile
from mpcprof.workloads.models import model_workload
from mpcvit.models.efficientvit import EfficientViTMSRA, to_pixels

ATTENTIONS: Final = ("softmax", "2quad", "scale")
HEADS: Final = " heads/head "  # part of the name of what a head does
N_IMAGES: Final = 32  # for the statistics
SIZES: Final = (64, 96, 128, 224)


def size_line(network: EfficientViT) -> str:
    """Return the published sizes of a network, and what its parties share."""
    module = EfficientViTMSRA(network)
    n_parameters = sum(weight.numel() for weight in module.parameters())
    n_folded = sum(norm.num_features for norm in _norms(module))
    n_folded += module.head.bn.num_features  # no bias is left of it
    cells = (
        f"{n_parameters:,} | {n_parameters - n_folded:,}",
        f"{network.n_multiply_adds:,} | {network.n_heads_in_sequence}",
    )
    return f"| {network.name} | {' | '.join(cells)} |"


def _norms(module: nn.Module) -> Iterator[nn.BatchNorm1d | nn.BatchNorm2d]:
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return (own for own in module.modules() if isinstance(own, kinds))


def cost_line(network: EfficientViT, model: CostModel) -> str:
    """Return hops, those of the heads alone, bytes, and seconds on two networks."""
    steps = trace_model(network)
    wan, lan = (model.predict(steps, NETWORKS[name]) for name in ("wan", "lan"))
    heads = [part for part in wan.parts if HEADS in part.name]
    hops = sum(part.hops for part in heads)
    share = sum(part.latency_s for part in heads) / wan.latency_s
    return (
        f"| {network.name} | {network.image_size} | {network.attention} | "
        f"{wan.hops:.0f} | {hops:.0f} | {share:.0%} | {wan.bytes_sent / 1e6:.1f} | "
        f"{wan.latency_s:.1f} | {lan.latency_s:.2f} |"
    )


def make_module(network: EfficientViT) -> EfficientViTMSRA:
    """Return a random network in which every branch does something."""
    torch.manual_seed(0)
    module = EfficientViTMSRA(network)
    for norm in _norms(module):
        nn.init.uniform_(norm.weight, 0.2, 1.0)
        norm.momentum = 1.0  # the statistics of one batch
    with torch.no_grad():
        module.train()(make_images(network, N_IMAGES))
    return module.eval()


def make_images(network: EfficientViT, n_images: int) -> torch.Tensor:
    """Return random images (B, c, S, S) of deviation 1."""
    side = network.image_size
    return torch.randn((n_images, network.n_channels, side, side))


@torch.no_grad()
def ask_parties(session: Session, network: EfficientViT, model: CostModel) -> str:
    """Run a network privately; return hops, bytes and the errors of its logits."""
    module, images = make_module(network), make_images(network, 1)
    plain = module(images).numpy()
    weights = [weight.numpy() for weight in module.weights().values()]
    inputs = [to_pixels(images).numpy(), *weights]
    function = model_workload(network).function
    session.load("case", session.lower("case", function, inputs), inputs)
    run = session.run("case").runs[0]
    error = np.abs(session.fetch("case") - plain)
    session.unload("case")
    cost = model.predict(trace_model(network), NETWORKS["wan"])
    if (run.send_actions, run.bytes_sent) != (cost.hops, cost.bytes_sent):
        raise EngineError(f"{network.to_json()}: {run} is not {cost}")
    return (
        f"| {network.name} | {network.image_size} | {network.attention} | "
        f"{run.send_actions} | {run.bytes_sent} | {error.max():.1e} | "
        f"{np.median(error):.1e} | {plain.std():.2g} |"
    )


@click.command(cls=ShieldedCommand)
@click.option("--profile", default="profiles/semi2k.parquet", show_default=True)
@click.option("--parties", "has_parties", is_flag=True, help="Ask parties, too.")
@click.option("--image", "image_size", default=64, show_default=True)
def main(profile: str, has_parties: bool, image_size: int) -> None:
    """Print what EfficientViT costs, by network and by attention."""
    model = fit_cost_model(read_profile(Path(profile)))
    click.echo("| network | parameters | folded | multiply-adds | heads |")
    click.echo("|---" * 5 + "|")
    for network in EFFICIENTVITS.values():
        click.echo(size_line(network))
    click.echo(
        "\n| network | pixels | heads | hops | in heads | time | MB | wan | lan |"
    )
    click.echo("|---" * 9 + "|")
    networks = [*EFFICIENTVITS.values()]
    networks += [replace(networks[0], image_size=size) for size in SIZES[:-1]]
    for network in networks:
        for name in ATTENTIONS:
            click.echo(cost_line(replace(network, attention=name), model))
    if not has_parties:
        return
    click.echo("\n| network | pixels | heads | hops | bytes | error | median | std |")
    click.echo("|---" * 8 + "|")
    asked = replace(networks[0], image_size=image_size, n_classes=10)
    with Session(model.deployment, RelayEmulation()) as session:
        for name in ATTENTIONS:
            line = ask_parties(session, replace(asked, attention=name), model)
            click.echo(line)


if __name__ == "__main__":
    main()
