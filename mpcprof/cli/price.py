"""`mpcprof price`: other people's numbers on other networks."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import FILE, example, json_option, networks_option
from mpcprof.errors import UsageError
from mpcprof.network import parse_network
from mpcprof.units import parse_duration_s, parse_rounded_size_bytes

if TYPE_CHECKING:
    from mpcprof.network import Network

_COUNT = click.FloatRange(min=0)


@click.command(
    "price",
    epilog=example(
        "mpcprof price --bytes 989MB --hops 1200 --compute 1.07s --network lan"
    ),
)
@click.argument("log", type=FILE, required=False)
@click.option(
    "--bytes",
    "bytes_sent",
    type=parse_rounded_size_bytes,
    metavar="SIZE",
    help="What one party sends: 989MB, 0.989GiB.",
)
@click.option("--hops", type=_COUNT, help="One-way messages that wait for each other.")
@click.option("--rounds", type=_COUNT, help="Rounds, instead of --hops.")
@click.option(
    "--hops-per-round",
    type=click.FloatRange(min=1),
    help="2 where an answer follows a request, 4 for CrypTen's. "
    "[default: 1, all parties send at once]",
)
@click.option(
    "--compute",
    "compute_s",
    type=parse_duration_s,
    help="What no network changes: 1.07s; 0s for the network alone.",
)
@click.option(
    "--seconds",
    "latency_s",
    type=parse_duration_s,
    help="Whole run, with --measured-on: compute is what hops and bytes leave.",
)
@click.option("--measured-on", type=parse_network, help="Network that the run had.")
@click.option(
    "--half-duplex",
    "is_half_duplex",
    is_flag=True,
    help="Both directions share the bandwidth: bytes count twice.",
)
@networks_option
@json_option
def command(
    log: Path | None,
    bytes_sent: float | None,
    hops: float | None,
    rounds: float | None,
    hops_per_round: float | None,
    compute_s: float | None,
    latency_s: float | None,
    measured_on: "Network | None",
    is_half_duplex: bool,
    networks: "tuple[Network, ...]",
    is_json: bool,
) -> None:
    """Price bytes, rounds and seconds that somebody reported on other networks.

    Either the numbers, or the LOG of a party of MP-SPDZ (with -v) or of SPU. A hop is a
    one-way message that waited for another one; it costs half a round trip.
    """
    from mpcprof.reported import (
        Elapsed,
        RepricedReport,
        count_hops,
        make_reported,
        read_reported,
    )

    elapsed = Elapsed(compute_s=compute_s, latency_s=latency_s, network=measured_on)
    typed = (bytes_sent, hops, rounds, hops_per_round)
    if log is not None and any(one is not None for one in typed):
        raise UsageError(
            f"{str(log)!r} has bytes and rounds; leave out --bytes, --hops, --rounds "
            "and --hops-per-round"
        )
    if log is not None:
        costs = read_reported(log, elapsed, is_half_duplex=is_half_duplex)
    elif bytes_sent is not None:
        hops = count_hops(hops, rounds, hops_per_round)
        costs = (
            make_reported(
                bytes_sent=bytes_sent,
                hops=hops,
                elapsed=elapsed,
                is_half_duplex=is_half_duplex,
            ),
        )
    else:
        raise UsageError("nothing to price; expected a LOG, or --bytes and --hops")
    report = RepricedReport(costs=costs, networks=networks)
    click.echo(report.to_json() if is_json else "\n".join(report.lines()))
