"""The cases of a verification: shapes of no preset, and heterogeneous models."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

from mpcprof.costmodel.model import CostModel
from mpcprof.dims import Dims
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.architecture import Architecture, Head, Heads, LayerActivation
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.catalogue import BLOCKS, AnyNetwork, trace_block, trace_model
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.norm import NORMS
from mpcprof.nn.plan import Plan
from mpcprof.nn.preset import MODELS, ModelPreset, Pooling
from mpcprof.nn.steps import LOCAL, PRIMITIVES, Step
from mpcprof.sweep.grid import PRESETS
from mpcprof.workloads.registry import all_workloads, get_workload

_LOW_HIGH: Final = {
    "n_heads": (1, 12),
    "n_tokens": (12, 256),
    "head_dim": (8, 64),
    "width": (48, 320),
    "hidden": (48, 1000),
}
_TRIES: Final = 200
_MIXED: Final = 0.25  # of a model's layers have a mixer instead of heads
_POOLINGS: Final[tuple[Pooling, ...]] = ("class_token", "mean")  # of images
_RATIOS: Final = (0.0, 0.5, 1.0, 2.0)  # 0 but beside no mixing


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A case to predict and to measure.

    Attributes:
        architecture: Architecture of a model; None for a primitive or a block.
        plan: How a model is deployed.
    """

    name: str
    dims: Dims
    steps: tuple[Step, ...]
    architecture: AnyNetwork | None = None
    plan: Plan | None = None

    def __str__(self) -> str:
        return f"{self.name} [{self.dims}]"


def draw_cases(
    model: CostModel,
    networks: Sequence[Network],
    *,
    n_cases: int,
    seed: int,
    limit_s: float,
) -> tuple[Drawn, ...]:
    """Return primitives and blocks in turn, at sizes that no preset has.

    Only cases that are predicted to take at most `limit_s` on each network are drawn. A
    workload is passed over if all its shapes take longer, or if the profile lacks one
    of its operations.

    Raises:
        UsageError: If too few shapes of all workloads are left.
    """
    chance = random.Random(seed)
    primitives = [workload.name for workload in all_workloads("primitive")]
    if LOCAL not in model.operations:
        primitives.remove(LOCAL)  # draws what was drawn before there was such a step
    names = _in_turn(_shuffled(primitives, chance), _shuffled([*BLOCKS], chance))
    drawn: list[Drawn] = []
    passed_over: set[str] = set()
    while len(drawn) < n_cases:
        if len(passed_over) == len(primitives) + len(BLOCKS):
            raise UsageError(
                f"only {len(drawn)} shapes take at most {limit_s:g} s, of operations "
                "that the profile has; allow more with --limit, measure more with "
                "`mpcprof sweep`, or draw fewer with --cases"
            )
        name = next(names)
        if name in passed_over:
            continue
        one = _draw_one(name, chance, drawn, model, networks, limit_s)
        if one is None:
            passed_over.add(name)
        else:
            drawn.append(one)
    return tuple(drawn)


def _draw_one(
    name: str,
    chance: random.Random,
    drawn: Sequence[Drawn],
    model: CostModel,
    networks: Sequence[Network],
    limit_s: float,
) -> Drawn | None:
    """Return a new case of a workload; None if none is quick enough."""
    for _ in range(_TRIES):
        dims = _draw_dims(name, chance)
        n_steps = PRIMITIVES[name].n_steps if name in PRIMITIVES else 1
        steps = trace_block(name, dims) * n_steps
        one = Drawn(name=name, dims=dims, steps=steps)
        needed = {step.operation for step in model.priced(one.steps)}
        if not needed <= {*model.operations}:
            return None
        if one not in drawn and _slowest_s(model, one.steps, networks) <= limit_s:
            return one
    return None


