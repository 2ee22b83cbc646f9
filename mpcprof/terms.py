"""Lat(ATTN_ij) and Lat(Act_ij): what each head and token costs, for the search.

Each term has both forms. Additive: heads and tokens are paid one by one. Grouped: a
variant costs a fixed time in a layer as soon as one head uses it, and a further time
per head, which is what batched heads cost, since they share their hops.

    layer (additive) = sum over heads of latency_s
    layer (grouped)  = sum over variants in use of fixed_s + n_heads_of_it * per_unit_s

The terms of a serial architecture and `CostModel.per_call_s` add up to its prediction
(in aby3 but for a hop of the first maximum); those of a batched one as far as its cost
is affine in heads. Where the rows of a head or the tokens of a layer differ, it has to
be affine in these, and the local steps that cut and join them are left out.
"""

import functools
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Final, Literal, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mpcprof.costmodel.prediction import Prediction
from mpcprof.errors import MissingEntryError, UnknownNameError, did_you_mean
from mpcprof.html import html_table
from mpcprof.network import Network
from mpcprof.nn.activation import ACTIVATIONS, fold_of, get_activation
from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.mlp import fused_mlp, join_all, mlp, split_all
from mpcprof.nn.norm import centred
from mpcprof.nn.plan import Plan, Planner, unplanned
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.rewrite import grouped
from mpcprof.nn.steps import Bare, CountingAlgebra, Step
from mpcprof.profile.export import EXPORT_FORMATS
from mpcprof.units import format_bytes, format_duration, format_hops

Tensor = TypeVar("Tensor", covariant=True)


class HasNewTensor(Protocol[Tensor]):
    """A tensor of torch, which makes others of its own type and on its own device."""

    def new_tensor(self, data: NDArray[np.float64], /) -> Tensor:
        """Return the numbers as such a tensor."""


class StepPricer(Protocol):
    """What prices steps: a `CostModel`."""

    @property
    def per_call_s(self) -> float:
        """Seconds that every call costs."""

    def predict(
        self, steps: Iterable[Step], network: Network, /, *, is_call: bool
    ) -> Prediction:
        """Return the cost of steps, with or without what a call pays once."""


