"""EfficientViT in torch: the published sizes, timm's names, and the network in nn."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mpcprof.errors import UsageError
from mpcprof.nn.efficientvit import (
    EFFICIENTVITS,
    KEY_DIM,
    EfficientViT,
    efficientvit,
    efficientvit_shapes,
)
from mpcprof.predict import predict_architecture
from mpcprof.workloads.models import model_workload
from mpcvit.models.algebra import OPS
from mpcvit.models.efficientvit import (
    CascadedGroupAttention,
    EfficientViTMSRA,
    to_pixels,
)
from tests.committed import committed_model

# parameters: of the code and the paper's Table 1 (2.3, 3.0, 4.2, 6.9, 8.8, 12.4 M)
PARAMETERS = {
    "efficientvit-m0": 2_349_436,
    "efficientvit-m1": 2_980_560,
    "efficientvit-m2": 4_187_554,
    "efficientvit-m3": 6_900_722,
    "efficientvit-m4": 8_804_228,
    "efficientvit-m5": 12_473_772,
}
M0 = EFFICIENTVITS["efficientvit-m0"]
TINY = EfficientViT(
    name="tiny", widths=(16, 32, 32), depths=(1, 1, 1), n_heads=(2, 2, 2), n_classes=5
)
ATOL = 1e-4  # of logits, in float32
pytestmark = pytest.mark.usefixtures("one_thread")


def trained(network: EfficientViT, seed: int = 0) -> EfficientViTMSRA:
    """A network in which no branch is 0 and no statistic is that of the start."""
    torch.manual_seed(seed)
    module = EfficientViTMSRA(network)
    for name, weight in module.named_parameters():
        if name.endswith(("bn.weight", "bn.bias", "attention_biases")):
            torch.nn.init.uniform_(weight, 0.2, 1.0)
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            norm.momentum = 1.0  # the statistics of the last images
    with torch.no_grad():
        module.train()(images(network, 4))
    return module.eval()


def images(network: EfficientViT, n_images: int = 2) -> Tensor:
    side = network.image_size
    return torch.rand((n_images, network.n_channels, side, side))


@pytest.mark.parametrize("name", EFFICIENTVITS)
def test_parameters_are_those_published(name):
    with torch.device("meta"):
        module = EfficientViTMSRA(EFFICIENTVITS[name])

    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[name]


# of timm 0.9.3, efficientvit_msra: what a reader of its file finds in the first block
def test_names_are_those_of_timm():
    names = {*EfficientViTMSRA(TINY).state_dict()}

    block, merge = "stages.0.blocks.0", "stages.1.downsample"
    assert names >= {
        "patch_embed.conv1.conv.weight",
        "patch_embed.conv4.bn.running_mean",
        f"{block}.dw0.m.conv.weight",
        f"{block}.ffn0.m.pw1.conv.weight",
        f"{block}.ffn1.m.pw2.bn.weight",
        f"{block}.mixer.m.attn.qkvs.0.conv.weight",
        f"{block}.mixer.m.attn.dws.1.bn.bias",
        f"{block}.mixer.m.attn.proj.1.conv.weight",
        f"{block}.mixer.m.attn.attention_biases",
        f"{merge}.res1.0.m.conv.weight",
        f"{merge}.res1.1.m.pw1.conv.weight",
        f"{merge}.patchmerge.conv2.conv.weight",
        f"{merge}.patchmerge.se.fc1.bias",
        f"{merge}.res2.1.m.pw2.bn.weight",
        "head.bn.running_var",
        "head.linear.weight",
    }


# 128: a map of 8, four windows with zeros; 32 and 48: maps of less than a kernel
@pytest.mark.parametrize(
    ("size", "attention"), [(32, "softmax"), (48, "2quad"), (128, "scale")]
)
def test_nn_gives_the_logits_of_torch(size, attention):
    network = replace(TINY, image_size=size, attention=attention)
    module, inputs = trained(network), images(network)

    logits = efficientvit(OPS, network, to_pixels(inputs), module.weights())

    expected = module(inputs).detach()
    assert torch.std(expected) > 0.1
    torch.testing.assert_close(logits, expected, atol=ATOL, rtol=ATOL)


def test_weights_have_the_shapes_that_are_priced():
    weights = EfficientViTMSRA(M0).weights()

    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    assert shapes == efficientvit_shapes(M0)


@torch.no_grad()
def test_heads_are_a_cascade_of_softmax_attention_with_a_bias_of_distances():
    network = replace(TINY, image_size=112)
    attention = next(
        m for m in trained(network).modules() if isinstance(m, CascadedGroupAttention)
    )
    x = torch.randn(1, 16, 7, 7)

    first, second = x.chunk(2, dim=1)
    places = [(i, j) for i in range(7) for j in range(7)]
    outputs: list[Tensor] = []
    for head, own in enumerate((first, second)):
        qkv = attention.qkvs[head](own + outputs[-1] if outputs else own)
        q, k, v = qkv.split([KEY_DIM, KEY_DIM, 8], dim=1)
        q = attention.dws[head](q)[0].flatten(1).T  # (49, 16)
        bias = torch.tensor(
            [
                [
                    attention.attention_biases[head, 7 * abs(a - c) + abs(b - d)]
                    for c, d in places
                ]
                for a, b in places
            ]
        )
        scores = q @ k[0].flatten(1) / math.sqrt(KEY_DIM) + bias
        values = functional.softmax(scores, dim=1) @ v[0].flatten(1).T
        outputs.append(values.T.reshape(1, 8, 7, 7))
    expected = attention.proj(torch.cat(outputs, dim=1))

    torch.testing.assert_close(attention(x), expected)


def test_a_file_of_timm_is_loaded_with_its_constants():
    module, other = trained(TINY, seed=1), EfficientViTMSRA(TINY).eval()
    file = module.state_dict() | {
        "stages.0.blocks.0.mixer.m.attn.attention_bias_idxs": torch.zeros(49, 49)
    }
    inputs = images(TINY, 1)

    other.load_weights(file)

    torch.testing.assert_close(other(inputs), module(inputs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.linear.weight": None}, "1 missing (head.linear.weight)"),
        ({"other": torch.zeros(1)}, "1 unknown (other)"),
        ({"head.linear.bias": torch.zeros(7)}, "1 of another shape (head.linear.bias)"),
    ],
)
def test_another_file_is_refused_by_the_name_of_a_weight(change, message):
    module = EfficientViTMSRA(TINY)
    file = {**module.state_dict(), **change}

    with pytest.raises(UsageError, match=re.escape(message)):
        module.load_weights({k: w for k, w in file.items() if w is not None})


@pytest.mark.spu
def test_parties_give_the_logits_of_torch_for_the_hops_and_bytes_predicted(semi2k):
    network = replace(TINY, widths=(16, 16, 16), n_heads=(2, 1, 1), image_size=64)
    module, inputs = trained(network), images(network, 1)
    weights = [weight.detach().numpy() for weight in module.weights().values()]
    shared = [to_pixels(inputs).numpy(), *weights]
    function = model_workload(network).function

    semi2k.load("case", semi2k.lower("case", function, shared), shared)
    call = semi2k.run("case").runs[0]
    logits = semi2k.fetch("case")
    semi2k.unload("case")

    predicted = predict_architecture(committed_model(), network)
    assert (call.send_actions, call.bytes_sent) == (
        predicted.hops,
        predicted.bytes_sent,
    )
    expected = module(inputs).detach().numpy()
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(logits, expected, atol=5e-3)
