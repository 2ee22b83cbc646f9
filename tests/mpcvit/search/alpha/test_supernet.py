"""The supernet: at its corners it is the architectures, in between a mixture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.preset import MODELS, Convolution
from mpcvit.models.attention import MixedAttention
from mpcvit.models.layers import Regularization
from mpcvit.models.mlp import MixedMlp
from mpcvit.models.vit import VisionTransformer
from mpcvit.search.alpha.space import SearchSpace, choose
from mpcvit.search.alpha.supernet import Supernet
from mpcvit.train.loop import decayed_groups
from mpcvit.train.recipe import get_recipe
from tests.architectures import TINY, make_architecture

SPACES = [
    SearchSpace(granularity=granularity, activation=activation)
    for granularity in ("layer", "head", "row")
    for activation in ("none", "layer", "token")
] + [SearchSpace(accurate="linformer", cheap="2quad", linear="identity")]
each_space = pytest.mark.parametrize(
    "space", SPACES, ids=lambda s: f"{s.accurate}-{s.granularity}-{s.activation}"
)


def make_supernet(space: SearchSpace = SPACES[1], model=TINY) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(model, space).eval()
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if name not in ("alpha", "beta"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return supernet


def make_images(model=TINY, n_images: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (n_images, model.n_channels, model.image_size, model.image_size)
    return torch.randn(shape, generator=generator)


def set_choice(supernet: Supernet, alpha: np.ndarray, beta: np.ndarray | None) -> None:
    masks = [alpha] if beta is None else [alpha, beta]
    with torch.no_grad():
        pairs = zip(supernet.architecture_parameters(), masks, strict=True)
        for parameter, mask in pairs:
            parameter.copy_(torch.tensor(mask))


def assert_it_is_the_chosen_network(supernet, alpha, beta, images) -> None:
    set_choice(supernet, alpha, beta)
    architecture = choose(supernet.space, supernet.model, alpha, beta)
    network = VisionTransformer(architecture).eval()
    network.load_weights(supernet.weights(architecture))

    with torch.no_grad():
        torch.testing.assert_close(
            supernet(images), network(images), rtol=1e-4, atol=1e-5
        )


@each_space
@settings(max_examples=6)
@given(data=st.data())
def test_a_hard_choice_is_the_network_of_that_architecture(space, data):
    alpha = data.draw(arrays(bool, space.alpha_shape(TINY)))
    beta_shape = space.beta_shape(TINY)
    beta = None if beta_shape is None else data.draw(arrays(bool, beta_shape))

    assert_it_is_the_chosen_network(make_supernet(space), alpha, beta, make_images())


@pytest.mark.parametrize("name", ["digits", "tiny-imagenet"])
def test_so_it_is_with_4_and_with_12_heads(name):
    model = MODELS[name]
    space = SearchSpace(activation="token")
    rng = np.random.default_rng(0)
    alpha = rng.random(space.alpha_shape(model)) < 0.5
    beta = rng.random(space.beta_shape(model)) < 0.5

    assert_it_is_the_chosen_network(
        make_supernet(space, model), alpha, beta, make_images(model, n_images=1)
    )


@each_space
def test_it_begins_as_the_accurate_network(space):
    supernet = make_supernet(space)
    start = uniform_architecture(TINY, attention=space.accurate, activation=space.gelu)
    network = VisionTransformer(start).eval()
    network.load_weights(supernet.weights(start))

    assert all((p == 1).all() for p in supernet.architecture_parameters())
    torch.testing.assert_close(supernet(make_images()), network(make_images()))


@pytest.mark.parametrize("shape", [(), (3,), (3, 5)])
def test_attention_is_mixed_by_alpha(shape):
    torch.manual_seed(0)
    attention = MixedAttention(TINY, "relu_softmax", "scale", 0.0)
    x, alpha = torch.randn(2, 5, 12), torch.full(shape, 0.3)

    mixed = attention(x, alpha)

    accurate, cheap = attention(x, torch.ones(shape)), attention(x, torch.zeros(shape))
    torch.testing.assert_close(mixed, 0.3 * accurate + 0.7 * cheap)
    assert not torch.allclose(accurate, cheap, atol=1e-3)


def test_gelu_is_mixed_by_beta_for_each_token():
    torch.manual_seed(0)
    mlp = MixedMlp(TINY, "gelu_tanh", "identity")
    x, beta = torch.randn(2, 5, 12), torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])

    mixed = mlp(x, beta)

    gelu, linear = mlp(x, torch.ones(5)), mlp(x, torch.zeros(5))
    share = beta[:, None]
    torch.testing.assert_close(mixed, share * gelu + (1 - share) * linear)
    torch.testing.assert_close(linear, mlp.linear2(mlp.linear1(x)))


@each_space
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_the_loss_reaches_each_alpha_and_beta_wherever_they_stand(space, value):
    supernet = make_supernet(space)
    with torch.no_grad():
        for parameter in supernet.architecture_parameters():
            parameter.fill_(value)

    supernet.features(make_images()).square().sum().mul(0.5).sub(1).square().backward()

    for parameter in supernet.architecture_parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).all()


def test_the_slope_of_alpha_is_what_the_accurate_attention_changes():
    supernet = make_supernet(SearchSpace())
    set_choice(supernet, np.full((2, 3), 0.5), None)
    images, step = make_images(), 1e-3

    supernet(images).sum().backward()

    slope = supernet.alpha.grad[1, 2].item()
    sums = []
    for sign in (1, -1):
        set_choice(supernet, np.full((2, 3), 0.5), None)
        with torch.no_grad():
            supernet.alpha[1, 2] += sign * step
            sums.append(supernet.double()(images.double()).sum().item())
    assert slope == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=1e-2)


@each_space
def test_clamping_projects_onto_0_to_1(space):
    supernet = make_supernet(space)
    values = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5])
    for parameter in supernet.architecture_parameters():
        parameter.data = values[torch.arange(parameter.numel()) % 5].view_as(parameter)

    supernet.clamp()

    for parameter in supernet.architecture_parameters():
        expected = torch.tensor([0.0, 0.0, 0.25, 1.0, 1.0])
        assert torch.equal(
            parameter.data.flatten(), expected[torch.arange(parameter.numel()) % 5]
        )
        assert parameter.requires_grad


@each_space
def test_every_parameter_is_either_a_choice_or_a_weight(space):
    supernet = make_supernet(space)

    choices = supernet.architecture_parameters()
    groups = decayed_groups(supernet, get_recipe("digits"), apart=choices)

    chosen = {id(p) for p in choices}
    weights = {id(p) for group in groups for p in group.parameters}

    assert not chosen & weights
    assert chosen | weights == {id(p) for p in supernet.parameters()}
    assert len(chosen) == 1 + (space.activation != "none")


def test_dropping_is_for_training_only():
    regularization = Regularization(attention_dropout=0.5, path_dropout=0.5)
    supernet = Supernet(TINY, SearchSpace(), regularization)
    images = make_images()

    assert not torch.equal(supernet(images), supernet(images))
    supernet.eval()
    assert torch.equal(supernet(images), supernet(images))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (make_architecture(), "the search has no layers.1.attention.linformer"),
        (
            uniform_architecture(MODELS["digits"], attention="scale"),
            "architecture of model digits: expected that of the search, tiny",
        ),
    ],
)
def test_weights_for_what_was_not_searched_are_refused(architecture, message):
    with pytest.raises(UsageError, match=message):
        make_supernet(SearchSpace()).weights(architecture)


def test_a_model_with_a_stem_is_refused():
    stem = (Convolution(channels=8, pool=2),)

    with pytest.raises(UsageError, match=r"has a stem: .* --space free"):
        Supernet(replace(MODELS["digits"], stem=stem, patch=1), SearchSpace())
