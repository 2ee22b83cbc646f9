"""Steps of any Transformer as closed forms, which a page prices without Python.

Networks of probe sizes are traced by `trace_model`, as every price is. These sizes have
no factor in common, so that each axis of a step tells which of them it is a product of.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.attention import LINFORMER_RATIO
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.plan import LayerPlan, rewrites_only
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.steps import Step, without_local

Family: TypeAlias = Literal["class_token", "mean", "client", "one_hot"]
Mode: TypeAlias = Literal["plain", "centred", "folded"]
Slot: TypeAlias = Literal["norm1", "mixing", "norm2", "mlp"]
MODES: Final[tuple[Mode, ...]] = ("plain", "centred", "folded")

_N_BATCH: Final = 19
_IMAGE: Final = ModelPreset(
    name="probe",
    n_layers=3,
    n_heads=11,
    width=43,
    mlp_ratio=41 / 43,
    image_size=26,
    patch=1,
    n_channels=53,
    n_classes=47,
    own_head_dim=37,
)
_TEXT: Final = replace(
    _IMAGE,
    image_size=0,
    patch=0,
    n_channels=3,
    n_embeddings=677,
    pooling="first",
    has_qkv_bias=True,
    n_words=57,
    n_types=2,
    norm_order="post",
    has_pooler=True,
)
FAMILIES: Final[Mapping[Family, ModelPreset]] = {
    "class_token": _IMAGE,
    "mean": replace(_IMAGE, pooling="mean"),
    "client": _TEXT,
    "one_hot": replace(_TEXT, embedding="one_hot"),
}
# widths of a head: below N / 4, below N, and above, N being the number of tokens
_HEAD_DIMS: Final = (37, 211, 1009)
_ORDER: Final[tuple[Slot, ...]] = ("norm1", "mixing", "norm2", "mlp")
_POST_ORDER: Final[tuple[Slot, ...]] = ("mixing", "norm1", "mlp", "norm2")


class StepTemplate(NamedTuple):
    """A step whose size is said by letters.

    Attributes:
        part: Place inside the layer, the embedding or the head.
        axes: Sizes as products of a number and letters, such as `3HK`: B batch, N
            tokens, R tokens of a Linformer, P inputs and I values of each, D width, H
            heads, K width of a head, F hidden width, C classes.
    """

    operation: str
    part: str
    axes: tuple[str, ...]


Template: TypeAlias = tuple[StepTemplate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSteps:
    """Steps of one slot in any layer, and in the last one, which may be pruned."""

    inner: Template
    last: Template


def mode_names(family: Family) -> tuple[Mode, ...]:
    """Return how a network of the family may be deployed.

    Plain is as written, without a plan. Folded weights leave a residual stream with
    mean 0 (centred), or not (folded); behind sums, norms keep it from being centred.
    """
    is_post = FAMILIES[family].is_post_norm
    return ("plain", "folded") if is_post else MODES


def slot_order(family: Family) -> tuple[Slot, ...]:
    """Return the order of the slots of a layer."""
    return _POST_ORDER if FAMILIES[family].is_post_norm else _ORDER


def norm_template(family: Family, mode: Mode, norm: str) -> tuple[SlotSteps, SlotSteps]:
    """Return the steps of the first and of the second norm of a layer."""
    runs = _runs(_probe(family, mode, norm=norm), family, mode)
    return runs["norm1"], runs["norm2"]


def end_templates(family: Family, mode: Mode, norm: str) -> tuple[Template, Template]:
    """Return the steps of the embedding, and of the head, at a norm of every layer."""
    probe = _probe(family, mode, norm=norm)
    embedding, head = (
        [step for step in _trace(probe, mode) if step.part.split("/")[0] == end]
        for end in ("embedding", "head")
    )
    return _templates(embedding, probe), _templates(head, probe)


def mlp_template(mode: Mode, activation: str) -> SlotSteps:
    """Return the steps of an MLP, which are the same in every family."""
    probe = _probe("class_token", mode, activation=activation)
    return _runs(probe, "class_token", mode)["mlp"]


def attention_templates(name: str, *, is_folded: bool) -> tuple[SlotSteps, ...]:
    """Return the steps of attention whose heads are all of one variant, together.

    Folded, three: for heads narrower than N / 4, than N, and wider. In parts of the
    variant, H is the number of heads that are computed together.
    """
    mode: Mode = "folded" if is_folded else "plain"
    return tuple(
        _runs(
            _probe("class_token", mode, attention=name, head_dim=head_dim),
            *("class_token", mode),
        )["mixing"]
        for head_dim in (_HEAD_DIMS if is_folded else _HEAD_DIMS[:1])
    )


def mixer_names(family: Family) -> tuple[str, ...]:
    """Return the mixers that a layer of the family may have."""
    has_grid = bool(FAMILIES[family].grid_side) and family == "mean"
    return tuple(n for n, mixer in MIXERS.items() if has_grid or not mixer.needs_grid)


def mixer_template(family: Family, name: str, *, is_folded: bool) -> SlotSteps:
    """Return the steps of a mixer."""
    mode: Mode = "folded" if is_folded else "plain"
    probe = _probe(family, mode, attention=name)
    return _runs(probe, family, mode)["mixing"]


def _probe(
    family: Family,
    mode: Mode,
    *,
    attention: str = "softmax",
    activation: str = "gelu_tanh",
    norm: str = "layernorm",
    head_dim: int = _HEAD_DIMS[0],
) -> Architecture:
    """Return a network whose layers 2 and 3 are as asked.

    Layer 1 decides whether the residual stream is centred, where its norm may differ.
    """
    model = replace(FAMILIES[family], own_head_dim=head_dim)
    own = uniform_architecture(
        model, attention=attention, activation=activation, norm=norm, heads="batched"
    )
    if model.is_post_norm:
        return own
    first = "none" if mode == "folded" else "layernorm"
    heads = (("softmax",),) * model.n_heads
    return replace(
        own,
        attention=(heads, *own.attention[1:]),
        activation=(("gelu_tanh",), *own.activation[1:]),
        norm=(first, *own.norm[1:]),
    )


@functools.lru_cache(maxsize=16)
def _trace(probe: Architecture, mode: Mode) -> tuple[Step, ...]:
    """Return the steps of a probe; products of heads are not put together.

    Local steps, whose number depends on the heads, are left out.
    """
    plan = None
    if mode != "plain":
        whole = rewrites_only(probe, _N_BATCH)
        plan = replace(whole, layers=(LayerPlan(),) * probe.n_layers)
    return tuple(without_local(trace_model(probe, _N_BATCH, plan)))


def _runs(probe: Architecture, family: Family, mode: Mode) -> dict[Slot, SlotSteps]:
    """Return the steps of each slot of layers 2 and 3."""
    steps = _trace(probe, mode)
    order = slot_order(family)
    found = [
        dict(_layer_runs([s for s in steps if s.part.startswith(prefix)], probe, order))
        for prefix in ("layer 2/", "layer 3/")
    ]
    inner, last = ({slot: run.get(slot, ()) for slot in order} for run in found)
    return {slot: SlotSteps(inner=inner[slot], last=last[slot]) for slot in order}


def _layer_runs(
    steps: Sequence[Step], probe: Architecture, order: Sequence[Slot]
) -> Iterator[tuple[Slot, Template]]:
    """Yield the steps of each slot of one layer that has any.

    A slot ends where the part does: norms stand between mixing and MLP.
    """
    here, slots = "", list(order)
    runs: dict[Slot, list[Step]] = {}
    for step in steps:
        word = step.part.split("/")[1]
        kind = "mixing" if word in ("attention", "mixing") else word
        if kind != here:
            here = kind
            while slots[0].rstrip("12") != kind:
                slots.pop(0)
            runs[slots.pop(0)] = []
        [*_, slot] = runs
        runs[slot].append(step)
    for slot, run in runs.items():
        yield slot, _templates(run, probe)


def _templates(steps: Iterable[Step], probe: Architecture) -> Template:
    letters = _letters(probe)
    return tuple(
        StepTemplate(
            step.operation,
            _inside(step.part),
            tuple(_spell(size, letters) for size in step.size),
        )
        for step in steps
    )


def _inside(part: str) -> str:
    """Return the part without its layer."""
    first, _, rest = part.partition("/")
    return rest if first.startswith("layer ") else part


def _letters(probe: Architecture) -> dict[str, int]:
    """Return the size that each letter stands for; of equal ones the first is taken."""
    model = probe.model
    return {
        "N": model.n_tokens,
        "P": model.n_inputs,
        "R": math.ceil(model.n_tokens / LINFORMER_RATIO),
        "B": _N_BATCH,
        "H": model.n_heads,
        "K": model.head_dim,
        "D": model.width,
        "F": model.hidden,
        "I": model.input_dim,
        "C": model.n_classes,
    }


def _spell(size: int, letters: Mapping[str, int]) -> str:
    """Return a size as the product of a number and letters."""
    spelt = ""
    for letter, value in letters.items():
        while size % value == 0:
            size //= value
            spelt += letter
    return f"{size if size > 1 or not spelt else ''}{spelt}"
