"""Small Vision Transformers for tests, of every mixture."""

from typing import Any

from hypothesis import strategies as st

from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.architecture import Architecture, ModelPreset
from mpcprof.nn.attention import ATTENTIONS

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
