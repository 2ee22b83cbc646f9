"""The torch networks against the float64 reference, JAX, and their own laws."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.errors import UsageError
from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.architecture import Architecture, uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.preset import MODELS
from mpcprof.nn.transformer import vit, weight_shapes
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcprof.workloads.models import weight_domains
from mpcprof.workloads.reference import vit64
from mpcvit.models.layers import DropPath, Regularization, to_patches
from mpcvit.models.vit import VisionTransformer
from tests.architectures import OWN_SIZES, TINY, architectures, make_architecture

ATOL = 1e-4  # of logits, in float32
NOT_SPARSEMAX = [name for name in ATTENTIONS if name != "sparsemax"]


def make_network(architecture: Architecture, seed: int = 0) -> VisionTransformer:
    """Weights of variance 1 / fan-in, every bias drawn: nothing is 0 or 1."""
    rng = np.random.default_rng(seed)
    network = VisionTransformer(architecture).eval()
    shapes = weight_shapes(architecture)
    network.load_weights(
        {
            name: torch.tensor(rng.uniform(*domain, shapes[name]))
            for name, domain in weight_domains(architecture).items()
        }
    )
    return network


def make_images(model=TINY, n_images: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (n_images, model.n_channels, model.image_size, model.image_size)
    return torch.rand(shape, generator=generator)


@pytest.mark.parametrize(
    "name", [name for name in OWN_SIZES if not OWN_SIZES[name].n_embeddings]
)
def test_torch_gives_the_reference_of_sizes_of_its_own(name):
    model = OWN_SIZES[name]

    assert_torch_gives_the_reference(uniform_architecture(model, attention="softmax"))


def test_a_model_without_images_is_no_network_of_images():
    encoder = uniform_architecture(OWN_SIZES["embedded"], attention="scale")

    with pytest.raises(UsageError, match="own takes 4 embedded tokens and no images"):
        VisionTransformer(encoder)


def numpy_weights(network: VisionTransformer) -> dict[str, np.ndarray]:
    return {name: weight.numpy() for name, weight in network.weights().items()}


def assert_torch_gives_the_reference(architecture: Architecture, **images: int) -> None:
    network = make_network(architecture)
    given_images = make_images(architecture.model, **images)
    patches = to_patches(given_images, architecture.model.patch).numpy()

    with torch.no_grad():
        logits = network(given_images)

    reference = vit64(architecture, patches, numpy_weights(network))
    assert np.std(reference) > 100 * ATOL  # else anything would pass
    np.testing.assert_allclose(logits, reference, rtol=1e-4, atol=ATOL)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_gives_the_reference(activation):
    assert_torch_gives_the_reference(
        uniform_architecture(TINY, attention="softmax", activation=activation)
    )


@pytest.mark.parametrize("attention", NOT_SPARSEMAX)
def test_each_attention_gives_the_reference(attention):
    assert_torch_gives_the_reference(uniform_architecture(TINY, attention=attention))


@settings(max_examples=25)
@given(architecture=architectures())
def test_any_mixture_gives_the_reference(architecture):
    # six Newton steps of sparsemax stop short of the reference; JAX below has them too
    attention = tuple(
        tuple(
            tuple("softmax" if name == "sparsemax" else name for name in head)
            for head in layer
        )
        for layer in architecture.attention
    )

    assert_torch_gives_the_reference(replace(architecture, attention=attention))


ALL_VARIANTS = replace(TINY, n_heads=len(ATTENTIONS), width=4 * len(ATTENTIONS))
EVERY_VARIANT = Architecture(
    model=ALL_VARIANTS,
    attention=(
        tuple((name,) for name in ATTENTIONS),
        tuple((name, *["scale"] * 4) for name in ATTENTIONS),
    ),
    activation=((*[*ACTIVATIONS][:5],), ("identity_relu",)),
)


@pytest.mark.parametrize(
    "architecture",
    [make_architecture(), make_architecture(heads="batched"), EVERY_VARIANT],
    ids=["serial", "batched", "every variant"],
)
def test_torch_gives_what_jax_gives(architecture):
    network = make_network(architecture)
    images = make_images(architecture.model)
    patches = to_patches(images, architecture.model.patch).numpy()

    with torch.no_grad():
        logits = network(images)

    expected = vit(JaxAlgebra(), architecture, patches, numpy_weights(network))
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("heads", ["serial", "batched"])
@pytest.mark.parametrize(
    ("preset", "n_heads"),
    [("digits", 4), ("cifar-small", 4), ("cifar", 4), ("tiny-imagenet", 12)],
)
def test_a_layer_of_a_preset_gives_the_reference(preset, n_heads, heads):
    model = replace(MODELS[preset], n_layers=1)
    mixed = [("relu_softmax", "scale", "softmax")[i % 3] for i in range(n_heads)]
    gelus = ["gelu_tanh", "identity_relu"] * model.n_tokens
    architecture = Architecture(
        model=model,
        heads=heads,
        attention=(tuple((name,) for name in mixed),),
        activation=(tuple(gelus[: model.n_tokens]),),
    )

    assert_torch_gives_the_reference(architecture, n_images=1)


def test_weights_are_those_that_are_priced_and_shared():
    architecture = make_architecture()

    weights = VisionTransformer(architecture).weights()

    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    assert [*shapes.items()] == [*weight_shapes(architecture).items()]
    assert not any(weight.requires_grad for weight in weights.values())


def test_a_network_has_no_weights_but_those():
    network = VisionTransformer(make_architecture())

    assert {*network.state_dict()} == {*network.weights()}


def test_one_seed_gives_one_network():
    first, second, other = (
        torch.random.manual_seed(seed) and VisionTransformer(make_architecture())
        for seed in (3, 3, 4)
    )

    images = make_images()
    assert torch.equal(first(images), second(images))
    assert not torch.equal(first(images), other(images))


def changed(weights, name, value):
    return {**weights, name: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {k: v for k, v in w.items() if k != "head.bias"}, "1 missing (head"),
        (lambda w: changed(w, "foot.bias", torch.ones(3)), "1 unknown (foot.bias)"),
        (lambda w: changed(w, "head.bias", torch.ones(4)), "(4,): expected (3,)"),
    ],
)
def test_weights_of_another_network_are_refused(change, message):
    network = VisionTransformer(make_architecture())

    with pytest.raises(UsageError, match=re.escape(message)):
        network.load_weights(change(network.weights()))


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 4, 4), (1, 4, 4)])
def test_images_of_another_size_are_refused(shape):
    network = VisionTransformer(make_architecture())

    with pytest.raises(UsageError, match=r"expected .* with \(1, 4, 4\)"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("activation", ["gelu_tanh", "identity_relu"])
def test_every_weight_of_a_new_network_learns(attention, activation):
    torch.manual_seed(0)
    architecture = uniform_architecture(
        TINY, attention=attention, activation=activation
    )
    network = VisionTransformer(architecture)

    network(make_images(n_images=8)).square().sum().backward()

    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


# behind a sum near 0, which an epsilon of 1e-5 lets through, rounding decides
_WELL_CONDITIONED = sorted({*ATTENTIONS} - {"relu_softmax_mpcvit"})


@pytest.mark.parametrize("heads", ["mixed rows", *_WELL_CONDITIONED])
def test_in_half_precision_the_logits_are_nearly_the_same(heads):
    architecture = (
        make_architecture()
        if heads == "mixed rows"
        else uniform_architecture(TINY, attention=heads)
    )
    network, images = make_network(architecture), make_images()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
    logits.float().sum().backward()

    exact = network(images).detach()
    np.testing.assert_allclose(logits.detach().float(), exact, atol=0.15)
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_the_class_token_of_the_features_gives_the_logits():
    network = make_network(make_architecture())
    images = make_images()

    features = network.features(images)

    assert features.shape == (2, TINY.n_tokens, TINY.width)
    assert torch.equal(network.classify(features), network(images))
    others = features + torch.nn.functional.pad(torch.ones(4, 12), (0, 0, 1, 0))
    assert torch.equal(network.classify(others), network(images))


@given(
    n_channels=st.integers(1, 3),
    patch=st.integers(1, 3),
    n_rows=st.integers(1, 3),
    n_columns=st.integers(1, 3),
)
def test_a_patch_holds_its_pixels_by_row_column_and_channel(
    n_channels, patch, n_rows, n_columns
):
    images = np.random.default_rng(0).normal(
        size=(2, n_channels, patch * n_rows, patch * n_columns)
    )

    patches = to_patches(torch.tensor(images), patch).numpy()

    for index in range(n_rows * n_columns):
        row, column = divmod(index, n_columns)
        cut = images[:, :, row * patch :, column * patch :][:, :, :patch, :patch]
        expected = np.moveaxis(cut, 1, -1).reshape(2, -1)
        np.testing.assert_array_equal(patches[:, index], expected)


@pytest.mark.parametrize("shape", [(1, 1, 4, 5), (1, 1, 5, 4), (4, 4)])
def test_patches_that_do_not_fill_an_image_are_refused(shape):
    with pytest.raises(UsageError, match="multiples of patch=2"):
        to_patches(torch.zeros(shape), 2)


def test_a_dropped_path_is_gone_for_an_image_and_made_up_for_by_the_others():
    torch.manual_seed(0)
    branch = torch.ones(4000, 2, 3)

    dropped = DropPath(0.25)(branch)

    by_image = dropped.flatten(1)
    assert (by_image == by_image[:, :1]).all()
    np.testing.assert_allclose(by_image.unique(), [0, 1 / 0.75], rtol=1e-6)
    assert by_image.mean() == pytest.approx(1, abs=0.03)


def test_paths_are_dropped_more_often_the_deeper_they_are():
    regularization = Regularization(path_dropout=0.1)

    found = [regularization.path_dropout_of(layer, 3) for layer in range(3)]

    assert found == pytest.approx([0, 0.05, 0.1])
    assert regularization.path_dropout_of(0, 1) == 0


@pytest.mark.parametrize("name", ["attention_dropout", "path_dropout"])
def test_dropping_changes_training_and_not_evaluation(name):
    architecture = make_architecture()
    plain = make_network(architecture)
    network = VisionTransformer(architecture, Regularization(**{name: 0.5}))
    network.load_weights(plain.weights())
    images = make_images(n_images=8)

    assert not torch.equal(network.train()(images), plain(images))
    assert torch.equal(network.eval()(images), plain(images))


@pytest.mark.parametrize("name", ["attention_dropout", "path_dropout"])
@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_what_is_no_probability_is_refused(name, probability):
    with pytest.raises(UsageError, match=rf"{name}=.*\[0, 1\)"):
        Regularization(**{name: probability})
