"""What `predict` prints, and how it reads what a person types."""

import json
import re

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.cli import main
from mpcprof.costmodel.prediction import sum_by_layer
from mpcprof.errors import MpcprofError, UnknownNameError, UsageError
from mpcprof.network import NETWORKS, Network, parse_network
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from mpcprof.predict import (
    choose_architecture,
    choose_network,
    plan_network,
    predict_model,
)
from tests import ROOT
from tests.architectures import OWN_SIZES
from tests.committed import committed_model, full_model

WAN, LAN = NETWORKS["wan"], NETWORKS["lan"]
DIGITS = uniform_architecture(MODELS["digits"], attention="relu_softmax")

networks = st.builds(
    Network, bandwidth_bytes_per_s=st.floats(1e4, 1e12), rtt_s=st.floats(0, 5)
)


def choose(**overrides):
    values = {
        "model": "",
        "attention": "softmax",
        "activation": None,
        "heads": None,
        "n_layers": None,
    }
    return choose_architecture(**(values | overrides))


@pytest.fixture
def path(tmp_path):
    """An architecture file of digits."""
    (tmp_path / "arch.json").write_text(DIGITS.to_json())
    return str(tmp_path / "arch.json")


def test_a_variant_is_that_of_every_head_of_cifar_by_default():
    chosen = choose()

    assert chosen == uniform_architecture(MODELS["cifar"], attention="softmax")
    assert chosen.activation[0] == ("gelu_tanh",)
    assert chosen.heads == "serial"


def test_names_choose_model_activation_heads_and_layers():
    chosen = choose(model="digits", activation="relu", heads="batched", n_layers=1)

    assert chosen.model.name == "digits"
    assert chosen.activation == (("relu",),)
    assert chosen.heads == "batched"


def test_a_file_is_taken_as_it_is(path):
    assert choose(attention=path) == DIGITS
    assert choose(attention=path, model="digits", n_layers=3) == DIGITS


# bytes of rank 0 and hops of one layer with its embedding and head, as real parties of
# semi2k counted them: `mpcprof verify --layers 1`, docs/commands.md
COUNTED = {
    "deit-tiny": (100_948_298, 579),
    "encoder-768": (277_272_765, 1549),
    "vit-b16": (442_118_003, 1839),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_layer_of_a_known_model_costs_what_parties_counted(name):
    one = choose(model=str(ROOT / "docs" / "models" / f"{name}.json"), n_layers=1)

    predicted = committed_model().predict(trace_model(one), WAN)

    assert (predicted.bytes_sent, predicted.hops) == COUNTED[name]


@pytest.mark.parametrize("protocol", ["semi2k", "aby3", "cheetah"])
@pytest.mark.parametrize("name", COUNTED)
def test_a_known_model_is_predicted_on_every_protocol(name, protocol):
    model = committed_model(protocol)
    sizes = str(ROOT / "docs" / "models" / f"{name}.json")
    whole, one = choose(model=sizes), choose(model=sizes, n_layers=1)

    predicted = predict_model(model, whole, [WAN]).predictions[0]

    layers = [p for p in sum_by_layer(predicted) if p.name.startswith("layer ")]
    part = model.predict(trace_model(one), WAN)
    assert len(layers) == 12
    more_s = 11 * layers[0].latency_s
    assert predicted.latency_s == pytest.approx(part.latency_s + more_s, rel=1e-9)
    low, high = predicted.interval_s
    assert low < predicted.latency_s < high
    is_within = (name, protocol) == ("deit-tiny", "aby3")  # which has sizes of BERT
    assert predicted.basis == ("interpolated" if is_within else "extrapolated")
    is_told = any("times the largest measured" in note for note in predicted.notes)
    assert is_told != is_within


def test_a_file_of_a_model_that_names_heads_is_taken_with_them(path):
    assert choose(attention=None, model=path) == DIGITS
    assert choose(attention="scale", model=path).attention[0][0] == ("scale",)


def test_heads_may_be_chosen_beside_a_file(path):
    assert choose(attention=path, heads="batched").heads == "batched"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model": "cifar"}, r"--model cifar: .*arch\.json is of model digits; leave"),
        ({"n_layers": 2}, r"--layers 2: .*arch\.json has 3; leave it out"),
        ({"activation": "relu"}, r"--activation relu: .* has gelu_tanh; leave -"),
    ],
)
def test_what_a_file_contradicts_is_one_clear_line(path, overrides, message):
    with pytest.raises(UsageError, match=message) as caught:
        choose(attention=path, **overrides)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"attention": "sofmax"}, r"'sofmax' is neither a file nor a variant; did you"),
        ({"attention": "none.json"}, r"cannot read architecture 'none.json'"),
        ({"activation": "gelu"}, r"no activation 'gelu'; .*gelu_tanh"),
        ({"model": "cifr"}, r"no model 'cifr'; did you mean cifar"),
    ],
)
def test_an_unknown_name_is_one_clear_line(overrides, message):
    with pytest.raises(UsageError, match=message) as caught:
        choose(**overrides)

    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_an_unknown_name():
    with pytest.raises(UnknownNameError):
        choose(model="vit")


