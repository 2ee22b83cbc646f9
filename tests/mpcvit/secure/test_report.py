"""Private and plain answers side by side; commands from end to end."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mpcprof.deployment import make_deployment
from mpcprof.errors import MissingEntryError, ProfileError, UsageError
from mpcprof.network import NETWORKS
from mpcprof.nn.approximation import choose_inverse
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.plan import LayerPlan, rewrites_only, write_plan
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import write_profile
from mpcvit.checkpoint import (
    Checkpoint,
    load_test_data,
    read_checkpoint,
    write_checkpoint,
)
from mpcvit.checkpoint_header import read_header
from mpcvit.cli import main
from mpcvit.data.dataset import load_dataset
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.secure.evaluate import EvaluationResult, compare, hold_against_emulation
from mpcvit.secure.inference import CallCost, call_cost, predict_call
from mpcvit.secure.model_owner import checkpoint_digest
from mpcvit.secure.parties import Conditions
from mpcvit.secure.report import call_lines, evaluation_json
from tests.factories import make_full_profile
from tests.image_folders import write_image_folder, write_parquet_folder

MODEL = replace(MODELS["digits"], n_layers=1)
SEMI2K = make_deployment("semi2k")
SCALE = uniform_architecture(MODEL, attention="scale", activation="identity")


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    leave_checkpoint(path)
    return path


def leave_checkpoint(path, **changes):
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        architecture=SCALE,
        weights=VisionTransformer(SCALE).weights(),
        normalization=Normalization(mean=(0.3,), deviation=(0.4,)),
        dataset="digits",
        class_names=tuple("0123456789"),
    )
    write_checkpoint(path, replace(checkpoint, **changes))


def test_a_label_that_differs_is_reported_with_its_margin():
    plain = np.array([[0.0, 1.0], [2.0, 1.75], [0.0, 3.0]])
    secure = plain + np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.0]])

    found = compare(plain, secure, np.array([1, 0, 0]))

    (only,) = found.disagreements
    assert (only.index, only.expected, only.plain, only.secure) == (1, 0, 0, 1)
    assert only.margin == pytest.approx(0.25)
    assert found.agreement == pytest.approx(2 / 3)
    assert found.plain_accuracy == pytest.approx(2 / 3)
    assert found.secure_accuracy == pytest.approx(1 / 3)
    assert (found.max_logit_error, found.median_logit_error) == (0.5, 0.0)


LOCAL = make_deployment("semi2k", options=["trunc_allow_msb_error=true"])


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (1e-6, "the plan accepts 1e-06 times an inference"),
        (0.0, "how often: docs/spu-options.md"),
    ],
)
def test_failures_that_a_plan_accepts_are_noted(rate, said):
    plan = replace(rewrites_only(SCALE), failure_rate=rate)

    local = Conditions(deployment=LOCAL, network=NETWORKS["wan"]).notes(plan)
    usual = Conditions(deployment=SEMI2K, network=NETWORKS["wan"]).notes(plan)

    (note,) = [note for note in local if note not in usual]
    assert note.startswith("trunc_allow_msb_error: each party truncates its own shares")
    assert note.endswith(said)
    assert any("TrustedFirstParty" in note for note in usual)


@pytest.fixture
def hold(checkpoint):
    """Hold logits of zeros against the emulation of two images."""
    images = load_test_data(read_header(checkpoint), None, limit=2).test
    zeros = np.zeros((2, 10))

    def hold(plan=None, deployment=SEMI2K):
        read = read_checkpoint(checkpoint)
        return hold_against_emulation(zeros, read, SCALE, images, deployment, plan)

    return hold


def test_what_the_emulation_computes_wrongly_is_a_note_for_each_kind(hold):
    narrow = choose_inverse(1e-4, 1e-3, -0.5, 1e-2)
    layer = LayerPlan(norm1=narrow, norm2=narrow)
    plan = replace(rewrites_only(SCALE), layers=(layer,), is_pruned=False)

    comparison, failures, notes = hold(plan)
    _, none, no_notes = hold()

    n_out = 2 * 2 * MODEL.n_tokens  # of both norms
    by_kind = Counter()
    for (_, kind), n in failures.items():
        by_kind[kind] += n
    assert by_kind["out of range"] == n_out
    assert [note.partition(":")[0] for note in notes] == [*by_kind]
    assert any(
        note.startswith(f"out of range: {n_out} numbers outside of the plan's ranges")
        and "of 2 images, most in layer 1/norm (" in note
        for note in notes
    )
    assert (none, no_notes) == (Counter(), ())
    assert comparison.n_images == 2


def test_an_emulation_that_is_interrupted_or_unknown_leaves_the_parties_result(
    hold, monkeypatch
):
    unknown = hold(deployment=make_deployment("securenn"))

    def interrupt(*_args, failures, **_more):
        failures["", "exp"] += 1
        yield np.zeros((1, 10))
        raise KeyboardInterrupt

    monkeypatch.setattr("mpcvit.secure.evaluate.emulate_network", interrupt)
    stopped = hold()

    assert stopped == (
        *(None, Counter()),
        ("not held against an emulation: interrupted",),
    )
    assert unknown[:2] == (None, Counter())
    assert "not held against an emulation: protocol 'securenn'" in unknown[2][0]


def refuse_constant(name):
    raise AssertionError(name)


def test_the_document_of_an_evaluation_has_failures_and_no_nan(checkpoint):
    plain = np.array([[0.0, 1.0], [2.0, 1.75]])
    wrong = compare(plain, np.full((2, 2), np.nan), np.array([1, 0]))
    call = CallCost(
        latency_s=1.0, bytes_sent=1, total_bytes_sent=2, hops=None, images=None,
        result=None,
    )  # fmt: skip
    result = EvaluationResult(
        dataset="digits",
        n_batch=2,
        conditions=Conditions(deployment=LOCAL, network=NETWORKS["wan"]),
        comparison=wrong,
        emulation=wrong,
        failures=Counter({("a", "exp"): 2, ("b", "exp"): 1, ("b", "rsqrt"): 5}),
        calls=(call,),
        notes=(),
    )

    found = json.loads(evaluation_json(result), parse_constant=refuse_constant)

    assert found["emulation"]["failures"] == {"exp": 3, "rsqrt": 5}
    assert found["emulation"]["max_logit_error"] is None
    assert (found["max_logit_error"], found["agreement"]) == (None, 0.5)


def call_of(*runs, counters=None):
    return SimpleNamespace(
        call=SimpleNamespace(latency_s=1.5, runs=runs, counters=counters, driver_s=0.0),
        images=None,
        result=None,
    )


def test_hops_are_those_that_spu_counts_or_that_the_relay_saw():
    run = SimpleNamespace(bytes_sent=100, send_actions=7)
    counters = SimpleNamespace(deepest=SimpleNamespace(hops=5))
    late = SimpleNamespace(deepest=SimpleNamespace(hops=9))

    counted = call_cost(call_of(run, run, counters=late), SEMI2K)
    early = call_cost(call_of(run, run, counters=counters), SEMI2K)
    aby3 = make_deployment("aby3")
    seen = call_cost(call_of(run, run, run, counters=counters), aby3)
    unknown = call_cost(call_of(run, run, run), aby3)

    assert (counted.hops, seen.hops, unknown.hops) == (7, 5, None)
    assert early.hops == 5  # two messages did not wait for the one before
    assert (counted.bytes_sent, counted.total_bytes_sent) == (100, 200)
    assert seen.total_bytes_sent == 300


def test_a_profile_of_another_deployment_predicts_nothing(monkeypatch, tmp_path):
    profile = Path("profiles/semi2k.parquet").resolve()
    wide, unmeasured = (
        make_deployment("semi2k", field_bits=128),
        make_deployment("securenn"),
    )

    found, why_not = predict_call(None, SCALE, wide, NETWORKS["wan"], 1)
    with pytest.raises(UsageError, match="of another deployment: field_bits is 64"):
        predict_call(profile, SCALE, wide, NETWORKS["wan"], 1)
    monkeypatch.chdir(tmp_path)
    absent, no_file = predict_call(None, SCALE, unmeasured, NETWORKS["wan"], 1)

    assert (found, absent) == (None, None)
    assert "field_bits is 64 in one, 128 in the other" in why_not
    assert "there is no profiles/securenn.parquet" in no_file


def test_without_a_profile_of_ones_own_the_packaged_one_predicts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    found, why_not = predict_call(None, SCALE, SEMI2K, NETWORKS["wan"], 1)

    assert (found.profile, why_not) == ("semi2k", "")


def write_incomplete(path):
    profile = make_full_profile()
    kept = tuple(one for one in profile.records if one.workload != "matmul")
    write_profile(path, replace(profile, records=kept))


@pytest.mark.parametrize(
    ("write", "error", "reason"),
    [
        (lambda path: path.write_bytes(b"PAR1"), ProfileError, "truncated or damaged"),
        (write_incomplete, MissingEntryError, "matmul"),
    ],
)
def test_only_a_profile_that_was_named_has_to_predict(
    write, error, reason, monkeypatch, tmp_path
):
    path = tmp_path / "profiles" / "semi2k.parquet"
    path.parent.mkdir()
    write(path)
    monkeypatch.chdir(tmp_path)

    found, why_not = predict_call(None, SCALE, SEMI2K, NETWORKS["wan"], 1)
    with pytest.raises(error, match=reason):
        predict_call(path, SCALE, SEMI2K, NETWORKS["wan"], 1)

    assert found is None
    assert why_not.startswith("no prediction: ")
    assert reason in why_not


def test_the_commands_load_no_torch_until_they_run():
    code = (
        "import sys, mpcvit.cli.infer, mpcvit.cli.evaluate;"
        "print({'torch', 'jax', 'spu'} & {*sys.modules})"
    )

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True)

    assert loaded.strip() == "set()"


def test_evaluate_says_the_accuracy_of_the_plain_model(checkpoint):
    done = CliRunner().invoke(
        main, ["evaluate", str(checkpoint), "--images", "50", "--json"]
    )

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["dataset"], found["n_images"]) == ("digits", 50)
    assert 0 <= found["accuracy"] <= 1


def evaluate(*arguments):
    words = ["evaluate", *map(str, arguments), "--network", "loopback"]
    return CliRunner().invoke(main, words)


BOTH_WAYS = pytest.mark.parametrize("way", [(), ("--secure",)], ids=["plain", "secure"])


@BOTH_WAYS
def test_images_of_other_classes_are_refused(way, checkpoint, tmp_path):
    names = (*(f"{digit}" for digit in range(9)), "ten")
    folder = write_image_folder(tmp_path / "numbers", names)

    done = evaluate(checkpoint, "--dataset", folder, *way)

    assert done.exit_code == 2, done.output
    assert "numbers has 'ten' as class 9, the checkpoint '9'" in done.stderr
    assert "Traceback" not in done.stderr


@BOTH_WAYS
def test_a_checkpoint_of_a_folder_asks_for_the_folder(way, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    leave_checkpoint(path, dataset="numbers")
    monkeypatch.chdir(tmp_path)

    done = evaluate(path, *way)

    assert done.exit_code == 2, done.output
    assert "trained on a folder 'numbers'" in done.stderr
    assert "give --dataset FOLDER" in done.stderr


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("kind", ["images", "parquet", "digits"])
def test_what_a_network_was_trained_on_always_has_its_classes(kind, limit, tmp_path):
    if kind == "images":
        source = str(write_image_folder(tmp_path / kind, tuple("abcdefghij")))
    elif kind == "parquet":
        source = str(write_parquet_folder(tmp_path / kind, 10))
    else:
        source = kind
    dataset = load_dataset(source, model=MODEL)
    path = tmp_path / "model.safetensors"
    leave_checkpoint(path, dataset=dataset.name, class_names=dataset.class_names)

    found = load_test_data(read_header(path), source, limit=limit)

    assert found.class_names == dataset.class_names
    assert len(found.test) == (limit or len(dataset.test))


@pytest.mark.parametrize("command", ["infer", "evaluate"])
def test_a_checkpoint_that_is_not_there_is_one_line(command):
    image = ["digits:0"] if command == "infer" else []

    done = CliRunner().invoke(main, [command, "absent.safetensors", *image])

    assert done.exit_code == 2
    assert "cannot read checkpoint 'absent.safetensors'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def run_here(*arguments):
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def run_command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "mpcvit", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def leave_plan(path, **changes):
    plan = rewrites_only(SCALE, 2, deployment=make_deployment("semi2k"))
    plan = replace(plan, checkpoint=checkpoint_digest(path))
    beside = path.with_name("plan.json")
    write_plan(beside, replace(plan, **changes))
    return str(beside)


WRONG_PLANS = {
    "another deployment: protocol is 'aby3' in one, 'semi2k' in the other": {
        "deployment": make_deployment("aby3")
    },
    "for model cifar of 1 layers: this is digits of 1": {"model": "cifar"},
    "for another architecture of model digits": {"architecture": "0" * 16},
    "for another checkpoint than": {"checkpoint": "0" * 64},
}


@pytest.mark.parametrize(
    ("command", "message"),
    [("evaluate", "for another checkpoint than"), *(("infer", m) for m in WRONG_PLANS)],
)
def test_a_plan_for_something_else_is_one_line(command, message, checkpoint):
    plan = leave_plan(checkpoint, **WRONG_PLANS[message])
    asked = ["digits:0"] if command == "infer" else ["--secure", "--images", "1"]

    done = CliRunner().invoke(
        main, [command, str(checkpoint), *asked, "--plan", plan, "--protocol", "semi2k"]
    )

    assert done.exit_code == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_plan_without_parties_is_one_line(checkpoint):
    done = CliRunner().invoke(main, ["evaluate", str(checkpoint), "--plan", "rewrites"])

    assert done.exit_code == 2
    assert "--plan is of the parties; add --secure or leave it out" in done.stderr


@pytest.mark.spu
@pytest.mark.parametrize("has_plan", [False, True])
def test_infer_tells_labels_cost_forecast_and_trace(
    has_plan, checkpoint, tmp_path, request
):
    run = run_command
    if has_plan:
        run = run_here
        request.getfixturevalue("stay").emulation.keep_messages()
    trace = tmp_path / "infer.json"
    images = ["digits:0", "digits:1", "digits:2"]
    options = ["--network", "10MBps,20ms", "--batch", "2", "--json"]
    options += ["--trace", str(trace)]
    options += ["--plan", leave_plan(checkpoint)] if has_plan else []

    found = json.loads(run("infer", checkpoint, *images, *options))

    forecast_of_call = found["forecast"]
    assert [label["image"] for label in found["labels"]] == images
    assert len(found["calls"]) == 2  # the second one filled up
    for call in found["calls"]:
        assert call["hops"] == forecast_of_call["hops"]
        assert call["total_bytes_sent"] == pytest.approx(
            forecast_of_call["total_bytes_sent"], rel=0.01
        )
    assert [layer["name"] for layer in forecast_of_call["layers"]] == [
        "embedding",
        "layer 1",
        "head",
    ]
    assert any("TrustedFirstParty" in note for note in found["notes"])
    waited_s = sum(party["waiting_s"] for party in found["trace"]["parties"])
    assert waited_s > 0.9 * found["calls"][1]["hops"] * 0.010
    events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    assert {event["tid"] for event in events} == {0, 1}


@pytest.mark.spu
@pytest.mark.usefixtures("stay")
def test_evaluate_secure_agrees_with_the_plain_model_and_the_emulation(checkpoint):
    options = ["--secure", "--images", "20", "--batch", "10", "--heads", "batched"]

    text = run_here("evaluate", checkpoint, *options, "--network", "loopback")

    assert text.startswith("digits, 20 test images in batches of 10")
    assert "same label as the plain model: 100.0%" in text
    assert "same label as the emulation of the ring: 100.0%; logits off by" in text


@pytest.mark.parametrize(("hops", "is_noted"), [(50.0, False), (60.0, True)])
def test_hops_that_would_take_longer_than_the_call_are_noted(hops, is_noted):
    call = SimpleNamespace(latency_s=1.0, total_bytes_sent=9, hops=hops)
    result = SimpleNamespace(
        calls=[call],
        latency_s=1.0,
        n_batch=1,
        network=NETWORKS["wan"],
        deployment=SEMI2K,
        heads="serial",
    )

    *_, last = call_lines(result)

    assert ("hops and bytes would take 1.2 s of a latency of 1 s" in last) == is_noted
