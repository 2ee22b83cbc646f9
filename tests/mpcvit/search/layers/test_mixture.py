"""The mixture of all networks of a space of layers."""

from dataclasses import replace

import pytest
import torch

from mpcprof.nn.architecture import get_model
from mpcvit.models.layers import NONE, TrainedForm
from mpcvit.models.vit import VisionTransformer
from mpcvit.search.layers.mixture import Mixture
from mpcvit.search.layers.space import FACTORS, SPACES, LayerChoice, make_architecture

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = replace(get_model("digits"), pooling="mean", norm_epsilon=0.01)
FORM = TrainedForm(has_mlp_norm=True)


@pytest.fixture
def mixture():
    torch.manual_seed(0)
    space = SPACES["free"](MODEL)
    by_head = ("softmax", "scale", "scale", "scale")
    return Mixture(MODEL, replace(space, mixing=(*space.mixing, by_head)), FORM, NONE)


def choose(mixture, layers):
    """Make those choices the likeliest."""
    for place, factor in enumerate(FACTORS):
        logits, options = mixture.logits[factor], getattr(mixture.space, factor)
        with torch.no_grad():
            logits.zero_()
            for number, layer in enumerate(layers):
                logits[number, options.index(layer[place])] = 9.0


def copy_weights(mixture, network, layers):
    """Give a network of fixed choices the mixture's weights."""
    own = dict(mixture.state_dict())
    for number, (mixing, norm, _, ratio) in enumerate(layers):
        prefix = f"layers.{number}."
        for name, value in list(own.items()):
            if not name.startswith(prefix):
                continue
            inside = name.removeprefix(prefix)
            for one in ("norm1", "norm2"):
                inside = inside.replace(f"{one}.{norm}.", f"{one}.")
            inside = inside.replace(f"mixers.{mixing}.", "mixing.")
            hidden = round(ratio * MODEL.width)
            if inside.startswith(("linear1", "norm.")):
                inside, value = f"mlp.{inside}", value[..., :hidden]
            elif inside.startswith("linear2"):
                value = value[:hidden] if inside.endswith("weight") else value
                inside = f"mlp.{inside}"
            own[prefix + inside] = value
    for name in list(own):
        own[name.replace(f"norms.{layers[-1][1]}.", "norm.")] = own[name]
    wanted = network.state_dict()
    network.load_state_dict({name: own[name] for name in wanted})


@pytest.mark.parametrize(
    "layers",
    [
        [
            LayerChoice("softmax", "layernorm", "gelu_tanh", 2),
            LayerChoice("token_mix", "batchnorm", "relu", 1),
            LayerChoice("convolution", "batchnorm", "quad_linear", 2),
        ],
        [
            LayerChoice("pool", "layernorm", "relu", 1),
            LayerChoice("none", "batchnorm", "relu", 2),
            LayerChoice("scale", "batchnorm", "relu", 2),
        ],
        [LayerChoice(("softmax", *["scale"] * 3), "batchnorm", "relu", 2)] * 3,
    ],
)
def test_the_likeliest_choices_are_the_network_of_them(mixture, layers):
    choose(mixture, layers)
    architecture = make_architecture(MODEL, layers)
    network = VisionTransformer(architecture, NONE, FORM)
    copy_weights(mixture, network, layers)
    images = torch.rand(3, 1, 8, 8)

    expected = network.eval()(images)
    for module in mixture.eval().modules():
        module.train(mode=False)  # running means, as the network's

    torch.testing.assert_close(mixture(images), expected)


def test_a_step_mixes_two_options_of_each_factor_and_teaches_both(mixture):
    mixture.train()
    mixture(torch.rand(4, 1, 8, 8)).square().sum().backward()

    for logits in mixture.logits.values():
        n_taught = (logits.grad != 0).sum(-1)
        assert (n_taught <= 2).all()
    assert (mixture.logits["mixing"].grad != 0).any()


def test_the_likelier_an_option_the_oftener_it_is_drawn(mixture):
    logits = torch.zeros(1, 4)
    logits[0, 1] = 3.0
    mixture.train()

    drawn = torch.cat([mixture._draw(logits) for _ in range(200)])

    torch.testing.assert_close(drawn.sum(-1), torch.ones(200), atol=0.011, rtol=0)
    assert drawn.mean(0).argmax() == 1
    assert (drawn.mean(0) > 0).all()
