"""The cost model: steps of any size, on any network, from one profile."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mpcprof.blocks.steps import Size, Step
from mpcprof.costmodel.features import check_size, operation_kind
from mpcprof.costmodel.observations import (
    Observation,
    digest,
    observe,
    primitive_records,
)
from mpcprof.costmodel.operation_fit import OperationFit, fit_from_json
from mpcprof.costmodel.prediction import Prediction, priced_step, sum_up
from mpcprof.costmodel.step_cost import (
    StartCost,
    StepCost,
    fitted_cost,
    measured_cost,
    start_cost,
)
from mpcprof.deployment import Deployment
from mpcprof.errors import MissingEntryError, ProfileError, did_you_mean
from mpcprof.network import Network
from mpcprof.profiles import Profile

MODEL_VERSION = 3  # 3: a result of one ciphertext comes back unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """latency = per_call_s + sum(compute_s + max(hidden_s, hops RTT/2 + bytes / bw)).

    A size that was measured costs what was measured; others cost what the operation's
    fit says.

    Attributes:
        hosts: Where the records were measured.
        per_call_s: Seconds that every call costs, however little it does.
        reference: The network that held-out errors are of.
        records_digest: Of the records it was fitted to.
        fits: One for each operation, by name.
    """

    deployment: Deployment
    hosts: str
    per_call_s: float
    reference: Network
    records_digest: str
    fits: tuple[OperationFit, ...]
    observations: tuple[Observation, ...] = field(repr=False)
    _fits: dict[str, OperationFit] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _starts: dict[str, StartCost] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _costs: dict[tuple[str, Size], StepCost] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        self._fits.update((fit.operation, fit) for fit in self.fits)
        self._starts.update((fit.operation, start_cost(fit)) for fit in self.fits)
        groups: dict[tuple[str, Size], list[Observation]] = {}
        for seen in self.observations:
            groups.setdefault((seen.operation, seen.size), []).append(seen)
        for (operation, size), group in groups.items():
            cost = measured_cost(self._fit(operation), group)
            start = self._starts[operation]
            self._costs[operation, size] = cost.minus_start(start)

    @property
    def operations(self) -> tuple[str, ...]:
        """What can be priced."""
        return tuple(self._fits)

    def _fit(self, operation: str) -> OperationFit:
        if operation not in self._fits:
            hint = did_you_mean(operation, self.operations)
            raise MissingEntryError(
                f"no record of {operation!r} to price it from; {hint}; "
                f"`{self.deployment.sweep_command} --only {operation} --output "
                "PROFILE` measures it"
            )
        return self._fits[operation]

    def step_cost(self, operation: str, size: Size) -> StepCost:
        """Of one step; b products cost b times one.

        Without what the program pays once for all steps of the operation.

        Raises:
            MissingEntryError: If the profile holds no record of the operation.
            UsageError: If the size is not one of the operation.
        """
        cost = self._costs.get((operation, size))
        if cost is None:
            cost = self._new_cost(operation, size)
            self._costs[operation, size] = cost
        return cost

    def _new_cost(self, operation: str, size: Size) -> StepCost:
        fit = self._fit(operation)
        check_size(operation, size)
        if operation_kind(operation) == "product" and size[0] != 1:
            return self.step_cost(operation, (1, *size[1:])).repeated(size[0])
        return fitted_cost(fit, size).minus_start(self._starts[operation])

    def predict(self, steps: Iterable[Step], network: Network) -> Prediction:
        """One call that takes `steps` one after another.

        Raises:
            MissingEntryError: If the profile holds no record of an operation.
            UsageError: If a size is not one of its operation.
        """
        counts = Counter(steps)
        priced = tuple(
            priced_step(
                step,
                count,
                self.step_cost(step.operation, step.size),
                network,
                self.reference,
            )
            for step, count in counts.items()
        )
        starts = [self._starts[name] for name in {step.operation for step in counts}]
        return sum_up(priced, starts, self.per_call_s, network, self._guesses(counts))

    def _guesses(self, steps: Iterable[Step]) -> tuple[str, ...]:
        names = sorted({step.operation for step in steps})
        return tuple(
            f"{name}: measured at one size only, its error is a guess"
            for name in names
            if self._fits[name].n_sizes < 2
        )

    def to_json(self) -> str:
        """The coefficients as JSON text; the measured sizes stay in the profile."""
        document = {
            "version": MODEL_VERSION,
            "deployment": json.loads(self.deployment.to_json()),
            "hosts": self.hosts,
            "per_call_s": self.per_call_s,
            "reference": {
                "bandwidth_bytes_per_s": repr(self.reference.bandwidth_bytes_per_s),
                "rtt_s": self.reference.rtt_s,
            },
            "records_digest": self.records_digest,
            "operations": {fit.operation: fit.to_json() for fit in self.fits},
        }
        return json.dumps(document, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, profile: Profile) -> "CostModel":
        """The model that `to_json` wrote, which predicts the same to the bit.

        Raises:
            ProfileError: If the text is none, or of other records than the profile's.
        """
        records = primitive_records(profile)
        try:
            document = json.loads(text)
            _check(document["version"] == MODEL_VERSION, "of another version")
            is_of_these = document["records_digest"] == digest(records)
            _check(is_of_these, "fitted to other records")
            per_call_s = float(document["per_call_s"])
            return cls(
                deployment=profile.deployment,
                hosts=str(document["hosts"]),
                per_call_s=per_call_s,
                reference=Network(
                    bandwidth_bytes_per_s=float(
                        document["reference"]["bandwidth_bytes_per_s"]
                    ),
                    rtt_s=float(document["reference"]["rtt_s"]),
                ),
                records_digest=str(document["records_digest"]),
                fits=_fits_from_json(document["operations"].items()),
                observations=observe(profile, per_call_s),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProfileError(
                f"{text[:60]!r} is no cost model of this profile: {error}; "
                "fit it anew with `mpcprof fit PROFILE --save`"
            ) from None


def _check(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise ProfileError(otherwise)


def _fits_from_json(
    items: Iterable[tuple[str, object]],
) -> tuple[OperationFit, ...]:
    return tuple(fit_from_json(name, value) for name, value in sorted(items))


def one_line(hosts: Sequence[str]) -> str:
    """The different ones of `hosts` in one line."""
    return "; ".join(sorted({*hosts}))
