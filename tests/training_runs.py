"""Trainings of a second, for tests, and one that kills its process amid it."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mpcprof.nn.architecture import Architecture, get_model, uniform_architecture
from mpcprof.progress import Silent
from mpcvit.data.augmentation import NO_AUGMENTATION
from mpcvit.models.layers import NONE, Regularization
from mpcvit.train.config import Hardware, RunConfig
from mpcvit.train.log import read_log
from mpcvit.train.recipe import Recipe, get_recipe
from mpcvit.train.run import TrainConfig, train

N_IMAGES = 40
N_STEPS = 3  # of an epoch
N_EPOCHS = 3


def tiny_architecture(attention: str = "relu_softmax") -> Architecture:
    model = replace(get_model("digits"), n_layers=1)
    return uniform_architecture(model, attention=attention)


def free_architecture() -> Architecture:
    """A layer of mixing by a matrix, BatchNorm and squares, and one of RepBN."""
    model = replace(get_model("digits"), n_layers=2, width=16)
    return Architecture(
        model=model,
        attention=((("token_mix",),), (("scale",),) * model.n_heads),
        activation=(("quad_linear",), ("quad",)),
        norm=("batchnorm", "repbn"),
    )


def tiny_recipe(**changes: Any) -> Recipe:
    """Every source of randomness is on: order, augmentation, both dropouts."""
    dropping = Regularization(attention_dropout=0.1, path_dropout=0.1)
    return replace(
        get_recipe("digits"),
        **{"epochs": N_EPOCHS, "batch_size": 16, "regularization": dropping, **changes},
    )


def steady_recipe() -> Recipe:
    """Only the order of the images is random."""
    return tiny_recipe(augmentation=NO_AUGMENTATION, regularization=NONE)


def tiny_request(
    output: Path,
    recipe: Recipe | None = None,
    *,
    is_fresh: bool = False,
    architecture: Architecture | None = None,
) -> TrainConfig:
    run = RunConfig(
        dataset="digits",
        limit=N_IMAGES,
        recipe=recipe or tiny_recipe(),
        output=output,
        hardware=Hardware(accelerator="cpu"),
        is_fresh=is_fresh,
    )
    return TrainConfig(run=run, architecture=architecture or tiny_architecture())


class StopAfter(Silent):
    """Does something once that many steps are done."""

    def __init__(self, n_steps: int, stop: Any) -> None:
        self._left = n_steps
        self._stop = stop

    def advance(self, n_steps: int = 1) -> None:
        self._left -= n_steps
        if self._left == 0:
            self._stop()


def interrupt() -> None:
    raise KeyboardInterrupt


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(output: Path, n_steps: int) -> None:
    torch.set_num_threads(1)
    train(tiny_request(output), StopAfter(n_steps, kill))


def losses(folder: Path) -> list[dict[str, float]]:
    return [dict(record.losses) for record in read_log(folder / "log.jsonl")]


def assert_same_run(folder: Path, unbroken: Path) -> None:
    for name in ("last.safetensors", "model.safetensors"):
        ours, theirs = load_file(folder / name), load_file(unbroken / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert losses(folder) == losses(unbroken)
