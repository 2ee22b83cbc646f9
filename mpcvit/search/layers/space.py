"""Spaces of whole layers: the mixing, norm, activation and MLP that each may have.

A layer with neither mixing nor MLP is left out, so that the depth is searched as well;
a space names the models around the layers by the sizes that differ. `free` is built in;
a JSON file has the keys of `LayerSpace`:

    {"name": "mine", "mixing": ["scale", "token_mix", "none"], "norm": ["batchnorm"],
     "activation": ["relu", "quad_linear"], "mlp_ratio": [0, 2],
     "models": [{"pooling": "mean"}, {"pooling": "mean", "n_layers": 6}]}
"""

import itertools
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import UnknownNameError, UsageError, did_you_mean, look_up
from mpcprof.files import read_json
from mpcprof.nn.activation import get_activation
from mpcprof.nn.architecture import Architecture, Heads, LayerHeads
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.norm import get_norm
from mpcprof.nn.preset import Convolution, ModelPreset, Pooling

NO_MIXING: Final = "none"
Mixing: TypeAlias = str | tuple[str, ...]  # of the layer, or of each of its heads
FACTORS: Final = ("mixing", "norm", "activation", "mlp_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes in which a model of a space differs from the one that is asked for."""

    n_layers: int | None = None
    n_heads: int | None = None
    width: int | None = None
    patch: int | None = None
    pooling: Pooling | None = None
    stem: tuple[Convolution, ...] | None = None

    def of(self, model: ModelPreset) -> ModelPreset:
        """Return the model with these sizes.

        Raises:
            UsageError: If they do not fit each other.
        """
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}
        sizes = {name: size for name, size in given.items() if size is not None}
        return replace(model, **sizes)


