"""Torch, JAX and the parties compute the same logits."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mpcprof.deployment import make_deployment
from mpcprof.network import LOOPBACK
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.transformer import vit
from mpcprof.workloads.models import model_workload
from mpcvit.models.layers import to_patches
from mpcvit.models.vit import VisionTransformer
from mpcvit.secure.fixed_point import FixedPointAlgebra
from mpcvit.secure.parties import Conditions, open_parties

N_IMAGES = 2
FLOAT_ERROR = 1e-5
SPU_ERROR = 5e-3  # 18 fraction bits, exp, GeLU and roots of SPU
N_EMULATIONS = 16
FOUR = ("softmax", "relu_softmax", "scale", "relu_softmax")


def make_architecture(n_heads, heads):
    model = ModelPreset(
        name="tiny",
        n_layers=2,
        n_heads=n_heads,
        width=48,
        mlp_ratio=2,
        image_size=4,
        patch=2,
        n_channels=1,
        n_classes=3,
    )
    layer = tuple((name,) for name in FOUR) * (n_heads // len(FOUR))
    mixed = ("gelu_tanh", "identity") * 2 + ("gelu_tanh",)  # by token
    return Architecture(
        model=model,
        heads=heads,
        attention=(layer, layer[::-1]),
        activation=(mixed, ("identity_relu",)),
    )


@pytest.fixture(params=[(n, how) for n in (4, 12) for how in ("serial", "batched")])
def network(request):
    """A network with weights of the size of trained ones, in evaluation."""
    torch.manual_seed(1)
    network = VisionTransformer(make_architecture(*request.param)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return network


@pytest.fixture
def images():
    return torch.rand(N_IMAGES, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def torch_logits(network, images):
    return network(images).numpy()


def test_jax_computes_what_torch_does(network, images):
    weights = [weight.numpy() for weight in network.weights().values()]
    workload = model_workload(network.architecture)

    logits = workload.function(to_patches(images, 2).numpy(), *weights)

    expected = torch_logits(network, images)
    assert expected.std() > 0.1
    assert np.abs(np.asarray(logits) - expected).max() < FLOAT_ERROR


@torch.no_grad()
def emulated_logits(network, images, seed):
    ops = FixedPointAlgebra(seed=seed)
    weights = {name: ops.encode(weight) for name, weight in network.weights().items()}
    patches = ops.encode(to_patches(images, 2))
    return ops.decode(vit(ops, network.architecture, patches, weights)).numpy()


@pytest.mark.spu
@pytest.mark.usefixtures("stay")
def test_parties_compute_what_torch_does_and_the_emulation(network, images, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(network.weights(), path)
    patches = tmp_path / "patches.npy"
    np.save(patches, to_patches(images, 2).numpy())
    conditions = Conditions(deployment=make_deployment("semi2k"), network=LOOPBACK)

    with open_parties(
        path, network.architecture, conditions, n_batch=N_IMAGES
    ) as model:
        answer = model.classify(patches)

    errors = np.abs(answer.logits - torch_logits(network, images))
    assert errors.max() < SPU_ERROR
    first, *others = (emulated_logits(network, images, s) for s in range(N_EMULATIONS))
    furthest = max(np.abs(other - first).max() for other in others)
    assert furthest < SPU_ERROR
    assert np.abs(answer.logits - first).max() < 2 * furthest
