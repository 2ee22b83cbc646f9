"""Whole networks for CIFAR-10's images that several scripts compare."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mpcprof.nn.architecture import Architecture
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.preset import MODELS, Convolution, ModelPreset

MODEL: Final = replace(MODELS["cifar"], name="cifar-mean", pooling="mean")
_CNN: Final = ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (256, 4))


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


def make_cnn(activation: str) -> Architecture:
    """Return seven convolutions, means of their maps, and a classifier."""
    stem = tuple(
        Convolution(channels=channels, activation=activation, pool=pool)
        for channels, pool in _CNN
    )
    return make_network(stem=stem, patch=1, n_layers=0, name="cnn")


def _paper(attention: str) -> Architecture:
    return make_network(
        attention, "layernorm", "gelu_tanh", n_layers=7, model=MODELS["cifar"]
    )


def _two_layers() -> Architecture:
    stem = tuple(Convolution(channels=n, pool=2) for n in (64, 128))
    return make_network("token_mix", n_layers=2, stem=stem, patch=1, name="stem")


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
    "stem-squares": _two_layers(),
}
