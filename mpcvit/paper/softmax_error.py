"""Relative error of softmax and ReLU softmax under MPC (Figure 1(c)).

The rows of the deployed attention, run by real parties on normal scores of several
variances and held against float64.
"""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.deployment import Deployment
from mpcprof.errors import ProfileError
from mpcprof.files import replace_file
from mpcprof.nn.algebra import Algebra
from mpcprof.nn.rows import relu_softmax_rows, softmax_rows
from mpcprof.workloads.reference import relu_softmax_rows64, softmax_rows64

if TYPE_CHECKING:
    from mpcprof.engine.session import Session

Rows = NDArray[np.float64]  # (M, N)

VARIANCES: Final = tuple(4.0**n for n in range(-2, 5))  # 1/16 to 256
N_ROWS: Final = 260  # of 4 heads
N_TOKENS: Final = 65
# name -> what the attention runs, and the same in float64 with the same epsilon
_ROWS: Final[dict[str, tuple[Callable[..., Any], Callable[[Rows], Rows]]]] = {
    "softmax": (softmax_rows, softmax_rows64),
    "relu_softmax": (relu_softmax_rows, relu_softmax_rows64),
}
KERNELS: Final = tuple(_ROWS)
_COLUMNS: Final = ("deployment", "kernel", "variance", "relative_error", "norm_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPoint:
    """The error of one kernel at one variance.

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
    """The errors of every kernel at every variance, on one deployment."""

    deployment: str
    points: tuple[ErrorPoint, ...]

    @property
    def variances(self) -> tuple[float, ...]:
        """Variances in growing order."""
        return tuple(sorted({point.variance for point in self.points}))

    def errors_of(self, kernel: str, column: str = "relative_error") -> list[float]:
        """Return a kernel's errors in the order of the variances."""
        own = {p.variance: p for p in self.points if p.kernel == kernel}
        return [float(getattr(own[variance], column)) for variance in self.variances]


def measure_errors(
    parties: "Session", algebra: Algebra[Any], seed: int = 0
) -> ErrorTable:
    """Run both kernels at every variance on live parties.

    Args:
        algebra: JAX's; given so that tests need no JAX.

    Raises:
        EngineError: If a party fails.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((N_ROWS, N_TOKENS))
    points = []
    for kernel, (rows, reference) in _ROWS.items():
        function = partial(rows, algebra)
        for variance in VARIANCES:
            x = np.asarray(np.sqrt(variance) * drawn, np.float32)
            name = f"{kernel}-{variance:g}"
            parties.load(name, parties.lower(name, function, [x]), [x])
            parties.run(name)
            found = parties.fetch(name)
            parties.unload(name)
            expected = reference(x.astype(np.float64))
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


def errors_path(profiles: Path, deployment: Deployment) -> Path:
    """Return where Figure 1(c) of a deployment is kept."""
    suffix = deployment.build.file_suffix
    return profiles / f"softmax-error-{deployment.protocol}{suffix}.csv"


def write_errors(path: Path, table: ErrorTable) -> None:
    """Write the table as csv.

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
    """Read what `write_errors` wrote; None if there is no such file.

    Raises:
        ProfileError: If it is no such table, or of two deployments.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(
            f"{path}: no table of errors ({error}); measure it again with `mpcvit "
            "breakdown fig1 --measured`"
        ) from None
    rows = [*csv.DictReader(io.StringIO(text))]
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
