"""Steps of any Transformer as closed forms, which a page prices without Python.

Networks of probe sizes are traced by `trace_model`, as every price is. These sizes have
no factor in common, so that each axis of a step tells which of them it is a product of.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, Literal, NamedTuple, TypeAlias

from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.attention import LINFORMER_RATIO
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.mixing import MIXERS, SHIFT_PARTS
from mpcprof.nn.plan import LayerPlan, rewrites_only
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.rewrite import product_forms
from mpcprof.nn.steps import Bare, CountingAlgebra, Step

Family: TypeAlias = Literal["class_token", "mean", "client", "one_hot"]
Mode: TypeAlias = Literal["plain", "centred", "folded"]
Slot: TypeAlias = Literal["norm1", "mixing", "norm2", "mlp"]
MODES: Final[tuple[Mode, ...]] = ("plain", "centred", "folded")

_N_BATCH: Final = 19
_WIDTH: Final = 157
_HIDDEN: Final = 41
_IMAGE: Final = ModelPreset(
    name="probe",
    n_layers=3,
    n_heads=23,
    width=_WIDTH,
    mlp_ratio=_HIDDEN / _WIDTH,
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
    "mean": replace(_IMAGE, pooling="mean", image_size=29),  # 31 with zeros around it
    "client": _TEXT,
    "one_hot": replace(_TEXT, embedding="one_hot"),
}
# widths of a head: below N / 4, below N, and above, N being the number of tokens
_HEAD_DIMS: Final = (37, 211, 1009)
# of one channel, fewer directions have any that moves; from five on some stay
_SHIFT_WIDTHS: Final = (1, 2, 3, 4, _WIDTH)
_PRODUCTS: Final = {"G": 23, "P": 19, "Q": 37, "R": 41}
_ORDER: Final[tuple[Slot, ...]] = ("norm1", "mixing", "norm2", "mlp")
_POST_ORDER: Final[tuple[Slot, ...]] = ("mixing", "norm1", "mlp", "norm2")


class StepTemplate(NamedTuple):
    """Equal steps whose size and number are said by letters.

    Attributes:
        part: Place inside the layer, the embedding or the head.
        axes: Sizes as products of a number and letters, such as `3HK`: B batch, N
            tokens, R tokens of a Linformer, P inputs and I values of each, D width, H
            heads, K width of a head, F hidden width, C classes; S rows of a grid, T
            with zeros around them, W channels that move in a direction, X that stay.
        number: How many steps there are, such as `3H`.
    """

    operation: str
    part: str
    axes: tuple[str, ...]
    number: str


Template: TypeAlias = tuple[StepTemplate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSteps:
    """Steps of one slot in any layer, and in the last one, which may be pruned."""

    inner: Template
    last: Template


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSteps:
    """Steps of attention around the variants of its heads.

    Attributes:
        qkv: Queries, keys and values without a bias.
        qkv_bias: Queries, keys and values with a bias.
        alone: Cuts of a single head, and the sum with what attention took in.
        serial: Cuts and a join of H heads one by one, and that sum.
        together: Cuts and joins that H heads take beyond it if computed together.
        projection: Linear layer behind the heads.
    """

    qkv: SlotSteps
    qkv_bias: SlotSteps
    alone: SlotSteps
    serial: SlotSteps
    together: SlotSteps
    projection: SlotSteps


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
    probe = _probe(FAMILIES[family], mode, norm=norm)
    letters = _letters(probe.model)
    (inner1, inner2), (last1, last2) = (
        [_templates(run, letters) for run in _norms(probe, mode, number)]
        for number in (2, 3)
    )
    return SlotSteps(inner=inner1, last=last1), SlotSteps(inner=inner2, last=last2)


def _norms(probe: Architecture, mode: Mode, number: int) -> list[list[Step]]:
    """Return the steps of both norms of a layer, which are of one part."""
    own = [s for s in _trace(probe, mode) if s.part.startswith(f"layer {number}/")]
    runs = groupby(own, key=lambda step: step.part.endswith("/norm"))
    return [list(run) for is_norm, run in runs if is_norm] or [[], []]


def end_templates(family: Family, mode: Mode, norm: str) -> tuple[Template, Template]:
    """Return the steps of the embedding, and of the head, at a norm of every layer."""
    probe = _probe(FAMILIES[family], mode, norm=norm)
    embedding, head = (
        [step for step in _trace(probe, mode) if step.part.split("/")[0] == end]
        for end in ("embedding", "head")
    )
    letters = _letters(probe.model)
    return _templates(embedding, letters), _templates(head, letters)


def mlp_template(mode: Mode, activation: str) -> SlotSteps:
    """Return the steps of an MLP, which are the same in every family."""
    return _slot(_probe(_IMAGE, mode, activation=activation), mode, "mlp")


def head_templates() -> HeadSteps:
    """Return the steps of attention that are the same for every variant."""
    batched = _probe(_IMAGE, "folded")
    serial = replace(batched, heads="serial")
    alone = _probe(replace(_IMAGE, n_heads=1), "folded")
    return HeadSteps(
        qkv=_slot(_probe(_IMAGE, "plain"), "plain", "attention/qkv"),
        qkv_bias=_slot(batched, "folded", "attention/qkv"),
        alone=_slot(alone, "folded", "attention", each="H"),
        serial=_slot(serial, "folded", "attention", each="H"),
        together=_slot(batched, "folded", "attention", each="H", beyond=serial),
        projection=_slot(batched, "folded", "attention/projection"),
    )


def attention_templates(name: str, *, is_folded: bool) -> tuple[SlotSteps, ...]:
    """Return the steps of a variant for H heads that are computed together.

    Folded, three: for heads narrower than N / 4, than N, and wider.
    """
    mode: Mode = "folded" if is_folded else "plain"
    models = (
        replace(_IMAGE, own_head_dim=head_dim)
        for head_dim in (_HEAD_DIMS if is_folded else _HEAD_DIMS[:1])
    )
    return tuple(
        _slot(_probe(model, mode, attention=name), mode, f"attention/{name}")
        for model in models
    )


def form_templates() -> tuple[Template, ...]:
    """Return the steps of G products of (P, Q) and (Q, R) as one, for each form."""
    g, p, q, r = _PRODUCTS.values()
    found = []
    for form in product_forms(g):
        ops = CountingAlgebra()
        form.apply(ops, Bare((g, p, q)), Bare((g, q, r)))
        found.append(_templates(ops.steps, _PRODUCTS, each="G"))
    return tuple(found)


def mixer_names(family: Family) -> tuple[str, ...]:
    """Return the mixers that a layer of the family may have."""
    has_grid = bool(FAMILIES[family].grid_side) and family == "mean"
    return tuple(n for n, mixer in MIXERS.items() if has_grid or not mixer.needs_grid)


def mixer_templates(
    family: Family, name: str, *, is_folded: bool
) -> tuple[SlotSteps, ...]:
    """Return the steps of a mixer for widths from 1 on; the last are for all wider."""
    mode: Mode = "folded" if is_folded else "plain"
    models = (
        replace(FAMILIES[family], width=width, mlp_ratio=_HIDDEN / width)
        for width in (_SHIFT_WIDTHS if name == "shift" else (_WIDTH,))
    )
    return tuple(
        _slot(_probe(model, mode, attention=name), mode, "mixing") for model in models
    )


def _probe(
    model: ModelPreset,
    mode: Mode,
    *,
    attention: str = "softmax",
    activation: str = "gelu_tanh",
    norm: str = "layernorm",
) -> Architecture:
    """Return a network whose layers 2 and 3 are as asked.

    Layer 1 decides whether the residual stream is centred, where its norm may differ.
    """
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
    """Return the steps of a probe; products of heads are not put together."""
    plan = None
    if mode != "plain":
        whole = rewrites_only(probe, _N_BATCH)
        layers = (LayerPlan(),) * probe.n_layers
        plan = replace(whole, layers=layers, heads=probe.heads)
    return trace_model(probe, _N_BATCH, plan)


def _slot(
    probe: Architecture,
    mode: Mode,
    part: str,
    *,
    each: str = "",
    beyond: Architecture | None = None,
) -> SlotSteps:
    """Return the steps of a part of layers 2 and 3.

    Args:
        each: Letter that numbers of steps may be multiples of.
        beyond: Network whose steps are left out.
    """

    def find(number: int) -> Template:
        where = f"layer {number}/{part}"
        own, other = (
            Counter(step for step in _trace(one, mode) if step.part == where)
            for one in (probe, beyond or probe)
        )
        left = own - other if beyond else own
        return _templates(left.elements(), _letters(probe.model), each)

    return SlotSteps(inner=find(2), last=find(3))


def _templates(
    steps: Iterable[Step], letters: Mapping[str, int], each: str = ""
) -> Template:
    """Return the different steps by letters, in the order in which they come first."""
    return tuple(
        StepTemplate(
            step.operation,
            _inside(step.part),
            tuple(_spell(size, letters) for size in step.size),
            number,
        )
        for step, count in Counter(steps).items()
        for number in _multiples(count, letters, each)
    )


def _multiples(count: int, letters: Mapping[str, int], each: str) -> Iterator[str]:
    """Yield what of a number is a multiple of a letter, and the rest."""
    times, rest = divmod(count, letters[each]) if each in letters else (0, count)
    if times:
        yield f"{times}{each}"
    if rest:
        yield str(rest)


def _inside(part: str) -> str:
    """Return the part without its layer."""
    first, _, rest = part.partition("/")
    return rest if first.startswith("layer ") else part


def _letters(model: ModelPreset) -> dict[str, int]:
    """Return the size that each letter stands for; of equal ones the first is taken."""
    moved = max(model.width // SHIFT_PARTS, 1)
    sizes = {
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
    if model.grid_side:
        sizes |= {"S": model.grid_side, "T": model.grid_side + 2}
        sizes |= {"W": moved, "X": model.width - 4 * moved}
    return {letter: size for letter, size in sizes.items() if size > 1}


def _spell(size: int, letters: Mapping[str, int]) -> str:
    """Return a size as the product of a number and letters."""
    spelt = ""
    for letter, value in letters.items():
        while size % value == 0:
            size //= value
            spelt += letter
    return f"{size if size > 1 or not spelt else ''}{spelt}"
