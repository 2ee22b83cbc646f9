"""Expected seconds of a relaxed choice: what the search adds to its loss.

The same formulas take torch tensors, where they have a gradient, and numpy arrays,
where the budget is kept: at 0 and 1 they are `mpcprof.terms.price_architecture`.
"""

import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from mpcprof.costmodel.model import CostModel
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.activation import get_activation
from mpcprof.nn.architecture import Heads, ModelPreset
from mpcprof.terms import LAYER_FREE, Term, Terms, compute_terms
from mpcvit.search.space import SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


Array = TypeVar("Array", "Tensor", "NDArray[np.float64]")
CostForm = Literal["additive", "grouped"]
HEADS_OF_FORM: dict[CostForm, Heads] = {"additive": "serial", "grouped": "batched"}
FORM_OF_HEADS = {heads: form for form, heads in HEADS_OF_FORM.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantCost:
    """Seconds of one variant in one layer; see `mpcprof.terms.Term`.

    Attributes:
        alone_s: Of one unit, by itself.
        fixed_s: Paid once where the variant is used.
        per_unit_s: Paid for each unit besides.
    """

    alone_s: float
    fixed_s: float
    per_unit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCost:
    """Seconds of a model over alpha (attention) and beta (activation), in [0, 1].

    Every layer has the same sizes, hence the same costs. With H heads, N tokens:

        additive  sum over heads of a Lat(accurate) + (1 - a) Lat(cheap)
        grouped   per layer fixed_s max(a) + per_unit_s sum(a), and likewise of the
                  cheap variant with 1 - a

    The maximum is exact at 0 and 1 and, unlike 1 - prod(1 - a), has a gradient where
    every a is 1, which is where the search begins. Tokens of one activation always
    share their hops, so beta's form is grouped either way; the linear layers around go
    from fused to apart with max(beta). Rows of a head that differ cost both variants'
    fixed seconds.

    Source: MPCViT sections 4.3 and 4.5.
    Differs: there the cheap variant is free.

    Attributes:
        rest_s: Seconds that no choice changes; with the GeLU where none is searched.
        accurate_row, cheap_row: Of a row of a head whose rows differ.
        mlp_s, fused_mlp_s: The two linear layers of a layer, apart and fused.
    """

    form: CostForm
    n_layers: int
    n_heads: int
    n_tokens: int
    rest_s: float
    accurate: VariantCost
    cheap: VariantCost
    accurate_row: VariantCost
    cheap_row: VariantCost
    gelu: VariantCost
    linear: VariantCost
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
    ) -> "SearchCost":
        """Of a profile's cost model.

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
        )
        rest_s = cost_model.per_call_s + sum(
            terms.get("rest", layer, "").latency_s
            for layer in (LAYER_FREE, *range(model.n_layers))
        )
        cost = cls(
            form=form,
            n_layers=model.n_layers,
            n_heads=model.n_heads,
            n_tokens=model.n_tokens,
            rest_s=rest_s,
            accurate=_cost(terms.get("attention", 0, space.accurate)),
            cheap=_cost(terms.get("attention", 0, space.cheap)),
            accurate_row=_cost(terms.get("attention_row", 0, space.accurate)),
            cheap_row=_cost(terms.get("attention_row", 0, space.cheap)),
            gelu=_cost(terms.get("activation", 0, space.gelu)),
            linear=_cost(terms.get("activation", 0, space.linear)),
            mlp_s=terms.get("mlp", 0, "").latency_s,
            fused_mlp_s=_linear_mlp_s(terms, space.linear),
        )
        if space.activation != "none":
            return cost
        mlp_s = cost.mlp_s + cost.gelu_layer_s
        return replace(cost, rest_s=rest_s + model.n_layers * mlp_s)

    def for_heads(self, heads: Heads) -> "SearchCost":
        """The same seconds in the form that heads one by one, or batched, cost."""
        return replace(self, form=FORM_OF_HEADS[heads])

    @property
    def attention_layer_s(self) -> float:
        """Lat(ATTN): a layer of accurate heads, one by one (MPCViT section 4.5)."""
        return self.n_heads * self.accurate.alone_s

    @property
    def gelu_layer_s(self) -> float:
        """Lat(GeLU): a layer of tokens with GeLU."""
        return self.gelu.fixed_s + self.n_tokens * self.gelu.per_unit_s

    def latency_s(self, alpha: Array, beta: Array | None = None) -> Array:
        """Seconds of the whole model."""
        total_s: Array = self.rest_s + self.attention_s(alpha)
        return total_s if beta is None else total_s + self.activation_s(beta)

    def attention_s(self, alpha: Array) -> Array:
        """Seconds of every layer's attention; alpha (L,), (L, H) or (L, H, N)."""
        if alpha.ndim == 3:
            return self._rows_s(alpha)
        n_together = 1 if alpha.ndim == 2 else self.n_heads
        if self.form == "additive":
            extra_s = self.accurate.alone_s - self.cheap.alone_s
            n_accurate = n_together * alpha.sum()
            n_heads = self.n_layers * self.n_heads
            total_s: Array = n_heads * self.cheap.alone_s + extra_s * n_accurate
            return total_s
        by_layer = alpha if alpha.ndim == 2 else alpha[:, None]
        return _grouped_s(by_layer, self.accurate, self.cheap, n_together)

    def _rows_s(self, alpha: Array) -> Array:
        """A head is purely accurate as far as its smallest alpha, and mixed besides."""
        if self.form == "additive":
            rows = alpha.reshape(-1, self.n_tokens)
            return _grouped_s(rows, self.accurate_row, self.cheap_row)
        return self._batched_rows_s(alpha)

    def _batched_rows_s(self, alpha: Array) -> Array:
        """Pure heads of a layer go together; mixed ones alone, with both variants.

        A head is pure as far as its least alpha, purely cheap as far as 1 - its
        largest, mixed besides; rows of mixed heads are those that pure ones leave.
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
        """Seconds of every layer's MLP, linear layers included; beta (L,) or (L, N)."""
        by_layer = beta if beta.ndim == 2 else beta[:, None]
        n_together = 1 if beta.ndim == 2 else self.n_tokens
        apart = VariantCost(  # the linear layers are, as soon as one token has GeLU
            alone_s=self.gelu.alone_s,
            fixed_s=self.gelu.fixed_s + self.mlp_s - self.fused_mlp_s,
            per_unit_s=self.gelu.per_unit_s,
        )
        linear_s = self.n_layers * self.fused_mlp_s
        return _grouped_s(by_layer, apart, self.linear, n_together, linear_s)

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "SearchCost":  # Any: JSON
        """What `to_json` gave.

        Raises:
            TypeError: If the keys are others.
        """
        parsed: dict[str, Any] = {  # Any: as declared
            key: VariantCost(**value) if isinstance(value, dict) else value
            for key, value in values.items()
        }
        return cls(**parsed)


def _cost(term: Term) -> VariantCost:
    return VariantCost(
        alone_s=term.latency_s, fixed_s=term.fixed_s, per_unit_s=term.per_unit_s
    )


def _linear_mlp_s(terms: Terms, linear: str) -> float:
    is_fused = get_activation(linear).is_linear
    return terms.get("fused_mlp" if is_fused else "mlp", 0, "").latency_s


def _grouped_s(
    share: Array,
    one: VariantCost,
    other: VariantCost,
    n_together: int = 1,
    besides_s: float = 0.0,
) -> Array:
    """fixed_s max + per_unit_s sum over the last axis of `one`, summed; of (G, U).

    And of `other` with 1 - share, whose maximum is 1 - min, and `besides_s`. In few
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
    """x + factor y, which torch does, and differentiates, in one operation."""
    xp = _namespace(x)
    if xp.__name__ == "torch":
        total: Array = xp.add(x, y, alpha=factor)
        return total
    return x + factor * y


def _namespace(x: object) -> Any:  # Any: numpy or torch, whose amax agree
    return sys.modules[type(x).__module__.partition(".")[0]]
