"""`mpcprof predict`: what a model would cost, from a profile."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.completion import offering
from mpcprof.cli.options import (
    FILE,
    MODELS,
    batch_option,
    example,
    heads_option,
    json_option,
    money_options,
    networks_option,
    parse_model,
    plan_option,
    profile_argument,
    trace_options,
)
from mpcprof.errors import UsageError

if TYPE_CHECKING:
    from mpcprof.money import Money
    from mpcprof.network import Network
    from mpcprof.nn.architecture import Heads
    from mpcprof.nn.preset import Embedding
    from mpcprof.predict import PredictionReport
    from mpcprof.trace.files import TraceUnit

# as costmodel.offline.PROTOCOLS, which costs half a second to import; a test compares
OFFLINE_PROTOCOLS = ("bfv", "ferret", "iknp", "dealer")


def parse_length(text: str) -> tuple[str, int]:
    """Read the length (sequence, 128) of an axis from `sequence=128`.

    Raises:
        UsageError: If it is none.
    """
    name, _, length = text.rpartition("=")
    if not name or not length.isdecimal() or not int(length):
        raise UsageError(f"{text!r}: expected the length of an axis: sequence=128")
    return name, int(length)


@click.command(
    "predict",
    epilog=example(
        "mpcprof predict semi2k --model cifar --attention relu_softmax",
        "mpcprof predict semi2k --attention arch.json --network 100MBps,10ms",
    ),
)
@profile_argument
@click.option(
    "--model",
    type=parse_model,
    default="",
    help=f"{MODELS}; or efficientvit-m0 to -m5. [default: cifar]",
    shell_complete=offering(
        "mpcprof.nn.preset:MODELS",
        "mpcprof.nn.efficientvit:EFFICIENTVITS",
        has_files=True,
    ),
)
@click.option(
    "--attention",
    help="A variant for every head, a mixer for every layer, or a file arch.json. "
    "[default: as the file of --model says, else softmax]",
    shell_complete=offering("mpcprof.nn.architecture:MIXING", has_files=True),
)
@click.option(
    "--activation",
    help="Activation of every layer, unless in the file. [default: gelu_tanh]",
    shell_complete=offering("mpcprof.nn.activation:ACTIVATIONS"),
)
@click.option(
    "--norm",
    help="Norm of every layer, unless in the file. [default: layernorm]",
    shell_complete=offering("mpcprof.nn.norm:NORMS"),
)
@click.option(
    "--tokens",
    "n_tokens",
    type=click.IntRange(min=1),
    help="Length of the texts of a model of tokens. [default: as the model says]",
)
@click.option(
    "--embedding",
    type=click.Choice(["client", "one_hot"]),
    help="Words looked up by the client, or a product of one-hot rows and the secret "
    "table. [default: as the model says, else client]",
)
@networks_option
@batch_option
@heads_option("One by one or together. [default: as in the file, else serial]")
@plan_option
@click.option(
    "--layers",
    "n_layers",
    type=click.IntRange(min=1),
    help="Layers, instead of the model's.",
)
@click.option("--onnx", type=FILE, help="Network in an ONNX file, by operation.")
@click.option(
    "--dim",
    "lengths",
    multiple=True,
    type=parse_length,
    metavar="NAME=N",
    help="Length of an axis that the file of --onnx leaves open; repeatable.",
)
@click.option(
    "--skip-unsupported",
    is_flag=True,
    help="With --onnx: leave out operations without a price, and name them.",
)
@click.option(
    "--image",
    "image_size",
    type=click.IntRange(min=1),
    help="Height and width of the image in pixels, of an EfficientViT. [default: 224]",
)
@click.option(
    "--classes",
    "n_classes",
    type=click.IntRange(min=1),
    help="Number of classes, of an EfficientViT. [default: 1000]",
)
@click.option(
    "--with-offline",
    is_flag=True,
    help="Price the offline phase of semi2k as well: triples by kind and number.",
)
@click.option(
    "--offline-protocol",
    type=click.Choice(OFFLINE_PROTOCOLS),
    help="How they are made, with --with-offline. [default: bfv]",
)
@money_options
@trace_options
@json_option
def command(
    profile: Path,
    model: str,
    attention: str | None,
    activation: str | None,
    norm: str | None,
    n_tokens: int | None,
    embedding: "Embedding | None",
    networks: "tuple[Network, ...]",
    n_batch: int,
    heads: "Heads | None",
    plan: str | None,
    n_layers: int | None,
    onnx: Path | None,
    lengths: tuple[tuple[str, int], ...],
    skip_unsupported: bool,
    image_size: int | None,
    n_classes: int | None,
    with_offline: bool,
    offline_protocol: str | None,
    per_hour: "Money | None",
    per_gb: "Money | None",
    trace: Path | None,
    trace_unit: "TraceUnit",
    is_json: bool,
) -> None:
    """Predict a whole Transformer from the measurements in PROFILE.

    Seconds with an interval, bytes, hops, and the split by layer and by operation. With
    --with-offline, also a table of what a trusted party deals, and its price without.
    With --onnx any network of operations that have a price, a CNN too.
    """
    from dataclasses import replace

    from mpcprof.money import make_tariff
    from mpcprof.trace.files import check_trace

    tariff = make_tariff(per_hour, per_gb)
    check_trace(trace, trace_unit)
    if offline_protocol and not with_offline:
        raise UsageError(
            f"--offline-protocol {offline_protocol} prices nothing by itself; add "
            "--with-offline"
        )
    if onnx is not None:
        sizes = (n_layers, n_tokens, embedding, image_size, n_classes)
        if any((model, attention, activation, norm, heads, plan, *sizes)):
            raise UsageError(
                "--onnx FILE says the whole network: give it without --model, "
                "--attention, --activation, --norm, --heads, --plan, --layers, "
                "--tokens, --embedding, --image and --classes"
            )
        from mpcprof.graph.predict import OnnxConfig, predict_onnx

        config = OnnxConfig(
            path=onnx,
            n_batch=n_batch,
            lengths=_by_name(lengths),
            skips_unpriced=skip_unsupported,
            offline_protocol=(offline_protocol or "bfv") if with_offline else None,
        )
        report = replace(predict_onnx(profile, config, networks), tariff=tariff)
        report = _traced(report, profile, trace, trace_unit)
        click.echo(report.to_json() if is_json else "\n".join(report.lines()))
        return
    if lengths or skip_unsupported:
        raise UsageError("--dim and --skip-unsupported are of --onnx FILE; add it")
    from mpcprof.costmodel.model import fit_cost_model
    from mpcprof.predict import (
        choose_network,
        plan_network,
        predict_model,
        predict_offline,
    )
    from mpcprof.profile.io import read_profile

    architecture = choose_network(
        model=model,
        attention=attention,
        activation=activation,
        norm=norm,
        heads=heads,
        n_layers=n_layers,
        n_tokens=n_tokens,
        embedding=embedding,
        image_size=image_size,
        n_classes=n_classes,
    )
    records = read_profile(profile)
    cost_model = fit_cost_model(records)
    chosen = plan_network(
        plan,
        architecture,
        n_batch,
        deployment=cost_model.deployment,
        link=networks[0],
        heads=heads,
    )
    report = predict_model(cost_model, architecture, networks, n_batch, chosen)
    report = replace(report, tariff=tariff)
    if with_offline:
        offline = predict_offline(
            *(records, architecture, n_batch, chosen),
            protocol=offline_protocol or "bfv",
        )
        report = replace(report, offline=offline)
    report = _traced(report, profile, trace, trace_unit)
    click.echo(report.to_json() if is_json else "\n".join(report.lines()))


def _by_name(lengths: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """Return the length of each axis by its name.

    Raises:
        UsageError: If an axis has two.
    """
    found: dict[str, int] = {}
    for name, length in lengths:
        if found.setdefault(name, length) != length:
            raise UsageError(
                f"--dim {name} is both {found[name]} and {length}: give it once"
            )
    return found


def _traced(
    report: "PredictionReport", profile: Path, trace: Path | None, unit: "TraceUnit"
) -> "PredictionReport":
    """Write the trace if there is to be one, and return the report with it."""
    if trace is None:
        return report
    from mpcprof.costmodel.model import CostModel
    from mpcprof.predict import with_timeline
    from mpcprof.trace.files import write_trace

    report = with_timeline(report, CostModel.from_profile(profile))
    if report.timeline:
        write_trace(report.timeline, trace, unit)
    return report
