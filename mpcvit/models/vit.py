"""The Vision Transformer that `architecture.json` describes, to be trained.

As `mpcprof.nn.transformer.vit`, whose weights have the same names and shapes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.norm import get_norm
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.transformer import check_weight_shapes, weight_shapes
from mpcvit.models.attention import FixedAttention
from mpcvit.models.layers import (
    NONE,
    START_DEVIATION,
    DropPath,
    Embedding,
    Linear,
    Regularization,
    TrainedForm,
    Watch,
)
from mpcvit.models.mixing import make_mixer
from mpcvit.models.mlp import FixedMlp, FusedMlp
from mpcvit.models.norm import Branch, Gradual, LayerNorm, by_channel, make_norm
from mpcvit.models.stem import Stem


class Layer(nn.Module):
    """A Transformer layer: x + attention(norm(x)), then x + mlp(norm(x)).

    With norms between, it is norm(x) + mlp(norm(x)) then.

    Args:
        attention: None for none.
        mlp: None for none.
        norms: In front of each; None where there is none, or it is folded. Layernorms
            where they are left out.
        mixing: A mixer, in place of the attention.
    """

    def __init__(
        self,
        model: ModelPreset,
        attention: nn.Module | None,
        mlp: nn.Module | None,
        path_dropout: float,
        norms: tuple[nn.Module | None, nn.Module | None] | None = None,
        mixing: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if norms is None:
            width, epsilon = model.width, model.norm_epsilon
            norms = (LayerNorm(width, epsilon), LayerNorm(width, epsilon))
        self.norm1 = norms[0]
        self.attention = attention
        self.mixing = mixing
        self.norm2 = norms[1]
        self.mlp = mlp
        self.is_norm_between = model.is_norm_between
        self.drop_path = DropPath(path_dropout)

    def forward(self, x: Tensor, **shares: Tensor) -> Tensor:
        """Add both branches to (B, N, D).

        Args:
            shares: Second argument of a branch, by its name, where it takes one.
        """
        for name, norm, branch in self._branches():
            own = [shares[name]] if name in shares else []
            normed = x if norm is None else norm(x)
            is_stream = self.is_norm_between and name == "mlp"
            x = normed if is_stream else x
            x = x + self.drop_path(branch(normed, *own))
        return x

    def fold(self) -> dict[str, Tensor]:
        """Return the deployed weights that differ from those of the trained layer."""
        return {
            f"{name}.{key}": weight
            for name, norm, branch in self._branches()
            if isinstance(branch, Branch)
            for key, weight in branch.fold(by_channel(norm)).items()
        }

    def _branches(self) -> list[tuple[str, nn.Module | None, nn.Module]]:
        """Return name, norm and module of each branch that there is."""
        branches = (
            ("attention", self.norm1, self.attention),
            ("mixing", self.norm1, self.mixing),
            ("mlp", self.norm2, self.mlp),
        )
        return [(name, norm, own) for name, norm, own in branches if own is not None]


class Classifier(nn.Module):
    """A network of any layers, with the embedding before and the classifier behind.

    Args:
        stem: Convolutions in front of the patches; None for none.

    Attributes:
        norm: In front of the classifier; None where there is none, or it is folded.
    """

    norm: nn.Module | None

    def __init__(
        self, model: ModelPreset, layers: Sequence[nn.Module], stem: Stem | None = None
    ) -> None:
        super().__init__()
        self.image_shape = (model.n_channels, model.image_size, model.image_size)
        self.stem = stem
        self.embedding = Embedding(model)
        self.has_class_token = model.has_class_token
        self.layers = nn.ModuleList(layers)
        self.norm = LayerNorm(model.width, model.norm_epsilon)
        self.head = Linear(model.width, model.n_classes)
        nn.init.trunc_normal_(self.head.weight, std=START_DEVIATION)  # logits near 0

    def embed(self, images: Tensor) -> Tensor:
        """Make tokens (B, N, D) of images (B, c, S, S).

        Raises:
            UsageError: If the images are not of the model's size.
        """
        if tuple(images.shape[1:]) != self.image_shape:
            raise UsageError(
                f"images of shape {tuple(images.shape)}: expected (images, channels, "
                f"height, width) with {self.image_shape} behind the first; resize them"
            )
        tokens: Tensor = self.embedding(
            images if self.stem is None else self.stem(images)
        )
        return tokens

    def transform(self, tokens: Tensor) -> Tensor:
        """Take (B, N, D) through every layer."""
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens

    def features(self, images: Tensor) -> Tensor:
        """Return all tokens behind the last norm: (B, c, S, S) to (B, N, D)."""
        tokens = self.transform(self.embed(images))
        return tokens if self.norm is None else self.norm(tokens)

    def classify(self, features: Tensor) -> Tensor:
        """Return logits of the class token, or of the mean: (B, N, D) to (B, C)."""
        pooled = features[:, 0] if self.has_class_token else features.mean(dim=1)
        logits: Tensor = self.head(pooled)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C) of normalised images (B, c, S, S)."""
        return self.classify(self.features(images))


