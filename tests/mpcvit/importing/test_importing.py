"""Other people's checkpoints give the logits that their own framework gives."""

import argparse
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import read_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.plan import rewrites_only
from mpcprof.nn.transformer import vit
from mpcvit.checkpoint import load_test_data, read_checkpoint
from mpcvit.cli.import_ import command
from mpcvit.importing.run import ImportConfig, ImportResult, import_checkpoint
from mpcvit.models.algebra import OPS
from mpcvit.train.evaluate import evaluate_plain
from tests.mpcvit.importing.references import (
    Bert,
    HuggingFaceViT,
    MpcVit,
    TimmViT,
    filled,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def mpcvit(*, has_beta: bool = False, image_size: int = 8) -> nn.Module:
    """An MPCViT whose heads, and tokens, are of both kinds."""
    network = filled(MpcVit(has_beta=has_beta, image_size=image_size))
    first, second = network.classifier.blocks
    with torch.no_grad():
        first.self_attn.alpha[0, 1] = 0
        second.self_attn.alpha.zero_()
        if has_beta:
            first.beta[0, 2:] = 0
            second.beta.zero_()  # W1 W2 are one
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "timm": lambda: filled(TimmViT()),
    "timm, layer scale": lambda: filled(TimmViT(has_scale=True)),
    "timm, no bias": lambda: filled(TimmViT(has_bias=False)),
    "timm, mean": lambda: filled(TimmViT(has_class_token=False)),
    "timm, no position of the class token": lambda: filled(
        TimmViT(no_embed_class=True)
    ),
    "hugging face": lambda: filled(HuggingFaceViT()),
    "mpcvit": mpcvit,
    "mpcvit+": lambda: mpcvit(has_beta=True),
}


def saved(folder: Path, network: nn.Module, **changes: Tensor | None) -> Path:
    """Write the state_dict; a tensor of None is left out."""
    tensors = {**network.state_dict(), **changes}
    path = folder / "theirs.safetensors"
    save_file({k: t.contiguous() for k, t in tensors.items() if t is not None}, path)
    return path


def imported(path: Path, **options: Any) -> ImportResult:
    given = {"n_heads": 3, "output": path.parent / "ours.safetensors"} | options
    return import_checkpoint(ImportConfig(source=path, **given))


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_logits_are_those_of_the_framework_to_1e_5(make, tmp_path) -> None:
    network = make()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    result = imported(saved(tmp_path, network))

    with torch.no_grad():
        found = read_checkpoint(result.checkpoint).build_model()(images)
        expected = network(images)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("embedding", ["client", "one_hot"])
def test_logits_of_bert_are_those_of_the_framework(embedding, tmp_path) -> None:
    network = filled(Bert())
    torch.manual_seed(0)  # some words tell the classes less apart than the bar below
    words, types = torch.randint(20, (3, 7)), torch.randint(2, (3, 7))
    old = "bert.embeddings.LayerNorm"  # as files of 2018 have it
    gamma, beta = (network.state_dict()[f"{old}.{key}"] for key in ("weight", "bias"))
    names = {f"{old}.weight": None, f"{old}.bias": None}
    path = saved(
        tmp_path, network, **names, **{f"{old}.gamma": gamma}, **{f"{old}.beta": beta}
    )

    result = imported(path, n_tokens=7, embedding=embedding)

    trained = read_checkpoint(result.checkpoint)
    assert trained.architecture == read_architecture(result.architecture_file)
    tables = network.bert["embeddings"]
    given = tables["word_embeddings"](words) + tables["token_type_embeddings"](types)
    if embedding == "one_hot":
        rows = functional.one_hot(words, 20), functional.one_hot(types, 2)
        given = torch.cat(rows, dim=-1).float()
    with torch.no_grad():
        found = vit(OPS, trained.architecture, given, trained.weights)
        expected = network(words, types)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-5
    assert len(result.unused) == (2 if embedding == "client" else 0)


