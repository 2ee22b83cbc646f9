"""Expected seconds of a relaxed choice: what the search adds to its loss.

The same formulas take torch tensors, where they have a gradient, and numpy arrays,
where the budget is kept: at 0 and 1 they are what the terms of `mpcprof.terms` sum to.
"""

import math
import sys
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from mpcprof.costmodel.model import CostModel
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.activation import get_activation
from mpcprof.nn.architecture import Heads
from mpcprof.nn.plan import Planner
from mpcprof.nn.preset import ModelPreset
from mpcprof.terms import LAYER_FREE, Term, TermKind, Terms, compute_terms
from mpcvit.search.alpha.space import Mask, SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


Array = TypeVar("Array", "Tensor", "NDArray[np.float64]")
CostForm = Literal["additive", "grouped"]
HEADS_OF_FORM: dict[CostForm, Heads] = {"additive": "serial", "grouped": "batched"}
FORM_OF_HEADS = {heads: form for form, heads in HEADS_OF_FORM.items()}
_KINDS: dict[str, TermKind] = {  # of the terms of a cost
    **dict.fromkeys(("accurate", "cheap"), "attention"),
    **dict.fromkeys(("accurate_row", "cheap_row"), "attention_row"),
    **dict.fromkeys(("gelu", "linear"), "activation"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCost:
    """Seconds of a model over alpha (attention) and beta (activation), in [0, 1].

    Every layer has the same sizes, hence the same costs. With H heads, N tokens:

        additive  sum over heads of a Lat(accurate) + (1 - a) Lat(cheap)
        grouped   per layer fixed_s max(a) + per_unit_s sum(a), and the same for the
                  cheap variant with 1 - a

    The maximum is exact at 0 and 1 and, unlike 1 - prod(1 - a), has a gradient where
    every a is 1, which is where the search begins. Tokens of one activation always
    share their hops, so beta's form is grouped either way; the linear layers around go
    from fused to apart with max(beta). Rows of a head that differ cost both variants'
    fixed seconds.

    Source: MPCViT sections 4.3 and 4.5.
    Differs: there the cheap variant is free.

    Attributes:
        rest_s: Seconds independent of alpha and beta; includes GeLU unless activations
            are searched.
        accurate, cheap: Terms of a head.
        accurate_row, cheap_row: Terms of a row of a head whose rows differ.
        gelu, linear: Terms of a token.
        mlp_s, fused_mlp_s: The two linear layers of a layer, apart and fused.
    """

    form: CostForm
    n_layers: int
    n_heads: int
    n_tokens: int
    rest_s: float
    accurate: Term
    cheap: Term
    accurate_row: Term
    cheap_row: Term
    gelu: Term
    linear: Term
    mlp_s: float
    fused_mlp_s: float

    @classmethod
    def from_model(
        cls,
        cost_model: CostModel,
        model: ModelPreset,
        space: SearchSpace,
        network: Network,
        form: CostForm,
        n_batch: int = 1,
        planner: Planner | None = None,
    ) -> "SearchCost":
        """Return the cost of a search space by a profile's cost model.

        Args:
            planner: What plans the networks; where it plans layers otherwise than each
                other, each costs their mean.

        Raises:
            UsageError: If there is no such form.
            MissingEntryError: If the profile lacks an operation that is needed.
        """
        if form not in get_args(CostForm):
            raise UsageError(f"cost form {form!r}: expected additive or grouped")
        terms = compute_terms(
            cost_model,
            model,
            network,
            n_batch,
            attentions=(space.accurate, space.cheap),
            activations=(space.gelu, space.linear),
            has_rows=True,
            planner=planner,
        )
        rest_s = cost_model.per_call_s + sum(
            terms.get("rest", layer, "").latency_s
            for layer in (LAYER_FREE, *range(model.n_layers))
        )
        is_fused = get_activation(space.linear).is_linear
        variants = {
            name: _of_layer(terms, kind, getattr(space, name.removesuffix("_row")))
            for name, kind in _KINDS.items()
        }
        cost = cls(
            form=form,
            n_layers=model.n_layers,
            n_heads=model.n_heads,
            n_tokens=model.n_tokens,
            rest_s=rest_s,
            **variants,
            mlp_s=terms.get("mlp", 0, "").latency_s,
            fused_mlp_s=terms.get("fused_mlp" if is_fused else "mlp", 0, "").latency_s,
        )
        if space.activation != "none":
            return cost
        mlp_s = cost.mlp_s + cost.gelu_layer_s
        return replace(cost, rest_s=rest_s + model.n_layers * mlp_s)

    def for_heads(self, heads: Heads) -> "SearchCost":
        """Return the cost in the form of heads one by one, or batched."""
        return replace(self, form=FORM_OF_HEADS[heads])

    @property
    def attention_layer_s(self) -> float:
        """Lat(ATTN): a layer of accurate heads, one by one (MPCViT section 4.5)."""
        return self.n_heads * self.accurate.latency_s

    @property
    def gelu_layer_s(self) -> float:
        """Lat(GeLU): a layer of tokens with GeLU."""
        return self.gelu.fixed_s + self.n_tokens * self.gelu.per_unit_s

    @property
    def apart_gelu(self) -> Term:
        """GeLU's term, with what linear layers cost more apart than fused."""
        apart_s = self.gelu.fixed_s + self.mlp_s - self.fused_mlp_s
        return replace(self.gelu, fixed_s=apart_s)

    def latency_s(self, alpha: Array, beta: Array | None = None) -> Array:
        """Return the seconds of the whole model."""
        total_s: Array = self.rest_s + self.attention_s(alpha)
        return total_s if beta is None else total_s + self.activation_s(beta)

    def hard_latency_s(self, alpha: Mask, beta: Mask | None = None) -> float:
        """Return the seconds of the whole model for a choice."""
        hard_beta = None if beta is None else beta.astype(float)
        return float(self.latency_s(alpha.astype(float), hard_beta))

    def attention_s(self, alpha: Array) -> Array:
        """Return every layer's attention; alpha (L,), (L, H) or (L, H, N)."""
        if alpha.ndim == 3 and self.form == "grouped":
            return self._batched_rows_s(alpha)
        if alpha.ndim == 3:
            rows = alpha.reshape(-1, self.n_tokens)
            return _grouped_s(rows, self.accurate_row, self.cheap_row)
        n_together = 1 if alpha.ndim == 2 else self.n_heads
        if self.form == "additive":
            extra_s = self.accurate.latency_s - self.cheap.latency_s
            n_accurate = n_together * alpha.sum()
            n_heads = self.n_layers * self.n_heads
            total_s: Array = n_heads * self.cheap.latency_s + extra_s * n_accurate
            return total_s
        by_layer = alpha if alpha.ndim == 2 else alpha[:, None]
        return _grouped_s(by_layer, self.accurate, self.cheap, n_together)

    def _batched_rows_s(self, alpha: Array) -> Array:
        """Price pure heads of a layer together, mixed ones alone with both variants.

        A head is purely accurate as far as its least alpha, purely cheap as far as 1 -
        its largest, mixed besides; rows of mixed heads are those that pure ones leave.
        """
        xp = _namespace(alpha)
        least, most = xp.amin(alpha, -1), xp.amax(alpha, -1)  # (L, H)
        mixed_s = self.accurate_row.fixed_s + self.cheap_row.fixed_s
        pure_s = self.accurate.per_unit_s - self.n_tokens * self.accurate_row.per_unit_s
        cheap_s = self.cheap.per_unit_s - self.n_tokens * self.cheap_row.per_unit_s
        row_s = self.accurate_row.per_unit_s - self.cheap_row.per_unit_s
        head_s = row_s * alpha.sum(-1)  # (L, H)
        head_s = _plus(head_s, pure_s - mixed_s, least)
        head_s = _plus(head_s, mixed_s - cheap_s, most)
        layer_s = head_s.sum(-1)  # (L,)
        layer_s = _plus(layer_s, self.accurate.fixed_s, xp.amax(least, -1))
        layer_s = _plus(layer_s, -self.cheap.fixed_s, xp.amin(most, -1))
        all_cheap_s = self.cheap.fixed_s + self.n_heads * self.cheap.per_unit_s
        total_s: Array = self.n_layers * all_cheap_s + layer_s.sum()
        return total_s

    def activation_s(self, beta: Array) -> Array:
        """Return every layer's MLP, linear layers included; beta (L,) or (L, N)."""
        by_layer = beta if beta.ndim == 2 else beta[:, None]
        n_together = 1 if beta.ndim == 2 else self.n_tokens
        linear_s = self.n_layers * self.fused_mlp_s
        return _grouped_s(by_layer, self.apart_gelu, self.linear, n_together, linear_s)

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return plain values; of each term its seconds."""
        values = asdict(self)
        for name in _KINDS:
            term = getattr(self, name)
            values[name] = {
                "alone_s": term.latency_s,
                "fixed_s": term.fixed_s,
                "per_unit_s": term.per_unit_s,
            }
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SearchCost":  # Any: JSON
        """Return the cost that `to_json` wrote.

        Raises:
            KeyError: If one is missing.
            TypeError: If the keys are others.
        """
        n_units = {
            "attention": values["n_heads"],
            "attention_row": values["n_tokens"],
            "activation": values["n_tokens"],
        }
        terms = {
            name: Term(
                kind=kind,
                layer=0,
                variant="",  # the search space names it
                n_units=n_units[kind],
                latency_s=values[name]["alone_s"],
                fixed_s=values[name]["fixed_s"],
                per_unit_s=values[name]["per_unit_s"],
                bytes_sent=math.nan,  # not stored with a search
                hops=math.nan,
                basis="",
            )
            for name, kind in _KINDS.items()
        }
        return cls(**(values | terms))


def _of_layer(terms: Terms, kind: TermKind, variant: str) -> Term:
    """Return the term of a choice in a layer, the mean where layers differ."""
    layers = range(terms.model.n_layers)
    first, *others = (terms.get(kind, layer, variant) for layer in layers)
    if all(replace(other, layer=0) == first for other in others):
        return first
    every = (first, *others)
    return replace(
        first,
        latency_s=fmean(term.latency_s for term in every),
        fixed_s=fmean(term.fixed_s for term in every),
        per_unit_s=fmean(term.per_unit_s for term in every),
        bytes_sent=fmean(term.bytes_sent for term in every),
        hops=fmean(term.hops for term in every),
    )


def _grouped_s(
    share: Array, one: Term, other: Term, n_together: int = 1, besides_s: float = 0.0
) -> Array:
    """Return the sum of fixed_s max + per_unit_s sum of `one`, over the groups (G, U).

    To it come `other` with 1 - share, whose maximum is 1 - min, and `besides_s`. In few
    operations: each counts, forward and backward, in a step of a small model.
    """
    xp = _namespace(share)
    n_groups, n_units = share.shape
    extra_s = (one.per_unit_s - other.per_unit_s) * n_together
    group_s = extra_s * share.sum(-1)  # (G,)
    group_s = _plus(group_s, one.fixed_s, xp.amax(share, -1))
    group_s = _plus(group_s, -other.fixed_s, xp.amin(share, -1))
    all_other_s = other.fixed_s + n_units * n_together * other.per_unit_s
    total_s: Array = besides_s + n_groups * all_other_s + group_s.sum()
    return total_s


def _plus(x: Array, factor: float, y: Array) -> Array:
    """Return x + factor y, which torch computes and differentiates in one operation."""
    xp = _namespace(x)
    if xp.__name__ == "torch":
        total: Array = xp.add(x, y, alpha=factor)
        return total
    return x + factor * y


def _namespace(x: object) -> Any:  # Any: numpy or torch, whose amax agree
    return sys.modules[type(x).__module__.partition(".")[0]]
