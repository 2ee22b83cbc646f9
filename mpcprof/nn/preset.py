"""Sizes of a Transformer: the presets of the paper, and a user's own."""

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from mpcprof.errors import UsageError
from mpcprof.nn.activation import get_activation
from mpcprof.nn.norm import NORM_EPSILON

Pooling = Literal["class_token", "mean"]
NormOrder = Literal["pre", "between"]
_NAME: Final = re.compile(r"[\w.-]{1,40}", re.ASCII)  # part of a workload's name
_LARGEST: Final = {  # counted one by one
    "n_layers": 1000,
    "n_heads": 1000,
    "n_tokens": 1_000_000,
}
_LARGEST_SIZE: Final = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """A 3x3 convolution of a stem, zeros around the map, and what stands behind it.

    Attributes:
        channels: Number of channels that it makes.
        activation: Activation behind it.
        pool: Height and width of the squares that are averaged behind the activation.

    Raises:
        UsageError: If a size is out of range, or no such activation has that name.
    """

    channels: int
    activation: str = "relu"
    pool: int = 1

    def __post_init__(self) -> None:
        _check_range("channels", self.channels)
        _check_range("pool", self.pool)
        if get_activation(self.activation).has_relu_behind:
            raise UsageError(
                f"activation={self.activation!r} of a stem: expected one without a "
                "ReLU behind; take relu"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPreset:
    """Sizes of a Transformer: of images cut into patches, or of embedded tokens.

        >>> bert = mpcprof.ModelPreset(
        ...     name="bert", n_layers=12, n_heads=12, width=768, mlp_ratio=4,
        ...     n_embeddings=127, n_classes=2, has_qkv_bias=True,
        ... )
        >>> bert.n_tokens, bert.head_dim, bert.hidden
        (128, 64, 3072)

    Attributes:
        n_layers: Number of layers; 0 for a stem with a classifier alone.
        mlp_ratio: Hidden width of the MLP over the width, where a layer says no other.
        image_size: Height and width in pixels; 0 where tokens are given embedded.
        patch: Height and width of a patch, in pixels or, behind a stem, in places.
        n_embeddings: Number of embedded tokens that are the input, instead of an image.
        pooling: Whether the classifier reads a class token in front of the others, or
            the mean of all tokens.
        has_qkv_bias: Whether queries, keys and values have a bias.
        own_head_dim: Width of a head where it is not width / n_heads, else 0.
        stem: Convolutions of the image, in front of the patches.
        norm_order: Whether a norm stands in front of the attention and of the MLP
            (pre), or in front of the attention and behind its sum (between), where the
            residual stream itself is normed, as in compact transformers and MPCViT.
        norm_epsilon: Number added to the variance in a layernorm.

    Raises:
        UsageError: If a size is out of range, or sizes do not fit each other.
    """

    name: str
    n_layers: int
    n_heads: int
    width: int
    mlp_ratio: float = 2
    image_size: int = 0
    patch: int = 0
    n_channels: int = 3
    n_embeddings: int = 0
    n_classes: int
    pooling: Pooling = "class_token"
    has_qkv_bias: bool = False
    own_head_dim: int = 0
    stem: tuple[Convolution, ...] = ()
    norm_order: NormOrder = "pre"
    norm_epsilon: float = NORM_EPSILON

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"model {self.name!r}: expected a name of letters, digits, '_', '-' "
                "and '.', 40 at most"
            )
        if self.n_embeddings and self.image_size:
            raise UsageError(
                f"n_embeddings={self.n_embeddings} and image_size={self.image_size}: "
                "expected one of them, embedded tokens or an image"
            )
        of_input = ("n_embeddings",) if self.n_embeddings else ("image_size", "patch")
        if self.n_layers or not self.stem:
            of_input = ("n_layers", *of_input)
        for key in (*of_input, "n_classes", "n_heads", "width"):
            _check_range(key, getattr(self, key))
        if self.stem:
            self._check_stem()
        if not self.n_embeddings:
            _check_range("n_channels", self.n_channels)
            side = "side of the map" if self.stem else "image_size"
            _check_quotient(side, self.map_side, "patch", self.patch)
        if self.own_head_dim:
            _check_range("head_dim", self.own_head_dim)
        else:
            _check_quotient("width", self.width, "n_heads", self.n_heads)
        if not 0 <= self.norm_epsilon < 1:
            raise UsageError(
                f"norm_epsilon={self.norm_epsilon:g}: expected a number from 0 to 1, "
                "such as 1e-6"
            )
        self.hidden_of(self.mlp_ratio)
        _check_range("hidden", self.hidden)
        _check_range("n_tokens", self.n_tokens)

    def _check_stem(self) -> None:
        if self.n_embeddings:
            raise UsageError(
                f"stem and n_embeddings={self.n_embeddings}: expected an image for the "
                "stem; give image_size and patch"
            )
        side = self.image_size
        for one in self.stem:
            _check_quotient("side of the map", side, "pool", one.pool)
            side //= one.pool
        if not self.n_layers and (self.has_embedding or self.has_class_token):
            raise UsageError(
                f"n_layers=0 with width={self.width}, patch={self.patch} and pooling="
                f"{self.pooling!r}: expected width={self.stem[-1].channels}, the "
                "channels of the stem, patch=1 and pooling='mean'"
            )

    def hidden_of(self, mlp_ratio: float) -> int:
        """Return the width between the two linear layers of an MLP of that ratio.

        Raises:
            UsageError: If it is no whole number.
        """
        product = self.width * mlp_ratio
        if not (math.isfinite(product) and abs(product - round(product)) < 1e-6):
            raise UsageError(
                f"mlp_ratio={mlp_ratio:g} of width={self.width} makes "
                f"{product:g} hidden values: expected a whole number; give hidden"
            )
        return round(product)

    @property
    def map_side(self) -> int:
        """Height and width of what is cut into patches: of the image, or a map."""
        return self.image_size // math.prod(one.pool for one in self.stem)

    @property
    def map_channels(self) -> int:
        """Number of channels of what is cut into patches."""
        return self.stem[-1].channels if self.stem else self.n_channels

    @property
    def input_patch(self) -> int:
        """Height and width of the patches that the image's owner cuts: 1 for a stem."""
        return 1 if self.stem else self.patch

    @property
    def has_embedding(self) -> bool:
        """Whether patches are projected; a stem may make tokens of the width itself.

        Behind a pool they are, as the 1 / pool^2 has to be in a weight.
        """
        if not self.stem:
            return not self.n_embeddings
        is_width = self.patch == 1 and self.map_channels == self.width
        is_mean = self.stem[-1].pool == 1 or not self.n_layers
        return not (is_width and is_mean)

    @property
    def n_patches(self) -> int:
        """Number of patches of an image; 0 without an image."""
        return (self.map_side // self.patch) ** 2 if self.patch else 0

    @property
    def has_class_token(self) -> bool:
        """Whether a learned token, which the classifier reads, stands in front."""
        return self.pooling == "class_token"

    @property
    def n_inputs(self) -> int:
        """Number of patches, embeddings or, for a stem, pixels that the input gives."""
        return self.image_size**2 if self.stem else self.n_embeddings or self.n_patches

    @property
    def n_tokens(self) -> int:
        """Number of patches or embeddings, and one for a class token."""
        return (self.n_embeddings or self.n_patches) + self.has_class_token

    @property
    def grid_side(self) -> int:
        """Height and width of the square grid of the tokens; 0 if they form none."""
        side = math.isqrt(self.n_tokens)
        return 0 if self.has_class_token or side**2 != self.n_tokens else side

    @property
    def patch_dim(self) -> int:
        """Number of values in a patch."""
        return self.patch**2 * self.map_channels

    @property
    def input_dim(self) -> int:
        """Number of values in a patch, an embedding or a pixel of the input."""
        if self.n_embeddings:
            return self.width
        return self.input_patch**2 * self.n_channels

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.own_head_dim or self.width // self.n_heads

    @property
    def heads_width(self) -> int:
        """Width of all heads of a layer side by side."""
        return self.n_heads * self.head_dim

    @property
    def hidden(self) -> int:
        """Width between the two layers of the MLP."""
        return round(self.width * self.mlp_ratio)

    @property
    def is_norm_between(self) -> bool:
        """Whether a norm behind the attention's sum norms the residual stream."""
        return self.norm_order == "between"

    @property
    def is_preset(self) -> bool:
        """Whether it is the preset of its name, but for layers and classes."""
        preset = MODELS.get(self.name)
        return preset is not None and preset == replace(
            self, n_layers=preset.n_layers, n_classes=preset.n_classes
        )

    def check_takes_images(self) -> None:
        """Refuse a model of embedded tokens.

        Raises:
            UsageError: If it is one.
        """
        if self.n_embeddings:
            raise UsageError(
                f"model {self.name} takes {self.n_embeddings} embedded tokens and no "
                "images: it can be predicted, verified and measured; to train it on "
                "images give image_size and patch instead of n_tokens"
            )

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the keys of `arch.json` that say the sizes."""
        keys: dict[str, Any] = {"model": self.name}  # Any: a size
        keys |= {"n_layers": self.n_layers, "n_classes": self.n_classes}
        if self.is_preset:
            return keys
        image = {key: getattr(self, key) for key in ("image_size", "patch")}
        return keys | {
            **{"n_heads": self.n_heads, "width": self.width, "hidden": self.hidden},
            "head_dim": self.head_dim,
            "n_tokens": self.n_tokens,
            **({} if self.n_embeddings else image | {"n_channels": self.n_channels}),
            "pooling": self.pooling,
            "qkv_bias": self.has_qkv_bias,
            **({"stem": [asdict(one) for one in self.stem]} if self.stem else {}),
            **self._norm_json(),
        }

    def _norm_json(self) -> dict[str, Any]:  # Any: JSON
        """Return what is unusual about the norms."""
        given = {"norm_order": self.norm_order, "norm_epsilon": self.norm_epsilon}
        usual = {"norm_order": "pre", "norm_epsilon": NORM_EPSILON}
        return {key: given[key] for key in given if given[key] != usual[key]}


def _check_range(key: str, size: int) -> None:
    largest = _LARGEST.get(key, _LARGEST_SIZE)
    if size < 1:
        raise UsageError(f"{key}={size}: expected a whole number of at least 1")
    if size > largest:
        raise UsageError(f"{key}={size}: expected at most {largest}")


def _check_quotient(whole: str, size: int, part: str, by: int) -> None:
    if size % by:
        raise UsageError(
            f"{whole}={size} and {part}={by} do not fit each other: {size} / {by} is "
            "no whole number"
        )


_CIFAR: Final = ModelPreset(
    name="cifar",
    n_layers=7,
    n_heads=4,
    width=256,
    image_size=32,
    patch=4,
    n_channels=3,
    n_classes=10,
)
MODELS: Final = {
    "digits": ModelPreset(  # scikit-learn's 8x8 digits
        name="digits",
        n_layers=3,
        n_heads=4,
        width=64,
        image_size=8,
        patch=2,
        n_channels=1,
        n_classes=10,
    ),
    "cifar": _CIFAR,  # MPCViT section 5.1
    # CIFAR's images for a machine without a GPU: a network as small as that of digits
    "cifar-small": replace(_CIFAR, name="cifar-small", n_layers=4, width=64, patch=8),
    "tiny-imagenet": ModelPreset(
        name="tiny-imagenet",
        n_layers=9,
        n_heads=12,
        width=192,
        image_size=64,
        patch=4,
        n_channels=3,
        n_classes=200,
    ),
}
