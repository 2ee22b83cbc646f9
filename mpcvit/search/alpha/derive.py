"""From alpha and beta to architectures: by ratio, by threshold, by budget.

One search gives a family: every rule reads the same alpha and beta.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture, Heads
from mpcprof.units import format_duration
from mpcvit.search.alpha.budget import choose_within
from mpcvit.search.alpha.cost import HEADS_OF_FORM
from mpcvit.search.alpha.result import SearchResult
from mpcvit.search.alpha.space import Mask, Numbers, choose
from mpcvit.search.base import budget_label, check_labels

SIGMA = 0.75  # MPCViT section 5.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """One architecture of a family.

    Attributes:
        label: `mu-0.5` or `budget-40s`; also its file's name.
        predicted_s: Seconds by the search's terms, in the form of its heads.
        n_accurate: Number of accurate heads (layers, rows) among `n_units`.
        n_gelu: Number of tokens (layers) with GeLU among `n_gelu_units`; None where
            none was searched.
        gap: At most this share of the worth within the budget is missing; see
            `Choice`.
    """

    label: str
    architecture: Architecture
    predicted_s: float
    n_accurate: int
    n_units: int
    n_gelu: int | None
    n_gelu_units: int | None
    gap: float = 0.0

    def line(self) -> str:
        """Return one line."""
        kept = f"{self.n_accurate} of {self.n_units} accurate"
        if self.n_gelu is not None:
            kept += f", {self.n_gelu} of {self.n_gelu_units} with GeLU"
        predicted = format_duration(self.predicted_s, digits=4)
        return f"{self.label}: {kept}, predicted {predicted}{self.shortfall()}"

    def shortfall(self) -> str:
        """Return the gap as the end of a sentence; nothing where there is none."""
        return f", at most {100 * self.gap:.2g}% short of the best" if self.gap else ""


def by_mu(alpha: Numbers, mu: float) -> Mask:
    """Keep the ceil(mu n) largest of n alphas over all layers; of equal ones the first.

    Source: MPCViT section 4.3; its code rounds so.
    Differs: of equal alphas exactly so many are kept, not all.

    Raises:
        UsageError: If mu is not from 0 to 1.
    """
    if not 0 <= mu <= 1:
        raise UsageError(f"mu={mu}: expected the share to keep, from 0 to 1")
    n_kept = math.ceil(mu * alpha.size - 1e-9)
    order = np.argsort(-alpha, axis=None, kind="stable")
    mask = np.zeros(alpha.size, dtype=bool)
    mask[order[:n_kept]] = True
    return mask.reshape(alpha.shape)


def by_threshold(beta: Numbers, sigma: float) -> Mask:
    """Keep beta > sigma. Source: MPCViT section 5.5.

    Raises:
        UsageError: If sigma is not from 0 to 1.
    """
    if not 0 <= sigma <= 1:
        raise UsageError(f"sigma={sigma}: expected a number from 0 to 1")
    mask: Mask = beta > sigma
    return mask


def derive_by_mu(
    result: SearchResult, mu: float, *, sigma: float = SIGMA, heads: Heads
) -> Derived:
    """Return the architecture that keeps a share mu of alpha, and beta above sigma.

        >>> result = mpcvit.read_result(folder / "search")
        >>> mpcvit.derive_by_mu(result, 0.5, heads="serial").n_accurate
        6

    Raises:
        UsageError: If mu or sigma is not from 0 to 1.
    """
    alpha = by_mu(result.alpha, mu)
    beta = None if result.beta is None else by_threshold(result.beta, sigma)
    return make_derived(result, f"mu-{mu:g}", alpha, beta, heads)


def derive_by_budget(result: SearchResult, budget_s: float, *, heads: Heads) -> Derived:
    """Return the most valuable architecture within a budget; see `choose_within`.

        >>> result = mpcvit.read_result(folder / "search")
        >>> mpcvit.derive_by_budget(result, 12.0, heads="serial").predicted_s <= 12.0
        True

    Raises:
        UsageError: If no choice is as quick as that.
    """
    cost = result.cost.for_heads(heads)
    choice = choose_within(cost, result.alpha, result.beta, budget_s)
    label = budget_label(budget_s)
    derived = make_derived(result, label, choice.alpha, choice.beta, heads)
    return replace(derived, gap=choice.gap)


def family(
    result: SearchResult,
    *,
    mus: Sequence[float] = (),
    budgets_s: Sequence[float] = (),
    sigma: float = SIGMA,
    heads: Heads | None = None,
) -> tuple[Derived, ...]:
    """Derive an architecture for each mu and each budget; heads as searched for.

    Raises:
        UsageError: If nothing is asked for, twice the same, or what no choice meets.
    """
    if not mus and not budgets_s:
        raise UsageError("nothing to derive: give --mu 0.5,0.3 or --budget 40s,30s")
    chosen = heads or HEADS_OF_FORM[result.cost.form]
    derived = (
        *(derive_by_mu(result, mu, sigma=sigma, heads=chosen) for mu in mus),
        *(derive_by_budget(result, s, heads=chosen) for s in budgets_s),
    )
    check_labels([one.label for one in derived])
    return derived


def make_derived(
    result: SearchResult, label: str, alpha: Mask, beta: Mask | None, heads: Heads
) -> Derived:
    """Return a choice with its architecture and price."""
    return Derived(
        label=label,
        architecture=choose(result.space, result.model, alpha, beta, heads),
        predicted_s=result.cost.for_heads(heads).hard_latency_s(alpha, beta),
        n_accurate=int(alpha.sum()),
        n_units=alpha.size,
        n_gelu=None if beta is None else int(beta.sum()),
        n_gelu_units=None if beta is None else beta.size,
    )
