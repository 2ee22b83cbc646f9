"""From what a person asks for to the cases of a verification."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mpcprof.blocks.architecture import Heads
from mpcprof.costmodel import CostModel, load_cost_model
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.prediction_report import choose_architecture
from mpcprof.profile_io import read_profile
from mpcprof.profiles import Profile
from mpcprof.verification.drawing import Drawn, draw_cases, draw_models, model_case
from mpcprof.verification.run import VerifyRequest

_DRAWN_MODELS = ("digits", "cifar")
_NAMED = re.compile(r"([^:]+):([^:]+):(serial|batched)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is verified, before anything is measured."""

    profile: Profile
    model: CostModel
    cases: tuple[Drawn, ...]
    request: VerifyRequest


def plan_verification(
    profile_path: Path,
    *,
    n_cases: int,
    n_models: int,
    architectures: Sequence[str],
    seed: int,
    networks: Sequence[Network],
    emulation: str,
    repeats: int,
    warmups: int,
    limit_s: float,
) -> Plan:
    """Named cases, then drawn ones; see `mpcprof verify --help`.

    Raises:
        ProfileError: If there is no profile.
        MissingEntryError: If it lacks an operation of a case.
        UsageError: If nothing is asked for, or an architecture is not acceptable.
    """
    profile = read_profile(profile_path)
    model = load_cost_model(profile)
    networks = tuple(dict.fromkeys(networks))
    found = (
        *(_named_case(text) for text in architectures),
        *draw_cases(model, networks, n_cases=n_cases, seed=seed, limit_s=limit_s),
        *draw_models(
            model,
            networks,
            presets=_DRAWN_MODELS,
            n_models=n_models,
            seed=seed,
            limit_s=limit_s,
        ),
    )
    if not found:
        raise UsageError("no cases: expected --cases, --models or --architecture")
    cases = tuple({(one.name, one.dims): one for one in found}.values())
    request = VerifyRequest(
        networks=networks,
        emulation=emulation,
        repeats=repeats,
        warmups=warmups,
        seed=seed,
    )
    return Plan(profile=profile, model=model, cases=cases, request=request)


def _named_case(text: str) -> Drawn:
    """`cifar:scale:batched`, or an architecture file.

    Raises:
        UsageError: If it is neither.
    """
    if text.endswith(".json"):
        model, attention, heads = "", text, None
    elif match := _NAMED.fullmatch(text):
        model, attention, heads = match.groups()
    else:
        raise UsageError(
            f"--architecture {text!r}: expected MODEL:ATTENTION:HEADS, such as "
            "cifar:scale:batched, or a file arch.json"
        )
    return model_case(
        choose_architecture(
            model=model,
            attention=attention,
            activation=None,
            heads=cast("Heads | None", heads),
            n_layers=None,
        )
    )
