"""Experiments: trained alike, once only, in one process or several."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mpcprof.errors import EngineError, UsageError
from mpcprof.nn.architecture import uniform_architecture
from mpcvit.experiments.jobs import run_jobs
from mpcvit.experiments.running import TRAINED, pareto_runs, run_trials, train_one
from mpcvit.experiments.trial import Trial
from mpcvit.pareto import MEASURED, ParetoConfig, gather
from mpcvit.train.loop import DivergedError
from tests.experiment_runs import (
    PROFILE,
    make_outcome,
    make_setting,
    make_trials,
)
from tests.training_runs import tiny_architecture, tiny_recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_architecture_is_trained_with_every_seed_into_a_folder_of_its_own(
    tmp_path,
):
    setting = make_setting(tmp_path)

    scale, relu = run_trials(setting, make_trials("scale", "relu_softmax"))

    assert len(scale.accuracies) == 2
    assert scale.predicted_s < relu.predicted_s
    assert scale.n_test == 40
    assert {p.parent.name for p in (tmp_path / TRAINED).rglob("model.safetensors")} == {
        f"{name}-seed-{seed}" for name in ("scale", "relu_softmax") for seed in (0, 1)
    }


def test_what_is_trained_is_not_trained_again_and_more_seeds_add_to_it(tmp_path):
    trials = make_trials("scale")
    (first,) = run_trials(make_setting(tmp_path, seeds=(0,)), trials)

    (second,) = run_trials(make_setting(tmp_path), trials)

    assert [run.n_resumed for run in second.runs] == [1, 0]
    assert second.accuracies[0] == first.accuracies[0]
    assert second.runs[0].duration_s == first.runs[0].duration_s


def test_another_recipe_does_not_pass_for_what_is_there(tmp_path):
    setting = make_setting(tmp_path, seeds=(0,))
    run_trials(setting, make_trials("scale"))
    other = replace(setting, run=replace(setting.run, recipe=tiny_recipe(epochs=2)))

    with pytest.raises(UsageError, match=r"recipe\.epochs=1, not 2"):
        run_trials(other, make_trials("scale"))


def test_a_teacher_is_trained_first_and_teaches_all_that_do_not_refuse(tmp_path):
    taught, refusing = make_trials("scale", "relu_softmax")
    refusing = replace(refusing, kd=frozenset())
    (teacher,) = run_trials(
        make_setting(tmp_path / "t", seeds=(0,)), make_trials("softmax")
    )
    setting = make_setting(
        tmp_path, seeds=(0,), teacher=str(teacher.runs[0].checkpoint)
    )

    run_trials(setting, [taught, refusing])

    configs = [
        json.loads((tmp_path / TRAINED / t.folder_name(0) / "config.json").read_text())
        for t in (taught, refusing)
    ]
    assert [config["kd"] for config in configs] == [["feature", "logits"], []]
    assert configs[1]["teacher_sha256"] is None


def test_a_teacher_that_is_trained_stays_the_same_file(tmp_path):
    setting = make_setting(tmp_path, seeds=(0,), teacher="softmax")
    trial = Trial(
        group="uniform",
        name="scale",
        architecture=uniform_architecture(setting.preset, attention="scale"),
    )
    first = run_trials(setting, [trial])
    teacher = tmp_path / "teacher-softmax-seed-0" / "model.safetensors"
    written = teacher.read_bytes(), teacher.stat().st_mtime_ns

    again = run_trials(setting, [trial])

    assert (teacher.read_bytes(), teacher.stat().st_mtime_ns) == written
    assert again[0].runs[0].n_resumed == 1
    assert again[0].accuracies == first[0].accuracies
    other = replace(setting, run=replace(setting.run, recipe=tiny_recipe(epochs=2)))
    with pytest.raises(
        UsageError, match=r"teacher-softmax-seed-0' holds .*epochs=1, not 2"
    ):
        run_trials(other, [trial])


def test_what_earlier_calls_left_beside_is_not_looked_at(tmp_path):
    setting = make_setting(tmp_path, seeds=(0,))
    run_trials(setting, make_trials("scale"))
    (tmp_path / TRAINED / "uniform" / "scale-seed-0" / MEASURED).write_text("{")

    outcomes = run_trials(setting, make_trials("2quad"))

    checkpoint = tmp_path / TRAINED / "uniform" / "2quad-seed-0" / "model.safetensors"
    assert pareto_runs(outcomes) == (f"uniform={checkpoint}",)
    with pytest.raises(UsageError, match=r"cannot read .*measured\.json': .*move it"):
        run_trials(setting, make_trials("scale"))


def test_a_measurement_shows_in_the_outcome_of_its_training_only(tmp_path):
    folder = tmp_path / "of=two"
    setting = make_setting(folder)
    run_trials(setting, make_trials("scale"))
    measured = gather(
        ParetoConfig(
            runs=(str(folder / TRAINED / "uniform" / "scale-seed-1"),),
            profile=PROFILE,
            network=setting.network,
        ),
        lambda path, heads: 7.5,
    )

    (outcome,) = run_trials(setting, make_trials("scale"))

    assert [one.measured_s for one in measured] == [7.5]
    assert [run.measured_s for run in outcome.runs] == [None, 7.5]


def test_nothing_is_drawn_of_trainings_that_diverged():
    assert pareto_runs([make_outcome(None), make_outcome(0.9, None)]) == ("g=x",)


def test_two_trials_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="uniform/scale: expected each once"):
        run_trials(make_setting(tmp_path), make_trials("scale", "scale"))


def test_processes_of_their_own_give_the_weights_that_one_process_gives(tmp_path):
    trials = make_trials("scale", "2quad")
    run_trials(make_setting(tmp_path / "here", seeds=(0,)), trials)

    run_trials(make_setting(tmp_path / "apart", seeds=(0,), n_jobs=2), trials)

    for trial in trials:
        here, apart = (
            load_file(
                tmp_path / where / TRAINED / trial.folder_name(0) / "model.safetensors"
            )
            for where in ("here", "apart")
        )
        assert {*here} == {*apart}
        assert all(torch.equal(here[name], apart[name]) for name in here)


def test_an_error_in_a_process_of_its_own_is_raised_here(tmp_path):
    setting = make_setting(tmp_path)
    architecture = tiny_architecture()
    requests = [
        setting.train_request(
            architecture, tmp_path / str(seed), seed=seed, teacher=None, kd=frozenset()
        )
        for seed in (0, 1)
    ]
    missing = [replace(one, teacher=Path("none.st")) for one in requests]

    with pytest.raises(UsageError, match="teacher but no kd"):
        run_jobs(train_one, missing, n_jobs=2)


def die(job, observer):
    raise SystemExit(3)


def test_a_process_that_dies_is_said_so(tmp_path):
    setting = make_setting(tmp_path)
    request = setting.train_request(
        tiny_architecture(), tmp_path, seed=0, teacher=None, kd=frozenset()
    )

    with pytest.raises(EngineError, match="ended with 3; finished epochs are kept"):
        run_jobs(die, [request, request], n_jobs=2)


def fill_the_disk(job, observer):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_that_is_not_ours_names_the_folder_of_its_job(tmp_path, n_jobs):
    setting = make_setting(tmp_path)
    request = setting.train_request(
        tiny_architecture(), tmp_path / "full", seed=0, teacher=None, kd=frozenset()
    )

    with pytest.raises(
        EngineError, match=r"full': OSError: \[Errno 28\] No space .*; finished epochs"
    ):
        run_jobs(fill_the_disk, [request, request], n_jobs=n_jobs)


def test_one_that_diverges_does_not_stop_the_others(tmp_path):
    def work(job, observer):
        if job.run.recipe.seed == 0:
            raise DivergedError("not finite")
        return job.run.recipe.seed

    setting = make_setting(tmp_path)
    requests = [
        setting.train_request(
            tiny_architecture(), tmp_path, seed=seed, teacher=None, kd=frozenset()
        )
        for seed in (0, 1)
    ]

    diverged, one = run_jobs(work, requests)

    assert isinstance(diverged, DivergedError)
    assert one == 1
