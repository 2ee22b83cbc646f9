"""What a prediction shows in a notebook, and how a cost model is asked for one."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from mpcprof.costmodel.model import CostModel
from mpcprof.costmodel.prediction import layer_bars, operation_bars
from mpcprof.html import BarRow, draw_bars, part_color
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from tests.committed import committed_model, committed_profile, small_profile

DIGITS = uniform_architecture(MODELS["digits"], attention="softmax")
SVG = "{http://www.w3.org/2000/svg}"


def test_a_network_is_priced_as_its_steps_are():
    model = committed_model()

    by_name = model.predict(DIGITS, "384MBps,0.3ms", n_batch=2)

    assert by_name == model.predict(trace_model(DIGITS, 2), NETWORKS["lan"])
    assert model.predict(DIGITS) == model.predict(DIGITS, NETWORKS["wan"])


def test_a_model_comes_from_a_profile_or_from_its_file():
    from_file = CostModel.from_profile(small_profile())

    assert "exp" in from_file.operations
    assert CostModel.from_profile(committed_profile()) == committed_model()


def test_bars_add_up_to_the_prediction():
    predicted = committed_model().predict(DIGITS)

    layers, operations = layer_bars(predicted), operation_bars(predicted)

    assert [row.label for row in layers] == [
        *("embedding", "layer 1", "layer 2", "layer 3", "head")
    ]
    assert {name for name, _ in layers[1].parts} == {"norm", "attention", "mlp"}
    for rows in (layers, operations):
        drawn_s = sum(row.length for row in rows)
        assert drawn_s == pytest.approx(predicted.latency_s - predicted.per_call_s)


def test_no_bar_is_shorter_than_nothing_on_a_network_that_costs_nothing():
    predicted = committed_model().predict(DIGITS, "1TBps,0us")

    parts = [value for row in operation_bars(predicted) for _, value in row.parts]

    assert min(parts) >= 0


def test_the_picture_is_well_formed_says_all_in_words_and_fits():
    rows = [
        BarRow(label="a & b", parts=(("norm", 3.0), ("mlp", 1.0)), text="4 s"),
        BarRow(label="c", parts=(("mlp", 2.0),), text="2 s"),
    ]

    svg = ElementTree.fromstring(draw_bars("Seconds", rows))
    bars = [one for one in svg.iter(f"{SVG}rect") if float(one.get("height")) > 11]

    assert svg.get("aria-label") == "Seconds: a & b 4 s; c 2 s"
    widths = [float(one.get("width")) for one in bars]
    assert widths == pytest.approx([3 * widths[1], widths[1], 2 * widths[1]], abs=0.02)
    width = float(svg.get("viewBox").split()[2])
    assert max(float(b.get("x")) + float(b.get("width")) for b in bars) < width
    assert [one.get("fill") for one in bars] == [
        *map(part_color, ("norm", "mlp", "mlp"))
    ]


def test_a_notebook_shows_the_sum_the_bars_and_the_notes():
    predicted = committed_model().predict(DIGITS, "1MBps,900ms")

    shown = predicted._repr_html_()

    assert str(predicted) in shown
    assert shown.count("<svg ") == 2
    assert all(note.split(":")[0] in shown for note in predicted.notes)
    assert predicted.notes
    assert not re.search(r"(href|src)=", shown)
