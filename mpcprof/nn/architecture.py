"""Transformers by their sizes: the presets of the paper, and a user's own.

A file `arch.json` names a preset, or sizes of its own, with the attention of each head
and the activation of each layer or token.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, get_args

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean, look_up
from mpcprof.files import convert_json, decode_json, read_json
from mpcprof.nn.activation import get_activation
from mpcprof.nn.attention import get_attention

Value = TypeVar("Value")
Pooling = Literal["class_token", "mean"]
_NAME: Final = re.compile(r"[\w.-]{1,40}", re.ASCII)  # part of a workload's name
_LARGEST: Final = {  # counted one by one
    "n_layers": 1000,
    "n_heads": 1000,
    "n_tokens": 1_000_000,
}
_LARGEST_SIZE: Final = 10_000_000


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
        mlp_ratio: Hidden width of the MLP over the width.
        image_size: Height and width in pixels; 0 where tokens are given embedded.
        patch: Height and width of a patch in pixels.
        n_embeddings: Number of embedded tokens that are the input, instead of an image.
        pooling: Whether the classifier reads a class token in front of the others, or
            the mean of all tokens.
        has_qkv_bias: Whether queries, keys and values have a bias.
        own_head_dim: Width of a head where it is not width / n_heads, else 0.

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
        for key in ("n_layers", "n_classes", "n_heads", "width", *of_input):
            _check_range(key, getattr(self, key))
        if not self.n_embeddings:
            _check_range("n_channels", self.n_channels)
            _check_quotient("image_size", self.image_size, "patch", self.patch)
        if self.own_head_dim:
            _check_range("head_dim", self.own_head_dim)
        else:
            _check_quotient("width", self.width, "n_heads", self.n_heads)
        self._check_hidden()
        _check_range("n_tokens", self.n_tokens)

    def _check_hidden(self) -> None:
        product = self.width * self.mlp_ratio
        if not (math.isfinite(product) and abs(product - round(product)) < 1e-6):
            raise UsageError(
                f"mlp_ratio={self.mlp_ratio:g} of width={self.width} makes "
                f"{product:g} hidden values: expected a whole number; give hidden"
            )
        _check_range("hidden", self.hidden)

    @property
    def n_patches(self) -> int:
        """Number of patches of an image; 0 without an image."""
        return (self.image_size // self.patch) ** 2 if self.patch else 0

    @property
    def has_class_token(self) -> bool:
        """Whether a learned token, which the classifier reads, stands in front."""
        return self.pooling == "class_token"

    @property
    def n_inputs(self) -> int:
        """Number of tokens that the input gives: patches or embeddings."""
        return self.n_embeddings or self.n_patches

    @property
    def n_tokens(self) -> int:
        """Number of tokens of the input, and one for a class token."""
        return self.n_inputs + self.has_class_token

    @property
    def patch_dim(self) -> int:
        """Number of values in a patch."""
        return self.patch**2 * self.n_channels

    @property
    def input_dim(self) -> int:
        """Number of values in a token of the input: of a patch, or of an embedding."""
        return self.width if self.n_embeddings else self.patch_dim

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
    def is_preset(self) -> bool:
        """Whether it is the preset of its name, but for layers and classes."""
        preset = MODELS.get(self.name)
        return preset is not None and self == replace(
            preset, n_layers=self.n_layers, n_classes=self.n_classes
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
        }


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


def get_model(name: str) -> ModelPreset:
    """Return the preset of that name, or the sizes in a file `FILE.json`.

        >>> mpcprof.get_model("cifar").n_tokens
        65

        >>> deit = mpcprof.get_model("docs/models/deit-tiny.json")
        >>> vit = mpcprof.uniform_architecture(deit, attention="relu_softmax")
        >>> vit.model.n_tokens
        197

    Raises:
        UnknownNameError: If there is none.
        UsageError: If the file cannot be read, or its sizes do not fit each other.
    """
    if name.endswith(".json"):
        return _of_file(Path(name), _Document.sizes)
    return look_up("model", name, MODELS)


SCHEMA_VERSION: Final = 1  # of `architecture.json`
Heads = Literal["serial", "batched"]
Head: TypeAlias = tuple[str, ...]  # one variant, or one for each row
LayerHeads: TypeAlias = tuple[Head, ...]
LayerActivation: TypeAlias = tuple[str, ...]  # one, or one for each token


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A Vision Transformer whose heads and tokens may differ.

        >>> model = mpcprof.get_model("digits")
        >>> vit = mpcprof.uniform_architecture(model, attention="scale")
        >>> isinstance(vit, mpcprof.Architecture), vit.n_layers
        (True, 3)

    Attributes:
        model: Sizes of the network.
        heads: Whether heads are computed one by one (serial), or those of one variant
            of a layer together (batched).
        attention: Variant of each head of each layer, or of each row (token) of a head.
        activation: Activation of each layer, or of each token of a layer.

    Raises:
        UsageError: If it does not fit the model.
    """

    model: ModelPreset
    heads: Heads = "serial"
    attention: tuple[LayerHeads, ...]
    activation: tuple[LayerActivation, ...]

    def __post_init__(self) -> None:
        if self.heads not in get_args(Heads):
            known = " or ".join(get_args(Heads))
            raise UsageError(f"heads={self.heads!r}: expected {known}")
        n_tokens = self.model.n_tokens
        _check_count("attention", len(self.attention), self.model.n_layers, "layers")
        _check_count("activation", len(self.activation), self.model.n_layers, "layers")
        for number, layer in enumerate(self.attention, 1):
            where = f"attention of layer {number}"
            _check_count(where, len(layer), self.model.n_heads, "heads")
            for head in layer:
                _check_each(where, head, n_tokens)
                for name in {*head}:
                    get_attention(name)
        for number, names in enumerate(self.activation, 1):
            _check_each(f"activation of layer {number}", names, n_tokens)
            for name in {*names}:
                get_activation(name)

    @property
    def n_layers(self) -> int:
        """Number of Transformer layers."""
        return len(self.attention)

    def is_fused(self, layer: int) -> bool:
        """Return whether the two linear layers of that layer's MLP are one."""
        return all(get_activation(name).is_linear for name in self.activation[layer])

    def to_json(self) -> str:
        """Return the text of `architecture.json`."""
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                **self.model.to_json(),
                "heads": self.heads,
                "attention": [[_shorten(h) for h in layer] for layer in self.attention],
                "activation": [_shorten(names) for names in self.activation],
                "norm": "layernorm",
            }
        )


