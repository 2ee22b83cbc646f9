"""From what a person asks for to a sweep's configuration: the edge, checked once."""

import math
import random
from typing import Any

from mpcprof.deployment import make_deployment
from mpcprof.engine.measure import Case
from mpcprof.engine.wan.choose import choose_emulation
from mpcprof.network import Network
from mpcprof.records import Mode
from mpcprof.sweep import SweepConfig


def make_config(
    *,
    network: Network,
    emulation: str,
    repeats: int,
    enough_s: float = 1.0,
    warmups: int | None,
    seed: int,
    base_port: int,
    cases: tuple[Case, ...],
    mode: Mode,
    case_limit_s: float | None = None,
    **deployment: Any,  # see make_deployment, which checks each
) -> SweepConfig:
    """Check every name and number before anything starts.

    Raises:
        UsageError: For whatever is not known or makes no sense, naming it.
    """
    deployed = make_deployment(**deployment)
    choose_emulation(emulation)
    return SweepConfig(
        deployment=deployed,
        network=network,
        mode=mode,
        emulation=emulation,
        cases=_ordered(cases, seed, case_limit_s),
        repeats=repeats,
        enough_s=enough_s,
        warmups=_warmups(mode) if warmups is None else warmups,
        seed=seed,
        case_limit_s=math.inf if case_limit_s is None else case_limit_s,
        base_port=base_port,
    )


def _ordered(
    cases: tuple[Case, ...], seed: int, case_limit_s: float | None
) -> tuple[Case, ...]:
    """Shapes and workloads mixed, so that none has a slow hour to itself.

    With a limit small ones come first: what they show to be too long need not be tried.
    """
    mixed = list(cases)
    random.Random(seed).shuffle(mixed)
    if case_limit_s is not None:
        mixed.sort(key=lambda case: math.prod(n for _, n in case.dims.items()))
    return tuple(mixed)


def _warmups(mode: Mode) -> int:
    """A priced sweep is to be quick: the first, cold call is its warm-up."""
    return 0 if mode == "priced" else 1
