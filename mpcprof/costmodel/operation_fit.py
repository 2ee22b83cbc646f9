"""The cost of one operation as functions of its size."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from mpcprof.blocks.steps import Size
from mpcprof.costmodel.features import (
    ONE,
    Feature,
    axes,
    exact_features,
    operation_kind,
    packed_features,
    paused_features,
    smooth_features,
)
from mpcprof.costmodel.observations import Observation
from mpcprof.costmodel.regressors import Json, SizeFunction, from_json
from mpcprof.costmodel.solvers import fit_exact, fit_smooth
from mpcprof.errors import ProfileError
from mpcprof.network import Network
from mpcprof.pricing import price_s

_LARGEST_DENOMINATOR = 16  # bits packed into bytes, shares split over parties
_SIGNED = ("one",)  # below 0 where parties wait less for their hops than RTT/2 each
_COUNTED = ("bytes_sent", "total_bytes_sent", "wire_bytes", "hops")
_TIMED = ("compute_s", "busy_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Six functions of a size; of a product, of one of its products."""

    bytes_sent: SizeFunction
    total_bytes_sent: SizeFunction
    wire_bytes: SizeFunction
    hops: SizeFunction
    compute_s: SizeFunction
    busy_s: SizeFunction

    def latency_s(self, size: Size, network: Network) -> float:
        """Seconds of one step, without what a call costs."""
        return price_s(
            network,
            compute_s=self.compute_s.predict(size),
            hidden_s=self.hidden_s(size),
            hops=self.hops.predict(size),
            wire_bytes=self.wire_bytes.predict(size),
        )

    def hidden_s(self, size: Size) -> float:
        """Compute that a slow network hides."""
        return max(self.busy_s.predict(size) - self.compute_s.predict(size), 0.0)

    def start_bytes(self) -> tuple[float, float]:
        """Bytes of rank 0, and of all ranks, that do not grow with the size."""
        nothing = (0, 0)
        if not self.total_bytes_sent.is_exact:
            return 0.0, 0.0
        return self.bytes_sent.predict(nothing), self.total_bytes_sent.predict(nothing)

    @property
    def used(self) -> frozenset[Feature]:
        """The features that any of the six depends on."""
        return frozenset(
            feature for f in fields(self) for feature in getattr(self, f.name).used
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFit:
    """What a profile says about one operation.

    Attributes:
        n_sizes: Different sizes that it was fitted to.
        relative_error: 95th percentile of |predicted - measured| / measured latency of
            sizes left out of the fit; a guess where there was only one size.
        limits: The largest measured value of each axis that matters.
    """

    operation: str
    n_sizes: int
    relative_error: float
    costs: Costs
    limits: tuple[tuple[Feature, int], ...]

    def reach(self, size: Size) -> float:
        """How many times the largest measured size; above 1 is extrapolated."""
        return max(axis.value(size) / largest for axis, largest in self.limits)

    def to_json(self) -> Json:
        """For a JSON document."""
        return {
            "n_sizes": self.n_sizes,
            "relative_error": self.relative_error,
            "costs": {
                f.name: getattr(self.costs, f.name).to_json()
                for f in fields(self.costs)
            },
            "limits": [[str(axis), largest] for axis, largest in self.limits],
        }


def fit_costs(observations: Sequence[Observation]) -> Costs:
    """The costs of the one operation that all of `observations` are of.

    Where bytes are no polynomial of the size, values are packed into ciphertexts.
    """
    kind = operation_kind(observations[0].operation)
    sizes = [o.size for o in observations]
    weights = [1 / o.latency_s for o in observations]  # relative errors of the latency
    smooth = smooth_features(kind, tuple(sizes))
    is_single = len({*sizes}) == 1

    def fit_exactly(name: str) -> SizeFunction | None:
        largest = 1 if name == "hops" else _LARGEST_DENOMINATOR
        values = [float(getattr(o, name)) for o in observations]
        return fit_exact(exact_features(kind), sizes, values, largest)

    exact = {name: fit_exactly(name) for name in _COUNTED}
    if exact["total_bytes_sent"] is None:
        smooth = packed_features(kind, len({*sizes}), smooth)

    def fit(name: str) -> SizeFunction:
        values = [float(getattr(o, name)) for o in observations]
        features = smooth
        if name == "hops" and is_single:
            features = (ONE,)
        elif (
            name == "hops"
            and observations[0].has_pauses
            and exact["bytes_sent"] is not None
        ):
            features = paused_features(kind)
        signed = _SIGNED if name == "compute_s" else ()
        return exact.get(name) or fit_smooth(
            features, sizes, values, weights, signed=signed
        )

    return Costs(**{name: fit(name) for name in (*_COUNTED, *_TIMED)})


def limits(
    observations: Sequence[Observation], costs: Costs
) -> tuple[tuple[Feature, int], ...]:
    """The largest measured value of the axes that the costs depend on.

    The volume always counts; the length of a row where the number of hops follows it.
    """
    kind = operation_kind(observations[0].operation)
    follows_rows = any(feature.name in ("levels", "log2") for feature in costs.used)
    largest = (
        (axis, max(int(axis.value(o.size)) for o in observations))
        for axis in axes(kind)
        if axis.name != "row_length" or follows_rows
    )
    return tuple((axis, max(value, 1)) for axis, value in largest)


def fit_from_json(operation: str, value: object) -> OperationFit:
    """The fit that `OperationFit.to_json` wrote.

    Raises:
        ProfileError: If it is none.
    """
    try:
        if not isinstance(value, dict):
            raise TypeError("not an object")
        return OperationFit(
            operation=operation,
            n_sizes=int(value["n_sizes"]),
            relative_error=float(value["relative_error"]),
            costs=Costs(**{k: from_json(v) for k, v in value["costs"].items()}),
            limits=tuple(
                (Feature.parse(axis), int(largest)) for axis, largest in value["limits"]
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProfileError(f"cost model, {operation}: {error}") from None