def _shorten(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _check_count(what: str, given: int, expected: int, noun: str) -> None:
    if given != expected:
        raise UsageError(
            f"{what} has {given} {noun}: the model has {expected}; give one entry each"
        )


def _check_each(what: str, names: tuple[str, ...], n_tokens: int) -> None:
    if len(names) not in (1, n_tokens):
        raise UsageError(
            f"{what} has {len(names)} entries: expected one, or one for each of "
            f"{n_tokens} tokens"
        )


def uniform_architecture(
    model: ModelPreset,
    *,
    attention: str,
    activation: str = "gelu_tanh",
    heads: Heads = "serial",
) -> Architecture:
    """Give every head the same attention and every layer the same activation.

        >>> model = mpcprof.get_model("cifar")
        >>> mpcprof.uniform_architecture(model, attention="relu_softmax").n_layers
        7

    Raises:
        UsageError: If a name is not known.
    """
    return Architecture(
        model=model,
        heads=heads,
        attention=(((attention,),) * model.n_heads,) * model.n_layers,
        activation=((activation,),) * model.n_layers,
    )


# names of sizes in timm and Hugging Face, by the key that has them here
_ELSEWHERE: Final = {
    "n_layers": ("depth", "num_layers", "num_hidden_layers", "layers"),
    "n_heads": ("num_heads", "num_attention_heads"),
    "head_dim": ("head_width", "dim_head", "attention_head_size"),
    "width": ("embed_dim", "hidden_size", "dim", "d_model"),
    "hidden": ("intermediate_size", "mlp_dim", "mlp_width", "ffn_dim"),
    "n_tokens": ("seq_len", "seq_length", "max_position_embeddings", "num_tokens"),
    "image_size": ("img_size", "resolution"),
    "patch": ("patch_size",),
    "n_channels": ("in_chans", "num_channels", "channels"),
    "n_classes": ("num_classes", "num_labels", "classes"),
    "pooling": ("pool", "global_pool", "class_token"),
    "qkv_bias": ("has_qkv_bias", "bias", "biases"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """The keys of `arch.json` that say sizes; without one, the preset's size holds."""

    elsewhere: ClassVar[Mapping[str, tuple[str, ...]]] = _ELSEWHERE
    model: str
    n_layers: int | None = None
    n_heads: int | None = None
    head_dim: int | None = None
    width: int | None = None
    mlp_ratio: float | None = None
    hidden: int | None = None
    n_tokens: int | None = None
    image_size: int | None = None
    patch: int | None = None
    n_channels: int | None = None
    n_classes: int | None = None
    pooling: Pooling | None = None
    qkv_bias: bool | None = None

    def sizes(self) -> ModelPreset:
        """Return the sizes, checked.

        Raises:
            UsageError: If one is missing or out of range, or two do not fit each other.
        """
        names = [one.name for one in fields(_Sizes) if one.name != "model"]
        own = {name: getattr(self, name) for name in names}
        own = {name: size for name, size in own.items() if size is not None}
        preset = MODELS.get(self.model)
        if preset is None:
            self._check_complete(own)
        start = {"name": self.model} if preset is None else asdict(preset)
        model = ModelPreset(**{**start, **_model_keys(start, own)})
        self._check_agreement(model)
        return model

    def _check_complete(self, own: Mapping[str, Any]) -> None:  # Any: a size
        """Refuse a model that is no preset and lacks a size."""
        if not {*own} - {"n_layers", "n_classes"}:
            raise UnknownNameError(
                f"no model {self.model!r}; {did_you_mean(self.model, [*MODELS])}; or "
                f"give its sizes: {', '.join(map(' or '.join, _NEEDED))}, patch"
            )
        is_image = bool({"image_size", "patch"} & {*own})
        image = (("image_size",), ("patch",)) if is_image else _NEEDED[-1:]
        for names in (*_NEEDED[:-1], *image):
            if not {*names} & {*own}:
                raise UsageError(
                    f"the key {' or '.join(map(repr, names))} is missing: model "
                    f"{self.model!r} is no preset, give all its sizes"
                )

    def _check_agreement(self, model: ModelPreset) -> None:
        """Refuse a size that follows from others and is not what they make."""
        if self.n_tokens not in (None, model.n_tokens):
            raise UsageError(
                f"n_tokens={self.n_tokens} and image_size={model.image_size} do not "
                f"fit each other: {model.n_patches} patches of {model.patch} pixels"
                f"{' and a class token' * model.has_class_token} make {model.n_tokens}"
            )
        if self.hidden not in (None, model.hidden):
            raise UsageError(
                f"hidden={self.hidden} and mlp_ratio={model.mlp_ratio:g} do not fit "
                f"each other: width={model.width} makes {model.hidden}; give one"
            )


_NEEDED: Final = (
    *(("n_layers",), ("n_heads",), ("width",), ("n_classes",)),
    ("mlp_ratio", "hidden"),
    ("image_size", "n_tokens"),
)
_SAME_KEYS: Final = (
    *("n_layers", "n_heads", "width", "mlp_ratio", "image_size", "patch"),
    *("n_channels", "n_classes", "pooling"),
)


def _model_keys(start: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of `ModelPreset` that are a preset's, or the file's own."""
    sizes = {**start, **own}  # Any: a size, as in the keys of a file
    keys: dict[str, Any] = {key: sizes[key] for key in _SAME_KEYS if key in sizes}
    keys["has_qkv_bias"] = own.get("qkv_bias", False)
    width = max(sizes["width"], 1)
    if "hidden" in own and "mlp_ratio" not in own:
        keys["mlp_ratio"] = own["hidden"] / width
    head_dim = own.get("head_dim", 0)
    if head_dim * sizes["n_heads"] != width:
        keys["own_head_dim"] = head_dim
    if "image_size" not in sizes:
        keys["n_embeddings"] = _n_embeddings(own)
    return keys


def _n_embeddings(own: Mapping[str, Any]) -> int:  # Any: a size
    if "n_channels" in own:
        raise UsageError(
            f"n_channels={own['n_channels']} says nothing of a model of n_tokens="
            f"{own['n_tokens']} without an image: leave it out, or give image_size"
        )
    n_class_tokens = int(own.get("pooling") != "mean")
    if own["n_tokens"] <= n_class_tokens:
        raise UsageError(
            f"n_tokens={own['n_tokens']}: expected at least {1 + n_class_tokens}"
            f"{', the class token and another' * n_class_tokens}"
        )
    return int(own["n_tokens"]) - n_class_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document(_Sizes):
    """The keys of `arch.json`; one name stands for every row or token."""

    attention: tuple[tuple[str | Head, ...], ...] | None = None
    activation: tuple[str | LayerActivation, ...] | None = None
    schema_version: Literal[1] = SCHEMA_VERSION
    heads: Heads = "serial"
    norm: Literal["layernorm"] = "layernorm"

    def architecture(self) -> Architecture:
        """Return what the document says, checked."""
        for key in ("attention", "activation"):
            if getattr(self, key) is None:
                raise UsageError(
                    f"the key {key!r} is missing; a file of sizes alone stands where "
                    "a preset does (--model FILE), beside a variant for its heads"
                )
        return Architecture(
            model=self.sizes(),
            heads=self.heads,
            attention=tuple(
                tuple(map(_lengthen, heads)) for heads in self.attention or ()
            ),
            activation=tuple(map(_lengthen, self.activation or ())),
        )


def _lengthen(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def parse_model(keys: Mapping[str, Any]) -> ModelPreset:  # Any: JSON
    """Return the sizes that `ModelPreset.to_json` said.

    Raises:
        UsageError: If they are no sizes; the message names the key.
    """
    return convert_json(dict(keys), _Sizes, what="model").sizes()


def read_architecture(path: Path) -> Architecture:
    """Return the architecture in a file.

        >>> vit = mpcprof.read_architecture(Path("architecture.json"))  # doctest: +SKIP

    Raises:
        UsageError: If there is none, or it is not one; the message names the key.
    """
    return _of_file(path, _Document.architecture)


def names_heads(path: str) -> bool:
    """Return whether it is a file that says the attention of heads beside sizes.

    Raises:
        UsageError: If it is a damaged one.
    """
    if not path.endswith(".json"):
        return False
    return _of_file(Path(path), lambda document: document.attention is not None)


def _of_file(path: Path, make: Callable[[_Document], Value]) -> Value:
    document = read_json(path, _Document, what="architecture")
    try:
        return make(document)
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from None


def parse_architecture(text: str) -> Architecture:
    """Return the architecture in a JSON text.

    Raises:
        UsageError: If it is not one; the message names the key.
    """
    return decode_json(text, _Document, what="architecture").architecture()
