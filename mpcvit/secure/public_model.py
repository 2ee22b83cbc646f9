"""What everybody may know of a model: all of a checkpoint but its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mpcprof.nn.architecture import Architecture
from mpcvit.checkpoint_header import read_header

if TYPE_CHECKING:
    from torch import Tensor

_WHITE: Final = 255  # of 8 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicModel:
    """A checkpoint without its weights.

    Attributes:
        path: The file, whose weights only the model owner's party reads.
        mean: Of each channel, in [0, 1].
        deviation: Likewise.
        dataset: Name of what it was trained on.
    """

    path: Path
    architecture: Architecture
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    class_names: tuple[str, ...]
    dataset: str

    def normalize(self, pixels: "Tensor") -> "Tensor":
        """uint8 images (n, c, S, S) as the model takes them."""
        from mpcvit.data.image_set import Normalization

        own = Normalization(mean=self.mean, deviation=self.deviation)
        return own.apply(pixels.float() / _WHITE)


def read_public_model(path: Path) -> PublicModel:
    """From the header of a checkpoint; no weight is read.

    Raises:
        UsageError: If it is no checkpoint, or a weight is missing or misshapen.
    """
    header = read_header(path)
    return PublicModel(
        path=path,
        architecture=header.architecture,
        mean=header.mean,
        deviation=header.deviation,
        class_names=header.class_names,
        dataset=header.dataset,
    )
