"""How far a revealed result may be off, and what to say of one that is further off."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import UsageError

USUAL_STEPS: Final = 4.0  # of a function with truncations
_LEAST_STEPS = 2.0  # a rounding and a truncation, however small the result
_HELD_STEPS = 64  # an entry of so many steps has a size of its own
_MOST_INPUTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Largest errors of the entries of a result.

    An entry may be off by `rtol` of its own size, and by the largest of `atol`,
    `typical_rtol` of the typical size, and `steps` of the fixed point. In a result of
    several entries `atol` is at most a quarter of the largest one, and `steps` half of
    it: zeros for numbers that the ring can hold are never right.

    Attributes:
        atol: Error of SPU's approximation on outputs of the size of the domain.
        rtol: Share of an entry's own size.
        typical_rtol: Share of the typical size of the result; see `typical_size`.
        steps: Number of steps of 2**-fraction_bits, such as truncations leave.

    Raises:
        UsageError: If a number is negative or not finite.
    """

    atol: float = 0.0
    rtol: float = 0.0
    typical_rtol: float = 0.0
    steps: float = 0.0

    def __post_init__(self) -> None:
        for name in ("atol", "rtol", "typical_rtol", "steps"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"{name}={value}: expected a number of at least 0")

    def allowed(
        self, expected: NDArray[np.float64], fraction_bits: int
    ) -> NDArray[np.float64]:
        """Return the largest error of each entry in a ring with that fraction."""
        sizes = np.abs(expected)
        step = 2.0**-fraction_bits
        largest = float(np.max(sizes))
        most_steps = max(_LEAST_STEPS, largest / step / 2)
        is_single = expected.size == 1  # says nothing of the size of others
        floor = max(
            self.atol if is_single else min(self.atol, largest / 4),
            self.typical_rtol * typical_size(expected),
            min(self.steps, most_steps) * step,
        )
        return np.asarray(self.rtol * sizes + floor, np.float64)


def tighten(
    revealed: NDArray[np.float64],
    expected: NDArray[np.float64],
    allowed: NDArray[np.float64],
    fraction_bits: int,
) -> NDArray[np.float64]:
    """Allow half of an entry's own size where more than a quarter are off by more.

    So a column of small numbers beside large ones is not lost in a tolerance that goes
    by the typical size. Entries of less than 64 steps do not count: cancellation may
    leave as much.
    """
    half = np.abs(expected) / 2
    is_held = np.abs(expected) > _HELD_STEPS * 2.0**-fraction_bits
    is_lost = is_held & ~(np.abs(revealed - expected) <= half)
    if np.sum(is_lost) <= np.sum(is_held) / 4:
        return allowed
    return np.where(is_held, np.minimum(allowed, half), allowed)


def typical_size(values: NDArray[np.float64]) -> float:
    """Return the squared mean of the roots of sizes, which few large entries move."""
    return float(np.mean(np.sqrt(np.abs(values))) ** 2)


def describe_fault(
    revealed: NDArray[np.float64],
    expected: NDArray[np.float64],
    allowed: NDArray[np.float64],
    inputs: Sequence[NDArray[Any]],  # Any: numbers or truth values
) -> str:
    """Return where a result is off, by how much, and for which inputs, in one line."""
    errors = np.abs(revealed - expected)
    is_wrong = ~(errors <= allowed)  # nan is no good either
    excess = np.where(np.isnan(errors), np.inf, errors - allowed)
    at = np.unravel_index(int(np.argmax(excess)), expected.shape)
    return (
        f"off by up to {np.max(errors):.3g}, allowed {allowed[at]:.3g}, where outputs "
        f"are up to {np.max(np.abs(expected)):.3g} in size; {np.sum(is_wrong)} of "
        f"{expected.size} entries are wrong,{_place(at)} {revealed[at]:.6g} instead of "
        f"{expected[at]:.6g}, {_describe_inputs(inputs, is_wrong, at)}"
    )


def describe_undefined(
    expected: NDArray[np.float64],
    inputs: Sequence[NDArray[Any]],  # Any: as above
) -> str:
    """Return where a reference is nan or infinite, and for which inputs."""
    is_wrong = ~np.isfinite(expected)
    at = np.unravel_index(int(np.argmax(is_wrong)), expected.shape)
    return (
        f"the function itself is {expected[at]} in float64{_place(at)}, and nan or "
        f"infinite in {np.sum(is_wrong)} of {expected.size} entries, "
        f"{_describe_inputs(inputs, is_wrong, at)}"
    )


def _place(at: tuple[np.intp, ...]) -> str:
    return f" at [{', '.join(map(str, at))}]" if at else ""


def _describe_inputs(
    inputs: Sequence[NDArray[Any]],  # Any: as above
    is_wrong: NDArray[np.bool_],
    at: tuple[np.intp, ...],
) -> str:
    """Return the inputs at that entry if they have its shape, and their range."""
    if len(inputs) > _MOST_INPUTS:  # the weights of a network
        flat = np.concatenate([np.ravel(x) for x in inputs])
        return f"{len(inputs)} inputs from {_range(flat)}"
    drawn = " and ".join(map(_range, inputs))
    if any(x.shape != is_wrong.shape for x in inputs):
        return f"inputs from {drawn}"
    there = " and ".join(f"{float(x[at]):.6g}" for x in inputs)
    wrong = " and ".join(_range(x[is_wrong]) for x in inputs)
    if wrong == drawn:
        return f"inputs there {there}, of all entries {drawn}"
    return f"inputs there {there}, of all such entries {wrong}, of all entries {drawn}"


def _range(x: NDArray[Any]) -> str:  # Any: as above
    return f"{float(np.min(x)):.6g} to {float(np.max(x)):.6g}"
