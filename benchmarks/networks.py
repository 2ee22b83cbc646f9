"""Whole networks that several scripts compare, for CIFAR-10's images or others."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.preset import MODELS, Convolution, ModelPreset

MODEL: Final = replace(MODELS["cifar"], name="cifar-mean", pooling="mean")
# parts of the width, and pools but the last, which leaves one place
_CNN: Final = ((4, 1), (4, 2), (2, 1), (2, 2), (1, 1), (1, 2))


def make_network(
    mixing: str = "none",
    norm: str = "batchnorm",
    activation: str = "quad_linear",
    ratio: float = 2.0,
    n_layers: int = 1,
    model: ModelPreset = MODEL,
    **sizes: Any,  # Any: a size of the model
) -> Architecture:
    """Return a network of equal layers, its heads batched."""
    model = replace(model, n_layers=n_layers, **sizes)
    heads = ((mixing,),) * (1 if mixing in MIXERS else model.n_heads)
    return Architecture(
        model=model,
        heads="batched",
        attention=(heads,) * n_layers,
        activation=((activation,),) * n_layers,
        norm=(norm,) * n_layers,
        mlp_ratio=(ratio,) * n_layers,
    )


def make_cnn(activation: str, model: ModelPreset = MODEL) -> Architecture:
    """Return seven convolutions, means of their maps, and a classifier."""
    sizes = [(model.width // part, pool) for part, pool in _CNN]
    sizes.append((model.width, model.image_size // 8))
    stem = tuple(
        Convolution(channels=channels, activation=activation, pool=pool)
        for channels, pool in sizes
    )
    return make_network(model=model, stem=stem, patch=1, n_layers=0, name="cnn")


def make_stemmed(
    model: ModelPreset = MODEL,
    **choices: Any,  # Any: mixing, norm, activation and ratio of `make_network`
) -> Architecture:
    """Return two layers behind two convolutions, with as many tokens as without."""
    patch, stem = model.patch, []
    for part in (4, 2):
        pool = 1 if patch % 2 else 2
        patch //= pool
        stem.append(Convolution(channels=model.width // part, pool=pool))
    choices |= {"stem": tuple(stem), "patch": patch, "name": "stem"}
    return make_network(n_layers=2, model=model, **choices)


def _paper(attention: str) -> Architecture:
    return make_network(
        attention, "layernorm", "gelu_tanh", n_layers=7, model=MODELS["cifar"]
    )


NAMED: Final[Mapping[str, Architecture]] = {
    "softmax-vit": _paper("softmax"),
    "relu-softmax-vit": _paper("relu_softmax"),
    "scale-vit": _paper("scale"),
    "scale-squares": make_network("scale", n_layers=7),
    "cube-squares": make_network("cube", n_layers=7),
    "token-mix-relu": make_network("token_mix", activation="relu", n_layers=7),
    "token-mix-squares": make_network("token_mix", n_layers=7),
    "shift-squares": make_network("shift", n_layers=7),
    "cnn": make_cnn("relu"),
    "cnn-squares": make_cnn("quad_linear"),
    "stem-squares": make_stemmed(mixing="token_mix"),
}


def families(model: ModelPreset) -> Mapping[tuple[str, str], Architecture]:
    """Return networks of several families for a model's images, by group and name.

    Source: ResMLP (arXiv 2105.03404), ConvMixer (arXiv 2201.09792), and the cited
        sources of each attention.
    Differs: ConvMixer's layers have a shortcut around both parts, kernels of 3x3 and
        one activation; the model's number of layers, width and MLP ratio hold for all.
    """
    mean = replace(model, name=f"{model.name}-mean", pooling="mean")

    def equal(
        mixing: str,
        norm: str = "batchnorm",
        activation: str = "quad_linear",
        ratio: float = model.mlp_ratio,
    ) -> Architecture:
        return make_network(mixing, norm, activation, ratio, model.n_layers, mean)

    paper = {
        ("ViT", name): uniform_architecture(model, attention=name, heads="batched")
        for name in ("softmax", "relu_softmax", "2quad", "scale")
    }
    return paper | {
        ("CNN", "relu"): make_cnn("relu", mean),
        ("CNN", "squares"): make_cnn("quad_linear", mean),
        ("ResMLP", "gelu"): equal("token_mix", "affine", "gelu_tanh"),
        ("ResMLP", "squares"): equal("token_mix"),
        ("ConvMixer", "gelu"): equal("depthwise", "batchnorm", "gelu_tanh", ratio=1),
        ("ConvMixer", "squares"): equal("depthwise", ratio=1),
        ("conv-stem", "softmax"): make_stemmed(
            mean, mixing="softmax", norm="layernorm", activation="gelu_tanh"
        ),
        ("conv-stem", "squares"): make_stemmed(mean, mixing="token_mix"),
        ("shift", "squares"): equal("shift"),
    }
