"""What is dropped at random while a network learns."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from mpcprof.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Regularization:
    """Probabilities of dropping.

    Attributes:
        attention_dropout: Of an entry of what a head gives.
        path_dropout: Of a whole branch of the last layer, by image; it rises linearly
            from 0 in the first layer.

    Raises:
        UsageError: If one is not in [0, 1).
    """

    attention_dropout: float = 0.0
    path_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("attention_dropout", "path_dropout"):
            probability = getattr(self, name)
            if not 0 <= probability < 1:
                raise UsageError(
                    f"{name}={probability}: expected a probability in [0, 1)"
                )

    def path_dropout_of(self, layer: int, n_layers: int) -> float:
        """The probability in that layer, the first being 0."""
        return self.path_dropout * layer / max(n_layers - 1, 1)


NONE: Final = Regularization()


class DropPath(nn.Module):
    """A branch left out for some images, and larger for the others: the mean is kept.

    Source: Huang et al. 2016, stochastic depth.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """(B, ...) to the same shape; unchanged in evaluation."""
        if not self.training or self.probability == 0:
            return branch
        kept = 1 - self.probability
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        return branch * (branch.new_empty(shape).bernoulli_(kept) / kept)

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"probability={self.probability}"
