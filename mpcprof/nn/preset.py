"""Sizes of a Transformer: the presets of the paper, and a user's own."""

import math
import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal

from mpcprof.errors import UsageError
from mpcprof.nn.activation import get_activation
from mpcprof.nn.norm import NORM_EPSILON

Pooling = Literal["class_token", "mean", "first"]
NormOrder = Literal["pre", "between", "post"]
Embedding = Literal["client", "one_hot"]
_NAME: Final = re.compile(r"[\w.-]{1,40}", re.ASCII)  # part of a workload's name
_LARGEST: Final = {  # counted one by one
    "n_layers": 1000,
    "n_heads": 1000,
    "n_tokens": 1_000_000,
}
_LARGEST_SIZE: Final = 10_000_000
_UNUSUAL: Final = {  # attributes that a file says if they are, by their keys there
    **{key: key for key in ("norm_order", "norm_epsilon")},
    **{key: key for key in ("n_words", "n_types", "embedding")},
    "has_pooler": "pooler",
}
_OF_IMAGES: Final = ("norm_order", "norm_epsilon", "pooling")
_STREAM_NORMS: Final = {
    "pre": (),
    "between": ("norm2",),
    "post": ("embedding.norm", "norm1", "norm2"),
}


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
        pooling: Whether the classifier reads a class token in front of the others, the
            mean of all tokens, or the first of those that are given, such as BERT's.
        has_qkv_bias: Whether queries, keys and values have a bias.
        own_head_dim: Width of a head where it is not width / n_heads, else 0.
        stem: Convolutions of the image, in front of the patches.
        n_words: Number of words of the vocabulary; 0 where tokens are given embedded by
            a way that the model does not say.
        n_types: Number of token types, such as BERT's two sentences.
        embedding: Whether the client looks words up, in a table that it holds, and
            shares their vectors; or shares a one-hot row for each word and type, which
            the parties multiply by the secret table.
        norm_order: Whether a norm stands in front of the attention and of the MLP
            (pre); or in front of the attention and behind its sum (between), where the
            residual stream itself is normed, as in compact transformers and MPCViT; or
            behind both sums and behind the embedding (post), as in BERT.
        norm_epsilon: Number added to the variance in a layernorm.
        has_pooler: Whether a linear layer and a tanh stand in front of the classifier.

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
    n_words: int = 0
    n_types: int = 0
    embedding: Embedding = "client"
    norm_order: NormOrder = "pre"
    norm_epsilon: float = NORM_EPSILON
    has_pooler: bool = False

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
        self._check_text()
        _check_range("hidden", self.hidden)
        _check_range("n_tokens", self.n_tokens)

    def _check_text(self) -> None:
        """Refuse what says how a text is read where there is none, or half of it."""
        given = self._unusual() | {"pooling": self.pooling}
        for key, value in given.items():
            is_text = key not in _OF_IMAGES or value in ("first", "post")
            if is_text and not self.n_embeddings:
                raise UsageError(
                    f"{key}={value!r} of a model of images: only one of tokens has it; "
                    "give n_tokens instead of image_size and patch, or leave it out"
                )
        for key in ("n_words", "n_types"):
            if getattr(self, key):
                _check_range(key, getattr(self, key))
        if not self.n_words and (self.n_types or self.embedding != "client"):
            raise UsageError(
                f"n_types={self.n_types} and embedding={self.embedding!r} without "
                "n_words: expected the number of words of the vocabulary"
            )

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
        """Whether the input is projected; a stem may make tokens of the width itself.

        Behind a pool it is, as the 1 / pool^2 has to be in a weight.
        """
        if not self.stem:
            return not self.n_embeddings or self.is_one_hot
        is_width = self.patch == 1 and self.map_channels == self.width
        is_mean = self.stem[-1].pool == 1 or not self.n_layers
        return not (is_width and is_mean)

    @property
    def is_one_hot(self) -> bool:
        """Whether words are embedded by a product of one-hot rows and a table."""
        return self.embedding == "one_hot"

    @property
    def n_rows(self) -> int:
        """Number of rows of the table of words, those of token types behind them."""
        return self.n_words + self.n_types

    @property
    def reads_one_token(self) -> bool:
        """Whether the classifier reads the first token alone."""
        return self.pooling != "mean"

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
        """Number of values in a patch, an embedding, a pixel or a word of the input."""
        if self.n_embeddings:
            return self.n_rows if self.is_one_hot else self.width
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
        return self.hidden_of(self.mlp_ratio)

    @property
    def is_norm_between(self) -> bool:
        """Whether a norm behind the attention's sum norms the residual stream."""
        return self.norm_order == "between"

    @property
    def is_post_norm(self) -> bool:
        """Whether norms stand behind both sums of a layer, and behind the embedding."""
        return self.norm_order == "post"

    @property
    def stream_norms(self) -> tuple[str, ...]:
        """Names of the norms that the residual stream itself goes through."""
        return _STREAM_NORMS[self.norm_order]

    @property
    def is_preset(self) -> bool:
        """Whether it is the preset of its name, but for layers and classes.

        Of a text, the length and how it is embedded may differ, too.
        """
        preset = MODELS.get(self.name)
        if preset is None:
            return False
        free: tuple[str, ...] = ("n_layers", "n_classes")
        if preset.n_words and self.n_embeddings:
            free = (*free, "n_embeddings", "embedding")
        return preset == replace(self, **{key: getattr(preset, key) for key in free})

    def resized(
        self, *, n_tokens: int | None = None, embedding: Embedding | None = None
    ) -> "ModelPreset":
        """Return the model for texts of another length, or embedded otherwise.

        Args:
            n_tokens: Number of tokens; None for the model's own.
            embedding: As the attribute; None for the model's own.

        Raises:
            UsageError: If it is a model of images, or of no vocabulary.
        """
        if n_tokens is not None and not self.n_embeddings:
            raise UsageError(
                f"--tokens {n_tokens}: model {self.name} has {self.n_tokens} tokens, "
                "made of an image; give a model of tokens, such as bert-base"
            )
        if embedding is not None and not self.n_words:
            raise UsageError(
                f"--embedding {embedding}: model {self.name} has no vocabulary; give "
                "one that has, such as bert-base, or n_words in a file of sizes"
            )
        own = self.n_embeddings
        return replace(
            self,
            n_embeddings=count_embeddings(n_tokens, self.pooling) if n_tokens else own,
            embedding=embedding or self.embedding,
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
        if self.is_preset and self.n_words:
            keys |= {"n_tokens": self.n_tokens, "embedding": self.embedding}
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
            **self._unusual(),
        }

    def _unusual(self) -> dict[str, Any]:  # Any: JSON
        """Return what is unusual about norms, words and the classifier."""
        usual = {one.name: one.default for one in fields(self)}
        given = {name: getattr(self, name) for name in _UNUSUAL}
        return {
            key: given[name]
            for name, key in _UNUSUAL.items()
            if given[name] != usual[name]
        }


def count_embeddings(n_tokens: int, pooling: Pooling) -> int:
    """Return the number of embedded tokens, without the class token.

    Raises:
        UsageError: If none is left.
    """
    n_class_tokens = int(pooling == "class_token")
    if n_tokens <= n_class_tokens:
        raise UsageError(
            f"n_tokens={n_tokens}: expected at least {1 + n_class_tokens}"
            f"{', the class token and another' * n_class_tokens}"
        )
    return n_tokens - n_class_tokens


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
_BERT: Final = ModelPreset(
    name="bert-base",
    n_layers=12,
    n_heads=12,
    width=768,
    mlp_ratio=4,
    n_embeddings=128,
    n_classes=2,
    pooling="first",
    has_qkv_bias=True,
    n_words=30_522,
    n_types=2,
    norm_order="post",
    norm_epsilon=1e-12,
    has_pooler=True,
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
    # Devlin et al. 2018 (arXiv 1810.04805), section 3; the vocabulary of `uncased`
    "bert-base": _BERT,
    "bert-large": replace(
        _BERT, name="bert-large", n_layers=24, n_heads=16, width=1024
    ),
}
