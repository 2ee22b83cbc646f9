"""EfficientViT on shapes: the published counts, and what the cascade costs."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from mpcprof.errors import MpcprofError, UsageError
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.efficientvit import (
    EFFICIENTVITS,
    EfficientViT,
    efficientvit_shapes,
    get_efficientvit,
    is_efficientvit,
    parse_efficientvit,
    trace_efficientvit,
)

# multiply-adds at 224 pixels: the paper's Table 2 has 79, 167, 201, 263, 299, 522 M;
# ReLU and softmax entries, depthwise convolutions, heads: counted from the structure
COUNTS = {
    "efficientvit-m0": (79_193_600, 499_648, 60_696, 42, 24),
    "efficientvit-m1": (167_051_840, 841_008, 35_918, 35, 17),
    "efficientvit-m2": (201_035_712, 895_168, 54_358, 34, 16),
    "efficientvit-m3": (262_662_208, 966_736, 55_894, 40, 22),
    "efficientvit-m4": (299_308_544, 999_296, 60_696, 42, 24),
    "efficientvit-m5": (521_583_104, 1_457_088, 54_517, 50, 28),
}
M0 = EFFICIENTVITS["efficientvit-m0"]
SIZES = '{"model": "efficientvit-own", "widths": [16, 32, 64], "n_heads": [2, 2, 4]}'


@pytest.mark.parametrize("name", EFFICIENTVITS)
def test_multiply_adds_and_entries_are_those_published(name):
    network = EFFICIENTVITS[name]
    steps = trace_efficientvit(network)
    relu = sum(step.size[0] for step in steps if step.operation == "relu")
    softmax = sum(
        step.size[0]
        for step in steps
        if step.operation == "exp" and step.part.endswith("softmax")
    )
    n_depthwise = sum(
        step.operation == "mul" and step.part.endswith("depthwise") for step in steps
    )

    counts = (network.n_multiply_adds, relu, softmax, n_depthwise)

    assert (*counts, network.n_heads_in_sequence) == COUNTS[name]


# at 64 pixels maps are 4, 2 and 1: 16 and 4 scores in a row; one score weighs 1
def test_a_small_image_has_small_maps_of_one_window():
    network = replace(M0, image_size=64, n_classes=10)

    steps = trace_efficientvit(network)

    rows = Counter(step.size for step in steps if step.operation == "max")
    assert network.map_sides == (4, 2, 1)
    assert rows == {(16, 16): 4, (4, 4): 8}


def test_places_of_a_kernel_that_meet_nothing_are_not_multiplied():
    network = replace(M0, image_size=64, attention="scale")

    last = [
        step.size[0]
        for step in trace_efficientvit(network)
        if step.part == "block 3.3 heads/head 4/depthwise" and step.operation == "mul"
    ]

    assert last == [16]  # 5 x 5 on a map of 1 x 1: the centre alone


def hops_of_products(network: EfficientViT, *, is_grouped: bool) -> int:
    """Products of matrices, of which SPU runs a batch one by one."""
    steps = trace_efficientvit(network, is_grouped=is_grouped)
    return sum(step.size[0] for step in steps if step.operation == "matmul")


# M0's first stage has 4 heads with two products each, in 4 windows
def test_windows_of_an_image_share_the_hops_of_their_products():
    apart = hops_of_products(M0, is_grouped=False)

    assert apart - hops_of_products(M0, is_grouped=True) == 4 * 2 * (4 - 1)


def test_each_head_waits_for_the_one_before():
    parts = [step.part for step in trace_model(M0) if " heads/head " in step.part]

    order = [*dict.fromkeys(part.split("/")[1] for part in parts[: len(parts) // 6])]

    assert order == ["head 1", "head 2", "head 3", "head 4"]


def test_a_network_is_read_as_it_was_written(tmp_path):
    network = replace(M0, image_size=64, n_classes=10, attention="2quad")
    path = tmp_path / "m0.json"
    path.write_text(network.to_json())

    assert is_efficientvit(str(path))
    assert get_efficientvit(str(path)) == network
    assert parse_efficientvit(network.to_json()) == network
    assert parse_efficientvit('{"model": "cifar"}') is None


def test_sizes_of_its_own_make_a_network(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(SIZES)

    network = get_efficientvit(str(path))

    assert network.widths == (16, 32, 64)
    assert efficientvit_shapes(network)["head.linear.weight"] == (64, 1000)


def test_timm_s_name_is_known_too():
    assert get_efficientvit("efficientvit_m5") == EFFICIENTVITS["efficientvit-m5"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 100}, "image_size=100: expected a multiple of 16 from 32"),
        ({"image_size": 16}, "image_size=16: expected a multiple of 16 from 32"),
        ({"attention": "xnorm"}, "attention='xnorm': expected a variant with scores"),
        ({"attention": "softmx"}, "no attention 'softmx'; did you mean softmax"),
        ({"n_heads": (4, 4, 5)}, "each divided by its number of heads"),
        ({"kernels": (5, 5)}, "kernels=(5, 5): expected 4 odd numbers"),
        ({"n_classes": 0}, "n_classes=0: expected a whole number from 1"),
        ({"depths": (0, 1, 1)}, "depths=0: expected a whole number from 1"),
    ],
)
def test_sizes_that_fit_nothing_are_refused(change, message):
    with pytest.raises(MpcprofError, match=re.escape(message)):
        replace(M0, **change)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model": "efficientvit-m7"}', "no model 'efficientvit-m7'; did you mean"),
        ('{"model": "efficientvit-m0", "image_size": 30}', "image_size=30"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    path = tmp_path / "wrong.json"
    path.write_text(text)

    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        get_efficientvit(str(path))

    assert str(path) in str(caught.value)
