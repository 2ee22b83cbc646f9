"""The Vision Transformers of the paper, and two small ones."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from mpcprof.errors import UsageError, look_up
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


SCHEMA_VERSION: Final = 1
Heads = Literal["serial", "batched"]
Head: TypeAlias = tuple[str, ...]  # one variant, or one for each row
LayerHeads: TypeAlias = tuple[Head, ...]
LayerActivation: TypeAlias = tuple[str, ...]  # one, or one for each token

_KEYS = ("schema_version", "model", "heads", "attention", "activation", "norm")
_OPTIONAL_KEYS = ("n_layers", "n_classes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A Vision Transformer whose heads and tokens may differ.

    Attributes:
        heads: Heads one by one, or those of one variant of a layer together.
        attention: By layer and head: the variant, or one for each row (token).
        activation: By layer: the activation, or one for each token.

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
        """Transformer layers."""
        return len(self.attention)

    def is_fused(self, layer: int) -> bool:
        """Whether the two linear layers of that layer's MLP are one."""
        return all(get_activation(name).is_linear for name in self.activation[layer])

    def to_json(self) -> str:
        """The text of `architecture.json`."""
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
    """The same attention in every head and the same activation in every layer.

    Raises:
        UsageError: If a name is not known.
    """
    return Architecture(
        model=model,
        heads=heads,
        attention=(((attention,),) * model.n_heads,) * model.n_layers,
        activation=((activation,),) * model.n_layers,
    )


def read_architecture(path: Path) -> Architecture:
    """The architecture in a file.

    Raises:
        UsageError: If there is none, or it is not one; the message names the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read architecture {str(path)!r}: {error}") from None
    try:
        return parse_architecture(text)
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from None


def parse_architecture(text: str) -> Architecture:
    """The architecture in a JSON text.

    Raises:
        UsageError: If it is not one; the message names the key.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"expected a JSON object with {', '.join(_KEYS)}")
    missing = [key for key in ("model", "attention", "activation") if key not in values]
    unknown = [key for key in values if key not in (*_KEYS, *_OPTIONAL_KEYS)]
    if missing or unknown:
        raise UsageError(
            f"missing keys: {missing}, unknown keys: {unknown}; expected "
            f"{', '.join(_KEYS)}, and {' or '.join(_OPTIONAL_KEYS)} where they differ "
            "from the model's"
        )
    if values.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise UsageError(
            f"schema_version={values['schema_version']!r}: expected {SCHEMA_VERSION}"
        )
    if values.get("norm", "layernorm") != "layernorm":
        raise UsageError(f"norm={values['norm']!r}: expected layernorm")
    return Architecture(
        model=_parse_model(values),
        heads=values.get("heads", "serial"),
        attention=tuple(
            tuple(_parse_names("attention", head) for head in _parse_list(layer))
            for layer in _parse_list(values["attention"])
        ),
        activation=tuple(
            _parse_names("activation", names)
            for names in _parse_list(values["activation"])
        ),
    )


def _parse_model(values: dict[str, object]) -> ModelPreset:
    model = get_model(str(values["model"]))
    return replace(
        model,
        n_layers=_parse_count("n_layers", values.get("n_layers", model.n_layers)),
        n_classes=_parse_count("n_classes", values.get("n_classes", model.n_classes)),
    )


def _parse_count(key: str, count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(f"{key}={count!r}: expected a whole number of at least 1")
    return count


def _parse_list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise UsageError(f"{value!r}: expected a list, one entry per layer or head")
    return value


def _parse_names(key: str, value: object) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{key}={value!r}: expected a name, or a list of names")
    return tuple(str(name) for name in names)
