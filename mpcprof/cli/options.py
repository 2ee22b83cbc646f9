"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mpcprof.builds import DEFAULT_BUILD
from mpcprof.network import parse_network

Command = TypeVar("Command", bound=Callable[..., Any])  # Any: click's own convention

# steps are listed image by image: more would take minutes, then all of the memory
batch_type = click.IntRange(1, 100_000)

json_option = click.option(
    "--json", "is_json", is_flag=True, help="One JSON document on standard output."
)


def deployment_options(command: Command) -> Command:
    """What the parties run: protocol, build, ring, beaver triples, SPU's options."""
    for option in reversed(
        [
            click.option(
                "--protocol",
                default="semi2k",
                show_default=True,
                help="semi2k, cheetah, aby3 or securenn.",
            ),
            click.option(
                "--runtime",
                default=DEFAULT_BUILD.name,
                show_default=True,
                help="SPU build; see `mpcprof runtime list`.",
            ),
            click.option(
                "--field-bits",
                type=click.Choice(["32", "64", "128"]),
                default="64",
                show_default=True,
                help="Width of the ring.",
            ),
            click.option(
                "--fraction-bits",
                type=click.IntRange(min=1),
                help="Of the fixed-point numbers. [default: as SPU for the ring]",
            ),
            click.option(
                "--beaver", default="", help="Beaver triples of semi2k, by SPU's name."
            ),
            click.option(
                "--option",
                "options",
                multiple=True,
                metavar="NAME=VALUE",
                help="Compiler or runtime option by SPU's name; may be repeated.",
            ),
        ]
    ):
        command = option(command)
    return command


def measure_options(command: Command) -> Command:
    """Between which network, how emulated, and how often."""
    for option in reversed(
        [
            click.option(
                "--network",
                type=parse_network,
                default="wan",
                show_default=True,
                help="wan, lan, or bandwidth and round trip: 44MBps,40ms.",
            ),
            click.option(
                "--emulation",
                default="auto",
                show_default=True,
                help="relay, tun or netem; see `mpcprof doctor`.",
            ),
            click.option(
                "--repeats",
                type=click.IntRange(min=1),
                help="Timed calls. [default: 2 in quick, 1 if priced, 5 else]",
            ),
            click.option(
                "--warmups",
                type=click.IntRange(min=0),
                help="Untimed calls after the first. [default: 1, 0 if priced]",
            ),
            click.option("--seed", type=int, default=0, show_default=True),
            click.option(
                "--base-port",
                type=click.IntRange(min=0, max=65000),
                default=0,
                help="First port to use. [default: free ones]",
            ),
        ]
    ):
        command = option(command)
    return command