def test_tokens_of_small_variance_show_another_epsilon(tmp_path) -> None:
    network = filled(TimmViT())
    with torch.no_grad():
        for parameter in (network.patch_embed.proj.weight, network.pos_embed):
            parameter.mul_(1e-3)
        network.patch_embed.proj.bias.zero_()
    images = torch.rand(4, 3, 8, 8)
    path = saved(tmp_path, network)
    (tmp_path / "other.json").write_text('{"layer_norm_eps": 1e-5}')

    right = imported(path)
    with torch.no_grad():
        expected = network(images)
        found = read_checkpoint(right.checkpoint).build_model()(images)
        other = imported(path, settings=tmp_path / "other.json")
        wrong = read_checkpoint(other.checkpoint).build_model()(images)

    assert (found - expected).abs().max() < 1e-5
    assert (wrong - expected).abs().max() > 1e-3


def test_alphas_and_betas_are_the_attention_of_heads_and_activations_of_tokens(
    tmp_path,
) -> None:
    result = imported(saved(tmp_path, mpcvit(has_beta=True)), n_heads=None)

    found = read_architecture(result.architecture_file)
    assert found.model.norm_order == "between"
    assert found.attention == (
        (("relu_softmax_mpcvit",), ("scale",), ("relu_softmax_mpcvit",)),
        (("scale",),) * 3,
    )
    curved, straight = ("gelu_exact",) * 2, ("identity_relu",) * 3
    assert found.activation == (curved + straight, ("identity_relu",))
    assert found.is_fused(1)
    assert trace_model(found, 1, rewrites_only(found))  # predicted as any other


def test_a_published_archive_keeps_settings_beside_the_weights(tmp_path) -> None:
    path = tmp_path / "mpcvit_cifar10-0.7.pth.tar"
    network = mpcvit(image_size=32)
    training = {"epoch": 9, "args": argparse.Namespace(lr=0.1), "arch": "vit_7_4_32"}
    names = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({**training, "state_dict": names}, path)

    result = imported(path, n_heads=None)

    trained = read_checkpoint(result.checkpoint)
    assert trained.dataset == "cifar10"
    assert trained.class_names[3] == "cat"
    assert trained.normalization.mean == (0.4914, 0.4822, 0.4465)
    assert trained.architecture.model.name == "mpcvit_cifar10-0.7"
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        difference = trained.build_model()(images) - network(images)
    assert difference.abs().max() < 1e-5


def test_a_folder_of_hugging_face_says_what_weights_do_not(tmp_path) -> None:
    names = [f"class {number}" for number in range(5)]
    config = {
        "model_type": "vit",
        "num_attention_heads": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "id2label": dict(enumerate(names)),
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    pixels = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pixels))
    unread = {"vit.pooler.dense.bias": torch.zeros(12)}
    path = saved(tmp_path, filled(HuggingFaceViT()), **unread)
    path.rename(tmp_path / "model.safetensors")

    result = import_checkpoint(
        ImportConfig(source=tmp_path, output=tmp_path / "out" / "vit.safetensors")
    )

    trained = read_checkpoint(result.checkpoint)
    assert trained.class_names == tuple(names)
    assert trained.normalization.deviation == (0.4, 0.5, 0.6)
    assert trained.architecture.model.norm_epsilon == 1e-12
    assert result.assumed == ()
    assert result.unused == ("vit.pooler.dense.bias",)


