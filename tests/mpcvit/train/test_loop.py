"""The loop, with objectives whose course is known."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mpcvit.data.dataset import load_dataset
from mpcvit.models.norm import RepBatchNorm
from mpcvit.models.vit import VisionTransformer
from mpcvit.train.config import Hardware, RunConfig
from mpcvit.train.log import read_log
from mpcvit.train.loop import (
    DivergedError,
    ParameterGroup,
    clipped_parameters,
    decayed_groups,
    fit,
)
from tests.training_runs import (
    N_STEPS,
    free_architecture,
    steady_recipe,
    tiny_architecture,
    tiny_recipe,
)

RECIPE = steady_recipe()


pytestmark = pytest.mark.usefixtures("one_thread")


class Line(nn.Module):
    """A share per class, a decayed weight nothing else pulls at, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.full((10,), 1.0))
        self.idle = nn.Parameter(torch.ones(2, 2))
        self.register_buffer("n_steps", torch.zeros(()))


class LineObjective:
    """Pulls every share of `Line` down by the same force."""

    def __init__(self, scale: float = 1.0) -> None:
        self.module = Line()
        self.n_steps = 0
        self.progress = []
        self._scale = scale

    def groups(self):
        module = self.module
        alpha = ParameterGroup(
            parameters=(module.share,),
            learning_rate=1.0,
            min_learning_rate=1.0,
            weight_decay=0.0,
        )
        decayed = ParameterGroup(
            parameters=(module.idle,),
            learning_rate=1e-2,
            min_learning_rate=1e-2,
            weight_decay=0.5,
        )
        return alpha, decayed

    def to(self, device):
        assert device.type == "cpu"

    def begin_step(self, progress):
        self.progress.append(progress)

    def losses(self, images, targets):
        force = self._scale * self.module.share.sum()
        unmoved = 0 * self.module.idle.sum()
        return {"total": force + unmoved, "images": images.new_tensor(len(images))}

    def after_step(self):
        self.n_steps += 1
        self.module.n_steps += 1
        with torch.no_grad():
            self.module.share.clamp_(0, 1)

    def metrics(self):
        return {"counted": float(self.module.n_steps)}


def run(folder: Path, objective, recipe=RECIPE):
    request = RunConfig(
        dataset="digits",
        recipe=recipe,
        output=folder,
        hardware=Hardware(accelerator="cpu"),
    )
    dataset = load_dataset("digits", limit=40)
    return fit(objective, dataset, request, {"epochs": recipe.epochs})


def test_groups_move_by_their_own_rates_and_decay(tmp_path):
    objective = LineObjective()
    recipe = tiny_recipe(epochs=1, warmup_epochs=0, cooldown_epochs=0)

    run(tmp_path, objective, recipe)

    assert objective.module.share.tolist() == [0.0] * 10  # clamped, never below
    decay = (1 - 1e-2 * 0.5) ** objective.n_steps
    torch.testing.assert_close(
        objective.module.idle.detach(), torch.full((2, 2), decay)
    )


def test_losses_are_means_over_images_not_over_batches(tmp_path):
    result = run(tmp_path, LineObjective())

    # batches of 16, 16 and 8
    assert result.epochs[0].losses["images"] == (16 * 16 + 16 * 16 + 8 * 8) / 40


def test_buffers_of_the_module_survive_a_resume(tmp_path):
    run(tmp_path, LineObjective())

    again = run(tmp_path, objective := LineObjective())

    assert again.n_resumed == RECIPE.epochs
    assert float(objective.module.n_steps) == N_STEPS * RECIPE.epochs
    counted = [record.metrics["counted"] for record in read_log(tmp_path / "log.jsonl")]
    assert counted == [3, 6, 9]


def test_each_step_knows_how_much_is_done_also_after_a_resume(tmp_path):
    class Stopped(LineObjective):
        def begin_step(self, progress):
            super().begin_step(progress)
            if len(self.progress) == N_STEPS + 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Stopped())

    run(tmp_path, objective := LineObjective())

    n_steps = N_STEPS * RECIPE.epochs
    expected = [step / n_steps for step in range(N_STEPS, n_steps)]
    assert objective.progress == pytest.approx(expected)


def test_clipping_leaves_batchnorms_alone_unless_it_is_asked_for():
    network = nn.ModuleDict({"norm": RepBatchNorm(2, until=0.5), "line": Line()})
    groups = decayed_groups(network, RECIPE)
    names = {id(p): name for name, p in network.named_parameters()}

    apart, together = (
        [
            names[id(p)]
            for p in clipped_parameters(
                network, groups, replace(RECIPE, clip_batchnorm=is_clipped)
            )
        ]
        for is_clipped in (False, True)
    )

    layernorm = ["norm.first.gamma", "norm.first.beta"]
    assert apart == ["line.idle", *layernorm, "line.share"]
    assert {*together} - {*apart} == {"norm.gamma", "norm.beta", "norm.identity"}


def test_tensorboard_has_each_epoch_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, LineObjective())

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = events.Scalars("metric/counted")
    assert [(point.step, point.value) for point in points] == [(1, 3), (2, 6), (3, 9)]


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(tmp_path):
    with pytest.raises(DivergedError, match=r"epoch 1: .* lower learning rate"):
        run(tmp_path, LineObjective(scale=float("inf")))

    assert not (tmp_path / "last.safetensors").exists()


def test_only_matrices_decay():
    line = nn.Linear(3, 2)

    matrices, others = decayed_groups(line, RECIPE)

    assert matrices.parameters == (line.weight,)
    assert (others.parameters, others.weight_decay) == ((line.bias,), 0.0)


def test_the_biases_of_tokens_that_mixers_learn_do_not_decay():
    network = VisionTransformer(free_architecture())

    groups = decayed_groups(network, RECIPE)

    names = {id(p): name for name, p in network.named_parameters()}
    own = [(names[id(p)], p, one) for one in groups for p in one.parameters]
    decay = {name: one.weight_decay for name, _, one in own}
    assert decay["layers.0.mixing.bias"] == 0.0
    assert decay["layers.0.mixing.weight"] == RECIPE.weight_decay
    assert len(own) == len(names)
    # the order by which a stopped run of an earlier version names the state of each
    axes = [p.ndim != 2 for _, p, _ in own]
    assert axes == sorted(axes)


def test_of_what_thex_learns_the_matrices_alone_decay():
    network = VisionTransformer(tiny_architecture("thex"))

    groups = decayed_groups(network, RECIPE)

    decay = {id(p): one.weight_decay for one in groups for p in one.parameters}
    thex = network.get_submodule("layers.0.attention.thex")
    assert [decay[id(p)] for p in thex.parameters()] == 3 * [RECIPE.weight_decay, 0.0]
