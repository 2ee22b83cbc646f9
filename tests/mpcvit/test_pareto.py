"""A family of trained networks: which are beaten, and what is measured once only."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.errors import FileError, UsageError
from mpcprof.money import Tariff
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.nn.plan import rewrites_only, write_plan
from mpcprof.profile.io import read_profile
from mpcvit.checkpoint import Checkpoint, write_checkpoint
from mpcvit.checkpoint_header import read_header
from mpcvit.cli.pareto import command
from mpcvit.data.fitting import read_image
from mpcvit.data.normalization import Normalization
from mpcvit.front import (
    draw_pareto,
    find_published,
    gather_points,
    is_on_front,
    pareto_json,
    pareto_table,
)
from mpcvit.models.vit import VisionTransformer
from mpcvit.pareto import Member, ParetoConfig, gather
from mpcvit.secure.model_owner import checkpoint_digest
from tests.committed import small_profile


def member(latency_s, accuracy):
    return Member(group="g", name="n", accuracy=accuracy, predicted_s=latency_s)


def write(folder, attention, accuracy, *, attention_of_layers=None, dataset="digits"):
    torch.manual_seed(0)
    architecture = uniform_architecture(get_model("digits"), attention=attention)
    layers = attention_of_layers or architecture.attention
    architecture = replace(architecture, attention=layers)
    checkpoint = Checkpoint(
        architecture=architecture,
        weights=VisionTransformer(architecture).weights(),
        normalization=Normalization(mean=(0.5,), deviation=(0.5,)),
        dataset=dataset,
        class_names=tuple("0123456789"),
        accuracy=accuracy,
    )
    write_checkpoint(folder / "model.safetensors", checkpoint)


def request(*runs):
    return ParetoConfig(
        runs=tuple(map(str, runs)), profile=small_profile(), network=NETWORKS["wan"]
    )


@given(
    st.lists(
        st.builds(member, st.floats(0.1, 9), st.floats(0, 1)), min_size=1, max_size=8
    )
)
def test_the_front_holds_the_quickest_and_the_most_accurate_and_rises(members):
    front = sorted(
        (m.latency_s, m.accuracy) for m in members if is_on_front(m, members)
    )

    assert front[0][0] == min(m.latency_s for m in members)
    assert front[-1][1] == max(m.accuracy for m in members)
    assert [a for _, a in front] == sorted(a for _, a in front)


def test_every_checkpoint_below_a_folder_is_a_member_the_fastest_first(tmp_path):
    write(tmp_path / "a" / "softmax", "softmax", 0.98)
    write(tmp_path / "a" / "scale", "scale", 0.91)

    found = gather(request(f"uniform={tmp_path / 'a'}"))

    assert [(m.group, m.name) for m in found] == [
        ("uniform", "scale"),
        ("uniform", "softmax"),
    ]
    assert 0 < found[0].predicted_s < found[1].predicted_s
    assert {m.measured_s for m in found} == {None}


def test_a_tariff_prices_measured_seconds_before_predicted_ones(tmp_path):
    write(tmp_path / "scale", "scale", 0.91)
    asked = replace(request(tmp_path), tariff=Tariff(per_hour=1800.0))

    (predicted,) = gather(asked)
    (measured,) = gather(asked, lambda *_: 1.5)

    assert predicted.cost == pytest.approx(predicted.predicted_s)  # of two parties
    assert measured.cost == pytest.approx(1.5)
    assert (
        pareto_table([measured], currency="EUR")
        .splitlines()[0]
        .endswith("| measured | cost in EUR |")
    )
    assert pareto_table([measured], currency="EUR").endswith("| 1.5 s | 1.5 |")
    assert "cost" not in pareto_table([measured])


def test_equal_heads_in_another_order_beat_nobody(tmp_path):
    accurate, cheap = ("relu_softmax",), ("scale",)
    for order in ((2, 2, 2), (1, 3, 2), (0, 2, 4)):
        layers = tuple((accurate,) * n + (cheap,) * (4 - n) for n in order)
        name = "-".join(map(str, order))
        write(tmp_path / name, "scale", 0.98, attention_of_layers=layers)

    found = gather(request(tmp_path))

    assert len({one.predicted_s for one in found}) == 1
    assert all(is_on_front(one, found) for one in found)


def test_parties_measure_what_a_folder_of_images_taught(tmp_path, monkeypatch):
    write(tmp_path, "scale", 0.91, dataset="pets")
    seen = []

    def infer(asked, progress):
        pixels = read_image(Path(asked.images[0]), get_model("digits"))
        seen.append(tuple(pixels.shape))
        return SimpleNamespace(latency_s=1.5)

    monkeypatch.setattr("mpcvit.secure.inference.infer", infer)
    arguments = [
        str(tmp_path),
        "--cost-table",
        str(small_profile()),
        "--measured",
        "--json",
    ]

    done = CliRunner().invoke(command, arguments, catch_exceptions=False)

    assert json.loads(done.stdout)["members"][0]["measured_s"] == 1.5
    assert seen == [(1, 8, 8)]


def test_what_was_measured_is_not_measured_again(tmp_path):
    write(tmp_path / "scale", "scale", 0.91)
    asked = []

    def measure(path, heads, plan):
        asked.append(path.name)
        return 1.5

    first = gather(request(tmp_path), measure)
    second = gather(request(tmp_path), measure)
    batched = gather(
        ParetoConfig(
            runs=(str(tmp_path),),
            profile=small_profile(),
            network=NETWORKS["wan"],
            heads="batched",
        )
    )

    assert asked == ["model.safetensors"]
    assert first == second
    assert first[0].measured_s == 1.5
    assert batched[0].measured_s is None


def test_a_network_is_deployed_by_the_plan_beside_it(tmp_path):
    for name in ("softmax", "scale"):
        write(tmp_path / name, name, 0.9)
    checkpoint = tmp_path / "scale" / "model.safetensors"
    architecture = read_header(checkpoint).architecture
    plan = replace(
        rewrites_only(architecture), checkpoint=checkpoint_digest(checkpoint)
    )
    write_plan(tmp_path / "scale" / "plan.json", plan)
    own = replace(request(tmp_path / "scale"), plan="plan.json")
    asked = []

    def measure(path, heads, plan):
        asked.append(plan)
        return 1.5

    (measured,) = gather(own, measure)
    rewritten = gather(replace(request(tmp_path), plan="rewrites"))
    plain = gather(request(tmp_path))

    assert asked == [str(tmp_path / "scale" / "plan.json")]
    assert [one.predicted_s for one in plain] > [one.predicted_s for one in rewritten]
    assert measured.predicted_s == rewritten[0].predicted_s
    assert {one.measured_s for one in (*rewritten, *plain)} == {None}
    with pytest.raises(UsageError, match="for another architecture of model digits"):
        gather(
            replace(
                request(tmp_path / "softmax"),
                plan=str(tmp_path / "scale" / "plan.json"),
            )
        )


def test_a_plan_of_another_checkpoint_is_refused(tmp_path):
    write(tmp_path, "scale", 0.9)
    architecture = read_header(tmp_path / "model.safetensors").architecture
    write_plan(
        tmp_path / "plan.json",
        replace(rewrites_only(architecture), checkpoint="0" * 64),
    )

    with pytest.raises(UsageError, match="the plan is for another checkpoint than"):
        gather(replace(request(tmp_path), plan="plan.json"))


def test_a_file_of_what_was_measured_counts_whatever_the_order_of_its_keys(tmp_path):
    write(tmp_path, "scale", 0.91)
    architecture = uniform_architecture(get_model("digits"), attention="scale")
    backwards = dict(reversed(json.loads(architecture.to_json()).items()))
    document = {
        "latency_s": 3,
        "conditions": {
            "network": str(NETWORKS["wan"]),
            "deployment": str(read_profile(small_profile()).deployment),
            "architecture": backwards,
        },
    }
    (tmp_path / "measured.json").write_text(json.dumps(document))

    (found,) = gather(request(tmp_path))

    assert found.measured_s == 3.0


CONDITIONS = {"architecture": {}, "deployment": "semi2k", "network": "wan"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ('{"latency_s": 1', "not JSON"),
        ("[" * 100_000, "recursion"),
        ("[1.5]", r"\[1\.5\]: expected object"),
        ("null", "None: expected object"),
        ({"latency_s": 1.5}, "the key 'conditions' is missing"),
        ({"conditions": CONDITIONS}, "the key 'latency_s' is missing"),
        ({"conditions": 7, "latency_s": 1}, "conditions=7: expected object"),
        ({"conditions": {}, "latency_s": 1}, "the key 'architecture' is missing"),
        (
            {"conditions": CONDITIONS | {"network": 44}, "latency_s": 1},
            "network=44: expected text",
        ),
        (
            {"conditions": CONDITIONS | {"architecture": "scale"}, "latency_s": 1},
            "architecture='scale': expected object",
        ),
        (
            {"conditions": CONDITIONS, "latency_s": "9.5 s"},
            "latency_s='9.5 s': expected float",
        ),
        ({"conditions": CONDITIONS, "latency_s": True}, "latency_s=True: expected"),
        ({"conditions": CONDITIONS, "latency_s": None}, "latency_s=None: expected"),
        ({"conditions": CONDITIONS, "latency_s": -1}, "latency_s=-1.0: expected a fin"),
        (
            {"conditions": CONDITIONS, "latency_s": float("nan")},
            "latency_s=nan: .* finite",
        ),
        ({"conditions": CONDITIONS, "latency_s": 10**400}, "expected a finite number"),
    ],
)
def test_a_damaged_file_of_what_was_measured_is_one_line(tmp_path, text, message):
    write(tmp_path, "scale", 0.91)
    path = tmp_path / "measured.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))

    with pytest.raises(UsageError, match=message) as caught:
        gather(request(tmp_path))

    said = str(caught.value)
    assert said.startswith(f"cannot read file {str(path)!r}: ")
    assert "`mpcvit pareto --measured` wrote: move it away" in said
    assert "\n" not in said


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff")])
def test_what_was_measured_that_is_no_text_is_one_line(tmp_path, make):
    write(tmp_path, "scale", 0.91)
    make(tmp_path / "measured.json")

    with pytest.raises(UsageError, match=r"cannot read file .*measured.*move it"):
        gather(request(tmp_path))


def write_seeds(folder, *accuracies):
    for seed, accuracy in enumerate(accuracies):
        write(folder / f"scale-seed-{seed}", "scale", accuracy)
        settings = {"recipe": {"seed": seed, "epochs": 5}, "dataset": "digits"}
        (folder / f"scale-seed-{seed}" / "config.json").write_text(json.dumps(settings))


def test_seeds_of_one_network_are_a_point_with_the_interval_of_its_mean(tmp_path):
    write_seeds(tmp_path, 0.94, 0.96, 0.98)

    members = gather(request(f"uniform={tmp_path}"))
    (point,) = gather_points(members)
    document = json.loads(pareto_json(members))

    half = 4.302653 * 0.02 / 3**0.5  # Student's t, two degrees of freedom
    assert point.name == "scale"
    assert point.accuracy == 0.96
    assert point.interval == pytest.approx((0.96 - half, 0.96 + half))
    assert f"| uniform | scale | 96.00% ± {half:.2%} | 3 |" in pareto_table(members)
    assert len(document["members"]) == 3
    assert [one["n_trainings"] for one in document["networks"]] == [3]


def test_seeds_that_other_versions_or_numbers_of_processes_trained_are_one_network(
    tmp_path,
):
    """A setting that had no name yet had the value that it has by default."""
    write_seeds(tmp_path, 0.94, 0.96)
    newer = tmp_path / "scale-seed-1" / "config.json"
    recipe = {"seed": 1, "epochs": 5, "mlp_norm": False}
    settings = {"recipe": recipe, "dataset": "digits", "n_processes": 2, "data": "x"}
    newer.write_text(json.dumps(settings))

    (point,) = gather_points(gather(request(f"uniform={tmp_path}")))

    assert len(point.members) == 2


def test_seeds_taught_by_a_teacher_of_their_own_are_one_network(tmp_path):
    write_seeds(tmp_path, 0.94, 0.96)
    for seed in range(2):
        run = tmp_path / f"scale-seed-{seed}"
        write(run / "teacher", "scale", 0.9 + seed / 100)
        digest = checkpoint_digest(run / "teacher" / "model.safetensors")
        settings = json.loads((run / "config.json").read_text())
        taught = {**settings, "teacher_sha256": digest}
        (run / "config.json").write_text(json.dumps(taught))
        (run / "teacher" / "config.json").write_text(json.dumps(settings))

    members = gather(request(*tmp_path.glob("*/model.safetensors")))

    assert len({one.training for one in members}) == 1


def test_a_teacher_inside_the_folder_of_its_student_is_no_network_beside_it(tmp_path):
    write(tmp_path / "taught", "scale", 0.9)
    write(tmp_path / "taught" / "teacher", "softmax", 0.95)
    write(tmp_path / "teacher", "softmax", 0.95)  # beside its students

    every, own = gather(request(tmp_path)), gather(request(tmp_path / "taught"))
    asked_for = gather(request(tmp_path / "taught" / "teacher"))

    assert [one.name for one in every] == ["taught", "teacher"]
    assert [one.name for one in own] == ["taught"]
    assert [one.name for one in asked_for] == ["teacher"]


def test_trainings_that_differ_in_more_than_the_seed_are_networks_of_their_own(
    tmp_path,
):
    write_seeds(tmp_path, 0.94, 0.96)
    longer = tmp_path / "scale-seed-1" / "config.json"
    settings = {"recipe": {"seed": 1, "epochs": 9}, "dataset": "digits"}
    longer.write_text(json.dumps(settings))

    points = gather_points(gather(request(f"uniform={tmp_path}")))

    assert [one.name for one in points] == ["scale-seed-0", "scale-seed-1"]


def test_measured_seconds_of_some_seeds_are_those_of_the_network():
    seeds = [
        replace(member(10.0, 0.9), training="a", measured_s=measured_s)
        for measured_s in (9.0, 11.5, None)
    ]

    (point,) = gather_points(seeds)

    assert point.latency_s == 10.25
    assert point.measured_range_s == (9.0, 11.5)


def test_points_of_the_paper_stand_beside_ours_and_are_on_no_front(tmp_path):
    own = [replace(member(2.0, 0.5), dataset="cifar10")]
    published = find_published(own)

    table = pareto_table(own, published)
    draw_pareto(own, "title", tmp_path / "p.png", published)

    assert "| * | g | n | 50.00% | 2 s |" in table
    assert "|  | published | softmax ViT | 93.97% |  | 112.2 s |" in table
    assert (tmp_path / "p.png").exists()
    with pytest.raises(UsageError, match="no network of 'digits': expected cifar10"):
        find_published([replace(own[0], dataset="digits")])
    with pytest.raises(UsageError, match="networks of cifar10, digits: expected one"):
        find_published([*own, replace(own[0], dataset="digits")])


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no model\.safetensors in or below"):
        gather(request(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("front.pdf", r"front\.pdf': expected a name that ends in"),
        ("file/front.png", "cannot write"),
    ],
)
def test_a_picture_that_cannot_be_written_is_said_before_anything_is_measured(
    name, message, tmp_path, monkeypatch
):
    monkeypatch.setattr("mpcvit.pareto.gather", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").touch()
    given = [str(tmp_path), "--measured", "-o", str(tmp_path / name)]

    with pytest.raises((UsageError, FileError), match=message):
        CliRunner().invoke(command, given, catch_exceptions=False)


def test_the_picture_is_written(tmp_path):
    draw_pareto([member(1, 0.9), member(2, 0.95)], "title", tmp_path / "p.png")

    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_marks_the_front_and_rounds_seconds():
    slow, quick = member(12.083259788, 0.97), member(9.5493777, 0.98)

    table = pareto_table([quick, slow])

    assert "| * | g | n | 98.00% | 9.549 s |" in table
    assert "|  | g | n | 97.00% | 12.08" in table
