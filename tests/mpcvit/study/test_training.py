"""Studies: trained alike, once only."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mpcprof.errors import UsageError
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.shard import parse_shard
from mpcvit.pareto import MEASURED, ParetoConfig, gather
from mpcvit.study.training import (
    TRAINED,
    Candidate,
    ShardDone,
    pareto_runs,
    train_candidates,
)
from tests.committed import small_profile
from tests.studies import make_candidates, make_outcome, make_study
from tests.training_runs import tiny_recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_architecture_is_trained_with_every_seed_into_a_folder_of_its_own(
    tmp_path,
):
    study = make_study(tmp_path)

    scale, relu = train_candidates(study, make_candidates("scale", "relu_softmax"))

    assert len(scale.accuracies) == 2
    assert scale.predicted_s < relu.predicted_s
    assert scale.n_test == 40
    assert {p.parent.name for p in (tmp_path / TRAINED).rglob("model.safetensors")} == {
        f"{name}-seed-{seed}" for name in ("scale", "relu_softmax") for seed in (0, 1)
    }


def test_what_is_trained_is_not_trained_again_and_more_seeds_add_to_it(tmp_path):
    candidates = make_candidates("scale")
    (first,) = train_candidates(make_study(tmp_path, seeds=(0,)), candidates)

    (second,) = train_candidates(make_study(tmp_path), candidates)

    assert [run.n_resumed for run in second.runs] == [1, 0]
    assert second.accuracies[0] == first.accuracies[0]
    assert second.runs[0].duration_s == first.runs[0].duration_s


def test_another_recipe_does_not_pass_for_what_is_there(tmp_path):
    study = make_study(tmp_path, seeds=(0,))
    train_candidates(study, make_candidates("scale"))
    other = replace(study, run=replace(study.run, recipe=tiny_recipe(epochs=2)))

    with pytest.raises(UsageError, match=r"recipe\.epochs=1, not 2"):
        train_candidates(other, make_candidates("scale"))


def test_a_teacher_is_trained_first_and_teaches_all_that_do_not_refuse(tmp_path):
    taught, refusing = make_candidates("scale", "relu_softmax")
    refusing = replace(refusing, kd=frozenset())
    (teacher,) = train_candidates(
        make_study(tmp_path / "t", seeds=(0,)), make_candidates("softmax")
    )
    study = make_study(tmp_path, seeds=(0,), teacher=str(teacher.runs[0].checkpoint))

    train_candidates(study, [taught, refusing])

    configs = [
        json.loads((tmp_path / TRAINED / t.folder_name(0) / "config.json").read_text())
        for t in (taught, refusing)
    ]
    assert [config["kd"] for config in configs] == [["feature", "logits"], []]
    assert configs[1]["teacher_sha256"] is None


def test_a_teacher_that_is_trained_stays_the_same_file(tmp_path):
    study = make_study(tmp_path, seeds=(0,), teacher="softmax")
    candidate = Candidate(
        group="uniform",
        name="scale",
        architecture=uniform_architecture(study.preset, attention="scale"),
    )
    first = train_candidates(study, [candidate])
    teacher = tmp_path / "teacher-softmax-seed-0" / "model.safetensors"
    written = teacher.read_bytes(), teacher.stat().st_mtime_ns

    again = train_candidates(study, [candidate])

    assert (teacher.read_bytes(), teacher.stat().st_mtime_ns) == written
    assert again[0].runs[0].n_resumed == 1
    assert again[0].accuracies == first[0].accuracies
    other = replace(study, run=replace(study.run, recipe=tiny_recipe(epochs=2)))
    with pytest.raises(
        UsageError, match=r"teacher-softmax-seed-0' holds .*epochs=1, not 2"
    ):
        train_candidates(other, [candidate])


def test_what_earlier_calls_left_beside_is_not_looked_at(tmp_path):
    study = make_study(tmp_path, seeds=(0,))
    train_candidates(study, make_candidates("scale"))
    (tmp_path / TRAINED / "uniform" / "scale-seed-0" / MEASURED).write_text("{")

    outcomes = train_candidates(study, make_candidates("2quad"))

    checkpoint = tmp_path / TRAINED / "uniform" / "2quad-seed-0" / "model.safetensors"
    assert pareto_runs(outcomes) == (f"uniform={checkpoint}",)
    with pytest.raises(UsageError, match=r"cannot read .*measured\.json': .*move it"):
        train_candidates(study, make_candidates("scale"))


def test_a_measurement_shows_in_the_outcome_of_its_training_only(tmp_path):
    folder = tmp_path / "of=two"
    study = make_study(folder)
    train_candidates(study, make_candidates("scale"))
    measured = gather(
        ParetoConfig(
            runs=(str(folder / TRAINED / "uniform" / "scale-seed-1"),),
            profile=small_profile(),
            network=study.network,
        ),
        lambda path, heads, plan: 7.5,
    )

    (outcome,) = train_candidates(study, make_candidates("scale"))

    assert [one.measured_s for one in measured] == [7.5]
    assert [run.measured_s for run in outcome.runs] == [None, 7.5]


def test_nothing_is_drawn_of_trainings_that_diverged():
    assert pareto_runs([make_outcome(None), make_outcome(0.9, None)]) == ("g=x",)


def test_two_candidates_of_one_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="uniform/scale: expected each once"):
        train_candidates(make_study(tmp_path), make_candidates("scale", "scale"))


def test_processes_of_their_own_give_the_weights_that_one_process_gives(tmp_path):
    candidates = make_candidates("scale", "2quad")
    train_candidates(make_study(tmp_path / "here", seeds=(0,)), candidates)

    train_candidates(make_study(tmp_path / "apart", seeds=(0,), n_jobs=2), candidates)

    for candidate in candidates:
        here, apart = (
            load_file(
                tmp_path
                / where
                / TRAINED
                / candidate.folder_name(0)
                / "model.safetensors"
            )
            for where in ("here", "apart")
        )
        assert {*here} == {*apart}
        assert all(torch.equal(here[name], apart[name]) for name in here)


def test_shards_train_each_a_part_and_the_last_one_reports_what_one_alone_would(
    tmp_path,
):
    """In one folder; the teacher is trained once, by whoever comes first."""
    candidates = make_candidates("scale", "2quad")
    study = make_study(tmp_path / "shared", teacher="relu_softmax")
    alone = make_study(tmp_path / "alone", teacher="relu_softmax")
    teacher = tmp_path / "shared" / "teacher-relu_softmax-seed-0" / "model.safetensors"

    with pytest.raises(ShardDone) as first:
        train_candidates(replace(study, shard=parse_shard("2/3")), candidates)
    taught_by = teacher.read_bytes()
    with pytest.raises(ShardDone, match="3 of 4 trainings are in"):
        train_candidates(replace(study, shard=parse_shard("1/3")), candidates)
    outcomes = train_candidates(replace(study, shard=parse_shard("3/3")), candidates)

    assert json.loads(first.value.to_json()) == {
        "shard": "2/3",
        "folder": str(tmp_path / "shared"),
        "n_trainings": 4,
        "n_missing": 3,
    }
    assert teacher.read_bytes() == taught_by
    assert [one.accuracies for one in outcomes] == [
        one.accuracies for one in train_candidates(alone, candidates)
    ]


def test_a_shard_does_not_begin_anew_what_others_need(tmp_path):
    study = make_study(tmp_path)

    with pytest.raises(UsageError, match="--fresh with --shard 1/2: each part would"):
        replace(study, run=replace(study.run, is_fresh=True), shard=parse_shard("1/2"))