@pytest.mark.parametrize(
    ("config", "n_heads", "pooling"),
    [
        ({"architecture": "vit_tiny_patch16_224", "global_pool": "token"}, 3, "class"),
        ({"model_args": {"num_heads": 4}, "global_pool": "avg"}, 4, "mean"),
    ],
)
def test_timm_says_the_heads_in_its_config_or_by_the_name(
    config, n_heads, pooling, tmp_path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    network = filled(TimmViT(has_class_token=pooling == "class"))

    model = imported(saved(tmp_path, network), n_heads=None).architecture.model

    assert model.n_heads == n_heads
    assert model.pooling.startswith(pooling)


def test_an_imported_network_is_evaluated_as_a_trained_one(tmp_path) -> None:
    network = filled(TimmViT())
    network.patch_embed.proj = nn.Conv2d(1, 12, 4, stride=4)
    network.head = nn.Linear(12, 10)
    path = saved(tmp_path, network)

    result = imported(path, dataset="digits", mean=(0.3,), deviation=(0.4,))

    trained = read_checkpoint(result.checkpoint)
    images = load_test_data(trained, None, limit=20)
    accuracy = evaluate_plain(trained, images)
    pixels = (images.test.images.float() / 255 - 0.3) / 0.4
    with torch.no_grad():
        labels = network(pixels).argmax(dim=1)
    assert accuracy == (labels == images.test.labels).float().mean()


WRONG: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "distillation": ({"dist_token": torch.zeros(1, 1, 12)}, "dist_token: a distil"),
    "registers": ({"reg_token": torch.zeros(1, 4, 12)}, "reg_token: register tok"),
    "norms of queries": (
        {"blocks.0.attn.q_norm.weight": torch.ones(4)},
        "blocks.0.attn.q_norm.weight: a norm of queries, which architecture.json",
    ),
    "norm behind the mean": ({"fc_norm.weight": torch.ones(12)}, "fc_norm.weight: a"),
    "something else": (
        {"blocks.1.adapter.weight": torch.ones(2)},
        "blocks.1.adapter.weight: nothing in a timm ViT has that name",
    ),
    "no classifier": ({"head.weight": None}, "head.weight is missing: expected all"),
    "a layer missing": (
        {"blocks.0.norm1.weight": None},
        "blocks.0.norm1.weight is missing",
    ),
    "another shape": (
        {"blocks.1.mlp.fc2.weight": torch.ones(12, 23)},
        "blocks.1.mlp.fc2.weight has shape (12, 23): expected (12, 24)",
    ),
    "integers": (
        {"norm.bias": torch.ones(12, dtype=torch.int64)},
        "norm.bias is of torch.int64: expected floating point",
    ),
    "no square": (
        {"pos_embed": torch.zeros(1, 7, 12)},
        "pos_embed of 7 tokens: expected those of a square image and a class token",
    ),
    "no network": ({"patch_embed.proj.weight": None}, "none is the embedding of a ne"),
    "efficientvit": (
        {"patch_embed.conv1.conv.weight": torch.ones(2)},
        "patch_embed.conv1.conv.weight is of an EfficientViT: mpcprof predict --model",
    ),
    "axes": ({"patch_embed.proj.weight": torch.ones(12, 3)}, "expected 4 axes"),
    "nothing a number": (
        {"norm.bias": torch.full((12,), torch.nan)},
        "weight norm.beta has entries that are not finite",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_expressed_is_one_line_that_names_the_key(
    wrong: str, tmp_path
) -> None:
    changes, message = WRONG[wrong]
    path = saved(tmp_path, filled(TimmViT()), **changes)

    with pytest.raises(UsageError, match=re.escape(message)) as error:
        imported(path)

    assert "\n" not in str(error.value)
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_search_is_a_mixture_and_no_network(tmp_path) -> None:
    network = mpcvit()
    with torch.no_grad():
        network.classifier.blocks[1].self_attn.alpha[0, 2] = 0.25

    with pytest.raises(UsageError, match=r"blocks\.1\.self_attn\.alpha has a share of"):
        imported(saved(tmp_path, network))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": None}, "the number of heads is not in the tensors, 12 wide"),
        ({"n_heads": 5}, "5 heads of queries 12 wide together: expected a number"),
        (
            {"model": "cifar"},
            "n_heads=4: model cifar has|n_layers=2: model cifar has 7",
        ),
        ({"n_tokens": 5}, "a timm ViT reads an image: leave out --tokens"),
        ({"mean": (0.5,) * 3}, "--mean without --std"),
        ({"mean": (0.5,), "deviation": (0.5,)}, "1 channels normalised: the model has"),
        ({"dataset": "digits"}, "10 class names: the model has 5 classes"),
        ({"settings": Path("none.json")}, "cannot read 'none.json': No such file"),
    ],
)
def test_options_that_do_not_fit_are_one_clear_line(options, message, tmp_path) -> None:
    path = saved(tmp_path, filled(TimmViT()))

    with pytest.raises(UsageError, match=message):
        imported(path, **options)