def last_norm(architecture: Architecture) -> str:
    """Return the name of the norm in front of the classifier."""
    return architecture.norm[-1] if architecture.norm else "none"


class VisionTransformer(Classifier):
    """A network of one architecture, whose heads and tokens may differ.

    It is the deployed network, of the weights that are priced and run privately; or,
    with a form, the one that is trained, whose `weights` are those of the deployed one.

    Args:
        form: What it has while it is trained; None for the deployed network.
    """

    def __init__(
        self,
        architecture: Architecture,
        regularization: Regularization = NONE,
        form: TrainedForm | None = None,
    ) -> None:
        model = architecture.model
        super().__init__(
            model,
            [
                _fixed_layer(architecture, layer, regularization, form)
                for layer in range(architecture.n_layers)
            ],
            Stem(model, form) if model.stem else None,
        )
        self.norm = make_norm(
            last_norm(architecture), model.width, form, model.norm_epsilon
        )
        self.architecture = architecture
        self._gradual = [m for m in self.modules() if isinstance(m, Gradual)]
        self._watches = [m for m in self.modules() if isinstance(m, Watch)]

    def begin_step(self, progress: float) -> None:
        """Set how much is left of what gives way, after that share of the training."""
        for module in self._gradual:
            module.begin_step(progress)

    def excess(self) -> Tensor:
        """Return the mean excess over all that is watched, of the last images, ()."""
        found = [one.excess for one in self._watches if one.excess is not None]
        return torch.stack(found).mean() if found else self.head.bias.new_zeros(())

    def weights(self) -> dict[str, Tensor]:
        """Return every deployed weight, without gradient, as `weight_shapes` has them.

        Weights that no norm is folded into share memory with the parameters.
        """
        own = {name: weight.detach() for name, weight in self.named_parameters()}
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            own |= {f"layers.{number}.{key}": w for key, w in layer.fold().items()}
        last = by_channel(self.norm)
        if last is not None:
            folded = last.before(own["head.weight"], own["head.bias"])
            own["head.weight"], own["head.bias"] = folded
        if self.stem is not None:
            own |= {f"stem.{name}": weight for name, weight in self.stem.fold().items()}
            behind = "embedding.weight" if "embedding.weight" in own else "head.weight"
            own[behind] = self.stem.factor * own[behind]
        return {name: own[name] for name in weight_shapes(self.architecture)}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the values of deployed weights.

        Raises:
            UsageError: If names or shapes are not those of the architecture.
        """
        check_weights(self.architecture, weights)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(weights[name])


def _fixed_layer(
    architecture: Architecture,
    layer: int,
    regularization: Regularization,
    form: TrainedForm | None,
) -> Layer:
    model, mixer = architecture.model, architecture.mixer(layer)
    norm, has_norm1 = architecture.norm[layer], mixer is None or mixer.takes_scale
    attention, mixing = None, None
    if mixer is None:
        # folded, a norm leaves a bias; trained, its shift is one
        is_folded = get_norm(norm).is_folded
        has_bias = norm == "none" if form is not None else is_folded
        attention = FixedAttention(
            model,
            architecture.attention[layer],
            regularization.attention_dropout,
            has_bias=has_bias,
            bound=None if form is None or not is_folded else form.range_bound,
        )
    else:
        mixing = make_mixer(architecture.attention[layer][0][0], model)
    mlp = _mlp(architecture, layer, form)

    def norm_if(there: bool) -> nn.Module | None:
        own = (norm, model.width, form, model.norm_epsilon)
        return make_norm(*own) if there else None

    return Layer(
        model,
        attention,
        mlp,
        regularization.path_dropout_of(layer, architecture.n_layers),
        (norm_if(has_norm1), norm_if(mlp is not None)),
        mixing,
    )


def _mlp(
    architecture: Architecture, layer: int, form: TrainedForm | None
) -> nn.Module | None:
    """Make the MLP; None for none."""
    model, names = architecture.model, architecture.activation[layer]
    hidden = architecture.hidden(layer)
    if not hidden:
        return None
    if architecture.is_fused(layer):
        return FusedMlp(model, names)
    return FixedMlp(model, names, hidden, form)


def check_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the architecture.

    Raises:
        UsageError: If names or shapes differ; the message names the first.
    """
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    check_weight_shapes(weight_shapes(architecture), shapes)
