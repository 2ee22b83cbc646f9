"""What lies beside weights in a config.json, of Hugging Face or timm."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mpcprof.errors import UsageError
from mpcprof.files import decode_json
from mpcprof.nn.preset import Pooling
from mpcvit.data.normalization import Normalization

ACTIVATIONS: Final = {  # by `hidden_act`; other GeLUs are other functions
    "gelu": "gelu_exact",
    "gelu_python": "gelu_exact",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_POOLINGS: Final[dict[str, Pooling]] = {"token": "class_token", "avg": "mean"}
_N_HEADS: Final = ("num_attention_heads", "num_heads", "n_heads")
_HEADS_BY_SIZE: Final = {  # timm's names say the size, and so the number of heads
    **{"tiny": 3, "small": 6, "base": 12, "large": 16, "huge": 16}
}
_PIXELS: Final = (
    "preprocessor_config.json"  # where Hugging Face says mean and deviation
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a config.json says; None, or empty, for what it does not.

    Attributes:
        name: Name of the network.
        class_names: One name for each logit.
    """

    name: str = ""
    n_heads: int | None = None
    activation: str | None = None
    norm_epsilon: float | None = None
    pooling: Pooling | None = None
    normalization: Normalization | None = None
    class_names: tuple[str, ...] = ()


def read_settings(path: Path) -> Settings:
    """Return what a config.json says, and the file of pixels beside it.

    Keys that are of no use here are passed over: they are many, and no one's mistake.

    Raises:
        UsageError: If it cannot be read, or a key has a value of no use.
    """
    keys = _read(path)
    for part in ("model_args", "pretrained_cfg"):
        inner = keys.get(part)
        keys |= inner if isinstance(inner, dict) else {}
    beside = path.with_name(_PIXELS)
    pixels = _read(beside) if beside.is_file() else keys
    try:
        return _settings(keys, pixels)
    except UsageError as error:
        raise type(error)(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:  # Any: JSON
    what = f"cannot read {str(path)!r}"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{what}: {error.strerror}; expected the config.json of the weights"
        ) from None
    found: dict[str, Any] = decode_json(text, dict, what=what)
    return found


def _settings(keys: Mapping[str, Any], pixels: Mapping[str, Any]) -> Settings:
    name = str(keys.get("architecture") or keys.get("model_type") or "")
    counts = [_number(keys, key, int) for key in _N_HEADS]
    size = re.search("|".join(_HEADS_BY_SIZE), name)
    by_name = _HEADS_BY_SIZE[size[0]] if size else None
    return Settings(
        name=name,
        n_heads=next((count for count in counts if count is not None), by_name),
        activation=_activation(keys),
        norm_epsilon=_number(keys, "layer_norm_eps", float),
        pooling=_POOLINGS.get(str(keys.get("global_pool"))),
        normalization=_normalization(pixels),
        class_names=_class_names(keys),
    )


def _number(keys: Mapping[str, Any], key: str, kind: type) -> Any:  # Any: the kind
    value = keys.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is None:
        return None
    if not is_number or kind(value) != value or value < 0:
        raise UsageError(f"{key}={value!r}: expected a number of at least 0")
    return kind(value)


def _activation(keys: Mapping[str, Any]) -> str | None:
    given = keys.get("hidden_act")
    if given is None:
        return None
    if given not in ACTIVATIONS:
        raise UsageError(
            f"hidden_act={given!r}: expected {' or '.join(ACTIVATIONS)}; another "
            "function is another network"
        )
    return ACTIVATIONS[given]


def _normalization(keys: Mapping[str, Any]) -> Normalization | None:
    for mean, deviation in (("image_mean", "image_std"), ("mean", "std")):
        if isinstance(keys.get(mean), list) and isinstance(keys.get(deviation), list):
            try:
                return Normalization(
                    mean=tuple(map(float, keys[mean])),
                    deviation=tuple(map(float, keys[deviation])),
                )
            except (TypeError, ValueError):
                raise UsageError(
                    f"{mean}={keys[mean]}, {deviation}={keys[deviation]}: expected a "
                    "number for each channel, deviations above 0"
                ) from None
    return None


def _class_names(keys: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes in their order, where all of them are there."""
    by_index = keys.get("id2label")
    if isinstance(by_index, dict):
        wanted = [str(index) for index in range(len(by_index))]
        if {*wanted} == {*by_index}:
            return tuple(str(by_index[index]) for index in wanted)
    names = keys.get("label_names")
    return tuple(map(str, names)) if isinstance(names, list) else ()