@pytest.mark.parametrize("heads", ["serial", "batched"])
def test_layers_add_up_to_the_total_without_what_the_call_costs(heads):
    architecture = choose(model="digits", heads=heads)

    (prediction,) = predict_model(full_model(), architecture, [WAN]).predictions

    layers = sum_by_layer(prediction)
    names = ["embedding", "layer 1", "layer 2", "layer 3", "head"]
    assert [layer.name for layer in layers] == names
    latency_s = sum(layer.latency_s for layer in layers)
    assert latency_s + prediction.per_call_s == pytest.approx(prediction.latency_s)
    bytes_sent = sum(layer.bytes_sent for layer in layers)
    assert bytes_sent == pytest.approx(prediction.bytes_sent)


def test_two_images_have_twice_the_rows_in_a_product_with_weights():
    one, two = (
        [step for step in trace_model(DIGITS, n) if step.part.endswith("qkv")]
        for n in (1, 2)
    )

    for a, b in zip(one, two, strict=True):
        assert (a.operation, b.operation) == ("matmul", "matmul")
        assert b.size == (a.size[0], 2 * a.size[1], *a.size[2:])


def test_two_images_share_weights_and_most_hops():
    one, two = (
        predict_model(full_model(), DIGITS, [WAN], n).predictions[0] for n in (1, 2)
    )

    assert one.latency_s < two.latency_s < 2 * one.latency_s
    assert one.hops < two.hops < 2 * one.hops  # one product after another per head
    assert one.bytes_sent < two.bytes_sent < 2 * one.bytes_sent


@given(network=networks, more_s=st.floats(0, 5), factor=st.floats(1, 1e3))
def test_a_longer_or_narrower_line_is_never_cheaper(network, more_s, factor):
    slower = Network(
        bandwidth_bytes_per_s=network.bandwidth_bytes_per_s / factor,
        rtt_s=network.rtt_s + more_s,
    )

    near, far = predict_model(full_model(), DIGITS, [network, slower]).predictions

    assert far.latency_s >= near.latency_s * (1 - 1e-12)
    assert (far.hops, far.bytes_sent) == (near.hops, near.bytes_sent)


def test_each_network_has_its_own_prediction_and_the_first_one_the_split():
    report = predict_model(full_model(), DIGITS, [WAN, LAN])

    document = json.loads(report.to_json())

    wan, lan = document["networks"]
    assert (wan["network"], lan["network"]) == ("44MBps,40ms", "384MBps,300us")
    assert lan["latency_s"] < wan["latency_s"] == document["latency_s"]
    assert wan["hops"] == lan["hops"]
    assert "layers" in document
    assert "layers" not in wan


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (
            "lan",
            "384MBps,300us: nobody has checked predictions for so short a round trip",
        ),
        ("44MBps,2.9ms", "the shortest checked is 3ms"),
        ("44MBps,500ms", "44MBps,500ms: over 10 times slower than 44MBps,40ms"),
        ("1Mbps,40ms", "over 10 times slower than 44MBps,40ms"),
    ],
)
def test_a_network_far_from_what_was_checked_carries_a_note(network, expected):
    report = predict_model(full_model(), DIGITS, [WAN, parse_network(network)])

    near, far = json.loads(report.to_json())["networks"]
    told = [line for line in report.lines() if line.startswith("note: ")]
    assert near["notes"] == []
    assert expected in far["notes"][0]
    assert told == [f"note: {far['notes'][0]}"]


@pytest.mark.parametrize("network", ["loopback", "wan", "44MBps,5ms", "10MBps,100ms"])
def test_a_network_that_was_checked_or_is_near_carries_none(network):
    (near,) = predict_model(full_model(), DIGITS, [parse_network(network)]).predictions

    assert near.notes == ()


def test_predict_help_names_every_model():
    told = CliRunner().invoke(main, ["predict", "--help"]).stdout

    assert all(name in "".join(told.split()) for name in MODELS)


def test_the_text_has_a_line_per_network_and_both_splits():
    lines = predict_model(full_model(), DIGITS, [WAN, LAN], n_batch=2).lines()

    assert lines[0].startswith("digits, 3 layers, 4 heads serial, 17 tokens, width 64")
    assert "batch 2" in lines[0]
    assert lines[1].startswith("44MBps,40ms: ")
    assert lines[2].startswith("384MBps,300us: ")
    assert "by layer, on 44MBps,40ms:" in lines
    operations = lines[lines.index("by operation:") + 1 :]
    assert any(line.split()[0] == "matmul" for line in operations)
    assert all(line.endswith(" hops") for line in operations)


