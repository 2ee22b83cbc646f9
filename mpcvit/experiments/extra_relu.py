"""Table 5: a ReLU behind the fused linear layers of tokens that lost their GeLU."""

from dataclasses import dataclass, replace

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcprof.units import format_duration
from mpcvit.experiments.choices import make_trial
from mpcvit.experiments.comparison import compare_means
from mpcvit.experiments.jobs import JobsObserver
from mpcvit.experiments.report import Report
from mpcvit.experiments.running import run_trials
from mpcvit.experiments.search_config import recall_search
from mpcvit.experiments.searches import SearchPlan, make_search, run_searches
from mpcvit.experiments.setting import Setting
from mpcvit.experiments.trial import Outcome, Trial
from mpcvit.paper.published import TABLE_5, Published
from mpcvit.search.derive import SIGMA, Derived, family
from mpcvit.search.result import SearchResult
from mpcvit.search.space import SearchedActivation, SearchSpace

_WITH, _WITHOUT = "identity_relu", "identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReluRequest:
    """What is compared.

    Attributes:
        mus: Shares of attention to keep; the paper's are 0.3 and 0.7.
        sigma: Tokens (or layers) whose beta is above it keep their GeLU.
        budgets_s: Seconds to keep to besides, over attention and GeLU.
    """

    plan: SearchPlan
    activation: SearchedActivation = "token"
    mus: tuple[float, ...] = (0.3, 0.7)
    sigma: float = SIGMA
    budgets_s: tuple[float, ...] = ()


def compare_extra_relu(
    setting: Setting,
    request: ReluRequest,
    *,
    command: str,
    observer: JobsObserver | None = None,
) -> Report:
    """Search MPCViT+ once; train what it derives with the ReLU and without.

    Raises:
        UsageError: If every token of a derived one keeps its GeLU.
    """
    space = SearchSpace(activation=request.activation, linear=_WITH)
    search = make_search(setting, request.plan, space, "plus")
    (result,) = run_searches(setting, [search], observer)
    derived = family(
        result,
        mus=request.mus,
        budgets_s=request.budgets_s,
        sigma=request.sigma,
        heads=setting.heads,
    )
    trials = [
        trial for one in derived for trial in _pair(one, result, sigma=request.sigma)
    ]
    outcomes = run_trials(setting, trials, observer)
    pairs = zip(outcomes[::2], outcomes[1::2], strict=True)
    return Report(
        title="A ReLU behind fused layers (Table 5)",
        setting=setting,
        outcomes=outcomes,
        findings=tuple(_judge(*pair) for pair in pairs),
        values={"sigma": request.sigma},
        command=command,
        searches=(recall_search(search.run.output, result),),
    )


def _pair(derived: Derived, result: SearchResult, *, sigma: float) -> list[Trial]:
    if derived.n_gelu == derived.n_gelu_units:
        raise UsageError(
            f"{derived.label}: all {derived.n_gelu} activations stay GeLU at sigma="
            f"{sigma:g}, there is nothing to compare; search with a larger --lambda, "
            "or give a larger --sigma or a --budget"
        )
    with_relu = make_trial(
        "with-relu", derived, result, _published("MPCViT+, ", derived.label)
    )
    without = replace(
        with_relu,
        group="without-relu",
        architecture=_without_relu(derived.architecture),
        published=_published("MPCViT+ without", derived.label),
    )
    return [with_relu, without]


def _without_relu(architecture: Architecture) -> Architecture:
    return replace(
        architecture,
        activation=tuple(
            tuple(_WITHOUT if name == _WITH else name for name in layer)
            for layer in architecture.activation
        ),
    )


def _published(beginning: str, label: str) -> Published | None:
    return next(
        (
            one
            for one in TABLE_5
            if one.what.startswith(beginning) and f"mu-{one.mu:g}" == label
        ),
        None,
    )


def _judge(with_relu: Outcome, without: Outcome) -> str:
    name = f"{with_relu.trial.name}: with the ReLU against without it"
    if not with_relu.accuracies or not without.accuracies:
        return f"{name}: a training diverged."
    found = compare_means(
        with_relu.accuracies, without.accuracies, n_test=with_relu.n_test
    )
    extra_s = with_relu.predicted_s - without.predicted_s
    return f"{name} {found}, for {format_duration(extra_s, digits=3)} more."
