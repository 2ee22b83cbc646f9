"""What other frameworks call the parameters of a Transformer, and mean by them.

Another framework of the same network is one more entry of `LAYOUTS`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mpcprof.errors import UsageError
from mpcprof.nn.norm import NORM_EPSILON
from mpcprof.nn.preset import NormOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The names in the files of one framework; each stands for a weight and a bias.

    Attributes:
        name: The framework and the network, as they are printed.
        source: Where the names and their meaning come from.
        patches: Convolution that makes patches, whose weight tells the framework; ""
            for a network that reads words.
        words: Table of words, whose weight tells the framework; "" for none.
        types: Table of token types.
        positions: Tensor of positions.
        embedding_norm: Norm behind the embedding; "" for none.
        layers: What names of a layer's parameters begin with, in front of its number.
        qkv: Queries, keys and values: one linear layer of all, or one of each.
        scale1: Factor of each channel behind the attention, a tensor; "" for none.
        last_norm: Norm in front of the classifier; "" for none.
        pooler: Linear layer and tanh in front of the classifier; "" for none.
        alpha: Share of the ReLU softmax in a head or row, a tensor; "" for none.
        beta: Share of the GeLU in a token, a tensor; "" for none.
        unused: Endings of names that a classification does not read.
        norm_epsilon: Number added to the variance, where no config.json says it.
    """

    name: str
    source: str
    patches: str = ""
    words: str = ""
    types: str = ""
    class_token: str = ""
    positions: str
    embedding_norm: str = ""
    layers: str
    norm1: str
    qkv: tuple[str, ...]
    projection: str
    norm2: str
    linear1: str
    linear2: str
    last_norm: str = ""
    pooler: str = ""
    head: str
    scale1: str = ""
    scale2: str = ""
    alpha: str = ""
    beta: str = ""
    unused: tuple[str, ...] = ()
    norm_epsilon: float
    norm_order: NormOrder = "pre"

    @property
    def mark(self) -> str:
        """Name of the tensor that tells the framework."""
        return f"{self.patches or self.words}.weight"

    def layer(self, number: int) -> str:
        """Return what names of that layer's parameters begin with."""
        return f"{self.layers}{number}."

    def count_layers(self, names: Iterable[str]) -> int:
        """Return the number of layers.

        Raises:
            UsageError: If there is none, or one is missing.
        """
        pattern = re.compile(rf"{re.escape(self.layers)}(\d+)\.")
        found = {int(match[1]) for name in names if (match := pattern.match(name))}
        if not found or found != {*range(len(found))}:
            numbers = ", ".join(map(str, sorted(found))) or "none"
            raise UsageError(
                f"layers {numbers} of {self.layers}*: expected all from 0 on; the file "
                "may be one part of several, which have to be one file"
            )
        return len(found)


LAYOUTS: Final = (
    Layout(
        name="timm ViT",
        source="timm/models/vision_transformer.py",
        patches="patch_embed.proj",
        class_token="cls_token",
        positions="pos_embed",
        layers="blocks.",
        norm1="norm1",
        qkv=("attn.qkv",),
        projection="attn.proj",
        norm2="norm2",
        linear1="mlp.fc1",
        linear2="mlp.fc2",
        last_norm="norm",
        head="head",
        scale1="ls1.gamma",
        scale2="ls2.gamma",
        norm_epsilon=1e-6,
    ),
    Layout(
        name="Hugging Face ViT",
        source="transformers/models/vit/modeling_vit.py, ViTForImageClassification",
        patches="vit.embeddings.patch_embeddings.projection",
        class_token="vit.embeddings.cls_token",
        positions="vit.embeddings.position_embeddings",
        layers="vit.encoder.layer.",
        norm1="layernorm_before",
        qkv=tuple(f"attention.attention.{name}" for name in ("query", "key", "value")),
        projection="attention.output.dense",
        norm2="layernorm_after",
        linear1="intermediate.dense",
        linear2="output.dense",
        last_norm="vit.layernorm",
        head="classifier",
        unused=("vit.pooler.dense.weight", "vit.pooler.dense.bias", ".mask_token"),
        norm_epsilon=1e-12,
    ),
    Layout(
        name="Hugging Face BERT",
        source="transformers/models/bert/modeling_bert.py, "
        "BertForSequenceClassification",
        words="bert.embeddings.word_embeddings",
        types="bert.embeddings.token_type_embeddings",
        positions="bert.embeddings.position_embeddings.weight",
        embedding_norm="bert.embeddings.LayerNorm",
        layers="bert.encoder.layer.",
        norm1="attention.output.LayerNorm",
        qkv=tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
        projection="attention.output.dense",
        norm2="output.LayerNorm",
        linear1="intermediate.dense",
        linear2="output.dense",
        pooler="bert.pooler.dense",
        head="classifier",
        unused=(".position_ids",),
        norm_epsilon=1e-12,
        norm_order="post",
    ),
    # behind the attention's sum stands `norm1`, through which all of the layer goes
    Layout(
        name="MPCViT",
        source="PKU-SEC-Lab/mpcvit, src/vit.py and src/utils/transformers.py",
        patches="tokenizer.conv_layers.0.0",
        class_token="classifier.class_emb",
        positions="classifier.positional_emb",
        layers="classifier.blocks.",
        norm1="pre_norm",
        qkv=("self_attn.qkv",),
        projection="self_attn.proj",
        norm2="norm1",
        linear1="linear1",
        linear2="linear2",
        last_norm="classifier.norm",
        head="classifier.fc",
        alpha="self_attn.alpha",
        beta="beta",
        norm_epsilon=NORM_EPSILON,
        norm_order="between",
    ),
)
# parts of names of what no architecture.json can say
_FOREIGN: Final = {
    "dist": "a distillation token",
    "distillation": "a distillation token",
    "reg_token": "register tokens",
    "register_tokens": "register tokens",
    "q_norm": "a norm of queries",
    "k_norm": "a norm of keys",
    "fc_norm": "a norm behind the mean of the tokens",
    "norm_pre": "a norm in front of the layers",
    "attn_pool": "pooling by attention",
    "attention_pool": "pooling by attention",
    "relative_position": "relative positions",
    "rel_pos": "relative positions",
    "fc1_g": "a gated MLP",
    "w12": "a gated MLP",
    "q_bias": "a bias of queries without one of keys",
}


_OTHERS: Final = {  # priced here, but not as an architecture.json
    "patch_embed.conv1.conv.weight": "an EfficientViT: mpcprof predict --model "
    "efficientvit-m0 prices it, and mpcvit.models.efficientvit takes its weights",
    "roberta.embeddings.word_embeddings.weight": "a RoBERTa, whose positions begin "
    "elsewhere and whose classifier has two layers",
}


def find_layout(names: Iterable[str]) -> Layout:
    """Return the layout of a file with these names.

    Raises:
        UsageError: If none has them, or the network is another one.
    """
    known = sorted({*names})
    for name in known:
        if name in _OTHERS:
            raise UsageError(f"{name} is of {_OTHERS[name]}; it cannot be imported")
        for part, meaning in _FOREIGN.items():
            if re.search(rf"(^|[._]){part}([._]|$)", name):
                raise UsageError(
                    f"{name}: {meaning}, which architecture.json cannot say; expected "
                    "a network without it"
                )
    for layout in LAYOUTS:
        if layout.mark in known:
            return layout
    expected = ", ".join(f"{one.mark} ({one.name})" for one in LAYOUTS)
    raise UsageError(
        f"{len(known)} tensors, such as {', '.join(known[:3])}: none is the embedding "
        f"of a network that can be imported; expected one of {expected}"
    )
