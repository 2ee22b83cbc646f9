"""The forecast of a party's memory, held against what parties were seen to need."""

import math
import re
from dataclasses import replace

import pytest

from mpcprof.costmodel.memory import FOOTPRINTS, forecast_memory_bytes
from mpcprof.deployment import make_deployment
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.nn.catalogue import count_inputs, trace_model
from mpcprof.nn.steps import PRIMITIVES, Step
from mpcprof.nn.transformer import weight_shapes
from mpcprof.predict import predict_model
from tests import ROOT
from tests.committed import committed_model

SEMI2K = make_deployment("semi2k")
CIFAR = uniform_architecture(get_model("cifar"), attention="softmax")


def test_every_primitive_has_a_working_set():
    for footprint in FOOTPRINTS.values():
        assert {*footprint.working} == {*PRIMITIVES}


# peaks that fresh parties had, semi2k; `python benchmarks/memory.py --networks`
@pytest.mark.parametrize(
    ("model", "attention", "heads", "n_layers", "n_batch", "seen_mb"),
    [
        ("digits", "softmax", "batched", None, 1, 232),
        ("cifar", "softmax", "batched", 2, 1, 275),
        ("cifar", "scale", "serial", 2, 1, 276),
        ("cifar", "relu_softmax", "batched", 1, 8, 370),
        ("tiny-imagenet", "softmax", "batched", 1, 1, 447),
        ("docs/models/vit-b16.json", "softmax", "batched", 1, 1, 663),
    ],
)
def test_networks_are_within_6_percent(
    model, attention, heads, n_layers, n_batch, seen_mb
):
    preset = get_model(str(ROOT / model) if "/" in model else model)
    preset = replace(preset, n_layers=n_layers or preset.n_layers)
    network = uniform_architecture(preset, attention=attention, heads=heads)

    forecast = forecast_memory_bytes(
        SEMI2K, trace_model(network, n_batch), count_inputs(network, n_batch)
    )

    assert forecast == pytest.approx(seen_mb * 1e6, rel=0.06)


def test_weights_are_loaded_at_three_times_what_is_kept_of_them():
    step = [Step("mul", (100,))]

    without, with_weights = (forecast_memory_bytes(SEMI2K, step, n) for n in (0, 10**9))

    assert with_weights - without == pytest.approx(24e9, rel=1e-3)


def test_what_parties_hold_is_input_and_weights():
    weights = sum(math.prod(shape) for shape in weight_shapes(CIFAR).values())

    assert count_inputs(CIFAR, 2) == 2 * 64 * 48 + weights


@pytest.mark.parametrize(
    "deployment",
    [
        make_deployment("cheetah"),
        make_deployment("semi2k", field_bits=128),
        make_deployment("semi2k", runtime="spu-0.3.1b0"),
    ],
    ids=["cheetah", "128 bits", "the paper's build"],
)
def test_what_nobody_measured_is_not_forecast(deployment):
    assert forecast_memory_bytes(deployment, trace_model(CIFAR), 1) is None


def test_a_prediction_shows_it_as_a_forecast():
    report = predict_model(committed_model(), CIFAR, [committed_model().reference])

    (line,) = (one for one in report.lines() if one.startswith("memory"))
    assert re.fullmatch(r"memory of a party: 0\.3\d GB at its peak, a forecast", line)
    assert f'"peak_memory_bytes": {report.peak_memory_bytes}' in report.to_json()
