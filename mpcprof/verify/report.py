"""The results of a verification, and the report of how far predictions were off."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from mpcprof.dims import Dims
from mpcprof.network import Network
from mpcprof.nn.architecture import parse_architecture
from mpcprof.nn.efficientvit import parse_efficientvit
from mpcprof.nn.transformer import layer_variants
from mpcprof.units import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """A case on one network: predicted, then measured.

    Attributes:
        measured_s: Seconds of a typical call; where calls refill a stock, of a call
            that makes its share of refills, as the prediction is.
        called_s: Seconds of the mean call as it was where calls refill a stock, else
            those measured.
        rounds_made: Refills of oblivious transfers of the mean call.
        rounds_expected: The same in the long run.
        bytes_error: Relative error of the bytes SPU counted, summed over ranks.
        hops_error: Relative error of the hops.
        architecture: JSON text of a model's architecture; empty for other cases.
        parts_problem: Why compute, hops and transfer do not fit into the measured
            latency; empty where they do.
    """

    workload: str
    kind: str
    dims: Dims
    network: Network
    predicted_s: float
    interval_s: tuple[float, float]
    basis: str
    measured_s: float
    latencies_s: tuple[float, ...]
    bytes_error: float
    hops_error: float
    architecture: str = ""
    parts_problem: str = ""
    called_s: float | None = None
    rounds_made: float = 0.0
    rounds_expected: float = 0.0

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted_s / self.measured_s - 1

    @property
    def is_inside(self) -> bool:
        """Whether the measured latency lies in the interval."""
        low, high = self.interval_s
        return low <= self.measured_s <= high

    def to_json(self) -> dict[str, object]:
        """Return the case as it stands in `verify --json`."""
        case = asdict(self) | {
            "dims": dict(self.dims.items()),
            "network": str(self.network),
            "error": self.error,
            "bytes_error": _finite(self.bytes_error),
            "hops_error": _finite(self.hops_error),
            "called_s": self.called_s or self.measured_s,
        }
        text = case.pop("architecture")
        return case | ({"architecture": json.loads(text)} if text else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Errors over several cases.

    Attributes:
        within_5: Share of cases whose latency is within 5 %.
        within_10: Share of cases whose latency is within 10 %.
        within_15: Share of cases whose latency is within 15 %.
        within_interval: Share of cases whose latency lies in the predicted interval.
        max_bytes_error: Largest error of bytes; infinite where bytes were predicted and
            none were sent.
        spearman: Rank correlation of predicted and measured seconds; NaN where one of
            them is the same in all cases.
    """

    n: int
    within_5: float
    within_10: float
    within_15: float
    within_interval: float
    median_error: float
    max_error: float
    max_bytes_error: float
    max_hops_error: float
    spearman: float

    def to_json(self) -> dict[str, object]:
        """Return the errors as in `verify --json`, with null for numbers not finite."""
        return {name: _finite(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        spearman = "none" if math.isnan(self.spearman) else f"{self.spearman:.4f}"
        return (
            f"{self.n} cases: {self.within_5:.1%} within 5 %, {self.within_10:.1%} "
            f"within 10 %, {self.within_15:.1%} within 15 %; median error "
            f"{self.median_error:.2%}, largest {self.max_error:.2%}; "
            f"{self.within_interval:.1%} in the interval; bytes off by at most "
            f"{self.max_bytes_error:.3%}, hops by {self.max_hops_error:.2%}; Spearman "
            f"{spearman}"
        )


def _finite(value: float) -> float | None:
    """Return null for infinity and NaN, which JSON lacks."""
    return value if math.isfinite(value) else None


def summarise(results: Sequence[CaseResult]) -> Summary:
    """Return the errors over all cases and networks.

    Raises:
        ValueError: If there are none.
    """
    errors = [abs(result.error) for result in results]

    def share(limit: float) -> float:
        return sum(error <= limit for error in errors) / len(errors)

    return Summary(
        n=len(results),
        within_5=share(0.05),
        within_10=share(0.10),
        within_15=share(0.15),
        within_interval=sum(r.is_inside for r in results) / len(results),
        median_error=median(errors),
        max_error=max(errors),
        max_bytes_error=max(abs(r.bytes_error) for r in results),
        max_hops_error=max(abs(r.hops_error) for r in results),
        spearman=_spearman(results),
    )


def _spearman(results: Sequence[CaseResult]) -> float:
    from scipy.stats import spearmanr

    predicted = [result.predicted_s for result in results]
    measured = [result.measured_s for result in results]
    if min(len({*predicted}), len({*measured})) < 2:
        return math.nan  # no ranks to compare
    return float(spearmanr(predicted, measured).statistic)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefillCheck:
    """Refills of oblivious transfers on one network: as predicted, and as made.

    Attributes:
        n_calls: Calls whose bytes tell their refills.
        made: Refills in all of them.
        expected: The same in the long run, by the source of SPU.
        n_seen: Cases of which some calls made more refills than others.
        measured_s: Median seconds of one in these; None where there are none.
        priced_s: The same by the cost model.
    """

    network: Network
    n_calls: int
    made: float
    expected: float
    n_seen: int
    measured_s: float | None
    priced_s: float

    def to_json(self) -> dict[str, object]:
        """Return the refills as in `verify --json`."""
        return asdict(self) | {"network": str(self.network)}

    def __str__(self) -> str:
        priced = format_duration(self.priced_s, digits=3)
        took = "their price was not checked, and measured seconds have it too"
        if self.measured_s is not None:
            seconds = format_duration(self.measured_s, digits=3)
            took = f"one takes {seconds} in {self.n_seen} cases"
        return (
            f"refills of oblivious transfers on {self.network}: {self.made:g} in "
            f"{self.n_calls} calls, where {self.expected:.1f} are expected; {took}, "
            f"priced {priced}. Measured seconds are of a call with its share of them"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """Every case of a verification.

    Attributes:
        refills: Refills on each network, where calls make some.
        profile_hosts: Machines that the predictions are for.
        hosts: Machines that measured the cases.
        left_out: Cases that could not be measured, each with the reason.
        misfit: One line on cases whose parts do not fit into the measured latency.
    """

    deployment: str
    profile_hosts: tuple[str, ...]
    hosts: tuple[str, ...]
    seed: int
    results: tuple[CaseResult, ...]
    left_out: tuple[str, ...] = ()
    misfit: str = ""
    refills: tuple[RefillCheck, ...] = ()

    @property
    def summary(self) -> Summary:
        """The errors over all cases."""
        return summarise(self.results)

    def summaries(self) -> dict[str, Summary]:
        """Return the errors by kind and by network."""
        keys = dict.fromkeys(
            [result.kind for result in self.results]
            + [str(result.network) for result in self.results]
        )
        return {
            key: summarise([r for r in self.results if key in (r.kind, str(r.network))])
            for key in keys
        }

    def to_json(self) -> str:
        """Return the document of `verify --json`."""
        return json.dumps(
            {
                "deployment": self.deployment,
                "profile_hosts": [*self.profile_hosts],
                "hosts": [*self.hosts],
                "seed": self.seed,
                "cases": [result.to_json() for result in self.results],
                "summary": self.summary.to_json(),
                "summary_by": {k: s.to_json() for k, s in self.summaries().items()},
                "left_out": list(self.left_out),
                "misfit": self.misfit,
                "refills": [one.to_json() for one in self.refills],
            },
            indent=1,
        )

    def machines(self) -> str:
        """Return which machines measured the cases, and which ones the profile."""
        measured = "; ".join(self.hosts)
        if self.hosts == self.profile_hosts:
            return f"The profile and these cases were measured on {measured}."
        return (
            f"These cases were measured on {measured}, the profile on "
            f"{'; '.join(self.profile_hosts)}: seconds of compute are of the latter. "
            "`mpcprof sweep` measures a profile of this machine."
        )

    def to_markdown(self) -> str:
        """Return the summaries and a table of every case, largest error first."""
        lines = [
            f"# Predicted against measured: {self.deployment}",
            "",
            f"{self.summary}.",
            "",
            self.machines(),
            "",
            *(f"- {key}: {summary}" for key, summary in self.summaries().items()),
            *(f"- left out: {reason}" for reason in self.left_out),
            *([f"- note: {self.misfit}"] if self.misfit else ()),
            *(f"- {one}." for one in self.refills),
            "",
            "| workload | dims | network | predicted | measured | error | basis |",
            "|---|---|---|---|---|---|---|",
        ]
        worst_first = sorted(self.results, key=lambda result: -abs(result.error))
        lines += [_markdown_row(result) for result in worst_first]
        return "\n".join(lines) + "\n"


def _describe(result: CaseResult) -> str:
    """Return the sizes; for a model also layers, heads and their variants."""
    if not result.architecture:
        return str(result.dims)
    if network := parse_efficientvit(result.architecture):
        return (
            f"{result.dims}, {network.image_size} pixels, "
            f"{network.n_heads_in_sequence} heads in sequence, {network.attention}"
        )
    architecture = parse_architecture(result.architecture)
    heads = [head for layer in architecture.attention for head in layer]
    return (
        f"{result.dims}, {architecture.n_layers} layers, {architecture.heads}, "
        f"{' '.join(layer_variants(heads))}"
    )


def _markdown_row(result: CaseResult) -> str:
    return (
        f"| `{result.workload}` | {_describe(result)} | {result.network} | "
        f"{format_duration(result.predicted_s, digits=4)} | "
        f"{format_duration(result.measured_s, digits=4)} | {result.error:+.1%} | "
        f"{result.basis} |"
    )
