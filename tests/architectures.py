"""Small Vision Transformers for tests, of every mixture."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.architecture import Architecture, LayerHeads
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.norm import NORMS
from mpcprof.nn.preset import MODELS, Convolution, ModelPreset
from mpcprof.terms import LAYER_FREE, TermKind, Terms

TINY = ModelPreset(
    name="tiny",
    n_layers=2,
    n_heads=3,
    width=12,
    mlp_ratio=2,
    image_size=4,
    patch=2,
    n_channels=1,
    n_classes=3,
)  # 5 tokens, heads of 4

# of tokens of any size: an approximation has a range
ANY_NORM = [name for name, norm in NORMS.items() if norm.accuracy is None]
_NO_IMAGE: Any = {"image_size": 0, "patch": 0, "n_channels": 3}
OWN_SIZES = {  # what no preset has
    "mean": replace(TINY, name="own", pooling="mean"),
    "biases, wide heads": replace(
        TINY, name="own", mlp_ratio=2.5, has_qkv_bias=True, own_head_dim=6
    ),
    "norms between": replace(TINY, name="own", norm_order="between", norm_epsilon=1e-3),
    "embedded": replace(TINY, name="own", n_embeddings=4, **_NO_IMAGE),
    "embedded, mean": replace(
        TINY, name="own", n_embeddings=5, pooling="mean", **_NO_IMAGE
    ),
    "embedded, post-norm": replace(
        TINY, name="own", n_embeddings=4, norm_order="post", **_NO_IMAGE
    ),
}
BERT = replace(
    MODELS["bert-base"],
    **{"name": "small", "n_layers": 2, "n_heads": 3, "width": 24, "mlp_ratio": 2},
    **{"n_embeddings": 6, "n_classes": 3, "n_words": 11},
)
OWN_SIZES |= {"BERT": BERT, "BERT, one-hot": replace(BERT, embedding="one_hot")}


GRID = replace(TINY, name="own", pooling="mean", image_size=6)  # 3 x 3 tokens
_POOLED = (Convolution(channels=4, pool=2), Convolution(channels=5, activation="quad"))
_MAP = replace(GRID, image_size=8)
_STEMS = {
    "patches": replace(_MAP, stem=_POOLED),  # 2 x 2 tokens of 2 x 2 places
    "tokens": replace(_MAP, patch=1, stem=(*_POOLED[:1], Convolution(channels=12))),
    "cnn": replace(
        _MAP,
        patch=1,
        n_layers=0,
        stem=(*_POOLED, Convolution(channels=12, activation="quad_linear", pool=2)),
    ),
}


def _layers(model: ModelPreset, *mixing: LayerHeads, **rest: Any) -> Architecture:
    activation = rest.pop("activation", "quad_linear")
    return Architecture(
        model=replace(model, n_layers=len(mixing)),
        attention=mixing,
        activation=((activation,),) * len(mixing),
        **rest,
    )


def _only(mixer: str) -> LayerHeads:
    return ((mixer,),)


CHEAP = {  # mixers, norms and stems, each at least once, with one and two norms
    "token mixing, class token": _layers(
        TINY, *[_only("token_mix")] * 2, norm=("batchnorm",) * 2
    ),
    "token mixing, layernorms": _layers(TINY, *[_only("token_mix")] * 2),
    "convolutions": _layers(
        GRID,
        *(_only("convolution"), _only("depthwise")),
        *(_only("depthwise"), _only("convolution")),
        norm=("layernorm", "layernorm", "repbn", "affine"),
        activation="relu",
    ),
    "public mixers": _layers(
        GRID,
        *map(_only, ("shift", "pool", "none")),
        norm=("none", "batchnorm", "layernorm"),
    ),
    "heads": _layers(
        TINY,
        (("cube",), ("relu_n",), ("scale",)),
        (("relu_n",), ("softmax",), ("cube",)),
        norm=("batchnorm", "layernorm"),
        mlp_ratio=(0, 0.5),
        activation="identity_relu",
    ),
    "heads, layernorms": _layers(
        TINY, (("cube",),) * 3, (("relu_n",),) * 3, mlp_ratio=(1.5, 0)
    ),
    "stem of patches": _layers(_STEMS["patches"], (("scale",),) * 3),
    "stem of tokens": _layers(
        _STEMS["tokens"], _only("token_mix"), (("cube",),) * 3, activation="relu"
    ),
    "cnn": _layers(_STEMS["cnn"]),
}


def make_architecture(**overrides: Any) -> Architecture:
    """Heads, rows and tokens of two layers, all mixed."""
    values: dict[str, Any] = {
        "model": TINY,
        "attention": (
            (("relu_softmax",), ("scale",), ("relu_softmax",)),
            (
                ("scale", "softmax", "scale", "scale", "softmax"),
                ("linformer",),
                ("linformer", "2quad", "2quad", "linformer", "xnorm"),
            ),
        ),
        "activation": (
            ("gelu_tanh", "identity_relu", "gelu_tanh", "quad", "identity"),
            ("identity", "identity_relu", "identity", "identity_relu", "identity"),
        ),
    }
    return Architecture(**(values | overrides))


def _names(known: list[str], n_tokens: int) -> st.SearchStrategy[tuple[str, ...]]:
    one = st.tuples(st.sampled_from(known))
    each = st.lists(st.sampled_from(known), min_size=n_tokens, max_size=n_tokens)
    return one | each.map(tuple)


def architectures(model: ModelPreset = TINY) -> st.SearchStrategy[Architecture]:
    """Any architecture of that model."""
    head = _names([*ATTENTIONS], model.n_tokens)
    mixers = [name for name, one in MIXERS.items() if not one.needs_grid]
    layer = st.tuples(*[head] * model.n_heads) | st.sampled_from([*map(_only, mixers)])
    activation = _names([*ACTIVATIONS], model.n_tokens)
    norm, ratio = st.sampled_from(ANY_NORM), st.sampled_from([0.0, 0.5, 2.0])
    every = {"attention": layer, "activation": activation}
    every |= {"norm": norm, "mlp_ratio": ratio}
    return st.builds(
        _used,
        model=st.just(model),
        heads=st.sampled_from(["serial", "batched"]),
        **{key: st.tuples(*[one] * model.n_layers) for key, one in every.items()},
    )


def _used(**values: Any) -> Architecture:
    """Return the architecture, with an MLP in layers that do nothing else."""
    pairs = zip(values["attention"], values["mlp_ratio"], strict=True)
    ratios = [ratio or 0.5 * (layer == _only("none")) for layer, ratio in pairs]
    return Architecture(**values | {"mlp_ratio": tuple(ratios)})


def sum_of_terms_s(
    terms: Terms, architecture: Architecture, per_call_s: float
) -> float:
    """Return a model's seconds from its terms, in the form that its heads cost.

    Tokens, and rows of a head whose rows differ, are grouped in any case.
    """

    def grouped_s(kind: TermKind, layer: int, names: Sequence[str]) -> float:
        return sum(
            terms.get(kind, layer, name).layer_s(names.count(name))
            for name in dict.fromkeys(names)
        )

    total_s = per_call_s + terms.get("rest", LAYER_FREE, "").latency_s
    for layer, heads in enumerate(architecture.attention):
        tokens = architecture.activation[layer]
        if len(tokens) == 1:
            tokens *= architecture.model.n_tokens
        linear: TermKind = "fused_mlp" if architecture.is_fused(layer) else "mlp"
        total_s += terms.get("rest", layer, "").latency_s
        total_s += terms.get(linear, layer, "").latency_s
        total_s += grouped_s("activation", layer, tokens)
        mixed = [head for head in heads if len({*head}) > 1]
        total_s += sum(grouped_s("attention_row", layer, head) for head in mixed)
        alike = [head[0] for head in heads if len({*head}) == 1]
        if architecture.heads == "batched":
            total_s += grouped_s("attention", layer, alike)
        else:
            total_s += sum(terms.get("attention", layer, n).latency_s for n in alike)
    return total_s
