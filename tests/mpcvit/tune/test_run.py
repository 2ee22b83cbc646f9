"""A tuning from checkpoint to plan, on the emulated ring; once with parties."""

import json
import math
import subprocess
import sys
from copy import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mpcprof.errors import EngineError, MpcprofError, TuningError, UsageError
from mpcprof.network import LOOPBACK, parse_network
from mpcprof.nn.approximation import SoftmaxBounds
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.nn.plan import read_plan
from mpcprof.nn.transformer import weight_shapes
from mpcprof.progress import SILENT
from mpcvit.checkpoint import Checkpoint, write_checkpoint
from mpcvit.cli import main
from mpcvit.data.dataset import load_dataset
from mpcvit.data.normalization import Normalization
from mpcvit.models.vit import VisionTransformer
from mpcvit.search.layers.space import LayerChoice, get_layer_space, make_architecture
from mpcvit.tune import run
from mpcvit.tune.config import TuneConfig
from mpcvit.tune.ranges import Place
from mpcvit.tune.report import tune_json, tune_lines
from mpcvit.tune.run import tune
from mpcvit.tune.subject import prepare
from tests import ROOT
from tests.image_folders import write_image_folder

N_IMAGES = 40
PROFILE = ROOT / "profiles" / "semi2k.parquet"


def write_network(path, attention="softmax", architecture=None):
    """Write a network of one layer whose logits lie far apart, without training."""
    model = replace(get_model("digits"), n_layers=1)
    is_free = architecture is not None  # squares keep what weights of size 0.2 blow up
    architecture = architecture or uniform_architecture(model, attention=attention)
    model = architecture.model
    generator = torch.Generator().manual_seed(0)
    dataset = load_dataset("digits", model=model)

    def draw(name, shape):
        if name.endswith("gamma"):
            return torch.ones(shape)
        size = shape[0] ** -0.5 if is_free else 0.2
        size = 3.0 if name == "head.weight" else size
        return size * torch.randn(shape, generator=generator)

    shapes = weight_shapes(architecture).items()
    checkpoint = Checkpoint(
        architecture=architecture,
        weights={name: draw(name, shape) for name, shape in shapes},
        normalization=dataset.normalization,
        dataset="digits",
        class_names=dataset.class_names,
    )
    write_checkpoint(path, checkpoint)
    return path