TermKind = Literal[
    "attention", "attention_row", "activation", "mlp", "fused_mlp", "rest"
]
Quantity = Literal["latency_s", "fixed_s", "per_unit_s", "bytes_sent", "hops"]
LAYER_FREE: Final = -1  # layer of what belongs to none


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Seconds of one choice in one layer.

    Attributes:
        kind: `attention`, a unit being a head; `attention_row`, a unit being a row of
            a head whose rows differ; `activation`, a unit being a token; `mlp` and
            `fused_mlp`, the linear layers around the activation and the sum with the
            stream; `rest`, the layer's other steps (norms, qkv, projection), or the
            model's with layer -1.
        layer: Number of the layer, from 0.
        n_units: Number of heads or tokens of the layer, or of rows of the head.
        latency_s: Seconds of one unit by itself: Lat(ATTN_ij) of every head j of layer
            i. A token counts as a share of its layer, a row as a share of its head.
        fixed_s: Seconds paid once in a layer where the variant is used.
        per_unit_s: Further seconds for each head or token of the variant.
        basis: Weakest basis of the steps.
    """

    kind: TermKind
    layer: int
    variant: str
    n_units: int
    latency_s: float
    fixed_s: float
    per_unit_s: float
    bytes_sent: float
    hops: float
    basis: str

    def layer_s(self, n_units: int) -> float:
        """Return the grouped seconds of a layer where `n_units` use the variant."""
        return self.fixed_s + n_units * self.per_unit_s if n_units else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Every term of a model on a network.

        >>> profile = mpcprof.read_profile("profiles/semi2k.parquet")
        >>> priced_by = mpcprof.fit_cost_model(profile)
        >>> cifar, wan = mpcprof.get_model("cifar"), mpcprof.parse_network("wan")
        >>> terms = mpcprof.compute_terms(priced_by, cifar, wan)
        >>> isinstance(terms, mpcprof.Terms)
        True
        >>> terms.unit_s("attention", ["softmax", "relu_softmax", "scale"]).shape
        (7, 3)

    Attributes:
        left_out: One line for each variant without terms, with the reason.
    """

    model: ModelPreset
    network: Network
    n_batch: int
    terms: tuple[Term, ...]
    left_out: tuple[str, ...] = ()

    def get(self, kind: TermKind, layer: int, variant: str) -> Term:
        """Return the term of a choice.

        Raises:
            KeyError: If there is none.
        """
        for term in self.terms:
            if (term.kind, term.layer, term.variant) == (kind, layer, variant):
                return term
        raise KeyError((kind, layer, variant))

    def unit_s(self, kind: TermKind, variants: Sequence[str]) -> NDArray[np.float64]:
        """Return the seconds of one unit by itself as an array.

        Shape (n_layers, n_variants); of `attention` these are Lat(ATTN_ij) of a head.

        Raises:
            KeyError: If one is not among the terms.
        """
        return self.values("latency_s", kind, variants)

    def values(
        self, quantity: Quantity, kind: TermKind, variants: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return a quantity of each layer and variant as an array.

        Shape (n_layers, n_variants).

            >>> model = mpcprof.CostModel.from_profile("profiles/semi2k.parquet")
            >>> terms = model.terms("digits")
            >>> terms.values("hops", "activation", ["relu", "gelu_tanh"])[0] > 3
            array([ True,  True])

        Raises:
            KeyError: If one is not among the terms.
        """
        rows = [
            [getattr(self.get(kind, layer, variant), quantity) for variant in variants]
            for layer in range(self.model.n_layers)
        ]
        return np.array(rows)

    def tensor(
        self,
        quantity: Quantity,
        kind: TermKind,
        variants: Sequence[str],
        like: HasNewTensor[Tensor],
    ) -> Tensor:
        """Return `values` as a tensor of torch, of the type and device of another one.

        Shape (n_layers, n_variants); (weights of options * tensor).sum() is what they
        cost, and has a gradient.

        Args:
            like: Tensor such as the weights of the options.

        Raises:
            KeyError: If one is not among the terms.
        """
        return like.new_tensor(self.values(quantity, kind, variants))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the terms of the first layer."""
        first = [term for term in self.terms if term.layer == 0]
        units = {"attention": "head", "attention_row": "row", "activation": "token"}
        rows = [
            (
                term.kind,
                term.variant,
                f"1 {units[term.kind]} of {term.n_units}"
                if term.kind in units
                else "layer",
                format_duration(term.latency_s, digits=3),
                format_bytes(term.bytes_sent, digits=3),
                format_hops(term.hops),
            )
            for term in first
        ]
        header = ("kind", "variant", "unit", "seconds", "sent by rank 0", "hops")
        about = (
            f"{self.model.name}, batch {self.n_batch}, on {self.network}; layer 1 of "
            f"{self.model.n_layers}"
        )
        return f"<p><b>{escape(about)}</b></p>\n{html_table(header, rows)}"

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with a row for each term."""
        return pd.DataFrame([asdict(term) for term in self.terms])

    def lambda_over_eta(self, attention: str, activation: str) -> float:
        """Return Lat(ATTN) / Lat(GeLU) of a serial layer (MPCViT section 4.5)."""
        head = self.get("attention", 0, attention)
        token = self.get("activation", 0, activation)
        return head.latency_s * head.n_units / (token.latency_s * token.n_units)


def compute_terms(
    cost_model: StepPricer,
    model: ModelPreset,
    network: Network,
    n_batch: int = 1,
    *,
    attentions: Collection[str] | None = None,
    activations: Collection[str] | None = None,
    has_rows: bool = False,
    planner: Planner | None = None,
) -> Terms:
    """Return the terms of attentions, activations and the remaining parts of `model`.

        >>> profile = mpcprof.read_profile("profiles/semi2k.parquet")
        >>> priced_by = mpcprof.fit_cost_model(profile)
        >>> cifar, wan = mpcprof.get_model("cifar"), mpcprof.parse_network("wan")
        >>> terms = mpcprof.compute_terms(priced_by, cifar, wan)
        >>> terms.get("attention", 0, "softmax").hops > 10
        True

    Args:
        attentions: Names; by default all that the profile has the operations of.
        activations: Names; by default all that the profile has the operations of.
        has_rows: Whether to add terms of the rows of a head that mixes variants.
        planner: What plans a network of the model; None for networks as they are.

    Raises:
        MissingEntryError: If the profile lacks an operation of what was named, or of
            what every model has.
    """

    @functools.cache
    def price(steps: tuple[Step, ...]) -> Prediction:
        return cost_model.predict(steps, network, is_call=False)

    case = _Case(model=model, n_batch=n_batch, planner=planner)
    layers = range(model.n_layers)
    kinds: list[tuple[str, _Pricing, Collection[str] | None, Collection[str]]] = [
        ("attention", _attention_term, attentions, ATTENTIONS),
        ("activation", _activation_term, activations, ACTIVATIONS),
    ]
    if has_rows:
        kinds.append(("rows of", _row_term, attentions, ATTENTIONS))
    choices = [[term(layer) for layer in layers] for term in _mlp_terms(price, case)]
    left_out = []
    for kind, pricing, named, known in kinds:
        for name in known if named is None else dict.fromkeys(named):
            try:
                choices.append(_of_layers(pricing, price, case, name))
            except MissingEntryError as error:
                if named is not None:
                    raise
                left_out.append(f"{kind} {name}: {error}")
    terms = list(_rest_terms(cost_model, network, case))
    for layer in layers:
        terms += [choice[layer] for choice in choices]
    return Terms(
        model=model,
        network=network,
        n_batch=n_batch,
        terms=tuple(terms),
        left_out=tuple(left_out),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What the terms are of: a model, images of a call, and what plans it."""

    model: ModelPreset
    n_batch: int
    planner: Planner | None

    def architecture(self, attention: str = "scale") -> Architecture:
        """Return the model with one variant in every head."""
        return uniform_architecture(
            self.model, attention=attention, activation="identity"
        )

    def plan(self, attention: str = "scale") -> Plan:
        """Return the plan of the model with one variant in every head."""
        return (self.planner or unplanned)(self.architecture(attention))


_PriceSteps = Callable[[tuple[Step, ...]], Prediction]
_OfLayer = Callable[[int], Term]
_Pricing = Callable[[_PriceSteps, _Case, int, str], _OfLayer]


def _of_layers(
    pricing: _Pricing, price: _PriceSteps, case: _Case, name: str
) -> list[Term]:
    """Return the term of each layer, priced once for those that are planned alike."""
    plans = case.plan(name if name in ATTENTIONS else "scale").layers
    alike = {own: layer for layer, own in enumerate(plans)}
    terms = {own: pricing(price, case, layer, name) for own, layer in alike.items()}
    return [terms[own](layer) for layer, own in enumerate(plans)]


def _term(
    kind: TermKind, variant: str, n_units: int, one: Prediction, every: Prediction
) -> _OfLayer:
    """Return a layer's term from the price of one unit and of all units together."""
    per_unit_s = (every.latency_s - one.latency_s) / (n_units - 1) if n_units > 1 else 0
    per_unit_s = max(per_unit_s, 0.0)
    return lambda layer: Term(
        kind=kind,
        layer=layer,
        variant=variant,
        n_units=n_units,
        latency_s=one.latency_s,
        fixed_s=max(one.latency_s - per_unit_s, 0.0),
        per_unit_s=per_unit_s,
        bytes_sent=one.bytes_sent,
        hops=one.hops,
        basis=one.basis,
    )


def _attention_steps(
    case: _Case, layer: int, name: str, n_heads: int, n_rows: int, is_pure: bool
) -> tuple[Step, ...]:
    ops = CountingAlgebra()
    model, plan = case.model, case.plan(name)
    own = plan.layers[layer]
    variant = own.attention(name)
    rows = (n_rows, model.n_tokens, model.n_tokens)
    heads = [[Bare((case.n_batch, n, model.head_dim))] * n_heads for n in rows]
    qkv = [join_all(each, ops) for each in heads]
    weights = [Bare(shape) for shape in variant.weight_shapes(model.n_tokens)]
    inside = grouped(ops, own.n_together, plan.product_price)
    is_folded = plan.is_folded and is_pure
    values = variant.function(inside, *qkv, *weights, is_folded=is_folded)
    split_all(values, n_heads, ops)
    return tuple(ops.steps)


def _attention_term(price: _PriceSteps, case: _Case, layer: int, name: str) -> _OfLayer:
    n_heads, n_tokens = case.model.n_heads, case.model.n_tokens
    one, every = (
        price(_attention_steps(case, layer, name, n, n_tokens, is_pure=True))
        for n in (1, n_heads)
    )
    return _term("attention", name, n_heads, one, every)


def _row_term(price: _PriceSteps, case: _Case, layer: int, name: str) -> _OfLayer:
    """Return the term of a row: exact for one row and for all, with whole keys."""
    n_tokens = case.model.n_tokens
    one, every = (
        price(_attention_steps(case, layer, name, 1, n, is_pure=False))
        for n in (1, n_tokens)
    )
    return _shared_term("attention_row", name, n_tokens, one, every)


def _activation_term(
    price: _PriceSteps, case: _Case, layer: int, name: str
) -> _OfLayer:
    """Return the term of a token, which shares its hops with the layer's tokens."""
    n_tokens = case.model.n_tokens
    one, every = (price(_activation_steps(case, layer, name, n)) for n in (1, n_tokens))
    return _shared_term("activation", name, n_tokens, one, every)


def _shared_term(
    kind: TermKind, variant: str, n_units: int, one: Prediction, every: Prediction
) -> _OfLayer:
    """Return the term of units that share their hops: a share of all units' seconds."""
    grouped = _term(kind, variant, n_units, one, every)(0)
    shared = replace(
        grouped,
        latency_s=every.latency_s / n_units,
        bytes_sent=every.bytes_sent / n_units,
        hops=every.hops,
        basis=every.basis,
    )
    return lambda layer: replace(shared, layer=layer)


def _activation_steps(
    case: _Case, layer: int, name: str, n_tokens: int
) -> tuple[Step, ...]:
    ops, model, plan = CountingAlgebra(), case.model, case.plan()
    (deployed,) = plan.layers[layer].deployed_activation((name,))
    fold = fold_of([deployed]) if plan.is_folded else None
    activation = get_activation(deployed)
    (fold or activation).function(ops, Bare((case.n_batch, n_tokens, model.hidden)))
    if activation.has_relu_behind:
        behind = ops.relu(Bare((case.n_batch, n_tokens, model.width)))
        if plan.is_folded and case.architecture().is_centred:
            centred(ops, behind)
    return tuple(ops.steps)


def _mlp_terms(price: _PriceSteps, case: _Case) -> Iterator[_OfLayer]:
    model = case.model
    x = Bare((case.n_batch, model.n_tokens, model.width))
    up, down = Bare((model.width, model.hidden)), Bare((model.hidden, model.width))
    b1, b2 = Bare((model.hidden,)), Bare((model.width,))
    ops = CountingAlgebra()
    ops.add(x, mlp(ops, x, up, b1, down, b2, ["identity"]))
    yield _whole("mlp", price(tuple(ops.steps)))
    ops = CountingAlgebra()
    fused = fused_mlp(ops, x, Bare((model.width, model.width)), b2, ["identity"])
    ops.add(x, fused)
    yield _whole("fused_mlp", price(tuple(ops.steps)))


def _whole(kind: TermKind, price: Prediction) -> _OfLayer:
    return _term(kind, "", 1, price, price)


def _rest_terms(
    cost_model: StepPricer, network: Network, case: _Case
) -> Iterator[Term]:
    """Yield what no choice changes: of the model with layer -1, then of each layer.

    The norms' sums pay what sums pay once a call. What maxima pay once, a hop in aby3,
    is left out, since it belongs to no single head; so are the local steps that put
    batched heads together, which their own terms have.
    """
    plan = case.plan()
    steps, serial = (
        trace_model(case.architecture(), case.n_batch, own)
        for own in (plan, replace(plan, heads="serial"))
    )
    call, parts = (
        cost_model.predict(steps, network, is_call=is_call) for is_call in (True, False)
    )
    start_s = call.per_call_s - cost_model.per_call_s
    outside = [step for step in steps if not step.part.startswith("layer ")]
    price = cost_model.predict(outside, network, is_call=False)
    with_start = replace(
        price,
        latency_s=price.latency_s + start_s,
        bytes_sent=price.bytes_sent + call.bytes_sent - parts.bytes_sent,
        hops=price.hops + call.hops - parts.hops,
    )
    yield _whole("rest", with_start)(LAYER_FREE)
    for layer in range(case.model.n_layers):
        prefix = f"layer {layer + 1}/"
        chosen = (f"{prefix}attention/scale", f"{prefix}mlp")
        own = [s for s in serial if s.part.startswith(prefix) and s.part not in chosen]
        yield _whole("rest", cost_model.predict(own, network, is_call=False))(layer)


_RATIO_ATTENTIONS = ("softmax", "relu_softmax", "scale")
_RATIO_ACTIVATION = "gelu_tanh"


def export_terms(terms: Terms, export_format: str) -> str | bytes:
    """Return one row per term: kind, layer, variant, seconds, bytes, hops, basis.

    Raises:
        UnknownNameError: If the format is not known.
    """
    if export_format == "json":
        return json.dumps(_document(terms), indent=2) + "\n"
    frame = terms.to_frame()
    if export_format == "csv":
        return str(frame.to_csv(index=False))
    if export_format == "md":
        return _markdown(frame)
    if export_format == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    hint = did_you_mean(export_format, list(EXPORT_FORMATS))
    raise UnknownNameError(f"no format {export_format!r}; {hint}")


def _document(terms: Terms) -> dict[str, object]:
    return {
        "model": terms.model.name,
        "network": str(terms.network),
        "n_batch": terms.n_batch,
        "lambda_over_eta": {
            name: terms.lambda_over_eta(name, _RATIO_ACTIVATION)
            for name in _RATIO_ATTENTIONS
            if {name, _RATIO_ACTIVATION} <= {term.variant for term in terms.terms}
        },
        "left_out": list(terms.left_out),
        "terms": [asdict(term) for term in terms.terms],
    }


def _markdown(frame: pd.DataFrame) -> str:
    lines = [f"| {' | '.join(frame.columns)} |", f"|{'---|' * len(frame.columns)}"]
    for row in frame.itertuples(index=False):
        cells = (f"{x:.6g}" if isinstance(x, float) else str(x) for x in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
