"""What is taken down of a network's values, against numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mpcprof.nn.approximation import InverseBounds, SoftmaxBounds
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.nn.transformer import input_shape, vit, weight_shapes
from mpcvit.tune.places import leaving, share_damped, values_of
from mpcvit.tune.ranges import (
    LAST,
    LOG_SQUARES,
    LOG_SUMS,
    Place,
    RangeAlgebra,
    SeenRange,
    measure_ranges,
)


def network(attention, heads="batched"):
    architecture = uniform_architecture(
        get_model("digits"), attention=attention, heads=heads
    )
    generator = torch.Generator().manual_seed(0)

    def draw(shape):
        return 0.3 * torch.randn(shape, generator=generator)

    weights = {name: draw(s) for name, s in weight_shapes(architecture).items()}
    return architecture, weights, draw(input_shape(architecture, 5))


def test_every_place_of_a_softmax_network_is_seen_image_by_image():
    architecture, weights, patches = network("softmax")

    ranges = measure_ranges(architecture, weights, patches)

    kinds = ("norm1", "norm2", "scores", *LOG_SUMS, *LOG_SQUARES, "activation")
    assert {*ranges} == {
        *(Place(layer=layer, kind=kind) for layer in range(3) for kind in kinds),
        Place(layer=LAST, kind="last_norm"),
    }
    assert all(one.lows.shape == (5,) for one in ranges.values())


def test_heads_one_by_one_have_the_ranges_of_heads_together():
    for attention in ("softmax", "relu_softmax"):
        batched = measure_ranges(*network(attention))
        serial = measure_ranges(*network(attention, "serial"))

        assert batched.keys() == serial.keys()
        for place in batched:
            np.testing.assert_allclose(
                batched[place].highs, serial[place].highs, rtol=1e-5
            )


def test_an_image_alone_has_the_range_it_has_among_others():
    architecture, weights, patches = network("softmax")

    together = measure_ranges(architecture, weights, patches)
    alone = measure_ranges(architecture, weights, patches[3:4])

    for place, one in alone.items():
        np.testing.assert_allclose(
            one.lows[0], together[place].lows[3], rtol=1e-3, atol=1e-4
        )


def test_looking_changes_no_logit():
    architecture, weights, patches = network("relu_softmax_by_entry")

    looked_at = vit(RangeAlgebra(5), architecture, patches, weights)

    plain, _, _ = (
        vit(RangeAlgebra(1), architecture, one[None], weights) for one in patches[:3]
    )
    torch.testing.assert_close(looked_at[:1], plain, rtol=1e-4, atol=1e-4)


def test_a_margin_widens_about_the_middle_or_by_a_factor():
    seen = SeenRange(lows=np.array([1.0, 2.0]), highs=np.array([3.0, 5.0]))

    assert seen.widened(1.5) == (0.0, 6.0)
    assert seen.stretched(2.0) == (0.5, 10.0)
    assert seen.leaving(1.5, 5.0).tolist() == [True, False]


def test_one_value_alone_has_a_range_of_some_width():
    seen = SeenRange(lows=np.array([3.0]), highs=np.array([3.0]))

    for low, high in (seen.widened(1.0), seen.stretched(1.0)):
        assert 2.999 < low < 3.0 < high < 3.001


def test_an_image_leaves_where_only_a_halvings_squares_do():
    place = Place(layer=0, kind="scores")
    kinds = ("scores", *LOG_SUMS, *LOG_SQUARES)
    zero = SeenRange(lows=np.zeros(2), highs=np.zeros(2))
    met = {replace(place, kind=kind): zero for kind in kinds}
    inverse = InverseBounds(low=0.5, high=2.0, degree=8)
    bounds = SoftmaxBounds(
        low=-1, high=1, n_squarings=1, total=inverse, halvings=(inverse, inverse)
    )

    assert not leaving(bounds, place, {}, met).any()
    for kind in LOG_SQUARES[:2]:
        far = SeenRange(lows=np.array([0.0, -1.0]), highs=np.zeros(2))
        outside = leaving(bounds, place, {}, met | {replace(place, kind=kind): far})
        assert outside.tolist() == [False, True]


@pytest.mark.parametrize("kind", ["total", "norm2"])
def test_a_range_may_leave_out_the_lowest_values_which_are_damped(kind):
    values = np.sort(np.append(np.full(20, 2e-3), np.linspace(1, 8, 3980)))
    place = Place(layer=0, kind=kind)
    seen = SeenRange(lows=values[:1], highs=values[-1:], quantiles=values)
    architecture, _, _ = network("relu_softmax")

    found = [*values_of(architecture, {place: seen}, place, 1.5)]

    exact = [bounds.degree for bounds, _ in found if not bounds.is_damped]
    damped = [(bounds, error) for bounds, error in found if bounds.is_damped]
    bounds, error = damped[0]
    assert bounds.degree <= min(exact) / 4
    assert 0.03 < error < 0.1  # one row in 200 is nearly 0: 0.07 of all
    assert 0.002 < share_damped(bounds, place, seen) < 0.2
    assert not leaving(bounds, place, {place: seen}, {place: seen}).any()