def draw_models(
    model: CostModel,
    networks: Sequence[Network],
    *,
    presets: Sequence[str],
    n_models: int,
    seed: int,
    limit_s: float,
) -> tuple[Drawn, ...]:
    """Return heterogeneous Vision Transformers, with heads serial or batched in turn.

    Each has between 1 and all layers of its preset; their heads or mixers, norms,
    activations and MLP ratios differ.

    Raises:
        UsageError: If none is as quick as `limit_s`.
    """
    chance = random.Random(seed)
    drawn: list[Drawn] = []
    for number in range(n_models):
        preset = MODELS[presets[number % len(presets)]]
        heads = get_args(Heads)[number // len(presets) % 2]
        for _ in range(_TRIES):
            one = model_case(_draw_architecture(preset, heads, chance))
            if _slowest_s(model, one.steps, networks) <= limit_s:
                drawn.append(one)
                break
        else:
            raise UsageError(
                f"no {preset.name} model takes at most {limit_s:g} s; "
                "allow more with --limit"
            )
    return tuple(drawn)


def model_case(
    architecture: AnyNetwork, n_batch: int = 1, plan: Plan | None = None
) -> Drawn:
    """Return an architecture as a case, deployed by a plan."""
    from mpcprof.workloads.models import model_workload

    return Drawn(
        name=model_workload(architecture, plan).name,
        dims=Dims(n_batch=n_batch),
        steps=trace_model(architecture, n_batch, plan),
        architecture=architecture,
        plan=plan,
    )


def _shuffled(names: Sequence[str], chance: random.Random) -> list[str]:
    return chance.sample(list(names), len(names))


def _in_turn(*lists: Sequence[str]) -> Iterator[str]:
    for names in zip(*(itertools.cycle(names) for names in lists), strict=False):
        yield from names


def _slowest_s(
    model: CostModel, steps: Sequence[Step], networks: Sequence[Network]
) -> float:
    return max(model.predict(steps, network).latency_s for network in networks)


def _draw_dims(name: str, chance: random.Random) -> Dims:
    sizes = {}
    for dim in get_workload(name).dim_names:
        low, high = _LOW_HIGH[dim]
        seen = {n for grid in PRESETS.values() for n in getattr(grid, dim)}
        # evenly over orders of magnitude: small shapes are as frequent as large ones
        fresh = [n for n in range(low, high + 1) if n not in seen or dim == "n_heads"]
        wanted = low * (high / low) ** chance.random()
        sizes[dim] = min(fresh, key=lambda n: abs(n - wanted))
    return Dims(**sizes)


def _draw_architecture(
    preset: ModelPreset, heads: Heads, chance: random.Random
) -> Architecture:
    n_layers = chance.randint(1, preset.n_layers)
    pooling = chance.choice(_POOLINGS)
    model = replace(preset, n_layers=n_layers, pooling=pooling)
    variants = chance.sample([*ATTENTIONS], 3)
    activations = chance.sample([*ACTIVATIONS], 2)

    mixers = [
        name
        for name, mixer in MIXERS.items()
        if pooling == "mean" or not mixer.needs_grid
    ]

    norms = [name for name, norm in NORMS.items() if norm.accuracy is None]

    def layer_heads() -> tuple[Head, ...]:
        if chance.random() < _MIXED:
            return ((chance.choice(mixers),),)
        return tuple((chance.choice(variants),) for _ in range(preset.n_heads))

    def layer_activation() -> LayerActivation:
        n_names = chance.choice((1, model.n_tokens))
        return tuple(chance.choice(activations) for _ in range(n_names))

    attention = tuple(layer_heads() for _ in range(n_layers))
    return Architecture(
        model=model,
        heads=heads,
        attention=attention,
        activation=tuple(layer_activation() for _ in range(n_layers)),
        norm=tuple(chance.choice(norms) for _ in range(n_layers)),
        mlp_ratio=tuple(
            chance.choice(_RATIOS[layer == (("none",),) :]) for layer in attention
        ),
    )
