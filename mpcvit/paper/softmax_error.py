"""Relative error of softmax and ReLU softmax under MPC (Figure 1(c)).

Measured by real parties against float64, on normal scores of several variances.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from mpcprof.deployment import Deployment
from mpcprof.errors import ProfileError
from mpcprof.files import replace_file
from mpcprof.nn.algebra import Algebra, T
from mpcprof.nn.attention import EPSILON

VARIANCES: Final = tuple(4.0**n for n in range(-2, 5))  # 1/16 to 256
N_ROWS: Final = 260  # of 4 heads
N_TOKENS: Final = 65
KERNELS: Final = ("softmax", "relu_softmax")
_COLUMNS: Final = ("deployment", "kernel", "variance", "relative_error", "norm_error")

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPoint:
    """Of one kernel at one variance.

    Attributes:
        relative_error: Mean of |y - y64| / y64 over entries with y64 > 0.
        norm_error: |y - y64| / |y64| of all entries, 2-norms.
    """

    kernel: str
    variance: float
    relative_error: float
    norm_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable:
    """Every kernel at every variance, on one deployment."""

    deployment: str
    points: tuple[ErrorPoint, ...]

    @property
    def variances(self) -> tuple[float, ...]:
        """In growing order."""
        return tuple(sorted({point.variance for point in self.points}))

    def errors_of(self, kernel: str, column: str = "relative_error") -> list[float]:
        """In the order of the variances."""
        own = {p.variance: p for p in self.points if p.kernel == kernel}
        return [float(getattr(own[variance], column)) for variance in self.variances]


def softmax_rows(ops: Algebra[T], x: T) -> T:
    """exp(x - max x) over its sum along each row, step by step as attention has it."""
    weights = ops.exp(ops.subtract(x, ops.row_max(x)))
    return ops.mul(weights, ops.reciprocal(ops.row_sum(weights)))


def relu_softmax_rows(ops: Algebra[T], x: T) -> T:
    """relu(x) over its sum + epsilon along each row."""
    weights = ops.relu(x)
    total = ops.shift(ops.row_sum(weights), EPSILON)
    return ops.mul(weights, ops.reciprocal(total))


def softmax64(x: Rows) -> Rows:
    """softmax_rows in float64."""
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def relu_softmax64(x: Rows) -> Rows:
    """relu_softmax_rows in float64, with the same epsilon: it is not MPC's error."""
    weights = np.maximum(x, 0.0)
    return np.asarray(weights / (weights.sum(axis=-1, keepdims=True) + EPSILON))


_FUNCTIONS: Final = {"softmax": softmax_rows, "relu_softmax": relu_softmax_rows}
_REFERENCES: Final = {"softmax": softmax64, "relu_softmax": relu_softmax64}


class Parties(Protocol):
    """What of `mpcprof.engine.session.Session` this needs."""

    @property
    def deployment(self) -> Deployment:
        """What they run."""

    def lower(self, case: str, function: Any, inputs: Sequence[Any]) -> Any:
        """Compile."""  # Any: as the session has them

    def load(self, case: str, lowered: Any, inputs: Sequence[Any]) -> None:
        """Share the inputs."""

    def run(self, case: str) -> Any:
        """Compute."""

    def fetch(self, case: str) -> Rows:
        """Reveal."""

    def unload(self, case: str) -> None:
        """Forget."""


def measure_errors(
    parties: Parties, algebra: Algebra[Any], seed: int = 0
) -> ErrorTable:
    """Both kernels at every variance on live parties.

    Args:
        algebra: JAX's; given so that tests need no JAX.

    Raises:
        EngineError: If a party fails.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((N_ROWS, N_TOKENS))
    points = []
    for kernel in KERNELS:
        function = partial(_FUNCTIONS[kernel], algebra)
        for variance in VARIANCES:
            x = np.asarray(np.sqrt(variance) * drawn, np.float32)
            name = f"{kernel}-{variance:g}"
            parties.load(name, parties.lower(name, function, [x]), [x])
            parties.run(name)
            found = parties.fetch(name)
            parties.unload(name)
            expected = _REFERENCES[kernel](x.astype(np.float64))
            points.append(_compare(kernel, variance, found, expected))
    return ErrorTable(deployment=str(parties.deployment), points=tuple(points))


def _compare(kernel: str, variance: float, found: Rows, expected: Rows) -> ErrorPoint:
    positive = expected > 0
    relative = np.abs(found - expected)[positive] / expected[positive]
    norm = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    return ErrorPoint(
        kernel=kernel,
        variance=variance,
        relative_error=float(relative.mean()),
        norm_error=float(norm),
    )


def write_errors(path: Path, table: ErrorTable) -> None:
    """As csv.

    Raises:
        FileError: If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(
        (table.deployment, p.kernel, p.variance, p.relative_error, p.norm_error)
        for p in table.points
    )
    replace_file(path, text.getvalue())


def read_errors(path: Path) -> ErrorTable | None:
    """What `write_errors` wrote; None if there is no such file.

    Raises:
        ProfileError: If it is none, or of two deployments.
    """
    try:
        rows = [*csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))]
    except FileNotFoundError:
        return None
    try:
        (deployment,) = {row["deployment"] for row in rows}
        points = tuple(
            ErrorPoint(
                kernel=row["kernel"],
                variance=float(row["variance"]),
                relative_error=float(row["relative_error"]),
                norm_error=float(row["norm_error"]),
            )
            for row in rows
        )
        table = ErrorTable(deployment=deployment, points=points)
        for kernel in KERNELS:
            table.errors_of(kernel)
    except (KeyError, TypeError, ValueError) as error:
        raise ProfileError(
            f"{path}: expected a table of one deployment with {', '.join(_COLUMNS)} "
            f"({error!r}); measure it again with `mpcvit breakdown fig1 --measured`"
        ) from None
    return table
