"""What goes into the dear operations of a trained network, image by image."""
# ruff: noqa: D102 - the methods are documented in `Algebra`

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.nn.architecture import Architecture
from mpcprof.nn.attention import RELU_SOFTMAXES, SOFTMAXES
from mpcprof.nn.plan import Plan
from mpcprof.nn.transformer import vit
from mpcprof.progress import SILENT, Progress
from mpcvit.models.algebra import TorchAlgebra

Kind: TypeAlias = Literal[
    "norm1",  # what the rsqrt of a token takes
    "norm2",
    "last_norm",
    "scores",  # of a softmax
    "log_sum0",  # log of the sum over a row of e**(score / 2**h), h = 0
    "log_sum1",
    "log_sum2",
    "log_sum3",
    "log_square1",  # log of the sum over a row of softmax(scores / 2**h)**2, h = 1
    "log_square2",
    "log_square3",
    "total",  # of a row of a ReLU softmax, + epsilon
    "activation",  # hidden values of the MLP
]
LOG_SUMS: Final[tuple[Kind, ...]] = ("log_sum0", "log_sum1", "log_sum2", "log_sum3")
LOG_SQUARES: Final[tuple[Kind, ...]] = ("log_square1", "log_square2", "log_square3")
LAST: Final = -1  # the layer of the last norm
_CHUNK: Final = 100  # images at a time
_LAST_BIT: Final = 2.0**-18  # of SPU's usual fixed point
_DAMPED: Final[tuple[Kind, ...]] = ("norm1", "norm2", "last_norm", "total")
_N_QUANTILES: Final = 4001


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the network something can be approximated.

    Attributes:
        layer: Layer from 0 on; `LAST` behind all of them.
    """

    layer: int
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenRange:
    """Values at one place.

    Attributes:
        lows: Smallest value in each image, (n,).
        highs: Largest value in each image, (n,).
        quantiles: Values of all images at evenly spaced ranks, ascending; empty where
            a value below the range cannot be damped.
    """

    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    quantiles: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def low(self) -> float:
        """Smallest value of all images."""
        return float(self.lows.min())

    @property
    def high(self) -> float:
        """Largest value of all images."""
        return float(self.highs.max())

    def widened(self, margin: float) -> tuple[float, float]:
        """Return the range, `margin` times as wide about its middle."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        half = max(margin * half, max(1.0, abs(middle)) * _LAST_BIT)  # one value alone
        return middle - half, middle + half

    def stretched(self, margin: float) -> tuple[float, float]:
        """Return the range of values above 0, by the factor on either side."""
        factor = max(margin, 1 + _LAST_BIT)
        return self.low / factor, self.high * factor

    def leaving(self, low: float, high: float) -> NDArray[np.bool_]:
        """Tell of each image whether one of its values is outside [low, high]."""
        return np.asarray((self.lows < low) | (self.highs > high))

    def share_below(self, value: float) -> float:
        """Return the share of all values below one, as the quantiles tell it."""
        return float(np.mean(self.quantiles < value)) if len(self.quantiles) else 0.0


Ranges: TypeAlias = Mapping[Place, SeenRange]


