"""From what a person asks for to a sweep's configuration: the edge, checked once."""

import math

from mpcprof.deployment import make_deployment
from mpcprof.engine.wan.choose import choose_emulation
from mpcprof.grid import choose_workloads, get_preset
from mpcprof.network import Network
from mpcprof.records import Mode
from mpcprof.sweep import SweepConfig

_REPEATS = {"quick": 2}
_REPEATS_ELSE = 5


def make_config(
    *,
    protocol: str,
    runtime: str,
    field_bits: str,
    fraction_bits: int | None,
    beaver: str,
    options: tuple[str, ...],
    network: Network,
    emulation: str,
    repeats: int | None,
    warmups: int,
    seed: int,
    base_port: int,
    preset: str,
    mode: Mode,
    only: str,
    heads: tuple[int, ...] | None,
    tokens: tuple[int, ...] | None,
    hidden: tuple[int, ...] | None,
    width: tuple[int, ...] | None,
    case_limit_s: float | None,
) -> SweepConfig:
    """Check every name and number before anything starts.

    Raises:
        UsageError: For whatever is not known or makes no sense, naming it.
    """
    deployment = make_deployment(
        protocol,
        runtime=runtime,
        field_bits=int(field_bits),
        fraction_bits=fraction_bits or 0,
        beaver=beaver,
        options=options,
    )
    names = [name.strip() for name in only.split(",") if name.strip()]
    choose_emulation(emulation)
    return SweepConfig(
        deployment=deployment,
        network=network,
        mode=mode,
        emulation=emulation,
        workloads=choose_workloads(names),
        grid=get_preset(preset).override(
            n_heads=heads, n_tokens=tokens, hidden=hidden, width=width
        ),
        repeats=repeats or _REPEATS.get(preset, _REPEATS_ELSE),
        warmups=warmups,
        seed=seed,
        case_limit_s=math.inf if case_limit_s is None else case_limit_s,
        base_port=base_port,
    )
