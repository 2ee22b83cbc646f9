"""`architecture.json`: round trip, and one line for every way of being wrong."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.nn.architecture import (
    MODELS,
    Architecture,
    parse_architecture,
    read_architecture,
    uniform_architecture,
)
from tests.architectures import architectures

DIGITS = MODELS["digits"]
VALID = json.loads(uniform_architecture(DIGITS, attention="scale").to_json())
LAYER = ["scale"] * 4


def text(**changes: Any) -> str:
    return json.dumps(VALID | changes)


def without(key: str) -> str:
    return json.dumps({name: value for name, value in VALID.items() if name != key})


@settings(max_examples=25)
@given(architecture=architectures(DIGITS))
def test_an_architecture_survives_its_json(architecture):
    assert parse_architecture(architecture.to_json()) == architecture


def test_an_architecture_is_read_from_its_file(tmp_path: Path):
    architecture = uniform_architecture(DIGITS, attention="softmax", heads="batched")
    path = tmp_path / "architecture.json"
    path.write_text(architecture.to_json())

    assert read_architecture(path) == architecture


def test_a_name_alone_stands_for_every_row_and_token():
    found = parse_architecture(text(activation=["relu", ["quad"], ["relu"] * 17]))

    assert found.activation == (("relu",), ("quad",), ("relu",) * 17)
    assert found.attention == ((("scale",),) * 4,) * 3


def test_what_may_be_left_out_is_the_models_own():
    few = {key: VALID[key] for key in ("model", "attention", "activation")}

    assert parse_architecture(json.dumps(few)) == parse_architecture(text())


def test_layers_and_classes_may_differ_from_the_models():
    found = parse_architecture(
        text(n_layers=1, n_classes=3, attention=[LAYER], activation=["relu"])
    )

    assert (found.n_layers, found.model.n_classes) == (1, 3)
    assert parse_architecture(found.to_json()) == found


WRONG = {
    "{": "not JSON: ",
    "[1]": "[1]: expected object",
    without("model"): "the key 'model' is missing",
    without("attention"): "the key 'attention' is missing",
    text(attentions=[]): "unknown key 'attentions'; did you mean attention",
    text(schema_version=2): "schema_version=2: expected 1",
    text(schema_version="1"): "schema_version='1': expected int",
    text(norm="batchnorm"): "norm='batchnorm': expected layernorm",
    text(model="digit"): "no model 'digit'; did you mean digits?",
    text(model=["digits"]): "model=['digits']: expected text",
    text(n_layers=0): "n_layers=0: expected a whole number of at least 1",
    text(n_layers=True): "n_layers=True: expected int",
    text(n_classes=2.5): "n_classes=2.5: expected int",
    text(n_layers=4): "attention has 3 layers: the model has 4",
    text(heads="parallel"): "heads='parallel': expected serial or batched",
    text(heads=["serial"]): "heads=['serial']: expected text",
    text(attention=[LAYER] * 2): "attention has 2 layers: the model has 3",
    text(
        attention=[LAYER[:3]] * 3
    ): "attention of layer 1 has 3 heads: the model has 4",
    text(
        attention=[LAYER, LAYER, [*LAYER[:3], ["scale"] * 16]]
    ): "attention of layer 3 has 16 entries: expected one, or one for each",
    text(attention="scale"): "attention='scale': expected list",
    text(attention=["scale"] * 3): "attention[0]='scale': expected list",
    text(attention=[[1] * 4] * 3): "attention[0][0]=1: expected text or list",
    text(attention=[[[]] * 4] * 3): "attention of layer 1 has 0 entries",
    text(attention=[["softmx"] * 4] * 3): "no attention 'softmx'; did you mean softmax",
    text(activation=["relu"] * 2): "activation has 2 layers: the model has 3",
    text(
        activation=["relu", "relu", ["relu"] * 2]
    ): "activation of layer 3 has 2 entries",
    text(activation=["rleu"] * 3): "no activation 'rleu'; did you mean relu",
    text(activation=[None] * 3): "activation[0]=None: expected text or list",
    text(activation={"relu": 3}): "activation={'relu': 3}: expected list",
    "[" * 100_000: "not JSON: ",
}


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_each_way_of_being_wrong_is_one_clear_line(wrong: str):
    with pytest.raises(UsageError, match=re.escape(WRONG[wrong])) as error:
        parse_architecture(wrong)

    assert "\n" not in str(error.value)


def test_the_file_is_named_with_what_is_wrong_in_it(tmp_path: Path):
    path = tmp_path / "mine.json"
    path.write_text(text(model="resnet"))

    with pytest.raises(UnknownNameError, match=r"mine\.json: no model 'resnet'"):
        read_architecture(path)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path):
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")

    for path in (tmp_path / "none.json", tmp_path, binary):
        with pytest.raises(UsageError, match="cannot read architecture"):
            read_architecture(path)


@given(
    value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)
)
def test_nothing_but_an_architecture_is_taken_for_one(value):
    for key in ("model", "heads", "attention", "activation", "norm", "n_layers"):
        try:
            assert isinstance(parse_architecture(text(**{key: value})), Architecture)
        except UsageError:
            continue
