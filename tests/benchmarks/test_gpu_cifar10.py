"""The script for one GPU, on the CPU: two steps, a run, and what a kill leaves."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu_cifar10
from mpcprof.nn.architecture import parse_architecture
from mpcvit.checkpoint import read_checkpoint
from mpcvit.checkpoint_header import read_header
from mpcvit.train.log import read_log
from on_device import HOLE, Data, DeviceRecipe, Trainer, one_cycle, read_data, vary
from tests import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    **{"model": "tiny", "n_layers": 1, "n_heads": 2, "width": 16, "hidden": 16},
    **{"image_size": 32, "patch": 8, "n_classes": 10},
    "activation": ["relu"],
}
N_IMAGES = 48
# what a machine with torch alone lacks, and what may not be needed at all
ABSENT = (
    *("click", "jax", "kornia", "lightning_fabric", "matplotlib", "msgspec", "numpy"),
    *("pandas", "PIL", "pyarrow", "rich", "safetensors", "scipy", "sklearn", "spu"),
    "tensorboard",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of noise in the binary form, and two architectures."""
    path = tmp_path_factory.mktemp("gpu")
    generator = torch.Generator().manual_seed(0)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        records = torch.randint(256, (N_IMAGES, 3073), generator=generator)
        records[:, 0] %= 10
        (path / f"{name}.bin").write_bytes(bytes(records.flatten().tolist()))
    squares = {"norm": "batchnorm", "activation": ["quad_linear"]}
    for name, own in (("scale", {}), ("relu_softmax", squares)):
        text = json.dumps({**SIZES, "attention": [[name] * 2], **own})
        (path / f"{name}.json").write_text(text)
    return path


def call(folder, *options, names=("scale",)):
    files = [str(folder / f"{name}.json") for name in names]
    common = ["--data", str(folder), "--limit", "40", "--batch-size", "16"]
    gpu_cifar10.main([*files, *common, *map(str, options)])


