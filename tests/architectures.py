"""Small Vision Transformers for tests, of every mixture."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.architecture import Architecture, ModelPreset
from mpcprof.nn.attention import ATTENTIONS
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

_NO_IMAGE: Any = {"image_size": 0, "patch": 0, "n_channels": 3}
OWN_SIZES = {  # what no preset has
    "mean": replace(TINY, name="own", pooling="mean"),
    "biases, wide heads": replace(
        TINY, name="own", mlp_ratio=2.5, has_qkv_bias=True, own_head_dim=6
    ),
    "embedded": replace(TINY, name="own", n_embeddings=4, **_NO_IMAGE),
    "embedded, mean": replace(
        TINY, name="own", n_embeddings=5, pooling="mean", **_NO_IMAGE
    ),
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
    activation = _names([*ACTIVATIONS], model.n_tokens)
    heads = st.tuples(*[head] * model.n_heads)
    return st.builds(
        Architecture,
        model=st.just(model),
        heads=st.sampled_from(["serial", "batched"]),
        attention=st.tuples(*[heads] * model.n_layers),
        activation=st.tuples(*[activation] * model.n_layers),
    )


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
