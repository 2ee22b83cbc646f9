"""Arguments and options that several commands share, each declared once."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mpcprof.builds import DEFAULT_BUILD
from mpcprof.cli.completion import offer_profiles, offering
from mpcprof.errors import UsageError
from mpcprof.money import parse_money
from mpcprof.network import parse_network
from mpcprof.shard import Shard, parse_shard
from mpcprof.units import parse_duration_s, parse_percent

if TYPE_CHECKING:
    from mpcprof.deployment import Deployment
    from mpcprof.network import Network

Command = TypeVar("Command", bound=Callable[..., Any])  # Any: click's own convention
Decorator = Callable[[Command], Command]

FILE = click.Path(path_type=Path)


def combine(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return one decorator that adds `options` in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def example(*commands: str) -> str:
    """Return the end of a command's help: lines that a person can try."""
    return "\n".join(["\b", "Example:", *(f"  {command}" for command in commands)])


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read the numbers (0.5, 0.7) from `0.5,0.7`.

    Raises:
        UsageError: If one is no finite number of at least 0.
    """
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (-1.0,)
    if not all(0 <= number < float("inf") for number in numbers):
        raise UsageError(f"{text!r}: expected numbers from 0 on such as 0.5,0.7")
    return numbers


def parse_shares(text: str) -> tuple[float, ...]:
    """Read the shares (0.5, 0.3) from `0.5,0.3`.

    Raises:
        UsageError: If one is no number from 0 to 1.
    """
    try:
        shares = parse_numbers(text)
    except UsageError:
        shares = (2.0,)
    if max(shares) > 1:
        raise UsageError(f"{text!r}: expected shares from 0 to 1 such as 0.5,0.3")
    return shares


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read the seeds (0, 1, 2) from `0,1,2`.

    Raises:
        UsageError: If one is no whole number of at least 0.
    """
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise UsageError(f"seeds {text!r}: expected whole numbers such as 0,1,2")
    return tuple(int(part) for part in text.split(","))


def parse_durations_s(text: str) -> tuple[float, ...]:
    """Read seconds (40.0, 30.0) from `40s,30s`.

    Raises:
        UnitError: If one is not a duration.
    """
    return tuple(parse_duration_s(part) for part in text.split(","))


def heads_option(text: str, default: str | None = None) -> Decorator[Any]:
    """Return `--heads serial|batched`, with `text` as its help."""
    return click.option(
        "--heads",
        type=click.Choice(["serial", "batched"]),
        default=default,
        show_default=default is not None,
        help=text,
    )


IMAGE_MODELS = "digits, cifar, cifar-small, tiny-imagenet, or a file of sizes FILE.json"
MODELS = IMAGE_MODELS.replace("or a", "bert-base, bert-large, or a")
_NETWORK = "wan, lan, bandwidth and round trip: 44MBps,40ms, or link.json of a link"
_offer_networks = offering("mpcprof.network:NETWORKS")
offer_models = offering("mpcprof.nn.preset:MODELS", has_files=True)


def parse_model(text: str) -> str:
    """Return the name of a model, or of a file of sizes, as it is.

    Raises:
        UsageError: If it is a file of another kind.
    """
    if Path(text).suffix not in ("", ".json"):
        raise UsageError(f"{text!r} is no model; expected {MODELS}")
    return text


profile_argument = click.argument("profile", type=FILE, shell_complete=offer_profiles)


def _only_network(
    _ctx: click.Context, _option: click.Parameter, networks: "tuple[Network, ...]"
) -> "Network":
    """Refuse a second network, of which click would take the last."""
    if len(networks) > 1:
        given = " and ".join(map(str, networks))
        raise UsageError(f"--network is {given}: expected one; run once for each")
    return networks[0]