def test_torch_alone_times_trains_teaches_and_writes(folder, tmp_path):
    code = f"""
import sys
sys.modules.update(dict.fromkeys({ABSENT!r}))  # importing one of them fails
sys.path[:0] = ["benchmarks", "."]
import warnings
warnings.simplefilter("ignore")
import gpu_cifar10
files = ["relu_softmax.json", "scale.json"]
common = [*(f"{folder}/{{f}}" for f in files), "--data", "{folder}", "--limit", "32"]
gpu_cifar10.main([*common, "--batch-size", "16", "--steps", "2", "--precision", "bf16"])
gpu_cifar10.main([*common, "--epochs", "1", "--teacher", "scale",
                  "--mlp-norm", "--gradual-norm", "0.5", "--gradual-activation",
                  "0.9", "--frozen-norm", "0.1", "--range-penalty", "0.1",
                  "--output", "{tmp_path}"])
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    slow, *speeds = done.stdout.splitlines()[:3]
    assert "trains in fp32" in slow
    for line in speeds:
        assert re.search(r": \d+ images/s, [\d.e+]+ epochs a minute$", line)
    taught = json.loads((tmp_path / "relu_softmax" / "config.json").read_text())
    assert taught["taught_by"] == "scale"
    for name in ("scale", "relu_softmax"):
        (record,) = read_log(tmp_path / name / "log.jsonl")
        header = read_header(tmp_path / name / "model.safetensors")
        assert record.images_per_s > 0
        # of the folded network; one image of 48 at most, where two logits are equal
        assert header.accuracy == pytest.approx(record.metrics["accuracy"], abs=0.04)
    assert done.stdout.index("scale: begins") < done.stdout.index("softmax: begins")


def test_a_run_that_was_stopped_ends_as_an_unbroken_one(folder, tmp_path, monkeypatch):
    names = ("relu_softmax",)  # its BatchNorms have statistics
    three = ("--mlp-norm", "--frozen-norm", 0.4, "--epochs", 3, "--output")
    call(folder, *three, tmp_path / "whole", names=names)
    measure = gpu_cifar10.Training.run.__globals__["measure_accuracy"]
    n_calls = 0

    def stop(*given):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        return measure(*given)

    monkeypatch.setattr("on_device.SAVE_S", 0.0)
    monkeypatch.setattr("on_device.measure_accuracy", stop)
    with pytest.raises(KeyboardInterrupt):
        call(folder, *three, tmp_path / "stopped", names=names)
    call(folder, *three, tmp_path / "stopped", names=names)
    call(folder, *three, tmp_path / "stopped", names=names)  # is done already

    assert n_calls == 3 + 1 + 1  # the third epoch again, and the deployed network
    whole, stopped = (
        read_checkpoint(tmp_path / name / "relu_softmax" / "model.safetensors")
        for name in ("whole", "stopped")
    )
    for name, weight in whole.weights.items():
        assert torch.equal(weight, stopped.weights[name]), name
    assert len(read_log(tmp_path / "stopped" / "relu_softmax" / "log.jsonl")) == 3


def test_the_stated_time_is_kept_and_shared(folder, tmp_path, capsys):
    names = ("scale", "relu_softmax")

    call(folder, "--in-all", 0.4, "--output", tmp_path, names=names)

    for name in names:
        records = read_log(tmp_path / name / "log.jsonl")
        assert 0 < sum(each.duration_s + each.metrics_s for each in records) < 0.4
        assert records[-1].learning_rate < DeviceRecipe().learning_rate
    assert "epochs a minute" in capsys.readouterr().out


def test_the_script_explains_itself(capsys):
    with pytest.raises(SystemExit, match="0"):
        gpu_cifar10.main(["--help"])

    assert "trained on CIFAR-10 by one GPU" in capsys.readouterr().out
    assert "python benchmarks/gpu_cifar10.py" in str(gpu_cifar10.__doc__)


@pytest.mark.parametrize(
    ("options", "names", "message"),
    [
        (["--teacher", "cnn"], ["scale"], "teacher 'cnn': expected one of scale"),
        ([], ["scale", "scale"], "two architectures called 'scale'"),
        ([], ["absent"], "cannot read architecture"),
        (["--gradual-norm", "2"], ["scale"], "gradual_norm=2.0: expected a share"),
        (["--cutmix", "2"], ["scale"], "cutmix=2.0: expected a probability"),
        (["--learning-rate", "0"], ["scale"], "learning_rate=0.0: expected above 0"),
        (["--data", "no"], ["scale"], "no cifar10 in 'no'"),
    ],
)
def test_what_cannot_be_is_one_line(folder, tmp_path, options, names, message):
    output = ["--steps", "1", "--output", str(tmp_path)]

    with pytest.raises(SystemExit, match=rf"^gpu_cifar10: .*{message}") as caught:
        call(folder, *output, *options, names=names)

    assert "\n" not in str(caught.value)


def test_images_of_another_size_are_refused(folder, tmp_path):
    other = {**SIZES, "image_size": 64, "attention": [["scale"] * 2]}
    (tmp_path / "other.json").write_text(json.dumps(other))
    given = [str(tmp_path / "other.json"), "--data", str(folder), "--steps", "1"]

    with pytest.raises(SystemExit, match=r"\(3, 64, 10\): expected \(3, 32, 10\)"):
        gpu_cifar10.main(given)


def test_damaged_records_are_refused(folder, tmp_path):
    (tmp_path / "test_batch.bin").write_bytes(b"1" * 3074)
    (tmp_path / "data_batch_1.bin").write_bytes(b"1" * 3073)

    with pytest.raises(ValueError, match=r"3074 bytes in .*expected records of 3073"):
        read_data(tmp_path, torch.device("cpu"))


def test_images_are_read_as_they_were_written(folder):
    found: Data = read_data(folder, torch.device("cpu"))
    record = (folder / "data_batch_2.bin").read_bytes()[:3073]

    assert bytes(found.train.pixels[N_IMAGES].flatten().tolist()) == record[1:]
    assert int(found.train.labels[N_IMAGES]) == record[0]
    assert len(found.train.labels) == 5 * len(found.test.labels) == 5 * N_IMAGES


def test_images_are_moved_mirrored_and_pierced_in_bytes():
    torch.manual_seed(0)
    image = torch.full((200, 3, 32, 32), 255, dtype=torch.uint8)
    image[:, :, :, :16] = 200

    varied = vary(image)

    assert varied.dtype == torch.uint8
    assert varied.shape == image.shape
    holes = (varied == 120).all(1).sum((1, 2))
    assert 0 < int(holes.min()) <= int(holes.max()) <= HOLE**2
    is_mirrored = varied[:, 0, :, 4:8].amax((1, 2)) == 255
    assert 60 < int(is_mirrored.sum()) < 140


def test_biases_of_mixers_have_no_weight_decay_here_either(folder):
    document = {**SIZES, "attention": [["token_mix"]]}
    network = parse_architecture(json.dumps(document))
    data = read_data(folder, torch.device("cpu"), limit=16)

    trainer = Trainer(network, data, DeviceRecipe())

    groups = trainer.optimizer.param_groups
    decay = {id(p): one["weight_decay"] for one in groups for p in one["params"]}
    mixing = trainer.model.get_submodule("layers.0.mixing")
    assert decay[id(mixing.weight)] == DeviceRecipe().weight_decay
    assert decay[id(mixing.bias)] == 0.0


def test_the_learning_rate_rises_to_its_peak_and_ends_near_zero():
    rates = [one_cycle(share / 10) for share in range(11)]

    assert rates.index(max(rates)) == 2
    assert max(rates) == 1.0
    assert rates[0] == rates[-1] == 1e-3
