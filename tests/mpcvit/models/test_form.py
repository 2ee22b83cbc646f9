"""The network that is trained, the one that is deployed, and the one that is priced."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.preset import Convolution, ModelPreset
from mpcprof.nn.transformer import vit, weight_shapes
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcvit.models.layers import NONE, TrainedForm, Watch, to_patches
from mpcvit.models.mlp import Activate
from mpcvit.models.norm import BatchNorm, LayerNorm, RepBatchNorm, make_norm
from mpcvit.models.vit import VisionTransformer
from tests.architectures import ANY_NORM, TINY

GRID = replace(TINY, image_size=6, pooling="mean")  # 9 tokens
FORM = TrainedForm(has_mlp_norm=True)


def mixed(mixer: str, norm: str, model: ModelPreset = GRID) -> Architecture:
    """Make a layer of the mixer, and one of attention, of another norm and ratio."""
    return Architecture(
        model=model,
        attention=(((mixer,),), (("cube",), ("scale",), ("relu_n",))),
        activation=(("quad_linear",), ("identity",)),
        norm=("batchnorm", norm),
        mlp_ratio=(1.0, 2.0),
    )


STEM = (
    Convolution(channels=4, activation="relu", pool=2),
    Convolution(channels=12, activation="quad", pool=2),
)
IMAGE = replace(GRID, image_size=12, patch=1, n_channels=2, stem=STEM)
NETWORKS = {
    **{f"{m}, {n}": mixed(m, n) for m in MIXERS for n in ANY_NORM},
    "class token": mixed("token_mix", "batchnorm", TINY),
    "stem, embedded": mixed(
        "convolution", "batchnorm", replace(IMAGE, stem=STEM[:1], patch=2)
    ),
    "stem": mixed("pool", "affine", IMAGE),
    "stem alone": Architecture(
        model=replace(IMAGE, n_layers=0), attention=(), activation=()
    ),
    "no MLP": replace(
        mixed("token_mix", "repbn"), mlp_ratio=(0, 1.0), norm=("repbn",) * 2
    ),
}

RUN = [name for name in NETWORKS if "," not in name or "batchnorm" in name]


def make_images(model: ModelPreset, n_images: int = 4) -> torch.Tensor:
    size = (n_images, model.n_channels, model.image_size, model.image_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def make_trained(
    architecture: Architecture, form: TrainedForm = FORM
) -> VisionTransformer:
    """Draw every parameter and every statistic: nothing is 0 or 1."""
    torch.manual_seed(0)
    network = VisionTransformer(architecture, NONE, form)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.mean.normal_()
                module.variance.uniform_(0.5, 2)
    return network.eval()


def make_deployed(trained: VisionTransformer) -> VisionTransformer:
    deployed = VisionTransformer(trained.architecture).eval()
    deployed.load_weights(trained.weights())
    return deployed


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_folded_network_is_the_trained_one_and_the_one_that_is_run(name):
    architecture = NETWORKS[name]
    trained, images = make_trained(architecture), make_images(architecture.model)
    patches = to_patches(images, architecture.model.input_patch).numpy()

    expected = trained(images)
    weights = {name: weight.numpy() for name, weight in trained.weights().items()}

    size = float(expected.abs().max())
    assert expected.std() > 1e-3 * size  # else anything would pass
    deployed = make_deployed(trained)(images)
    np.testing.assert_allclose(deployed, expected, rtol=1e-5, atol=1e-5 * size)
    if name in RUN:
        run = vit(JaxAlgebra(), architecture, patches, weights)
        np.testing.assert_allclose(run, expected, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_deployed_network_has_the_weights_that_are_priced_and_no_others(name):
    network = VisionTransformer(NETWORKS[name])

    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes == weight_shapes(NETWORKS[name])


@pytest.mark.parametrize("name", ["token_mix, repbn", "depthwise, affine", "stem"])
def test_every_weight_of_a_new_trained_network_learns(name):
    torch.manual_seed(0)
    form = replace(FORM, norm_until=0.5, activation_until=0.5)
    network = VisionTransformer(NETWORKS[name], NONE, form)
    network.begin_step(0.25)

    network(make_images(network.architecture.model, 8)).square().sum().backward()

    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("kind", [BatchNorm, RepBatchNorm])
def test_a_gradual_norm_begins_as_a_layernorm_and_ends_without(kind):
    norm, x = kind(5, until=0.5), torch.randn(4, 3, 5)
    without = kind(5)

    for progress, share in ((0.0, 1.0), (0.25, 0.5), (0.5, 0.0), (1.0, 0.0)):
        norm.begin_step(progress)
        expected = share * LayerNorm(5)(x) + (1 - share) * without(x)
        torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.eval()(x), without.eval()(x))


@pytest.fixture
def _several(monkeypatch) -> None:
    """Make one process take itself for several, whose sums are its own."""
    monkeypatch.setattr("mpcvit.models.norm._has_others", lambda: True)
    monkeypatch.setattr("mpcvit.models.norm._sum_over_processes", lambda x: x)


@pytest.mark.usefixtures("_several")
def test_a_gradual_norm_that_is_gone_still_has_gradients_where_processes_sum_them():
    norm = BatchNorm(5, until=0.5)
    norm.begin_step(0.75)

    norm(torch.randn(4, 3, 5)).square().sum().backward()

    assert norm.first is not None
    assert not any(parameter.grad.any() for parameter in norm.first.parameters())
    assert norm.gamma.grad.any()


@pytest.mark.usefixtures("_several")
def test_statistics_over_processes_are_those_of_torch_in_half_precision_too():
    x = (5 + torch.randn(300, 5)).bfloat16()
    norm, own = BatchNorm(5), torch.nn.BatchNorm1d(5)

    normed = norm(x)

    assert normed.dtype == torch.bfloat16
    torch.testing.assert_close(normed, own(x).to(torch.bfloat16), rtol=0, atol=0.02)
    torch.testing.assert_close(norm.mean, own.running_mean)
    torch.testing.assert_close(norm.variance, own.running_var)


def test_a_single_token_has_no_statistics():
    with pytest.raises(UsageError, match="one image of one token: BatchNorm expects"):
        BatchNorm(3)(torch.ones(1, 1, 3))


@pytest.mark.parametrize("name", ["batchnorm", "repbn"])
def test_frozen_statistics_make_the_trained_norm_the_deployed_one(name):
    norm, x = make_norm(name, 3, replace(FORM, frozen=0.25)), torch.randn(4, 3)
    norm.begin_step(0.7)
    norm(x)
    mean = norm.mean.clone()

    norm.begin_step(0.75)

    torch.testing.assert_close(norm(x), norm.eval()(x))
    assert torch.equal(norm.mean, mean)
    assert mean.abs().max() > 0


def test_a_gradual_square_begins_as_a_gelu_and_ends_as_a_square():
    square = Activate("quad_linear", replace(FORM, activation_until=0.5))
    gelu, quad, x = Activate("gelu_tanh"), Activate("quad_linear"), torch.randn(7)

    for progress, share in ((0.0, 1.0), (0.25, 0.5), (0.5, 0.0)):
        square.begin_step(progress)
        torch.testing.assert_close(square(x), share * gelu(x) + (1 - share) * quad(x))
    square.begin_step(0.0)
    assert torch.equal(square.eval()(x), quad(x))


def test_what_squares_take_in_beyond_the_bound_is_counted():
    form = replace(FORM, range_bound=2.0)
    square, relu = Activate("quad", form), Activate("relu", form)
    x = torch.tensor([1.0, -2.0, 3.0, -6.0])

    square(x)
    relu(x)

    assert square.watch.excess == (0 + 0 + 1 + 16) / 4
    assert relu.watch.excess is None


@pytest.mark.parametrize(("norm", "n_watched"), [("batchnorm", 2), ("layernorm", 1)])
def test_attention_is_watched_behind_a_norm_that_bounds_nothing(norm, n_watched):
    architecture = replace(mixed("token_mix", norm), mlp_ratio=(0.0, 2.0))
    architecture = replace(architecture, activation=(("relu",), ("quad",)))
    network = VisionTransformer(architecture, NONE, TrainedForm(range_bound=0.01))

    network(make_images(GRID))

    found = [m.excess for m in network.modules() if isinstance(m, Watch)]
    given = [excess for excess in found if excess is not None]
    assert len(given) == n_watched
    assert network.excess() == sum(given) / n_watched > 0
