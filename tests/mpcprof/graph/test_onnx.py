"""A network as ONNX costs what its operations cost, and nothing of it is free."""

import importlib
import json
import re
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn import functional

from mpcprof.cli.predict import command
from mpcprof.errors import MissingEntryError, UsageError
from mpcprof.graph.onnx_file import read_onnx
from mpcprof.graph.predict import OnnxConfig, predict_onnx
from mpcprof.graph.trace import part_of, trace_graph
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.steps import Step, without_local
from mpcvit.models.vit import VisionTransformer
from tests import ROOT

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

PROFILE = ROOT / "profiles" / "semi2k.parquet"
WAN = (NETWORKS["wan"],)


def exported(network: nn.Module, path: Path, *shape: int, opset: int = 17, **options):
    """Write a network as torch's tracing exporter does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what becomes of that exporter
        torch.onnx.export(
            network.eval(),
            (torch.rand(*shape),),
            path,
            dynamo=False,
            opset_version=opset,
            **options,
        )
    return path


def every_step(path: Path, **options: Any) -> tuple[Step, ...]:
    found = trace_graph(read_onnx(path, **options))
    assert not found.unpriced
    return found.steps


def steps_of(path: Path, **options: Any) -> list[tuple[str, tuple[int, ...]]]:
    steps = without_local(every_step(path, **options))
    return [(step.operation, step.size) for step in steps]


DIGITS = uniform_architecture(
    get_model("digits"), attention="softmax", activation="gelu_exact", heads="batched"
)


@pytest.mark.parametrize("opset", [17, 14])
def test_an_exported_network_costs_what_its_architecture_does(opset, tmp_path) -> None:
    """At opset 14 its norms are nine operations each, with an epsilon of their own."""
    path = exported(
        VisionTransformer(DIGITS), tmp_path / "vit.onnx", 1, 1, 8, 8, opset=opset
    )

    steps = steps_of(path)

    # torch norms all tokens behind the last layer, of which the class token is read
    traced = without_local(trace_model(DIGITS, 1))
    expected = [(step.operation, step.size) for step in traced]
    assert [name for name, _ in steps] == [name for name, _ in expected]
    assert steps[:-9] == expected[:-9]


MEAN = replace(get_model("digits"), pooling="mean")


@pytest.mark.parametrize("attention", ["token_mix", "softmax"])
def test_it_copies_and_adds_as_often_as_its_architecture_does(attention, tmp_path):
    """By name, heads are cut and joined in front of attention, and behind it."""
    architecture = uniform_architecture(
        MEAN, attention=attention, activation="gelu_exact", heads="batched"
    )
    path = exported(VisionTransformer(architecture), tmp_path / "vit.onnx", 1, 1, 8, 8)

    found, expected = (
        Counter((one.operation, one.size) for one in steps)
        for steps in (every_step(path), trace_model(architecture, 1))
    )

    n_entries = MEAN.n_tokens * MEAN.width
    if attention == "softmax":  # queries, keys, values and what comes of them
        expected -= Counter({("local", (n_entries,)): 3 * 4})
        expected -= Counter({("local", (n_entries // 4,)): 3 * 4 * 4})
    assert found == expected


def test_a_profile_with_local_steps_prices_those_of_a_network_as_onnx(tmp_path):
    path = graph(tmp_path / "sum.onnx", node("Add", "x", "y"), weights={}, n_inputs=2)
    aby3 = ROOT / "profiles" / "aby3.parquet"

    report = predict_onnx(aby3, OnnxConfig(path=path), WAN)

    assert [part.name for part in report.predictions[0].operations] == ["local"]


def test_seconds_and_hops_agree_with_those_of_the_architecture(tmp_path) -> None:
    path = exported(VisionTransformer(DIGITS), tmp_path / "vit.onnx", 1, 1, 8, 8)
    options = "--model digits --attention softmax --activation gelu_exact --heads"

    ours, theirs = (
        json.loads(CliRunner().invoke(command, [str(PROFILE), *given, "--json"]).stdout)
        for given in ([*options.split(), "batched"], ["--onnx", str(path)])
    )

    assert theirs["hops"] == ours["hops"]
    assert theirs["latency_s"] == pytest.approx(ours["latency_s"], rel=0.01)
    assert theirs["bytes_sent"] == pytest.approx(ours["bytes_sent"], rel=0.02)
    assert {layer["name"] for layer in theirs["layers"]} >= {"layers.0", "head"}
    assert "3 GeLUs written with Erf are priced as GeLUs" in theirs["notes"]


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 6, 1, groups=2)
        self.head = nn.Linear(6, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = functional.hardtanh(self.deep(x), 0.0, 6.0)
        x = functional.avg_pool2d(torch.sigmoid(self.grouped(x)), 2)
        return self.head(x.mean(dim=(2, 3)))


def test_a_cnn_of_any_batch_costs_its_windows_as_products(tmp_path) -> None:
    axes = {"input_names": ["images"], "dynamic_axes": {"images": {0: "batch"}}}
    path = exported(Cnn(), tmp_path / "cnn.onnx", 1, 3, 8, 8, **axes)

    steps = steps_of(path, n_batch=3)

    assert steps == [
        ("matmul", (1, 3 * 64, 9 * 3, 8)),  # the BatchNorm is in its weights
        ("relu", (3 * 8 * 64,)),
        ("max", (3 * 8 * 16, 4)),
        ("matmul", (1, 3 * 16, 9 * 8, 8)),  # depthwise, as SPU runs it
        ("relu", (3 * 8 * 16,)),
        ("relu", (3 * 8 * 16,)),
        ("matmul", (2, 3 * 16, 4, 3)),
        ("sigmoid", (3 * 6 * 16,)),
        ("sum", (3 * 6 * 4, 4)),
        ("truncation", (3 * 6 * 4,)),
        ("sum", (3 * 6, 4)),
        ("truncation", (3 * 6,)),
        ("matmul", (1, 3, 6, 10)),
    ]


class Separate(nn.Module):
    """Queries, keys and values apart, one head, shapes that follow from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        q = q.view(x.shape[0], x.shape[1], 2, 4).transpose(1, 2)
        k = k.view(x.shape[0], x.shape[1], 2, 4).transpose(1, 2)
        v = v.view(x.shape[0], x.shape[1], 2, 4).transpose(1, 2)
        weights = (q @ k.transpose(-1, -2) * 0.3).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).reshape(x.shape)