class Code:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("this must not run",)


def test_a_file_with_code_is_refused_and_none_of_it_runs(tmp_path, capsys) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": filled(TimmViT()).state_dict(), "extra": Code()}, path)

    with pytest.raises(
        UsageError, match=r"it holds print, which is code and no tensor"
    ):
        imported(path)

    assert "this must not run" not in capsys.readouterr().out


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "text": b"weights",
    "zip": b"PK\x03\x04 and no archive",
    "pickle": pickle.dumps([1, 2]),
    "page": b"<!DOCTYPE html><html>Sign in</html>",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_no_weights_is_one_line(damage: str, tmp_path) -> None:
    path = tmp_path / "theirs.bin"
    path.write_bytes(DAMAGED[damage])

    with pytest.raises(UsageError, match=r"cannot read '.*theirs\.bin': .*; expected"):
        imported(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_one_line(suffix: str, tmp_path) -> None:
    path = saved(tmp_path, filled(TimmViT())).with_suffix(suffix)
    if suffix == ".pth":
        torch.save(filled(TimmViT()).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-500])

    with pytest.raises(UsageError, match="cannot read"):
        imported(path)


def test_a_file_that_is_read_is_not_overwritten(tmp_path) -> None:
    path = saved(tmp_path, filled(TimmViT()))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "link.safetensors").symlink_to(path)
    elsewhere = tmp_path / "other" / ".." / path.name

    for output in (path, elsewhere, tmp_path / "link.safetensors"):
        with pytest.raises(UsageError, match="would write over the weights"):
            imported(path, output=output)
    with pytest.raises(UsageError, match="would write over the settings"):
        imported(path, output=tmp_path / "config.safetensors")


def test_the_weights_of_a_folder_are_not_overwritten(tmp_path) -> None:
    path = saved(tmp_path, filled(HuggingFaceViT())).rename(
        tmp_path / "model.safetensors"
    )

    with pytest.raises(UsageError, match="would write over the weights"):
        imported(tmp_path, output=path)


def test_the_command_says_what_it_wrote_and_assumed(tmp_path) -> None:
    path = saved(tmp_path, filled(TimmViT()))
    output = tmp_path / "ours.safetensors"
    given = [str(path), "-o", str(output), "--heads", "3"]

    text = CliRunner().invoke(command, given, catch_exceptions=False).stdout
    document = json.loads(CliRunner().invoke(command, [*given, "--json"]).stdout)

    assert text.startswith("timm ViT of ")
    assert "2 layers, 3 heads, width 12, hidden 24, 5 tokens, 5 classes" in text
    assert "assumed: images with mean 0.5, 0.5, 0.5, deviation" in text
    assert document["architecture_file"] == str(output.with_suffix(".json"))
    assert len(document["assumed"]) == 2


def test_the_same_file_is_the_same_checkpoint(tmp_path) -> None:
    path = saved(tmp_path, filled(HuggingFaceViT()))

    first = imported(path).checkpoint.read_bytes()
    second = imported(path, output=tmp_path / "again.safetensors").checkpoint

    assert second.read_bytes() == first
    assert replace(read_checkpoint(second), accuracy=None)
