"""What may be searched, and which architecture a choice is."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpcprof.errors import UnknownNameError, UsageError
from mpcvit.search.alpha.space import SearchSpace, choose
from tests.architectures import TINY

GRANULARITIES = {"layer": (2,), "head": (2, 3), "row": (2, 3, 5)}
ACTIVATIONS = {"none": None, "layer": (2,), "token": (2, 5)}


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES.items())
def test_alpha_has_an_entry_for_each_thing_that_is_chosen(granularity, shape):
    assert SearchSpace(granularity=granularity).alpha_shape(TINY) == shape


@pytest.mark.parametrize(("activation", "shape"), ACTIVATIONS.items())
def test_beta_has_an_entry_for_each_thing_that_is_chosen(activation, shape):
    assert SearchSpace(activation=activation).beta_shape(TINY) == shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"granularity": "token"}, "granularity='token': expected layer or head or"),
        ({"activation": "row"}, "activation='row': expected none or layer or token"),
        ({"accurate": "scale"}, "accurate and cheap are both scale"),
        ({"gelu": "identity"}, "gelu='identity': expected an activation that is not"),
        ({"linear": "relu"}, "linear='relu': expected identity or identity_relu"),
    ],
)
def test_a_space_without_a_choice_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        SearchSpace(**settings)


@pytest.mark.parametrize("name", ["accurate", "cheap", "gelu", "linear"])
def test_a_name_that_is_not_known_is_refused(name):
    with pytest.raises(UnknownNameError, match="softmx"):
        SearchSpace(**{name: "softmx"})


def spread(mask, entry):
    """What the mask says of an entry of the finest granularity."""
    return mask[entry[: mask.ndim]]


@given(data=st.data())
def test_each_head_row_and_token_gets_what_its_mask_says(data):
    space = SearchSpace(
        granularity=data.draw(st.sampled_from([*GRANULARITIES])),
        activation=data.draw(st.sampled_from([*ACTIVATIONS])),
    )
    alpha = data.draw(arrays(bool, space.alpha_shape(TINY)))
    beta_shape = space.beta_shape(TINY)
    beta = None if beta_shape is None else data.draw(arrays(bool, beta_shape))

    architecture = choose(space, TINY, alpha, beta, "batched")

    assert architecture.heads == "batched"
    for entry in np.ndindex(2, 3, 5):
        layer, head, row = entry
        names = architecture.attention[layer][head]
        found = names[row] if len(names) > 1 else names[0]
        assert found == ("relu_softmax" if spread(alpha, entry) else "scale")
    for layer, token in np.ndindex(2, 5):
        names = architecture.activation[layer]
        is_gelu = beta is None or spread(beta, (layer, token))
        found = names[token] if len(names) > 1 else names[0]
        assert found == ("gelu_tanh" if is_gelu else "identity_relu")


def test_rows_that_are_all_alike_are_a_head():
    space = SearchSpace(granularity="row", activation="token")

    architecture = choose(space, TINY, np.ones((2, 3, 5), bool), np.zeros((2, 5), bool))

    assert architecture.attention == ((("relu_softmax",),) * 3,) * 2
    assert architecture.activation == (("identity_relu",),) * 2


@pytest.mark.parametrize(
    ("alpha", "beta", "message"),
    [
        (np.ones((2, 4), bool), np.ones(2, bool), r"alpha: bool of shape \(2, 4\)"),
        (np.ones((2, 3)), np.ones(2, bool), "alpha: float64"),
        (np.ones((2, 3), bool), None, r"beta: none given, expected bool of shape \(2"),
        (np.ones((2, 3), bool), np.ones((2, 5), bool), "beta: bool"),
    ],
)
def test_a_mask_of_another_space_is_refused(alpha, beta, message):
    with pytest.raises(UsageError, match=message):
        choose(SearchSpace(activation="layer"), TINY, alpha, beta)


def test_a_mask_of_what_is_not_searched_is_refused():
    with pytest.raises(UsageError, match=r"beta: bool .* expected none"):
        choose(SearchSpace(), TINY, np.ones((2, 3), bool), np.ones(2, bool))


def test_a_choice_needs_no_torch():
    script = "import mpcvit.search.alpha.space, sys; print('torch' in sys.modules)"

    out = subprocess.check_output([sys.executable, "-c", script], text=True)

    assert out.strip() == "False"
