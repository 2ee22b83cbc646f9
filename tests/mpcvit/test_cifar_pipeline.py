"""From real images to a trained network of the paper's size, a few steps of each.

The images are no part of the project: `MPCVIT_CIFAR10` names their folder.
"""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from mpcvit.checkpoint import read_checkpoint
from mpcvit.cli.derive import command as derive_command
from mpcvit.cli.search import command as search_command
from mpcvit.cli.train import command as train_command
from tests import ROOT

CIFAR10 = Path(
    os.environ.get("MPCVIT_CIFAR10", ROOT.parent / "shared" / "data" / "cifar10")
)
ON_CIFAR = [
    *("--dataset", "cifar10", "--data", str(CIFAR10), "--limit", "20"),
    *("--epochs", "1", "--batch-size", "10", "--accelerator", "cpu"),
]


def run(command, *arguments):
    """The JSON that a command prints."""
    result = CliRunner().invoke(
        command, [*map(str, arguments), "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.skipif(
    not (CIFAR10 / "train.parquet").exists(),
    reason="no CIFAR-10; name its folder by MPCVIT_CIFAR10",
)
def test_search_derive_and_train_run_on_real_images(tmp_path):
    table = ROOT / "profiles" / "semi2k.parquet"
    arch, teacher, student = (tmp_path / n for n in ("arch.json", "teacher", "student"))

    run(
        search_command,
        *("--cost-table", table, "--activation", "token", "--lambda", "0.01"),
        *(*ON_CIFAR, "--output", tmp_path / "search"),
    )
    run(derive_command, tmp_path / "search", "--mu", "0.5", "-o", arch)
    run(train_command, "relu_softmax", *ON_CIFAR, "--output", teacher)
    run(
        train_command,
        *(arch, *ON_CIFAR, "--output", student),
        *("--teacher", teacher / "model.safetensors"),
    )

    heads = json.loads(arch.read_text())["attention"]
    flat = [head for layer in heads for head in layer]
    trained = read_checkpoint(student / "model.safetensors")
    assert (len(flat), flat.count("relu_softmax")) == (28, 14)
    assert trained.architecture.model.name == "cifar"
    assert trained.class_names[0] == "airplane"