def make_config(folder, **changes):
    asked = {
        "checkpoint": folder / "model.safetensors",
        "profile": PROFILE,
        "network": parse_network("wan"),
        "output": folder / "plan.json",
        "n_images": N_IMAGES,
        "n_calibration": N_IMAGES,
        "agreement": 0.95,
    }
    return TuneConfig(**asked | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    write_network(folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def result(folder):
    return tune(make_config(folder))


@pytest.fixture(scope="module")
def subject(folder):
    return prepare(make_config(folder, n_images=12, n_calibration=2), SILENT)


def test_a_tuned_network_is_faster_and_says_the_same(result):
    before, after = result.before, result.after

    assert after.prediction.latency_s < 0.6 * before.prediction.latency_s
    assert after.prediction.hops < 0.6 * before.prediction.hops
    assert after.logits.agreement >= 0.95
    assert after.logits.n_images == N_IMAGES


def test_a_network_of_the_space_free_is_tuned_and_keeps_its_labels(tmp_path):
    """Stem, mixer, folded norm, square, GeLU, and a layer without an MLP."""
    found = LayerChoice("convolution", "batchnorm", "quad_linear", 0.0)
    layers = [found, LayerChoice("scale", "batchnorm", "gelu_tanh", 1.0)]
    (*_, model) = get_layer_space("free", get_model("digits")).sized(
        get_model("digits")
    )
    write_network(
        tmp_path / "model.safetensors", architecture=make_architecture(model, layers)
    )

    result = tune(make_config(tmp_path, n_images=12, n_calibration=12))

    before, after = result.before, result.after
    assert after.prediction.latency_s < 0.7 * before.prediction.latency_s
    assert after.logits.agreement >= 0.9
    assert [(one.place.layer, one.place.kind) for one in result.choices] == [
        (1, "activation")
    ]
    read_plan(tmp_path / "plan.json").check_fits(make_architecture(model, layers))


def test_a_network_without_heads_has_no_step_for_them(tmp_path):
    model = replace(get_model("digits"), pooling="mean", n_layers=1)
    layers = [LayerChoice("token_mix", "batchnorm", "relu", 1.0)]
    write_network(
        tmp_path / "model.safetensors", architecture=make_architecture(model, layers)
    )

    result = tune(make_config(tmp_path, n_images=12, n_calibration=12))

    assert [step.name for step in result.steps] == ["weights folded"]
    assert "nothing to choose" in "\n".join(tune_lines(result))


def test_the_plan_on_file_is_the_one_that_was_judged(folder, result):
    plan = read_plan(folder / "plan.json")

    assert plan == result.plan
    assert plan.checkpoint
    assert plan.deployment == result.deployment
    assert isinstance(plan.layers[0].softmax, SoftmaxBounds)


def test_the_same_seed_chooses_the_same_plan(folder, result):
    assert tune(make_config(folder)).plan == result.plan


def test_steps_lead_from_the_untuned_to_the_tuned_network(folder, result):
    levels = [result.before.prediction.latency_s, *(s.latency_s for s in result.steps)]

    saved = [before - after for before, after in pairwise(levels)]
    assert saved == [step.saved_s for step in result.steps]
    assert levels[-1] == pytest.approx(result.after.prediction.latency_s)
    drawn = json.loads((folder / "plan.steps.json").read_text())
    assert [step["name"] for step in drawn["steps"]] == [s.name for s in result.steps]


def test_plot_draws_what_a_tuning_wrote(folder, result, tmp_path):
    from mpcprof.figures.waterfall import plot_waterfall, read_waterfall

    read = read_waterfall(folder / "plan.steps.json")

    assert plot_waterfall(read, tmp_path / "a.svg") == len(result.steps)
    assert math.isclose(read.levels_s[-1], result.after.prediction.latency_s)


def test_images_that_leave_a_range_are_counted(result):
    for choice in result.choices:
        assert choice.n_leaving <= result.leaving.n_images <= N_IMAGES
    assert result.leaving.n_disagreeing <= result.leaving.n_images


def test_ranges_without_margin_are_left_by_more_images(folder, result):
    tight = tune(make_config(folder, margin=1.0, output=folder / "tight.json"))

    assert tight.leaving.n_images > result.leaving.n_images


def test_local_truncation_is_taken_up_to_the_failures_that_are_accepted(folder, result):
    accepted = {}
    for rate in (1e-3, 1e-7):
        config = make_config(folder, output=folder / "local.json", accept_failures=rate)
        accepted[rate] = tune(config)

    often, seldom = accepted[1e-3], accepted[1e-7]
    assert 0 < seldom.expected_failures < 1e-7 < often.expected_failures < 1e-3
    assert seldom.deployment.fraction_bits < often.deployment.fraction_bits
    assert often.after.prediction.hops < 0.7 * result.after.prediction.hops
    assert often.steps[-1].group == "option"
    assert result.expected_failures == 0.0
    assert "1e-07 accepted" in "\n".join(tune_lines(seldom))


def test_a_report_names_every_choice(result):
    text, document = "\n".join(tune_lines(result)), json.loads(tune_json(result))

    assert [row.split()[0] for row in text.splitlines()[2:5]] == [
        *("untuned", "rewritten", "tuned")
    ]
    for step in result.steps:
        assert step.name in text
    assert document["after"]["hops"] == result.after.prediction.hops
    assert document["before"]["agreement"] == result.before.logits.agreement
    assert len(document["choices"]) == len(result.choices) == 5
    assert "40 images of digits that decided nothing" in text
    assert f"{N_IMAGES} others" in text
    cheap = "\n".join(tune_lines(replace(result, choices=())))
    assert "nothing to choose: no function is left" in cheap


def test_a_report_says_every_kind_of_failure_and_has_no_nan(result):
    kinds = ("overflow", "out of range", "rsqrt", "division", "exp", "lost wrap")
    logits = replace(result.after.logits, agreement=0.5, max_logit_error=math.nan)
    ruined = replace(
        result,
        failures=tuple((f"layer 1: {kind}", 7) for kind in kinds),
        expected_failures=0.5,
        after=replace(result.after, logits=logits),
        parties_error="party 1 is dead",
    )

    document = json.loads(tune_json(ruined), parse_constant=pytest.fail)

    notes = " ".join(document["notes"])
    assert notes.count("emulation of the tuned network 7 ") == len(kinds)
    assert "of 40 emulated inferences, 0 had a failure" in notes
    assert "50.00% of the reported labels stay" in notes
    assert "real parties said nothing: party 1 is dead" in notes
    assert document["after"]["max_logit_error"] is None
    assert document["leaving"]["n_values"] == 7
    assert "as tuned, 7 values are out of range" in "\n".join(tune_lines(ruined))


def test_parties_that_fail_leave_the_table(subject, result, monkeypatch):
    def fail(*arguments):
        raise EngineError("party 1 is dead")

    monkeypatch.setattr(run, "classify_by_parties", fail)
    asked = replace(result, config=replace(result.config, n_by_parties=2))

    found = run._ask_parties(subject, asked, subject.reporter.plain, SILENT)

    assert found.parties_error == "party 1 is dead"
    assert found.after == result.after


def test_other_protocols_choose_otherwise(folder, result, tmp_path):
    tuned = {"semi2k": result.plan}
    for protocol, network in (("aby3", "wan"), ("cheetah", "lan")):
        config = make_config(
            folder,
            profile=PROFILE.with_name(f"{protocol}.parquet"),
            network=parse_network(network),
            output=tmp_path / "plan.json",
            n_images=8,
            n_calibration=8,
        )
        tuned[protocol] = tune(config).plan

    chosen = {
        protocol: (plan.deployment.protocol, layer.activation, layer.n_together)
        for protocol, plan in tuned.items()
        for layer in plan.layers
    }
    assert chosen["semi2k"] == ("semi2k", "gelu_within_8", 4)
    assert chosen["aby3"] == ("aby3", "gelu_spline", 4)
    assert chosen["cheetah"] == ("cheetah", "gelu_within_8", 1)  # head after head


def test_relu_softmax_and_scale_are_tuned_without_softmax(tmp_path):
    for attention in ("relu_softmax", "scale"):
        folder = tmp_path / attention
        folder.mkdir()
        write_network(folder / "model.safetensors", attention)

        found = tune(make_config(folder))

        assert found.plan.layers[0].softmax is None
        assert (found.plan.layers[0].total is None) == (attention == "scale")
        assert found.after.prediction.hops < found.rewritten.prediction.hops


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        ({"margin": 0.9}, UsageError, "margin 0.9: expected a factor from 1 to 100"),
        ({"margin": math.nan}, UsageError, "margin nan"),
        ({"agreement": 0.0}, UsageError, "such as 99.5%"),
        ({"agreement": 1.5}, UsageError, "150.0000%: expected more than 0%"),
        ({"accept_failures": -1.0}, UsageError, "from 0 to 1, such as 0.001"),
        ({"dataset": "digitz"}, UsageError, "did you mean digits"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(folder, changes, error, expected):
    with pytest.raises(error, match=expected) as caught:
        tune(make_config(folder, output=folder / "none.json", **changes))

    assert "\n" not in str(caught.value)
    assert not (folder / "none.json").exists()


def test_a_network_of_one_class_has_no_labels_to_keep(tmp_path):
    model = replace(get_model("digits"), n_layers=1, n_classes=1)
    architecture = uniform_architecture(model, attention="scale")
    checkpoint = Checkpoint(
        architecture=architecture,
        weights=VisionTransformer(architecture).weights(),
        normalization=Normalization(mean=(0.5,), deviation=(0.5,)),
        dataset="one",
        class_names=("cat",),
    )
    write_checkpoint(tmp_path / "model.safetensors", checkpoint)
    images = write_image_folder(tmp_path / "one", ("cat",))

    with pytest.raises(UsageError, match="tells 'cat' from no other class"):
        tune(make_config(tmp_path, dataset=str(images)))


def test_a_tuning_that_fails_leaves_no_folder(tmp_path):
    folder = tmp_path / "new" / "inner"
    config = make_config(tmp_path, output=folder / "plan.json")

    with pytest.raises(UsageError, match="cannot read checkpoint"):
        tune(config)

    assert [*tmp_path.iterdir()] == []


def test_wrong_numbers_are_told_before_anything_is_loaded():
    program = "import sys, mpcvit.tune.config; print('torch' in sys.modules)"

    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )

    assert shown.stdout == "False\n"


@pytest.mark.parametrize("what", ["checkpoint", "profile"])
def test_what_is_read_is_never_written(folder, tmp_path, what):
    link = tmp_path / "link"
    link.symlink_to(getattr(make_config(folder), what))
    (tmp_path / "plan.steps.json").symlink_to(link)

    for output in (link, tmp_path / "plan.json"):
        with pytest.raises(UsageError, match=f"would write over the {what}"):
            make_config(folder, output=output)


def test_where_no_plan_holds_one_line_says_so(subject, monkeypatch):
    monkeypatch.setattr(subject.judge, "agrees", lambda *_: False)

    with pytest.raises(TuningError, match=r"no plan keeps 95.00% of 12 labels: lower"):
        run._choose(subject, ({},), SILENT)


def test_images_far_from_a_tie_are_not_emulated(folder, monkeypatch):
    judge = prepare(make_config(folder, n_images=180, n_calibration=2), SILENT).judge
    near = np.argsort(np.diff(np.sort(judge.plain, axis=1)[:, -2:])[:, 0])
    taken = []

    def emulate(plan, order, **_):
        for start in range(0, len(order), 50):
            taken.extend(order[start : start + 50])
            yield judge.plain[order[start : start + 50]] + changed[start // 50]

    monkeypatch.setattr(judge, "emulate", emulate)
    changed = [0.0] * 4
    assert judge.agrees(None, 1.0)
    assert taken == [*near[:100]]  # the nearest ties, and no more
    second = judge.plain[near[0]].argsort()[-2]
    changed[0] = 100 * np.eye(50)[:, :1] * (np.arange(10) == second)  # of one image
    taken.clear()
    assert judge.agrees(None, 0.994)  # but all, where logits have moved far
    assert len(taken) == 180
    assert not judge.agrees(None, 1.0)


def test_what_any_image_could_have_met_is_expected_to_change_as_well(subject):
    judge, gaps = subject.judge, np.sort(subject.judge._gaps)

    def emulate(plan, order, **_):
        second = np.argsort(judge.plain[order])[:, -2]
        moved = judge.plain[order]  # a copy
        moved[np.arange(len(order)), second] += moves
        yield moved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "emulate", emulate)
        moves = np.zeros(len(gaps))
        moves[-1] = 0.9 * gaps[-1]  # the farthest from a tie changes no label
        n_met = int((gaps < moves[-1]).sum())
        assert judge._expected_changes(moves) == pytest.approx(n_met / len(gaps))
        assert n_met / len(gaps) > 0.5
        assert not judge.agrees(None, 1.0)
        assert judge.agrees(None, 0.9)


def test_an_image_near_a_tie_leaves_other_plans_what_was_asked_for(subject):
    judge = copy(subject.judge)
    near = replace(subject, judge=judge, config=replace(subject.config, agreement=0.92))
    moved = judge.plain.copy()
    far = judge._gaps.argmax()  # moved by less than its gap: no label changes
    moved[far, moved[far].argsort()[-2]] += 0.9 * judge._gaps[far]

    def emulate(plan, order=slice(None), **_):
        yield moved[order]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "emulate", emulate)
        assert 0.5 < judge.expected_changes(moved) <= 0.08 * 12
        assert not judge.agrees(None, 0.92)
        assert run._agreeing(near).judge.agrees(None, 0.92)
        strict = replace(near, config=replace(near.config, agreement=0.95))
        with pytest.raises(TuningError, match=r"100.00% of 12 labels .* expected to"):
            run._agreeing(strict)


def test_no_image_both_decides_and_is_reported(subject):
    judges = (subject.judge, subject.reporter)
    rows = [{*map(tuple, judge.plain)} for judge in judges]
    assert [len(one) for one in rows] == [12, 12]
    assert not rows[0] & rows[1]
    assert subject.met[Place(layer=0, kind="scores")].lows.shape == (12,)
    assert len(subject.reported.labels.unique()) == 10


def test_a_network_that_differs_before_any_approximation_is_refused(folder, tmp_path):
    coarse = make_config(folder, output=tmp_path / "plan.json")

    def never(judge, plan):
        return -judge.plain

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Judge, "emulated", never)
        patch.setattr(run.Judge, "agrees", lambda *_: False)
        with pytest.raises(TuningError, match="lower --agreement") as caught:
            tune(coarse)

    assert isinstance(caught.value, MpcprofError)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--agreement", "99.5"), "99.5"),
        (("--cost-table", "none.parquet"), "none.parquet"),
        (("--accept-failures", "2"), "expected failures of an inference"),
        (("--margin", "0.5"), "expected a factor from 1 to 100"),
        (("--output", "."), "it is a folder"),
        (("--parties", "-1"), "--parties"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(folder, arguments, expected):
    asked = {"--cost-table": str(PROFILE), "--images": "40"}
    asked |= {arguments[0]: arguments[1]}
    flat = [text for pair in asked.items() for text in pair]

    shown = CliRunner().invoke(main, ["tune", str(folder / "model.safetensors"), *flat])

    assert shown.exit_code in (1, 2)
    assert shown.stdout == ""
    assert expected in shown.stderr


@pytest.mark.spu
def test_real_parties_say_what_the_emulation_says(folder, tmp_path):
    config = make_config(
        folder,
        output=tmp_path / "plan.json",
        network=LOOPBACK,
        n_by_parties=2,
        emulation="relay",
    )

    found = tune(config)

    assert found.parties is not None
    assert found.parties.n_as_emulated == found.parties.n_images == 2
    assert found.parties.max_error < 0.05 * found.after.logits.logit_deviation
    assert found.parties.hops == found.after.prediction.hops
    assert found.parties.total_bytes_sent == found.after.prediction.total_bytes_sent