def test_the_title_says_that_tokens_are_given_embedded():
    encoder = uniform_architecture(OWN_SIZES["embedded"], attention="scale")

    title = predict_model(full_model(), encoder, [WAN]).title

    assert "5 tokens given embedded, width 12" in title


def test_a_long_split_ends_with_what_is_left():
    lines = predict_model(
        full_model(), choose(model="tiny-imagenet", n_layers=18), [WAN]
    )

    by_layer = lines.lines()

    assert any(line.startswith("  6 more: ") for line in by_layer)


def test_a_split_has_means_of_hops_to_one_decimal():
    report = predict_model(committed_model("aby3"), choose(model="digits"), [WAN])

    hops = [line.split()[-2] for line in report.lines() if line.endswith(" hops")]

    assert any("." in one for one in hops)
    assert all(re.fullmatch(r"\d+(\.[1-9])?", one) for one in hops)
    assert re.search(r" \d+(\.[1-9])? hops, compute", str(report.lines()))


def efficientvit(**overrides):
    return choose_network(
        **({"model": "efficientvit-m0", "attention": None} | overrides)
    )


# of 49 scores: 7 levels of a maximum at 8 hops, exp 17, reciprocal 36, products; of 16:
# 4 levels. 12 heads each, besides 8 hops of what feeds them and what they give
SOFTMAX_HOPS = 12 * (7 * 8 + 17 + 36 + 2 + 8) + 12 * (4 * 8 + 17 + 36 + 2 + 8)


@pytest.mark.parametrize(
    ("attention", "hops", "in_heads"),
    [
        ("softmax", 3064, SOFTMAX_HOPS),
        ("2quad", 1648, 24 * (2 + 36 + 2 + 8)),
        ("scale", 688, 24 * 8),
    ],
)
def test_the_cascade_of_heads_is_most_of_an_efficientvit(attention, hops, in_heads):
    network = efficientvit(attention=attention)

    (predicted,) = predict_model(committed_model(), network, [WAN]).predictions

    heads = [part for part in predicted.parts if " heads/head " in part.name]
    assert predicted.hops == hops
    assert sum(part.hops for part in heads) == in_heads


def test_an_efficientvit_is_split_into_its_stages_blocks_and_heads():
    report = predict_model(full_model(), efficientvit(image_size=64), [WAN], 2)

    assert report.title == (
        "efficientvit-m0, 64 pixels, 1000 classes, 24 heads of softmax in sequence, "
        "6.212 M multiply-adds, batch 2"
    )
    names = [part.name for part in sum_by_layer(report.predictions[0])]
    assert names[:4] == [
        *("patch embedding", "block 1.1", "block 1.1 heads", "stage 2 downsample")
    ]
    assert names[-2:] == ["block 3.3 heads", "head"]


def test_a_file_may_say_an_efficientvit(tmp_path):
    network = efficientvit(image_size=96, n_classes=10, attention="scale")
    path = tmp_path / "own.json"
    path.write_text(network.to_json())

    assert efficientvit(model=str(path)) == network
    assert efficientvit(model="", attention=str(path)) == network
    assert efficientvit(model=str(path), attention="2quad").attention == "2quad"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"norm": "none"}, "--norm none is no choice: efficientvit-m0 has ReLU"),
        ({"heads": "batched"}, "--heads batched is no choice: .* leave --heads out"),
        ({"n_layers": 3}, "--layers 3 is no choice"),
        ({"model": "efficientvit-m6"}, "no model 'efficientvit-m6'; did you mean"),
        ({"image_size": 50}, "image_size=50: expected a multiple of 16"),
        ({"attention": "linformer"}, "attention='linformer': expected a variant with"),
        ({"model": "cifar", "image_size": 64}, "--image 64 says the size of an Eff"),
        ({"model": "cifar", "n_classes": 9}, "--classes 9 says .* leave --classes out"),
    ],
)
def test_an_efficientvit_leaves_no_choice_of_a_transformer(overrides, message):
    with pytest.raises(MpcprofError, match=message):
        efficientvit(**overrides)


def test_an_efficientvit_takes_its_rewrites_and_no_other_plan():
    network, deployment = efficientvit(), full_model().deployment

    for asked in (None, "rewrites"):
        assert plan_network(asked, network, 1, deployment=deployment, link=WAN) is None
    with pytest.raises(UsageError, match=r"--plan own\.json: efficientvit-m0 takes no"):
        plan_network("own.json", network, 1, deployment=deployment, link=WAN)
