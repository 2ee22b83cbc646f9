"""Named functions to measure, their inputs, and the answers they must give."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mpcprof.dims import DIM_NAMES, Dims
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.nn.algebra import Interval, Shape
from mpcprof.nn.steps import check_dims
from mpcprof.workloads.tolerance import Tolerance

if TYPE_CHECKING:
    from jax import Array


WorkloadKind = Literal["primitive", "block", "model", "function", "steps"]
Integer = Literal["int8", "int16", "int32", "uint8", "uint16", "uint32"]
DType = Literal["float32", "bool"] | Integer
INTEGERS: Final[tuple[Integer, ...]] = get_args(Integer)

_USUAL: Final[DType] = "float32"
_STEPS_PER_UNIT = 2**12  # coarser than 18 fraction bits, so that inputs encode exactly
_MIN_STEPS = 2**8  # across a domain too narrow for that


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a flat result with a tolerance of its own.

    Attributes:
        name: Primitive that gave this part.
        n_entries: Length of this part, which follows on the one before.
        tolerance: Largest errors of its entries.
    """

    name: str
    n_entries: int
    tolerance: Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A function to measure, its inputs, and the answer it must give.

    Attributes:
        name: What profiles store; renaming the function must not change it.
        kind: Size of the thing: a primitive, a block, a model, a user's function.
        dim_names: Its named dimensions in the order they are shown.
        shapes: Input shapes at the given sizes.
        function: Plain JAX; secret arrays in, one array out.
        reference: Float64 numpy, written independently of `function`.
        domain: Lowest and highest value of each input.
        dtypes: Kind of number of each input; empty where all are float32.
        values: What each input holds, None where it is drawn; empty where all are.
        captured: Types and shapes of the arrays of more than one value that `function`
            holds itself: they are public to SPU.
        tolerance: Largest errors of the entries of its result.
        pieces: Parts of a flat result, in order; empty where one tolerance serves.
        source: Where the formula and its use come from.

    Raises:
        UsageError: If the entry contradicts itself.
    """

    name: str
    kind: WorkloadKind
    dim_names: tuple[str, ...]
    shapes: Callable[[Dims], tuple[Shape, ...]]
    function: Callable[..., Array]
    reference: Callable[..., NDArray[np.float64]]
    domain: tuple[Interval, ...]
    dtypes: tuple[DType, ...] = ()
    # Any: as `dtypes` says. No part of the identity, for arrays have no hash
    values: tuple[NDArray[Any] | None, ...] = field(default=(), compare=False)
    captured: tuple[tuple[str, Shape], ...] = ()
    tolerance: Tolerance
    pieces: tuple[Piece, ...] = ()
    source: str

    def __post_init__(self) -> None:
        if self.kind not in get_args(WorkloadKind):
            known = ", ".join(get_args(WorkloadKind))
            raise UsageError(f"{self.name}: kind {self.kind!r}; known: {known}")
        for name in self.dim_names:
            if name not in DIM_NAMES:
                hint = did_you_mean(name, DIM_NAMES)
                raise UsageError(f"{self.name}: no dimension {name!r}; {hint}")
        for low, high in self.domain:
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise UsageError(
                    f"{self.name}: domain {(low, high)}: expected two finite numbers, "
                    "low < high"
                )
        if self.dtypes and len(self.dtypes) != len(self.domain):
            raise UsageError(
                f"{self.name}: {len(self.dtypes)} dtypes for {len(self.domain)} inputs"
            )

    def input_shapes(self, dims: Dims) -> tuple[Shape, ...]:
        """Return the shape of each input.

        Raises:
            UsageError: If a dimension it has is 0, or one it does not have is not.
        """
        check_dims(self.name, dims, self.dim_names)
        return self.shapes(dims)

    def make_inputs(
        self, dims: Dims, rng: np.random.Generator
    ) -> tuple[NDArray[Any], ...]:  # Any: float32, or what `dtypes` says
        """Draw inputs from the domain that the fixed-point ring holds exactly.

        Draws are uniform; an input with values of its own is not drawn. They are
        multiples of 2**-12 wherever the domain is wide enough: encoding adds no error,
        and no value is so small that a comparison sees another sign than the
        reference. Inputs of two or more entries hold both ends of
        the domain.

        Raises:
            UsageError: As `input_shapes`.
        """
        shapes = self.input_shapes(dims)
        dtypes = self.dtypes or (_USUAL,) * len(shapes)
        values = self.values or (None,) * len(shapes)
        return tuple(
            _draw(dtype, interval, shape, rng) if given is None else given
            for given, dtype, shape, interval in zip(
                values, dtypes, shapes, self.domain, strict=True
            )
        )


def _draw(
    dtype: DType, interval: Interval, shape: Shape, rng: np.random.Generator
) -> NDArray[Any]:  # Any: of `dtype`
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype == "float32":
        return _draw_floats(interval, shape, rng)
    low, high = math.ceil(interval[0]), math.floor(interval[1])
    return np.asarray(rng.integers(low, high, shape, endpoint=True), dtype)


def _draw_floats(
    interval: Interval, shape: Shape, rng: np.random.Generator
) -> NDArray[np.float32]:
    low, high = interval
    per_unit = 2.0 ** math.ceil(math.log2(_MIN_STEPS / (high - low)))
    per_unit = max(per_unit, _STEPS_PER_UNIT)
    drawn = np.asarray(rng.uniform(low, high, shape), np.float64)
    drawn = np.clip(np.round(drawn * per_unit) / per_unit, low, high)
    if drawn.size > 1:
        drawn.flat[0], drawn.flat[-1] = low, high
    return np.asarray(drawn, np.float32)


_WORKLOADS: dict[str, Workload] = {}


def register(workload: Workload) -> None:
    """Add an entry to the registry.

    Raises:
        UsageError: If the name is taken: two meanings of a name would mix in profiles.
    """
    if workload.name in _WORKLOADS:
        raise UsageError(
            f"workload {workload.name!r} is registered already; choose another name"
        )
    _WORKLOADS[workload.name] = workload


def get_workload(name: str) -> Workload:
    """Return the entry of that name.

    Raises:
        UnknownNameError: If there is none; the message names the nearest ones.
    """
    try:
        return _WORKLOADS[name]
    except KeyError:
        family = [known for known in _WORKLOADS if known.startswith(name)]
        hint = did_you_mean(name, tuple(_WORKLOADS))
        if name and family:  # `gelu` asks which form; spelling would offer relu
            hint = f"did you mean {', '.join(family)}?"
        raise UnknownNameError(f"no workload {name!r}; {hint}") from None


def all_workloads(kind: WorkloadKind | None = None) -> tuple[Workload, ...]:
    """Return every entry, or those of one kind, in the order of their names."""
    return tuple(
        workload
        for _, workload in sorted(_WORKLOADS.items())
        if kind in (None, workload.kind)
    )