network_option = click.option(
    "--network",
    type=parse_network,
    multiple=True,
    callback=_only_network,
    default=("wan",),
    show_default=True,
    help=f"{_NETWORK}.",
    shell_complete=_offer_networks,
)
networks_option = click.option(
    "--network",
    "networks",
    type=parse_network,
    multiple=True,
    default=("wan",),
    show_default=True,
    help=f"{_NETWORK}; repeatable.",
    shell_complete=_offer_networks,
)
emulation_option = click.option(
    "--emulation",
    default="auto",
    show_default=True,
    help="relay, tun or netem; see `mpcprof doctor`.",
)
parties_option = click.option(
    "--parties",
    type=FILE,
    metavar="PARTY.toml",
    help="Party file of this host: parties of several hosts, see docs/deploying.md.",
)
mode_option = click.option(
    "--mode",
    type=click.Choice(["emulated", "priced"]),
    default="emulated",
    show_default=True,
    help="Really wait for the network, or price loopback calls by the formula.",
)
workloads_option = click.option(
    "--workload", "workloads", multiple=True, help="Only this one; repeatable."
)
# a part of the work, or all of it on many machines
spread_options = combine(
    click.option(
        "--shard",
        type=parse_shard,
        metavar="I/N",
        help="Only this part of N; the parts are the same on every machine.",
    ),
    click.option(
        "--cluster",
        default="",
        metavar="ADDRESS",
        help="Spread over the hosts of Ray: HOST:PORT of its head, or auto.",
    ),
)
seed_option = click.option("--seed", type=int, default=0, show_default=True)
# of what measures cases to hold predictions against them
verifying_options = combine(
    click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True),
    click.option("--warmups", type=click.IntRange(min=0), default=1, show_default=True),
    click.option(
        "--tolerance",
        type=parse_percent,
        default="10%",
        metavar="PERCENT",
        show_default=True,
        help="Exit code 1 if a case is further off.",
    ),
    click.option("--fresh", "is_fresh", is_flag=True, help="Measure everything anew."),
)
# steps are listed image by image: more would take minutes, then all of the memory
batch_option = click.option(
    "--batch",
    "n_batch",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="Images that go together.",
)
# what an hour of a party and what it sends cost: see mpcprof.money.make_tariff
money_options = combine(
    click.option(
        "--price-per-hour",
        "per_hour",
        type=parse_money,
        metavar="MONEY",
        help="An hour of one party's machine: 3.06, $3.06, 3.06EUR; a call's cost is "
        "then shown.",
    ),
    click.option(
        "--price-per-GB",
        "per_gb",
        type=parse_money,
        metavar="MONEY",
        help="10^9 bytes that a party sends; a call's cost is then shown.",
    ),
)
# what each party does when: see mpcprof.trace.files
trace_options = combine(
    click.option(
        "--trace",
        type=FILE,
        help="What each party does when: FILE.json for Perfetto, FILE.speedscope.json "
        "for speedscope.",
    ),
    click.option(
        "--trace-unit",
        type=click.Choice(["seconds", "bytes", "hops"]),
        default="seconds",
        show_default=True,
        help="What weighs in FILE.speedscope.json.",
    ),
)
json_option = click.option(
    "--json", "is_json", is_flag=True, help="One JSON document on standard output."
)
# what the parties run: see mpcprof.deployment.make_deployment
deployment_options = combine(
    click.option(
        "--protocol",
        default="semi2k",
        show_default=True,
        help="semi2k, cheetah, aby3 or securenn; crypten with --runtime crypten.",
        shell_complete=offering("mpcprof.deployment:PROTOCOLS"),
    ),
    click.option(
        "--runtime",
        default=DEFAULT_BUILD.name,
        show_default=True,
        help="SPU build or other engine; see `mpcprof runtime list`.",
        shell_complete=offering("mpcprof.builds:BUILDS"),
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
        help="Fraction of fixed-point numbers. [default: as SPU for the ring]",
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
)
plan_option = click.option(
    "--plan",
    metavar="FILE",
    help="Plan of mpcvit tune, or `rewrites`: what changes no function.",
)


def sharded(path: Path, shard: Shard | None) -> Path:
    """Return the default file of a shard, so that no two write the same."""
    return path.with_stem(f"{path.stem}-{shard.label}") if shard else path


def beside(given: Path, name: str) -> Path:
    """Return the default output of that name, in the folder of what was given.

    Raises:
        UsageError: If that is no name of a file.
    """
    if not given.name:
        raise UsageError(f"{str(given)!r} is a folder; expected the name of a file")
    return given.with_name(name)


def seen_network(parties: Path | None, network: "Network") -> "Network | None":
    """Return the network, or None where hosts are to say which one they see."""
    source = click.get_current_context().get_parameter_source("network")
    is_typed = source is ParameterSource.COMMANDLINE
    return network if parties is None or is_typed else None


def planned_deployment(plan: str | None, **typed: Any) -> "Deployment":
    """Return the deployment that was typed, or the plan's if no option of it was.

    Args:
        plan: File of a plan, or `rewrites`; None for no plan.
        typed: Values of `deployment_options`.  # Any: one per option

    Raises:
        UsageError: If the plan cannot be read, or `Deployment` refuses what was typed.
    """
    from mpcprof.deployment import make_deployment
    from mpcprof.nn.plan import REWRITES, read_plan

    find_source = click.get_current_context().get_parameter_source
    is_typed = any(find_source(name) is ParameterSource.COMMANDLINE for name in typed)
    if plan and plan != REWRITES and not is_typed:
        made_for = read_plan(Path(plan)).deployment
        if made_for:
            return made_for
    return make_deployment(**typed)


# how it is measured: see mpcprof.sweep.config.make_config
measure_options = combine(
    network_option,
    emulation_option,
    mode_option,
    click.option(
        "--repeats",
        type=click.IntRange(min=1),
        help="Timed calls. [default: sweep: 5, 2 if quick, 1 if priced; profile: 3]",
    ),
    click.option(
        "--warmups",
        type=click.IntRange(min=0),
        help="Untimed calls after the first. [default: 1, 0 if priced]",
    ),
    seed_option,
    click.option(
        "--base-port",
        type=click.IntRange(min=0, max=65000),
        default=0,
        help="First port to use. [default: free ones]",
    ),
    parties_option,
)


def refuse_options(names: Collection[str], why: str) -> None:
    """Refuse options of the command that would change nothing.

    Args:
        names: Names of their parameters.
        why: End of the message, behind the option.

    Raises:
        UsageError: If one was typed.
    """
    context = click.get_current_context()
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if option.name in names and source is ParameterSource.COMMANDLINE:
            raise UsageError(f"{option.opts[0]} {why}")