def separate(folder: Path) -> Path:
    axes = {"tokens": {0: "batch", 1: "sequence"}}
    names = {"input_names": ["tokens"], "dynamic_axes": axes}
    return exported(Separate(), folder / "attention.onnx", 1, 5, 8, **names)


def test_open_axes_take_the_lengths_that_they_are_given(tmp_path) -> None:
    steps = steps_of(separate(tmp_path), n_batch=2, lengths={"sequence": 7})

    products = [size for name, size in steps if name == "matmul"]
    assert products == [(1, 14, 8, 8)] * 3 + [(4, 7, 4, 7), (4, 7, 7, 4)]
    assert ("max", (28, 7)) in steps


def test_the_longest_chain_leaves_out_what_waits_for_nothing(tmp_path) -> None:
    config = OnnxConfig(path=separate(tmp_path), lengths={"sequence": 7})

    found = predict_onnx(PROFILE, config, WAN).predictions[0]

    chain = f"{found.hops - 4:g} of {found.hops:g} hops are one chain"
    assert found.notes[0].startswith(chain)  # keys and values wait for no queries


def graph(path: Path, *nodes: Any, weights: dict[str, Any], n_inputs: int = 1) -> Path:
    """Write a graph of x, y ... (2, 6) to the last result."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [
        helper.make_tensor_value_info("xyz"[k], kind, [2, 6]) for k in range(n_inputs)
    ]
    last = onnx.ValueInfoProto(name=nodes[-1].output[0])
    given = [
        onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in weights.items()
    ]
    made = helper.make_graph(nodes, "one", values, [last], given)
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=9), path)
    return path


def node(operation: str, *inputs: str, out: str = "out", **attributes: Any) -> Any:
    return onnx.helper.make_node(operation, inputs, [out], name=out, **attributes)


F = np.float32
OPERATIONS: dict[str, tuple[list[Any], dict[str, Any], list[tuple[str, int]]]] = {
    "a product of secrets": (["Mul", "x", "y"], {}, [("mul", 12)]),
    "a weight": (["Mul", "x", "w"], {"w": np.ones(6, F)}, [("mul", 12)]),
    "a number": (["Mul", "x", "c"], {"c": F(0.3)}, [("truncation", 12)]),
    "a whole number": (["Mul", "x", "c"], {"c": F(2)}, []),
    "a quotient": (["Div", "x", "y"], {}, [("reciprocal", 12), ("mul", 12)]),
    "by a weight": (["Div", "x", "w"], {"w": np.ones(6, F)}, [("mul", 12)]),
    "by a number": (["Div", "x", "c"], {"c": F(3)}, [("truncation", 12)]),
    "one by": (["Div", "c", "x"], {"c": F(1)}, [("reciprocal", 12)]),
    "a root": (["Sqrt", "x"], {}, [("rsqrt", 12), ("mul", 12)]),
    "a cube": (["Pow", "x", "c"], {"c": F(3)}, [("square", 12), ("mul", 12)]),
    "an inverse root": (["Pow", "x", "c"], {"c": F(-0.5)}, [("rsqrt", 12)]),
    "an erf alone": (["Erf", "x"], {}, [("gelu_exact", 12)]),
    "a gelu": (["Gelu", "x"], {}, [("gelu_exact", 12)]),
    "both ends": (
        ["Clip", "x", "a", "b"],
        {"a": F(0), "b": F(6)},
        [("relu", 12), ("relu", 12)],
    ),
    "one end": (["Clip", "x", "a"], {"a": F(0)}, [("relu", 12)]),
    "the larger": (["Max", "x", "y"], {}, [("relu", 12)]),
    "a comparison": (["Less", "x", "y"], {}, [("less", 12)]),
    "a sum": (["Add", "x", "w"], {"w": np.ones(6, F)}, []),
    "words by public places": (["Gather", "x", "i"], {"i": np.array([0])}, []),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_takes_the_steps_that_it_is(name: str, tmp_path) -> None:
    (operation, *inputs), weights, expected = OPERATIONS[name]
    one = node(operation, *inputs)
    path = graph(tmp_path / "one.onnx", one, weights=weights, n_inputs=2)

    assert steps_of(path) == [(step, (size,)) for step, size in expected]


def test_a_gelu_is_found_in_either_order(tmp_path) -> None:
    numbers = {"r": F(0.5**0.5), "one": F(1), "half": F(0.5)}
    path = graph(
        tmp_path / "gelu.onnx",
        node("Mul", "x", "half", out="h"),
        node("Mul", "x", "r", out="s"),
        node("Erf", "s", out="e"),
        node("Add", "e", "one", out="p"),
        node("Mul", "h", "p", out="out"),
        weights=numbers,
    )

    assert steps_of(path) == [("gelu_exact", (12,))]


def test_what_the_owner_of_the_weights_computes_alone_is_free(tmp_path) -> None:
    path = graph(
        tmp_path / "weights.onnx",
        node("Mul", "w", "w", out="square"),
        node("Sqrt", "square", out="root"),
        node("Add", "x", "root"),
        weights={"w": np.ones(6, F)},
    )

    assert steps_of(path) == []


def test_weights_may_be_written_as_constants(tmp_path) -> None:
    values = onnx.numpy_helper.from_array(np.ones((6, 4), F))
    constant = onnx.helper.make_node("Constant", [], ["w"], value=values)
    path = graph(
        tmp_path / "constant.onnx", constant, node("MatMul", "x", "w"), weights={}
    )

    assert steps_of(path) == [("matmul", (1, 2, 6, 4))]


LOCAL_OPERATIONS: dict[str, tuple[list[Any], dict[str, Any], list[int]]] = {
    "a sum": (["Add", "x", "w"], {"w": np.ones(6, F)}, [12]),
    "a sum of three": (["Sum", "x", "y", "x"], {}, [12, 12]),
    "joined": (["Concat", "x", "y"], {"axis": 0}, [24]),
    "a slice": (
        ["Slice", "x", "a", "b"],
        {"a": np.array([0]), "b": np.array([1])},
        [6],
    ),
    "a whole number": (["Mul", "x", "c"], {"c": F(2)}, [12]),
    "one": (["Mul", "x", "c"], {"c": F(1)}, []),
    "a bias": (
        ["Gemm", "x", "w", "b"],
        {"w": np.ones((6, 4), F), "b": np.ones(4, F)},
        [8],
    ),
    "another shape": (["Transpose", "x"], {}, []),
}


@pytest.mark.parametrize("name", LOCAL_OPERATIONS)
def test_what_copies_or_adds_is_a_local_step(name: str, tmp_path) -> None:
    (operation, *inputs), given, expected = LOCAL_OPERATIONS[name]
    weights = {key: value for key, value in given.items() if key != "axis"}
    own = {key: value for key, value in given.items() if key == "axis"}
    one = node(operation, *inputs, **own)
    path = graph(tmp_path / "one.onnx", one, weights=weights, n_inputs=2)

    local = [one.size for one in every_step(path) if one.operation == "local"]

    assert local == [(size,) for size in expected]


def test_windows_that_overlap_are_copied_side_by_side(tmp_path) -> None:
    overlapping = nn.Conv2d(3, 8, 3, padding=1)
    apart = nn.Conv2d(8, 5, 2, stride=2, bias=False)
    path = exported(nn.Sequential(overlapping, apart), tmp_path / "c.onnx", 1, 3, 8, 8)

    local = [one.size for one in every_step(path) if one.operation == "local"]

    assert local == [(64 * 3,)] * 9 + [(64 * 27,), (64 * 8,)]


def test_each_part_of_a_split_is_a_local_step(tmp_path) -> None:
    parts = ["one", "other"]
    split = onnx.helper.make_node("Split", ["x"], parts, axis=1, num_outputs=2)
    path = graph(tmp_path / "split.onnx", split, node("Relu", "one"), weights={})

    assert [one.size for one in every_step(path)] == [(6,), (6,), (6,)]


def body(name: str) -> Any:
    """Return a branch that reads a tensor of the graph around it."""
    out = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 6])
    return onnx.helper.make_graph([node("Log", "x", out=name)], name, [], [out])


UNPRICED = {
    "a branch": (
        node("If", "true", then_branch=body("then"), else_branch=body("else")),
        "1 x If (out: no price is known)",
    ),
    "Log": (node("Log", "x"), "1 x Log (out: no price is known)"),
    "a power": (node("Pow", "x", "y"), "1 x Pow (out: its exponent is no public numb"),
    "a fraction": (node("Pow", "x", "c"), "1 x Pow (out: its exponent is 0.3)"),
    "rounding": (node("Cast", "x", to=7), "1 x Cast (out: it rounds to whole num"),
    "words": (
        node("Gather", "w", "i", out="out"),
        "1 x Gather (out: indices are secret",
    ),
}


@pytest.mark.parametrize("name", UNPRICED)
def test_what_has_no_price_is_refused_in_one_line(name: str, tmp_path) -> None:
    one, message = UNPRICED[name]
    start = [node("Cast", "x", out="i", to=7)] if name == "words" else []
    weights = {"w": np.ones((9, 6), F), "c": F(0.3), "true": np.array(True)}
    nodes = (*start, one, node("Relu", "out", out="end"))
    path = graph(tmp_path / "one.onnx", *nodes, weights=weights, n_inputs=2)

    with pytest.raises(MissingEntryError, match=re.escape(message)) as error:
        predict_onnx(PROFILE, OnnxConfig(path=path), WAN)

    assert "\n" not in str(error.value)


def test_what_has_no_price_is_left_out_on_request_and_named(tmp_path) -> None:
    nodes = node("Log", "x", out="log"), node("Relu", "log")
    path = graph(tmp_path / "one.onnx", *nodes, weights={})

    config = OnnxConfig(path=path, skips_unpriced=True, offline_protocol="bfv")
    report = predict_onnx(PROFILE, config, WAN)

    found = report.predictions[0]
    assert found.notes[0] == (
        "left out, and not free: 1 x Log (log: no price is known)"
    )
    assert [part.name for part in found.operations] == ["relu"]
    assert report.offline is not None


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path) -> None:
    page, empty = tmp_path / "page.onnx", tmp_path / "empty.onnx"
    page.write_text("<html>")
    empty.write_bytes(b"")

    for path in (page, empty, tmp_path / "none.onnx"):
        with pytest.raises(UsageError, match=r"cannot read '.*onnx': .*; expected an"):
            read_onnx(path)
    with pytest.raises(UsageError, match=r"tokens: sequence has no length; give --dim"):
        read_onnx(separate(tmp_path))
    fixed = graph(tmp_path / "one.onnx", node("Relu", "x"), weights={})
    with pytest.raises(UsageError, match="input x is for a batch of 2: asked for 3"):
        read_onnx(fixed, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--onnx", "x.onnx", "--model", "cifar"],
            "--onnx FILE says the whole network",
        ),
        (["--dim", "sequence=8"], "--dim and --skip-unsupported are of --onnx"),
        (["--onnx", "x.onnx", "--dim", "sequence"], "'sequence': expected the length"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message) -> None:
    result = CliRunner().invoke(command, [str(PROFILE), *options])

    assert result.exit_code
    assert message in f"{result.exception} {result.output}"


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch, tmp_path) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)

    with pytest.raises(UsageError, match=r"pip install 'mpcprof\[onnx\]'"):
        read_onnx(tmp_path / "any.onnx")


def test_a_part_is_the_place_in_the_network() -> None:
    assert part_of("/vit/encoder/layer.0/attention/query/MatMul") == (
        "vit/encoder/layer.0/attention/query"
    )
    assert part_of("/blocks/blocks.3/Add") == "blocks.3"
    assert part_of("Relu_7") == "Relu_7"


def test_a_length_of_no_axis_and_two_lengths_of_the_batch_are_refused(tmp_path) -> None:
    path = separate(tmp_path)
    both = {"sequence": 7, "batch": 4}

    with pytest.raises(UsageError, match=r"--dim sequences: no input .*did you mean"):
        read_onnx(path, lengths={"sequences": 7})
    with pytest.raises(UsageError, match=r"a batch of 2, and --dim batch=4; expected"):
        read_onnx(path, 2, both)
    assert read_onnx(path, lengths=both).shapes["tokens"][:2] == (4, 7)
