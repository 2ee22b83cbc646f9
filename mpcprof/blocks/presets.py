"""The Vision Transformers of the paper, and two small ones."""

from dataclasses import dataclass
from typing import Final

from mpcprof.errors import UsageError, look_up


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPreset:
    """Sizes of a Vision Transformer.

    Attributes:
        image_size: Height and width in pixels.
        patch: Height and width of a patch in pixels.
        mlp_ratio: Hidden width of the MLP over the width.

    Raises:
        UsageError: If patches do not fill the image, or heads the width.
    """

    name: str
    n_layers: int
    n_heads: int
    width: int
    mlp_ratio: int
    image_size: int
    patch: int
    n_channels: int
    n_classes: int

    def __post_init__(self) -> None:
        if self.image_size % self.patch or self.width % self.n_heads:
            raise UsageError(
                f"model {self.name}: patch={self.patch} of image_size="
                f"{self.image_size}, n_heads={self.n_heads} of width={self.width}: "
                "expected whole quotients"
            )

    @property
    def n_patches(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch) ** 2

    @property
    def n_tokens(self) -> int:
        """Patches and the class token."""
        return self.n_patches + 1

    @property
    def patch_dim(self) -> int:
        """Numbers in a patch."""
        return self.patch**2 * self.n_channels

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.width // self.n_heads

    @property
    def hidden(self) -> int:
        """Width between the two layers of the MLP."""
        return self.width * self.mlp_ratio


MODELS: Final = {
    # scikit-learn's 8x8 digits
    "digits": ModelPreset(
        name="digits",
        n_layers=3,
        n_heads=4,
        width=64,
        mlp_ratio=2,
        image_size=8,
        patch=2,
        n_channels=1,
        n_classes=10,
    ),
    # MPCViT section 5.1
    "cifar": ModelPreset(
        name="cifar",
        n_layers=7,
        n_heads=4,
        width=256,
        mlp_ratio=2,
        image_size=32,
        patch=4,
        n_channels=3,
        n_classes=10,
    ),
    # CIFAR's images for a machine without a GPU: a network as small as that of digits
    "cifar-small": ModelPreset(
        name="cifar-small",
        n_layers=4,
        n_heads=4,
        width=64,
        mlp_ratio=2,
        image_size=32,
        patch=8,
        n_channels=3,
        n_classes=10,
    ),
    "tiny-imagenet": ModelPreset(
        name="tiny-imagenet",
        n_layers=9,
        n_heads=12,
        width=192,
        mlp_ratio=2,
        image_size=64,
        patch=4,
        n_channels=3,
        n_classes=200,
    ),
}


def get_model(name: str) -> ModelPreset:
    """The preset of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("model", name, MODELS)