class RangeAlgebra(TorchAlgebra):
    """The algebra in torch, taking down what goes into each place.

    Attributes:
        seen: Smallest and largest value in each image of the batch, two of (B,).
        values: All values of places whose low ones may be damped.
    """

    def __init__(self, n_batch: int) -> None:
        self.seen: dict[Place, tuple[Tensor, Tensor]] = {}
        self.values: dict[Place, list[Tensor]] = {}
        self._n_batch = n_batch
        self._parts: list[str] = []
        self._n_norms: Counter[int] = Counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._parts.append(name)
        if name == "norm":  # entered twice a layer, also where no norm is left
            self._n_norms[self._layer] += 1
        try:
            yield
        finally:
            self._parts.pop()

    @property
    def _layer(self) -> int:
        first = self._parts[0]
        return int(first.split()[1]) - 1 if first.startswith("layer ") else LAST

    def _note(self, kind: Kind, x: Tensor) -> None:
        """Take down (k B, ...) or (B, ...): heads stand in front of the images."""
        place = Place(layer=self._layer, kind=kind)
        by_image = x.detach().reshape(-1, self._n_batch, x[0].numel())
        low, high = by_image.amin(dim=(0, 2)), by_image.amax(dim=(0, 2))
        if place in self.seen:
            low = torch.minimum(low, self.seen[place][0])
            high = torch.maximum(high, self.seen[place][1])
        self.seen[place] = (low, high)
        if kind in _DAMPED:
            self.values.setdefault(place, []).append(x.detach().flatten())

    def rsqrt(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if self._parts[-1] == "head":
            self._note("last_norm", x)
        elif self._parts[-1] == "norm":
            self._note("norm1" if self._n_norms[self._layer] == 1 else "norm2", x)
        return torch.rsqrt(x)

    def row_max(self, x: Tensor) -> Tensor:
        if self._parts[-1] in SOFTMAXES:
            self._note("scores", x)
            log_sums = [torch.logsumexp(x / 2**h, dim=-1) for h in range(len(LOG_SUMS))]
            for kind, log_sum in zip(LOG_SUMS, log_sums, strict=True):
                self._note(kind, log_sum)
            for kind, of_all, of_half in zip(
                LOG_SQUARES, log_sums[:-1], log_sums[1:], strict=True
            ):
                self._note(kind, of_all - 2 * of_half)
        return super().row_max(x)

    def reciprocal(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if self._parts[-1] in RELU_SOFTMAXES:
            self._note("total", x)
        return torch.reciprocal(x)

    def divide(self, x: Tensor, y: Tensor) -> Tensor:
        if self._parts[-1] in RELU_SOFTMAXES:
            self._note("total", y)
        return torch.div(x, y)

    def gelu_tanh(self, x: Tensor) -> Tensor:
        self._note_hidden(x)
        return super().gelu_tanh(x)

    def gelu_exact(self, x: Tensor) -> Tensor:  # type: ignore[override]
        self._note_hidden(x)
        return torch.nn.functional.gelu(x)

    def _note_hidden(self, x: Tensor) -> None:
        if self._parts[-1] == "mlp":
            self._note("activation", x)


@torch.no_grad()
def measure_ranges(
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    patches: Tensor,
    plan: Plan | None = None,
    progress: Progress = SILENT,
) -> Ranges:
    """Run the network in the clear and return the ranges of every place it has.

    Args:
        patches: Images cut into patches, (n, N - 1, P).
        plan: How the network is deployed, which says what norms sum up.
    """
    seen: dict[Place, list[tuple[Tensor, Tensor]]] = {}
    values: dict[Place, list[Tensor]] = {}
    chunks = torch.split(patches, _CHUNK)
    progress.begin(len(chunks))
    for chunk in chunks:
        ops = RangeAlgebra(len(chunk))
        vit(ops, architecture, chunk, weights, plan)
        for place, pair in ops.seen.items():
            seen.setdefault(place, []).append(pair)
        for place, own in ops.values.items():
            values.setdefault(place, []).extend(own)
        progress.advance()
    return {place: _range(pairs, values.get(place)) for place, pairs in seen.items()}


def _range(
    pairs: list[tuple[Tensor, Tensor]], values: list[Tensor] | None
) -> SeenRange:
    lows, highs = zip(*pairs, strict=True)
    ranks = np.linspace(0, 1, _N_QUANTILES)
    return SeenRange(
        lows=torch.cat(lows).double().numpy(),
        highs=torch.cat(highs).double().numpy(),
        quantiles=np.quantile(torch.cat(values).double().numpy(), ranks)
        if values
        else np.zeros(0),
    )
