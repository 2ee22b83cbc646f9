"""The Vision Transformers of the paper, and two small ones."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from mpcprof.errors import UsageError, look_up
from mpcprof.files import decode_json, read_json
from mpcprof.nn.activation import get_activation
from mpcprof.nn.attention import get_attention


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPreset:
    """Sizes of a Vision Transformer.

    Attributes:
        image_size: Height and width in pixels.
        patch: Height and width of a patch in pixels.
        mlp_ratio: Hidden width of the MLP over the width.

    Raises:
        UsageError: If patches do not fill the image, or heads the width, or if there
            is no layer or no class.
    """

    name: str
    n_layers: int
    n_heads: int
    width: int
    mlp_ratio: int = 2
    image_size: int
    patch: int
    n_channels: int
    n_classes: int

    def __post_init__(self) -> None:
        for key in ("n_layers", "n_classes"):
            if getattr(self, key) < 1:
                raise UsageError(
                    f"{key}={getattr(self, key)}: expected a whole number of at least 1"
                )
        if self.image_size % self.patch or self.width % self.n_heads:
            raise UsageError(
                f"model {self.name}: patch={self.patch} of image_size="
                f"{self.image_size}, n_heads={self.n_heads} of width={self.width}: "
                "expected whole quotients"
            )

    @property
    def n_patches(self) -> int:
        """Number of patches of an image."""
        return (self.image_size // self.patch) ** 2

    @property
    def n_tokens(self) -> int:
        """Number of patches, and one for the class token."""
        return self.n_patches + 1

    @property
    def patch_dim(self) -> int:
        """Number of values in a patch."""
        return self.patch**2 * self.n_channels

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.width // self.n_heads

    @property
    def hidden(self) -> int:
        """Width between the two layers of the MLP."""
        return self.width * self.mlp_ratio


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
    """Return the preset of that name.

        >>> mpcprof.get_model("cifar").n_tokens
        65

    Raises:
        UnknownNameError: If there is none.
    """
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
                "model": self.model.name,
                "n_layers": self.model.n_layers,
                "n_classes": self.model.n_classes,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """The keys of `architecture.json`; one name stands for every row or token."""

    model: str
    attention: tuple[tuple[str | Head, ...], ...]
    activation: tuple[str | LayerActivation, ...]
    schema_version: Literal[1] = SCHEMA_VERSION
    heads: Heads = "serial"
    norm: Literal["layernorm"] = "layernorm"
    n_layers: int | None = None  # where they differ from the model's
    n_classes: int | None = None

    def architecture(self) -> Architecture:
        """Return what the document says, checked."""
        model = get_model(self.model)
        n_layers = model.n_layers if self.n_layers is None else self.n_layers
        n_classes = model.n_classes if self.n_classes is None else self.n_classes
        return Architecture(
            model=replace(model, n_layers=n_layers, n_classes=n_classes),
            heads=self.heads,
            attention=tuple(tuple(map(_lengthen, heads)) for heads in self.attention),
            activation=tuple(map(_lengthen, self.activation)),
        )


def _lengthen(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def read_architecture(path: Path) -> Architecture:
    """Return the architecture in a file.

        >>> vit = mpcprof.read_architecture(Path("architecture.json"))  # doctest: +SKIP

    Raises:
        UsageError: If there is none, or it is not one; the message names the key.
    """
    document = read_json(path, _Document, what="architecture")
    try:
        return document.architecture()
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from None


def parse_architecture(text: str) -> Architecture:
    """Return the architecture in a JSON text.

    Raises:
        UsageError: If it is not one; the message names the key.
    """
    return decode_json(text, _Document, what="architecture").architecture()
