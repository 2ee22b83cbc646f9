"""`architecture.json`: round trip, and one line for every way of being wrong."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.errors import UnknownNameError, UsageError
from mpcprof.nn.architecture import (
    Architecture,
    get_model,
    parse_architecture,
    parse_model,
    read_architecture,
    uniform_architecture,
)
from mpcprof.nn.preset import MODELS
from tests.architectures import CHEAP, OWN_SIZES, architectures

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


@pytest.mark.parametrize("architecture", CHEAP.values(), ids=CHEAP)
def test_mixers_norms_ratios_and_stems_survive_the_json(architecture):
    assert parse_architecture(architecture.to_json()) == architecture
    assert parse_model(architecture.model.to_json()) == architecture.model


def test_a_cnn_may_take_the_name_of_a_preset():
    stem = [{"channels": 32, "pool": 8}]
    keys = {"n_layers": 0, "patch": 1, "width": 32, "pooling": "mean", "stem": stem}
    cnn = parse_architecture(text(**keys, attention=[], activation=[]))

    assert parse_architecture(cnn.to_json()) == cnn
    assert (cnn.model.n_tokens, cnn.model.patch_dim, cnn.norm) == (1, 32, ())


def test_an_old_architecture_has_the_text_that_it_always_had():
    architecture = uniform_architecture(replace(DIGITS, n_layers=1), attention="scale")

    assert architecture.to_json() == (
        '{"schema_version": 1, "model": "digits", "n_layers": 1, "n_classes": 10, '
        '"heads": "serial", "attention": [["scale", "scale", "scale", "scale"]], '
        '"activation": ["gelu_tanh"], "norm": "layernorm"}'
    )


def test_a_layer_may_have_a_mixer_a_norm_and_a_ratio_of_its_own():
    found = parse_architecture(
        text(
            attention=[["token_mix"], LAYER, ["none"]],
            norm=["batchnorm", "layernorm", "affine"],
            mlp_ratio=[2, 0, 0.5],
        )
    )

    assert found.attention[0] == (("token_mix",),)
    assert [found.hidden(layer) for layer in range(3)] == [128, 0, 32]
    assert (
        parse_architecture(
            text(
                attention=[["token_mix"], LAYER, ["none"]],
                norm=["batchnorm", "layernorm", "affine"],
                hidden=[128, 0, 32],
            )
        )
        == found
    )
    assert found.model == DIGITS


def test_a_mixer_stands_where_an_attention_does_for_all_layers():
    found = uniform_architecture(DIGITS, attention="token_mix", norm="batchnorm")

    assert found.attention == ((("token_mix",),),) * 3
    assert found.norm == ("batchnorm",) * 3
    assert '"norm": "batchnorm"' in found.to_json()


@pytest.mark.parametrize("model", OWN_SIZES.values(), ids=OWN_SIZES)
def test_sizes_of_its_own_survive_the_json(model):
    architecture = uniform_architecture(model, attention="linformer")

    assert parse_architecture(architecture.to_json()) == architecture
    assert parse_model(model.to_json()) == model


SIZES = {
    "model": "deit-tiny",
    "image_size": 224,
    "patch": 16,
    "n_layers": 2,
    "n_heads": 3,
    "width": 192,
    "mlp_ratio": 4,
    "n_classes": 1000,
}
ENCODER = {
    key: size for key, size in SIZES.items() if key not in ("image_size", "patch")
} | {"n_tokens": 128}
CHOICES = {"attention": [["softmax"] * 3] * 2, "activation": ["gelu_tanh"] * 2}


def test_a_vision_transformer_says_its_own_sizes():
    model = parse_architecture(json.dumps(SIZES | CHOICES)).model

    assert (model.n_tokens, model.head_dim, model.hidden) == (197, 64, 768)
    assert (model.patch_dim, model.n_inputs, model.input_dim) == (768, 196, 768)


def test_an_encoder_without_patches_is_given_embedded_tokens():
    model = parse_model(ENCODER)

    assert (model.n_tokens, model.n_inputs, model.input_dim) == (128, 127, 192)


def test_a_model_of_a_presets_name_takes_the_sizes_that_it_does_not_say():
    model = parse_model({"model": "cifar", "width": 192, "hidden": 768})

    assert model == replace(MODELS["cifar"], width=192, mlp_ratio=4)


@pytest.mark.parametrize("name", ["bert-base", "bert-large"])
def test_a_bert_may_have_another_length_and_embedding(name):
    own = {"model": name, "n_tokens": 64, "embedding": "one_hot"}
    model = parse_model(own)

    assert model == MODELS[name].resized(n_tokens=64, embedding="one_hot")
    assert model.is_preset
    assert model.to_json() == own | {"n_layers": model.n_layers, "n_classes": 2}
    assert parse_model(model.to_json()) == model
    assert (model.n_inputs, model.input_dim, model.head_dim) == (64, 30_524, 64)


def test_a_size_that_says_what_another_one_makes_changes_nothing():
    more = {"n_tokens": 197, "head_dim": 64, "hidden": 768, "qkv_bias": False}

    assert parse_model(SIZES | more) == parse_model(SIZES)


def test_a_model_is_read_from_a_file_of_sizes(tmp_path: Path):
    path = tmp_path / "deit.json"
    path.write_text(json.dumps(SIZES))

    assert get_model(str(path)) == parse_model(SIZES)
    with pytest.raises(UsageError, match=r"deit\.json: the key 'attention' is missing"):
        read_architecture(path)


def sizes(**changes: Any) -> str:
    return json.dumps(SIZES | changes)


def sizes_without(*keys: str, start: dict[str, Any] = SIZES) -> str:
    return json.dumps({key: size for key, size in start.items() if key not in keys})


WRONG_SIZES = {
    sizes(n_heads=5): "width=192 and n_heads=5 do not fit each other",
    sizes(patch=15): "image_size=224 and patch=15 do not fit each other",
    sizes(n_tokens=196): "n_tokens=196 and image_size=224 do not fit each other: 196 "
    "patches of 16 pixels and a class token make 197",
    sizes(n_tokens=197, pooling="mean"): "n_tokens=197 and image_size=224 do not fit "
    "each other: 196 patches of 16 pixels make 196",
    sizes(hidden=384): "hidden=384 and mlp_ratio=4 do not fit each other",
    sizes(mlp_ratio=2.7): "mlp_ratio=2.7 of width=192 makes 518.4 hidden values",
    sizes(mlp_ratio=-1): "hidden=-192: expected a whole number of at least 1",
    sizes(mlp_ratio="4"): "mlp_ratio='4': expected float",
    sizes(patch=0): "patch=0: expected a whole number of at least 1",
    sizes(n_heads=0): "n_heads=0: expected a whole number of at least 1",
    sizes(width=0): "width=0: expected a whole number of at least 1",
    sizes(width=0, hidden=8): "width=0: expected a whole number of at least 1",
    sizes(n_channels=-3): "n_channels=-3: expected a whole number of at least 1",
    sizes(head_dim=-1): "head_dim=-1: expected a whole number of at least 1",
    sizes(n_layers=10**12): "n_layers=1000000000000: expected at most 1000",
    sizes(width=10**9, n_heads=1): "width=1000000000: expected at most",
    sizes(model="a b"): "model 'a b': expected a name of letters",
    sizes(norm_order="after"): "norm_order='after': expected pre",
    sizes(norm_epsilon=2): "norm_epsilon=2: expected a number from 0 to 1",
    sizes(norm_eps=1e-6): "unknown key 'norm_eps'; here it is called norm_epsilon",
    sizes(pooling="cls"): "pooling='cls': expected class_token or mean or first",
    sizes(pooling="first"): "pooling='first' of a model of images: only one of tokens",
    sizes(n_words=9): "n_words=9 of a model of images: only one of tokens has it; give",
    sizes(norm_order="post"): "norm_order='post' of a model of images: only one of tok",
    sizes(pooler=True): "pooler=True of a model of images: only one of tokens has it",
    sizes(vocab_size=9): "unknown key 'vocab_size'; here it is called n_words",
    json.dumps(
        ENCODER | {"norm_order": "behind"}
    ): "norm_order='behind': expected pre or",
    json.dumps(ENCODER | {"n_types": 2}): "n_types=2 and embedding='client' without n_",
    json.dumps(ENCODER | {"embedding": "one_hot"}): "embedding='one_hot' without n_wor",
    json.dumps(ENCODER | {"n_words": -1}): "n_words=-1: expected a whole number of at",
    json.dumps(ENCODER | {"norm_epsilon": -1}): "norm_epsilon=-1: expected a number fr",
    json.dumps(
        {"model": "bert-base", "n_tokens": 0}
    ): "n_tokens=0: expected at least 1",
    json.dumps({"model": "bert-base", "image_size": 8}): "n_embeddings=128 and image_s",
    sizes(qkv_bias=1): "qkv_bias=1: expected true or false",
    sizes(widths=192): "unknown key 'widths'; did you mean width?",
    sizes(embed_dim=192): "unknown key 'embed_dim'; here it is called width",
    sizes(hidden_size=192): "unknown key 'hidden_size'; here it is called width",
    sizes(depth=12): "unknown key 'depth'; here it is called n_layers",
    sizes_without("width"): "the key 'width' is missing: model 'deit-tiny' is no",
    sizes_without("patch"): "the key 'patch' is missing",
    sizes_without("image_size"): "the key 'image_size' is missing",
    sizes_without("image_size", "patch"): "the key 'image_size' or 'n_tokens' is",
    sizes_without("mlp_ratio"): "the key 'mlp_ratio' or 'hidden' is missing",
    json.dumps(ENCODER | {"n_tokens": 1}): "n_tokens=1: expected at least 2, the class",
    json.dumps(ENCODER | {"stem": [{"channels": 4}]}): "stem and n_embeddings=127: exp",
    json.dumps(ENCODER | {"n_channels": 1}): "n_channels=1 says nothing of a model of",
    json.dumps({"model": "cifar", "n_tokens": 128}): "n_tokens=128 and image_size=32",
    json.dumps({"model": "deit", "n_layers": 1}): "no model 'deit'; ",
}


@pytest.mark.parametrize("wrong", WRONG_SIZES, ids=range(len(WRONG_SIZES)))
def test_sizes_that_do_not_fit_are_one_clear_line(wrong: str, tmp_path: Path):
    path = tmp_path / "sizes.json"
    path.write_text(wrong)

    with pytest.raises(UsageError, match=re.escape(WRONG_SIZES[wrong])) as error:
        get_model(str(path))

    assert "\n" not in str(error.value)
    assert "sizes.json" in str(error.value)


WRONG = {
    "{": "not JSON: ",
    "[1]": "[1]: expected object",
    without("model"): "the key 'model' is missing",
    without("attention"): "the key 'attention' is missing",
    text(attentions=[]): "unknown key 'attentions'; did you mean attention",
    text(schema_version=2): "schema_version=2: expected 1",
    text(schema_version="1"): "schema_version='1': expected 1",
    text(norm="batchnrm"): "no norm 'batchnrm'; did you mean batchnorm?",
    text(norm=["affine"] * 2): "norm has 2 layers: the model has 3",
    text(norm=3): "norm=3: expected text or list",
    text(attention=[["token_mix"] * 4] * 3): "attention of layer 1: 'token_mix' mixes",
    text(attention=[[["pool", "scale"]]] * 3): "attention of layer 1: 'pool' mixes the",
    text(attention=[["token_mx"]] * 3): "no attention 'token_mx'; did you mean token",
    text(attention=[["pool"]] * 3): "attention of layer 1: 'pool' takes tokens of a "
    "square grid, found 17 tokens with pooling='class_token'; give pooling='mean'",
    text(attention=[["none"]] * 3, mlp_ratio=[1, 1, 0]): "layer 3 has mixer 'none' and",
    text(norm_order="between", mlp_ratio=[1, 0, 1]): "norm_order='between' with norm "
    "'layernorm' and hidden=0 in layer 2: expected a layernorm and an MLP in every",
    text(norm_order="between", norm="batchnorm"): "norm 'batchnorm' and hidden=128 in",
    text(mlp_ratio=[2, 2]): "mlp_ratio has 2 layers: the model has 3",
    text(mlp_ratio=[2, -1, 2]): "mlp_ratio=-1 of layer 2: expected a number above 0",
    text(mlp_ratio=[2, 2, 0.3]): "mlp_ratio=0.3 of width=64 makes 19.2 hidden values",
    text(mlp_ratio=[2] * 3, hidden=[2] * 3): "mlp_ratio and hidden, both by layer",
    text(stem=[{"channels": 0}]): "channels=0: expected a whole number of at least 1",
    text(stem=[{"channel": 4}]): "unknown key 'channel'; did you mean channels?",
    text(stem=[{"channels": 4, "pool": 3}]): "side of the map=8 and pool=3 do not fit",
    text(stem=[{"channels": 4, "pool": 8}]): "side of the map=1 and patch=2 do not fit",
    text(stem=[{"channels": 4, "activation": "rleu"}]): "no activation 'rleu'; did you",
    text(n_layers=0, stem=[{"channels": 64}]): "n_layers=0 with width=64, patch=2 and "
    "pooling='class_token': expected width=64, the channels of the stem, patch=1 and",
    text(model="digit"): "no model 'digit'; did you mean digits?",
    text(model=["digits"]): "model=['digits']: expected text",
    text(n_layers=0): "n_layers=0: expected a whole number of at least 1",
    text(n_layers=True): "n_layers=True: expected int",
    text(n_classes=2.5): "n_classes=2.5: expected int",
    text(n_layers=4): "attention has 3 layers: the model has 4",
    text(heads="parallel"): "heads='parallel': expected serial or batched",
    text(heads=["serial"]): "heads=['serial']: expected serial or batched",
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
