"""BERT as published systems have it, and their ratios beside the published ones.

    python benchmarks/bert.py

Prints the tables of docs/bert.md, predicted from profiles/semi2k.parquet, aby3.parquet
and cheetah.parquet with heads batched; takes seconds.
"""

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

import click

from mpcprof.cli import ShieldedCommand
from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.costmodel.prediction import Prediction
from mpcprof.network import NETWORKS
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import read_profile
from mpcprof.units import format_bytes, format_duration
from mpcprof.zoo.systems import get_system

PROFILES: Final = Path(__file__).parents[1] / "profiles"
PROTOCOLS: Final = ("semi2k", "aby3")
SYSTEMS: Final = ("exact", "puma", "mpcformer", "secformer")
BERTS: Final = ("bert-base", "bert-large")
N_TOKENS: Final = 128


class Claim(NamedTuple):
    """A published ratio: seconds of the slower system over those of the faster one."""

    faster: str
    slower: str
    model: str
    n_tokens: int
    ratio: float
    where: str


# shared/FIELD-FACTS.md 2.4 says which seconds the ratios are of
CLAIMS: Final = (
    Claim("secformer", "puma", "bert-base", 512, 3.57, "SecFormer"),
    Claim("secformer", "puma", "bert-large", 512, 3.58, "SecFormer"),
    Claim("puma", "mpcformer", "bert-base", 128, 1.63, "PUMA"),
    Claim("puma", "mpcformer", "bert-large", 128, 1.92, "PUMA"),
    Claim("mpcformer", "exact", "bert-base", 512, 5.26, "MPCFormer"),
    Claim("mpcformer", "exact", "bert-base", 128, 2.2, "MPCFormer"),
    Claim("mpcformer-2relu", "exact", "bert-base", 512, 2.61, "MPCFormer"),
)


@cache
def cost_model(protocol: str) -> CostModel:
    """Return the cost model of a committed profile."""
    return fit_cost_model(read_profile(PROFILES / f"{protocol}.parquet"))


@cache
def predict(
    protocol: str, network: str, system: str, model: str, n_tokens: int = N_TOKENS
) -> Prediction:
    """Predict a BERT as a system has it, its words looked up by the client."""
    sizes = MODELS[model].resized(n_tokens=n_tokens)
    steps = trace_model(get_system(system).build(sizes, "batched"))
    return cost_model(protocol).predict(steps, NETWORKS[network])


def costs() -> Iterator[tuple[str, ...]]:
    """Yield a row for each model, protocol and system."""
    yield "model", "protocol", "system", "lan", "wan", "sent by all", "hops"
    for model, protocol, system in product(BERTS, PROTOCOLS, SYSTEMS):
        lan, wan = (predict(protocol, own, system, model) for own in ("lan", "wan"))
        seconds = (format_duration(one.latency_s, digits=4) for one in (lan, wan))
        sent, hops = format_bytes(wan.total_bytes_sent, digits=4), f"{wan.hops:.0f}"
        yield model, protocol, system, *seconds, sent, hops


def ratios() -> Iterator[tuple[str, ...]]:
    """Yield a row for each published ratio and protocol."""
    head = ("published by", "system", "over", "model", "tokens", "published")
    yield *head, "protocol", "lan", "wan", "bytes", "hops"
    for claim, protocol in product(CLAIMS, PROTOCOLS):
        fast, slow = (
            {
                own: predict(protocol, own, system, claim.model, claim.n_tokens)
                for own in ("lan", "wan")
            }
            for system in (claim.faster, claim.slower)
        )
        found = [slow[own].latency_s / fast[own].latency_s for own in ("lan", "wan")]
        found.append(slow["wan"].total_bytes_sent / fast["wan"].total_bytes_sent)
        found.append(slow["wan"].hops / fast["wan"].hops)
        what = (claim.where, claim.faster, claim.slower, claim.model)
        said = (str(claim.n_tokens), f"{claim.ratio:g}x", protocol)
        yield *what, *said, *(f"{ratio:.2f}x" for ratio in found)


def embeddings() -> Iterator[tuple[str, ...]]:
    """Yield what the product of one-hot rows costs, for each protocol."""
    yield "protocol", "lan", "wan", "sent by all", "share of all bytes"
    sizes = MODELS["bert-base"].resized(n_tokens=N_TOKENS, embedding="one_hot")
    steps = trace_model(get_system("exact").build(sizes, "batched"))
    product_alone = [step for step in steps if step.part == "embedding"]
    for protocol in (*PROTOCOLS, "cheetah"):
        model = cost_model(protocol)
        lan, wan = (
            model.predict(product_alone, NETWORKS[own], is_call=False)
            for own in ("lan", "wan")
        )
        seconds = (format_duration(one.latency_s, digits=3) for one in (lan, wan))
        sent = format_bytes(wan.total_bytes_sent, digits=3)
        whole = model.predict(steps, NETWORKS["wan"])
        share = wan.total_bytes_sent / whole.total_bytes_sent
        yield protocol, *seconds, sent, f"{share:.1%}"


@click.command(cls=ShieldedCommand)
def main() -> None:
    """Print the one-hot product, BERT by system, and published ratios."""
    for table in (embeddings, costs, ratios):
        header, *rows = table()
        click.echo(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
        for row in rows:
            click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