class LayerChoice(NamedTuple):
    """What one layer is made of; mlp_ratio 0 is no MLP."""

    mixing: Mixing
    norm: str
    activation: str
    mlp_ratio: float

    @property
    def is_left_out(self) -> bool:
        """Whether nothing is left of the layer."""
        return self.mixing == NO_MIXING and not self.mlp_ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpace:
    """Options of every layer, and models around them.

        >>> space = LayerSpace(
        ...     name="mine", mixing=("scale", "none"), norm=("batchnorm",),
        ...     activation=("relu",), mlp_ratio=(0, 2),
        ... )
        >>> len(space.choices)
        4

    Attributes:
        mixing: Attention variants, of every head of a layer or one for each head, and
            mixers; `none` for no mixing.
        norm: Norms in front of both branches of a layer.
        activation: Activations of the MLP.
        mlp_ratio: Hidden width of the MLP over the width; 0 for no MLP.
        models: Sizes of each model that the layers may be in. The first stage is of the
            first one; layers of another one have the shares of those at their depth.

    Raises:
        UsageError: If an option is unknown or given twice, or a list is empty.
    """

    name: str
    mixing: tuple[Mixing, ...]
    norm: tuple[str, ...]
    activation: tuple[str, ...]
    mlp_ratio: tuple[float, ...]
    models: tuple[Sizes, ...] = (Sizes(),)

    def __post_init__(self) -> None:
        for key in (*FACTORS, "models"):
            options = getattr(self, key)
            if not options:
                raise UsageError(f"space {self.name}: {key} has no option: give one")
            if len({*options}) < len(options):
                raise UsageError(
                    f"space {self.name}: {key} has {_twice(options)!r} twice: give "
                    "each option once"
                )
        self._check_names()
        if min(self.mlp_ratio) < 0:
            raise UsageError(f"mlp_ratio={min(self.mlp_ratio):g}: expected 0 or more")
        if all(one.is_left_out for one in self.choices):
            raise UsageError(f"space {self.name}: every layer of it is left out")

    def _check_names(self) -> None:
        for mixing in self.mixing:
            for name in (mixing,) if isinstance(mixing, str) else mixing:
                if name not in ATTENTIONS and name not in MIXERS:
                    hint = did_you_mean(name, [*ATTENTIONS, *MIXERS])
                    raise UnknownNameError(f"no mixing {name!r}; {hint}")
        for name in self.norm:
            get_norm(name)
        for name in self.activation:
            if get_activation(name).has_relu_behind:
                raise UsageError(
                    f"space {self.name}: activation {name} has a ReLU behind the MLP: "
                    "expected one that acts on hidden values, such as identity"
                )

    @property
    def choices(self) -> tuple[LayerChoice, ...]:
        """Every layer of the space, each once.

        Without an MLP all activations are one, and all ratios where a linear activation
        makes its two linear layers one.
        """
        every = (LayerChoice(*one) for one in itertools.product(*self.options))
        return tuple(dict.fromkeys(map(self._first_alike, every)))

    @property
    def options(self) -> tuple[tuple[Any, ...], ...]:  # Any: names, and ratios
        """Options of each of the four factors, in their order."""
        return tuple(getattr(self, key) for key in FACTORS)

    def _first_alike(self, one: LayerChoice) -> LayerChoice:
        if not one.mlp_ratio:
            one = one._replace(activation=self.activation[0])
        elif get_activation(one.activation).is_linear:
            ratio = next(ratio for ratio in self.mlp_ratio if ratio)
            one = one._replace(mlp_ratio=ratio)
        return one._replace(norm=self.norm[0]) if one.is_left_out else one

    def joint(self, *shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of each choice from the shares of each factor's options.

        Args:
            shares: Of each factor (L, O), sums over O being 1.

        Returns:
            (L, K), K choices, sums over K being 1.
        """
        together = np.einsum("lm,ln,la,lr->lmnar", *shares)
        places = {one: place for place, one in enumerate(self.choices)}
        every = (LayerChoice(*one) for one in itertools.product(*self.options))
        target = np.array([places[self._first_alike(one)] for one in every])
        joint = np.zeros((len(together), len(places)))
        np.add.at(joint.T, target, together.reshape(len(together), -1).T)
        return joint

    def sized(self, model: ModelPreset) -> tuple[ModelPreset, ...]:
        """Return the model in each of the sizes.

        Raises:
            UsageError: If sizes do not fit each other or a mixer of the space, or norms
                of the model stand elsewhere.
        """
        if model.norm_order != "pre":
            raise UsageError(
                f"model {model.name} has norm_order={model.norm_order!r}: a search "
                "over layers expects norms in front of both branches; give "
                "norm_order='pre'"
            )
        models = tuple(sizes.of(model) for sizes in self.models)
        for one in models:
            for name in self.mixing:  # an architecture checks what a mixer needs
                make_architecture(
                    one, [LayerChoice(name, self.norm[0], self.activation[0], 1.0)]
                )
        return models

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the document that a file of the space holds."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document


def _twice(options: tuple[Any, ...]) -> Any:  # Any: a name, a size, a stem
    return next(one for one in options if options.count(one) > 1)


def make_architecture(
    model: ModelPreset,
    layers: "list[LayerChoice] | tuple[LayerChoice, ...]",
    heads: Heads = "batched",
) -> Architecture:
    """Return the architecture of these layers, without those that are left out.

    A norm that stands nowhere, and is not the classifier's, is `none`: networks that
    are the same are equal.

    Raises:
        UsageError: If none is left, or one does not fit the model.
    """
    kept = [layer for layer in layers if not layer.is_left_out]
    made = Architecture(
        model=replace(model, n_layers=len(kept)),
        heads=heads,
        attention=tuple(_heads(one.mixing, model.n_heads) for one in kept),
        activation=tuple((one.activation,) for one in kept),
        norm=tuple(one.norm for one in kept),
        mlp_ratio=tuple(float(one.mlp_ratio) for one in kept),
    )
    norms = (made.norm[n] if made.uses_norm(n) else "none" for n in range(len(kept)))
    return replace(made, norm=tuple(norms))


def _heads(mixing: Mixing, n_heads: int) -> LayerHeads:
    if isinstance(mixing, str):
        return ((mixing,),) * (1 if mixing in MIXERS else n_heads)
    return tuple((name,) for name in mixing)


def get_layer_space(text: str, model: ModelPreset) -> LayerSpace:
    """Return `free` around a model, or the space in a file `FILE.json`.

        >>> get_layer_space("free", mpcprof.get_model("digits")).norm
        ('batchnorm', 'layernorm')

    Raises:
        UsageError: If there is no such space, or it is damaged.
    """
    if text.endswith(".json"):
        return read_json(Path(text), LayerSpace, what="space")
    return look_up("space", text, SPACES)(model)


def _free(model: ModelPreset) -> LayerSpace:
    """Return every choice that costs hops, in models with a stem or without."""
    plain = Sizes(pooling="mean")
    stems = [_stem(model, activation) for activation in ("relu", "quad_linear")]
    return LayerSpace(
        name="free",
        mixing=(
            *("softmax", "relu_softmax", "scale", "cube", "relu_n"),
            *("token_mix", "convolution", "shift", "pool", NO_MIXING),
        ),
        norm=("batchnorm", "layernorm"),
        activation=("relu", "gelu_tanh", "quad_linear", "identity"),
        mlp_ratio=(0, 1, 2),
        models=(plain, *stems),
    )


def _stem(model: ModelPreset, activation: str) -> Sizes:
    """Return two convolutions that leave the grid of tokens as large as it is.

    The map is halved behind each of them as long as that leaves a place for each token.
    """
    channels, patch, stem = max(model.width // 2, 1), model.patch, []
    for number in range(2):
        pool = 1 if patch % 2 else 2
        patch //= pool
        stem.append(
            Convolution(
                channels=channels * (1 + number), activation=activation, pool=pool
            )
        )
    return Sizes(pooling="mean", patch=patch, stem=tuple(stem))


SPACES: Final = {"free": _free}  # by name, around a model
