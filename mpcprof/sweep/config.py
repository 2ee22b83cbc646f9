"""From what a person asks for to a sweep's configuration: the edge, checked once."""

import math
import random
from types import MappingProxyType
from typing import Any

from mpcprof.deployment import Deployment, make_deployment
from mpcprof.engine.emulation.backends import choose_emulation
from mpcprof.engine.measure import Case
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.profile.columns import Mode
from mpcprof.sweep.run import SweepConfig

_NOT_HERE = MappingProxyType(  # beaver types that SPU knows by name
    {
        "TrustedThirdParty": "SPU asks for a server that cannot be named here",
        "MultiParty": "SPU 0.9.5 has the name, and no such triples",
    }
)


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
    check_combination(deployed, emulation)
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


def check_combination(deployment: Deployment, emulation: str) -> None:
    """Refuse now what parties would refuse later, or have wrong.

    Raises:
        UsageError: If the deployment cannot be measured, or not on this back-end.
    """
    build = deployment.build
    if deployment.beaver in _NOT_HERE:
        raise UsageError(
            f"--beaver {deployment.beaver}: {_NOT_HERE[deployment.beaver]}; "
            f"expected {build.beavers[0]}"
        )
    if deployment.field_bits not in build.program_rings:
        raise UsageError(
            f"--field-bits {deployment.field_bits}: {build.name} cannot put the "
            "integers of a compiled program into so small a ring; expected "
            f"{' or '.join(map(str, build.program_rings))}"
        )
    name = choose_emulation(emulation)
    if name != "relay" and not deployment.is_counted_by_spu:
        raise UsageError(
            f"--emulation {name}: hops of {deployment.protocol} on "
            f"{deployment.runtime} are counted at the relay; expected relay"
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
