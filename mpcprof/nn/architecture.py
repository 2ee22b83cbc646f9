"""Transformers whose layers may differ, and the files that say them.

A file `arch.json` names a preset, or sizes of its own, with the attention of each head
or the mixer of the layer, and each layer's activation, norm and MLP ratio.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, get_args

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean, look_up
from mpcprof.files import convert_json, decode_json, read_json
from mpcprof.nn.activation import get_activation
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.mixing import MIXERS, Mixer
from mpcprof.nn.norm import get_norm
from mpcprof.nn.preset import (
    MODELS,
    Convolution,
    Embedding,
    ModelPreset,
    NormOrder,
    Pooling,
    count_embeddings,
)

Value = TypeVar("Value")


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
MIXING: Final = {**ATTENTIONS, **MIXERS}  # what a layer may be given as attention
Heads = Literal["serial", "batched"]
Head: TypeAlias = tuple[str, ...]  # one variant, or one for each row
LayerHeads: TypeAlias = tuple[Head, ...]  # of every head, or ((mixer,),)
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
        attention: Variant of each head of each layer, or of each row (token) of a head;
            one mixer alone for a layer without attention.
        activation: Activation of each layer, or of each token of a layer.
        norm: Norm of each layer; that of the last one stands before the classifier too.
            Empty for layernorm in every layer.
        mlp_ratio: Hidden width of each layer's MLP over the width, 0 for no MLP. Empty
            for that of the model.

    Raises:
        UsageError: If it does not fit the model.
    """

    model: ModelPreset
    heads: Heads = "serial"
    attention: tuple[LayerHeads, ...]
    activation: tuple[LayerActivation, ...]
    norm: tuple[str, ...] = ()
    mlp_ratio: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.heads not in get_args(Heads):
            known = " or ".join(get_args(Heads))
            raise UsageError(f"heads={self.heads!r}: expected {known}")
        n_layers = self.model.n_layers
        usual = {"norm": "layernorm", "mlp_ratio": self.model.mlp_ratio}
        for name, value in usual.items():
            object.__setattr__(self, name, getattr(self, name) or (value,) * n_layers)
        for name in ("attention", "activation", *usual):
            _check_count(name, len(getattr(self, name)), n_layers, "layers")
        for layer in range(n_layers):
            self._check_mixing(layer)
            self._check_mlp(layer)
            get_norm(self.norm[layer])
        if self.model.stream_norms:
            self._check_stream_norms()

    def _check_stream_norms(self) -> None:
        """Refuse norms of the residual stream that its weights cannot take over."""
        for layer, name in enumerate(self.norm):
            if get_norm(name).is_folded or not self.hidden(layer):
                raise UsageError(
                    f"norm_order={self.model.norm_order!r} with norm {name!r} and "
                    f"hidden={self.hidden(layer)} in layer {layer + 1}: expected a "
                    "layernorm and an MLP in every layer; give norm_order='pre'"
                )

    def _check_mixing(self, layer: int) -> None:
        heads, model = self.attention[layer], self.model
        where = f"attention of layer {layer + 1}"
        for name in {name for head in heads for name in head}:
            look_up("attention", name, MIXING)
            if name in MIXERS and heads != ((name,),):
                raise UsageError(
                    f"{where}: {name!r} mixes the tokens of a whole layer; give it "
                    f'alone, as ["{name}"]'
                )
        mixer = self.mixer(layer)
        if mixer is None:
            _check_count(where, len(heads), model.n_heads, "heads")
            for head in heads:
                _check_each(where, head, model.n_tokens)
        elif mixer.needs_grid and not model.grid_side:
            raise UsageError(
                f"{where}: {heads[0][0]!r} takes tokens of a square grid, found "
                f"{model.n_tokens} tokens with pooling={model.pooling!r}; give "
                "pooling='mean' and an image, or another mixer"
            )

    def _check_mlp(self, layer: int) -> None:
        names, ratio = self.activation[layer], self.mlp_ratio[layer]
        _check_each(f"activation of layer {layer + 1}", names, self.model.n_tokens)
        for name in {*names}:
            get_activation(name)
        if ratio < 0:
            raise UsageError(
                f"mlp_ratio={ratio:g} of layer {layer + 1}: expected a number above 0, "
                "or 0 for no MLP"
            )
        if not self.hidden(layer) and self.attention[layer] == (("none",),):
            raise UsageError(
                f"layer {layer + 1} has mixer 'none' and no MLP: it does nothing, "
                "leave it out"
            )

    @property
    def n_layers(self) -> int:
        """Number of Transformer layers."""
        return len(self.attention)

    @property
    def is_centred(self) -> bool:
        """Whether the residual stream of the folded network has mean 0 over the width.

        It has where nothing but layernorms reads it, behind linear layers alone. Behind
        sums, layernorms feed it instead, with a gamma and a beta of their own.
        """
        is_attention = all(self.mixer(layer) is None for layer in range(self.n_layers))
        has_start = self.model.has_embedding or bool(self.model.n_embeddings)
        is_normed = not any(get_norm(name).is_folded for name in {*self.norm})
        is_read = bool(self.norm) and is_normed and not self.model.stream_norms
        return is_read and is_attention and has_start

    @property
    def has_last_norm(self) -> bool:
        """Whether a layernorm stands before the classifier."""
        return self._is_normed(-1) and not self.model.is_post_norm

    @property
    def has_embedding_norm(self) -> bool:
        """Whether a layernorm, that of the first layer, stands behind the embedding."""
        return self._is_normed(0) and self.model.is_post_norm

    def _is_normed(self, layer: int) -> bool:
        return bool(self.norm) and not get_norm(self.norm[layer]).is_folded

    def has_norm1(self, layer: int) -> bool:
        """Return whether a layernorm stands before the attention or the mixer.

        In a post-norm model, behind their sum with what they take in.
        """
        return self._takes_norm(layer) and self._is_normed(layer)

    def has_norm2(self, layer: int) -> bool:
        """Return whether a layernorm stands before the MLP, or behind its sum."""
        return bool(self.hidden(layer)) and self._is_normed(layer)

    def uses_norm(self, layer: int) -> bool:
        """Return whether a norm of that layer stands anywhere, folded or not."""
        is_last = layer == self.n_layers - 1
        return is_last or self._takes_norm(layer) or bool(self.hidden(layer))

    def _takes_norm(self, layer: int) -> bool:
        mixer = self.mixer(layer)
        return mixer is None or mixer.takes_scale or self.model.is_post_norm

    def mixer(self, layer: int) -> Mixer | None:
        """Return what mixes the tokens of that layer; None for attention."""
        first = self.attention[layer][:1]
        return MIXERS.get(first[0][0]) if first and first[0] else None

    def hidden(self, layer: int) -> int:
        """Return the hidden width of that layer's MLP, 0 for no MLP."""
        return self.model.hidden_of(self.mlp_ratio[layer])

    def is_fused(self, layer: int) -> bool:
        """Return whether the two linear layers of that layer's MLP are one."""
        names = self.activation[layer]
        is_linear = all(get_activation(name).is_linear for name in names)
        return is_linear and bool(self.hidden(layer))

    def to_json(self) -> str:
        """Return the text of `architecture.json`."""
        usual = (self.model.mlp_ratio,) * self.n_layers
        own = {} if self.mlp_ratio == usual else {"mlp_ratio": self.mlp_ratio}
        is_one = len({*self.norm}) == 1
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                **self.model.to_json(),
                "heads": self.heads,
                "attention": [[_shorten(h) for h in layer] for layer in self.attention],
                "activation": [_shorten(names) for names in self.activation],
                "norm": self.norm[0] if is_one else self.norm,
                **own,
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
    norm: str = "layernorm",
    heads: Heads = "serial",
) -> Architecture:
    """Give every head the same attention, or every layer the same mixer, and the rest.

        >>> model = mpcprof.get_model("cifar")
        >>> mpcprof.uniform_architecture(model, attention="relu_softmax").n_layers
        7

    Raises:
        UsageError: If a name is not known.
    """
    return Architecture(
        model=model,
        heads=heads,
        attention=(((attention,),) * (1 if attention in MIXERS else model.n_heads),)
        * model.n_layers,
        activation=((activation,),) * model.n_layers,
        norm=(norm,) * model.n_layers,
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
    "norm_epsilon": ("layer_norm_eps", "norm_eps"),
    "norm_order": ("norm_first",),
    "n_words": ("vocab_size", "vocabulary"),
    "n_types": ("type_vocab_size",),
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
    mlp_ratio: float | tuple[float, ...] | None = None  # of the model, or by layer
    hidden: int | tuple[int, ...] | None = None
    n_tokens: int | None = None
    image_size: int | None = None
    patch: int | None = None
    n_channels: int | None = None
    n_classes: int | None = None
    pooling: Pooling | None = None
    qkv_bias: bool | None = None
    stem: tuple[Convolution, ...] | None = None
    n_words: int | None = None
    n_types: int | None = None
    embedding: Embedding | None = None
    norm_order: NormOrder | None = None
    norm_epsilon: float | None = None
    pooler: bool | None = None

    def sizes(self) -> ModelPreset:
        """Return the sizes, checked.

        Raises:
            UsageError: If one is missing or out of range, or two do not fit each other.
        """
        names = [one.name for one in fields(_Sizes) if one.name != "model"]
        own = {name: getattr(self, name) for name in names}
        own = {name: size for name, size in own.items() if size is not None}
        preset = MODELS.get(self.model)
        by_layer = {
            key: own.pop(key) for key in _MLP if isinstance(own.get(key), tuple)
        }
        if preset is None and not {*_MLP} & {*own}:  # the widest layer's is the model's
            own |= {key: max(sizes, default=0) or 1 for key, sizes in by_layer.items()}
        if preset is None:
            self._check_complete(own)
        start: dict[str, Any] = {"name": self.model}  # Any: a size
        if preset is not None:
            start = {one.name: getattr(preset, one.name) for one in fields(preset)}
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
        is_one = not isinstance(self.hidden, tuple)
        if is_one and self.hidden not in (None, model.hidden):
            raise UsageError(
                f"hidden={self.hidden} and mlp_ratio={model.mlp_ratio:g} do not fit "
                f"each other: width={model.width} makes {model.hidden}; give one"
            )


_MLP: Final = ("mlp_ratio", "hidden")
_NEEDED: Final = (
    *(("n_layers",), ("n_heads",), ("width",), ("n_classes",)),
    _MLP,
    ("image_size", "n_tokens"),
)
_SAME_KEYS: Final = (
    *("n_layers", "n_heads", "width", "mlp_ratio", "image_size", "patch"),
    *("n_channels", "n_classes", "pooling", "stem", "n_words", "n_types"),
    *("embedding", "norm_order", "norm_epsilon"),
)


def _model_keys(start: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of `ModelPreset` that are a preset's, or the file's own."""
    sizes = {**start, **own}  # Any: a size, as in the keys of a file
    keys: dict[str, Any] = {key: sizes[key] for key in _SAME_KEYS if key in sizes}
    for name, key in (("has_qkv_bias", "qkv_bias"), ("has_pooler", "pooler")):
        keys[name] = own.get(key, start.get(name, False))
    width = max(sizes["width"], 1)
    if "hidden" in own and "mlp_ratio" not in own:
        keys["mlp_ratio"] = own["hidden"] / width
    head_dim = own.get("head_dim", 0)
    if head_dim * sizes["n_heads"] != width:
        keys["own_head_dim"] = head_dim
    if not start.get("image_size") and "image_size" not in own:
        keys["n_embeddings"] = _n_embeddings(start, own)
    return keys


def _n_embeddings(start: Mapping[str, Any], own: Mapping[str, Any]) -> int:
    """Return the number of embedded tokens; see `_model_keys`."""
    if "n_tokens" not in own:
        return int(start["n_embeddings"])
    if "n_channels" in own:
        raise UsageError(
            f"n_channels={own['n_channels']} says nothing of a model of n_tokens="
            f"{own['n_tokens']} without an image: leave it out, or give image_size"
        )
    pooling = {"pooling": "class_token", **start, **own}["pooling"]
    return count_embeddings(own["n_tokens"], pooling)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document(_Sizes):
    """The keys of `arch.json`; one name stands for every row or token."""

    attention: tuple[tuple[str | Head, ...], ...] | None = None
    activation: tuple[str | LayerActivation, ...] | None = None
    schema_version: Literal[1] = SCHEMA_VERSION
    heads: Heads = "serial"
    norm: str | tuple[str, ...] = "layernorm"

    def architecture(self) -> Architecture:
        """Return what the document says, checked."""
        for key in ("attention", "activation"):
            if getattr(self, key) is None:
                raise UsageError(
                    f"the key {key!r} is missing; a file of sizes alone stands where "
                    "a preset does (--model FILE), beside a variant for its heads"
                )
        model = self.sizes()
        names = (
            (self.norm,) * model.n_layers if isinstance(self.norm, str) else self.norm
        )
        _check_count("norm", len(names), model.n_layers, "layers")
        return Architecture(
            model=model,
            heads=self.heads,
            attention=tuple(
                tuple(map(_lengthen, heads)) for heads in self.attention or ()
            ),
            activation=tuple(map(_lengthen, self.activation or ())),
            norm=names,
            mlp_ratio=self._ratios(model),
        )

    def _ratios(self, model: ModelPreset) -> tuple[float, ...]:
        """Return the MLP ratio of each layer, from `mlp_ratio` or `hidden` by layer."""
        by_layer = [key for key in _MLP if isinstance(getattr(self, key), tuple)]
        if len(by_layer) > 1:
            raise UsageError("mlp_ratio and hidden, both by layer: give one of them")
        for key in by_layer:
            sizes = getattr(self, key)
            _check_count(key, len(sizes), model.n_layers, "layers")
            by = model.width if key == "hidden" else 1
            return tuple(size / by for size in sizes)
        return ()


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
