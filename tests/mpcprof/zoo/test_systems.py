"""Published systems: their parts, prices and parties, and the defects that are stated.

Each released program that is called wrong is written here in numpy, as its file has it,
so that the stated figure can fail.
"""

import json
import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import erf, ndtr

from mpcprof.cli import main, zoo
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.dims import Dims
from mpcprof.errors import MissingEntryError, UnknownNameError, UsageError
from mpcprof.figures.systems import plot_systems
from mpcprof.network import NETWORKS
from mpcprof.nn.approximation import goldschmidt_error
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.norm import NORMS
from mpcprof.nn.preset import MODELS
from mpcprof.progress import SILENT, Silent
from mpcprof.verify.report import VerifyResult
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.reference import nimbus_exp64, puma_exp64
from mpcprof.zoo import measure
from mpcprof.zoo.compare import SHARES, SORTS, compare_systems, share_group
from mpcprof.zoo.measure import (
    SystemProgress,
    ZooMeasurement,
    measure_systems,
    one_layer,
)
from mpcprof.zoo.systems import SYSTEMS, System, get_system
from tests.architectures import TINY
from tests.committed import committed_model, committed_profile
from tests.mpcprof.verify.test_verification import make_result, make_verification

WAN = NETWORKS["wan"]
X = np.linspace(-6, 6, 20_001)
GELU = X * ndtr(X)
LAYER = replace(TINY, n_heads=4, width=32)
OWN = [name for name, own in SYSTEMS.items() if own.network or own.plan]

each_system = pytest.mark.parametrize("name", SYSTEMS)


def sizes_of(name, model):
    """Systems with a network or a plan of their own have its sizes."""
    return MODELS["cifar"] if name in OWN else model


# ---- parts and prices


@each_system
def test_a_system_says_where_it_comes_from_and_what_differs(name):
    lines = get_system(name).lines(name)

    assert lines[0].startswith(f"{name}: ")
    assert any(line.startswith("  source: ") for line in lines)


def test_an_unknown_system_is_named_with_its_nearest():
    with pytest.raises(UnknownNameError, match="no system 'pumma'; did you mean puma"):
        get_system("pumma")


def test_two_attentions_are_spread_evenly_over_the_layers():
    heads = SYSTEMS["mpcvit"].build(MODELS["cifar"]).attention

    counts = [sum(head == ("relu_softmax",) for head in layer) for layer in heads]
    assert sum(counts) == round(0.7 * 28)
    assert {*counts} == {2, 3}


@each_system
def test_the_shares_of_a_system_are_all_of_its_seconds(name):
    model, sizes = committed_model(), sizes_of(name, MODELS["digits"])

    (cost,) = compare_systems(model, sizes, WAN, names=[name]).costs

    architecture = SYSTEMS[name].build(sizes)
    plan = SYSTEMS[name].plan_of(architecture, model.deployment)
    steps = trace_model(architecture, 1, plan)
    whole = model.predict(steps, WAN)
    assert sum(cost.shares.values()) == pytest.approx(1)
    assert cost.prediction.latency_s == pytest.approx(whole.latency_s)
    assert (cost.prediction.bytes_sent, cost.prediction.hops) == (
        whole.bytes_sent,
        whole.hops,
    )
    assert {share_group(step) for step in steps} <= {*SHARES}


@pytest.mark.parametrize("sort", SORTS)
def test_systems_come_in_the_order_asked_for(sort):
    report = compare_systems(committed_model(), MODELS["digits"], WAN, sort=sort)

    rows = json.loads(report.to_json())["systems"]
    key = {"seconds": "latency_s", "bytes": "bytes_sent"}.get(sort, sort)
    values = [row[key] for row in rows]
    assert values == sorted(values)
    assert {row["name"] for row in rows} == {*SYSTEMS} - {*OWN}
    assert [reason.split(":")[0] for reason in report.left_out] == OWN


def test_a_network_of_another_model_is_refused_by_name():
    message = (
        r"^{0}: {0}-cifar\.json is of model cifar, not digits: give --model cifar, or "
        "leave this system out$"
    )

    for name in OWN:
        with pytest.raises(UsageError, match=message.format(name)):
            compare_systems(committed_model(), MODELS["digits"], WAN, names=[name])


def test_a_plan_of_another_deployment_leaves_its_system_out():
    report = compare_systems(committed_model("aby3"), MODELS["cifar"], WAN)

    assert [reason.split(":")[0] for reason in report.left_out] == ["tuned"]
    message = "the plan is for another deployment: protocol is 'semi2k' in one, 'aby3'"
    remedy = "give a profile of semi2k, or leave this system out"
    assert message in report.left_out[0]
    assert report.left_out[0].endswith(remedy)
    with pytest.raises(UsageError, match=f"^tuned: {message}.*{remedy}$"):
        compare_systems(committed_model("aby3"), MODELS["cifar"], WAN, names=["tuned"])


def test_an_extrapolated_price_is_marked_and_noted_once():
    report = compare_systems(
        committed_model(), MODELS["cifar"], WAN, names=["found", "puma"]
    )

    assert [row[1] for row in report.rows()] == ["~1.756 s", "37.88 s"]
    note = "matmul: size 7.5e+07 is 4.48 times the largest measured"
    assert report.remarks() == [
        "~ extrapolated: a size is larger than any measured",
        f"note: found: {note}",
    ]
    assert json.loads(report.to_json())["systems"][0]["notes"] == [note]


def test_the_figure_marks_an_extrapolated_price_as_the_table_does(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")
    path, texts = tmp_path / "zoo.svg", []

    for name in ("found", "puma"):
        report = compare_systems(committed_model(), MODELS["cifar"], WAN, names=[name])
        plot_systems(report, path)
        texts.append(" ".join(re.findall(r">([^<>]+)</text>", path.read_text())))

    found, puma = texts
    assert "~1.76 s, 53 hops" in found
    assert "~ extrapolated: a size is larger than any measured" in found
    assert "~" not in puma


def test_hops_of_a_mean_are_printed_to_one_decimal_and_whole_in_json():
    report = compare_systems(committed_model("aby3"), MODELS["digits"], WAN)

    shown = [row[3] for row in report.rows()]
    assert any("." in hops for hops in shown)
    assert all(re.fullmatch(r"\d+(\.[1-9])?", hops) for hops in shown)
    hops = [row["hops"] for row in json.loads(report.to_json())["systems"]]
    assert hops == [cost.prediction.hops for cost in report.costs]


def test_all_operations_that_a_profile_lacks_are_named_in_one_line():
    crypten = fit_cost_model(committed_profile("crypten"))
    message = (
        r"^no record of (\w+, ){2,}\w+ to price from; `mpcprof sweep --protocol "
        r"crypten --runtime \S+ --only (\w+,){2,}\w+ --output PROFILE` measures what "
        r"is missing$"
    )

    with pytest.raises(MissingEntryError, match=message):
        compare_systems(crypten, MODELS["cifar"], WAN)


def test_notes_on_one_operation_are_printed_for_one_system_alone():
    report = compare_systems(committed_model("cheetah"), MODELS["cifar"], WAN)

    (refills,) = [line for line in report.remarks() if "oblivious transfers" in line]
    assert refills.startswith("note: found: oblivious transfers: 0.0839 refills a call")
    assert refills.endswith("; such a note for 12 more: see --json")


def test_what_we_made_costs_less_than_what_others_published():
    report = compare_systems(committed_model(), MODELS["cifar"], WAN)

    names = [cost.name for cost in report.costs]
    assert names[0] == "found"
    assert names.index("tuned") < names.index("mpcformer")


def test_the_figure_has_a_bar_for_each_system(tmp_path):
    report = compare_systems(committed_model(), MODELS["digits"], WAN)

    assert plot_systems(report, tmp_path / "zoo.png") == len(SYSTEMS) - len(OWN)
    assert (tmp_path / "zoo.png").stat().st_size > 10_000


def test_an_unknown_order_is_refused():
    with pytest.raises(UsageError, match="sort='speed': expected seconds, bytes"):
        compare_systems(committed_model(), MODELS["digits"], WAN, sort="speed")


def test_the_orders_of_the_command_are_those_of_the_library():
    assert zoo._SORTS == SORTS


def test_the_command_lists_every_system_with_its_defects():
    result = CliRunner().invoke(main, ["zoo", "list", "--json"])

    rows = json.loads(result.output)["systems"]
    assert [row["name"] for row in rows] == [*SYSTEMS]
    assert len(next(row for row in rows if row["name"] == "secformer")["defects"]) > 5


# ---- parties


@pytest.mark.spu
@each_system
def test_a_layer_of_a_system_costs_parties_what_is_predicted(name, semi2k):
    sizes = sizes_of(name, LAYER)
    case = one_layer(name, sizes, "batched", semi2k.deployment)
    workload = model_workload(case.architecture, case.plan)
    inputs = workload.make_inputs(Dims(n_batch=1), np.random.default_rng(0))

    semi2k.load("case", semi2k.lower("case", workload.function, inputs), inputs)
    run = semi2k.run("case").runs[0]
    revealed = semi2k.fetch("case")
    semi2k.unload("case")

    expected = workload.reference(*inputs)
    allowed = workload.tolerance.allowed(expected, semi2k.deployment.fraction_bits)
    predicted = committed_model().predict(case.steps, WAN)
    if case.plan is None:  # a plan's ranges are those of trained weights
        assert np.all(np.abs(revealed - expected) <= allowed)
    assert (run.bytes_sent, run.send_actions) == (predicted.bytes_sent, predicted.hops)


# ---- entries that are wrong, and errors that are stated


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": " "}, "without a source"),
        ({"attention_share": 0.5}, "attention_share=0.5 and other_attention=''"),
        ({"other_attention": "scale"}, "attention_share=1.0 and other_attention='sc"),
        ({"activation_share": 1.5, "other_activation": "quad"}, "activation_share=1.5"),
        ({"attention": "sclae"}, "no attention 'sclae'; did you mean scale"),
        ({"activation": "quat"}, "no activation 'quat'"),
        ({"norm": "layernrom"}, "no norm 'layernrom'"),
    ],
)
def test_an_entry_that_fits_no_network_is_refused_in_one_line(wrong, message):
    with pytest.raises(UsageError, match=message):
        System(**{"source": "a paper", **wrong})


def test_the_errors_of_both_parts_of_a_system_are_stated():
    system = System(
        source="a paper",
        attention="scale",
        other_attention="softmax_puma",
        attention_share=0.5,
        activation="identity",
        other_activation="quad",
        activation_share=0.5,
    )

    assert [error.of for error in system.errors().values()] == ["exp", "GeLU"]


EXPONENTIALS = {
    "softmax_puma": puma_exp64,
    "softmax_bumblebee": lambda x: puma_exp64(x, 64),
    "softmax_nimbus": nimbus_exp64,
}
INVERSES = {  # power, divisor, steps
    "2quad_secformer": (-1.0, 5000, 13),
    "layernorm_secformer": (-0.5, 2048, 11),
}
STATED = {
    name: one.accuracy for name, one in {**ATTENTIONS, **NORMS}.items() if one.accuracy
}


def test_each_stated_error_of_an_attention_or_norm_is_computed_here():
    assert {*STATED} == {*EXPONENTIALS, *INVERSES}


@pytest.mark.parametrize(("attention", "exp"), EXPONENTIALS.items())
def test_an_exponential_errs_as_much_as_it_says_and_hardly_less(attention, exp):
    accuracy = STATED[attention]
    x = np.linspace(accuracy.low, accuracy.high, 20_001)

    error = np.abs(exp(x) - np.exp(x)).max()

    assert accuracy.max_error / 2 < error <= accuracy.max_error


@pytest.mark.parametrize(("name", "inverse"), INVERSES.items())
def test_a_deflated_inverse_errs_as_much_as_it_says(name, inverse):
    accuracy = STATED[name]

    error = goldschmidt_error(accuracy.low, accuracy.high, *inverse)

    assert accuracy.max_error / 2 < error <= accuracy.max_error


# ---- what is wrong elsewhere


def test_mpcformers_timed_quad_has_two_coefficients_swapped():
    x = np.linspace(-3, 3, 9_999)
    exact = x * ndtr(x)

    trained = np.abs(0.125 * x**2 + 0.25 * x + 0.5 - exact).max()
    timed = np.abs(0.125 * x**2 + 0.5 * x + 0.25 - exact).max()

    assert (round(trained, 2), round(timed, 2)) == (0.88, 0.25)


PUMA_LEFT = (
    *(-0.011034134030615728, -0.11807612951181953),
    *(-0.42226581151983866, -0.5054031199708174),
)
PUMA_MIDDLE = (
    *(0.0018067462606141187, 0, -0.037688200365904236, 0),
    *(0.3603292692789629, 0.5, 0.008526321541038084),
)
_SINES = (1.25772, -0.0299154, 0.382155, -0.0519123, 0.196033, -0.0624557, 0.118029)


def fourier_erf(z, cut):
    series = sum(b * np.sin(k * np.pi * z / 10) for k, b in enumerate(_SINES, 1))
    return np.where(np.abs(z) < cut, series, np.sign(z))


@pytest.mark.parametrize(("cut", "error"), [(1.7, 0.0195), (2.5, 0.058)])
def test_secformers_sines_are_cut_too_late_in_its_program(cut, error):
    own = X / 2 * (1 + fourier_erf(X / np.sqrt(2), cut))

    assert np.abs(own - GELU).max() == pytest.approx(error, abs=5e-4)


def test_secformers_program_reduces_the_difference_by_the_wrong_period():
    z = np.linspace(-2.5, 2.5, 501)
    masks = -np.arange(0, 2**10, 0.5)[:, None]

    reduced = (z - masks) % (2 * np.pi) + masks
    own = z / np.sqrt(2) * (1 + fourier_erf(reduced, np.inf))

    exact = z * np.sqrt(2) * ndtr(z * np.sqrt(2))
    assert np.abs(own - exact).max() == pytest.approx(3.9, abs=0.06)


def test_secformers_puma_has_another_sign_in_a_cut_and_nothing_above():
    p0, p1 = np.polyval(PUMA_LEFT, X), np.polyval(PUMA_MIDDLE, X)
    c0, c1, c2 = X < -4, X < 1.95, X <= 3
    own = (c1 & ~c0) * (p0 + p1) + (c2 & ~c1) * X

    assert np.abs(own - GELU).max() == pytest.approx(6.0, abs=0.01)


def test_secformers_exact_gelu_lacks_half_of_its_input():
    own = 0.5 * X * erf(X / np.sqrt(2))

    assert np.abs(own - GELU).max() == pytest.approx(3.0)


def iterate(start, n_steps):
    product, rest = 1.0, start
    for _ in range(n_steps):
        multiplier = 2 - rest
        product, rest = product * multiplier, rest * multiplier
    return product


def test_without_deflation_goldschmidts_division_diverges_for_a_row_of_two():
    total = 2 * 5.0**2

    assert abs(iterate(total, 7)) > 1e100
    assert iterate(total / 5000, 13) / 5000 == pytest.approx(1 / total, rel=1e-6)


@pytest.mark.parametrize(("variance", "error"), [(0.25, 0.23), (1.0, 0.017)])
def test_secformers_eta_is_too_large_for_small_variances(variance, error):
    own = goldschmidt_error(variance, 2 * variance, -0.5, 2000, 11)

    assert own == pytest.approx(error, rel=0.03)


def test_secformers_eta_is_too_small_for_512_tokens():
    with pytest.raises(UsageError, match="diverges"):
        goldschmidt_error(25 * 512 * 0.99, 25 * 512, -1.0, 5000, 13)


def test_bumblebees_paper_cuts_where_its_polynomial_has_left_its_range():
    cubic = np.polyval(PUMA_LEFT, -5.0)

    assert abs(cubic - -5 * ndtr(-5)) == pytest.approx(0.033, abs=5e-4)


def test_an_affine_reciprocal_is_far_off_where_sums_span_a_factor_of_20():
    ratio = 20
    x = np.linspace(1, ratio, 9_999)
    middle = (ratio + 1) / (ratio - 1)
    u = (2 * x - 1 - ratio) / (ratio - 1)
    # 1 - x (a + b x), of all a and b the one that is a multiple of T_2
    error = np.abs(2 * u**2 - 1) / (2 * middle**2 - 1)

    assert error.max() == pytest.approx(0.69, abs=5e-3)


def test_progress_names_the_system_and_not_its_digest():
    lines = []

    class Heard(Silent):
        def say(self, line):
            lines.append(line)

    shown = SystemProgress(watcher=Heard(), names={"vit.a.9b76bfa1": "puma"})
    shown.say("vit.a.9b76bfa1: 5.2 s, 1 of 2 cases measured")

    assert lines == ["puma: 5.2 s, 1 of 2 cases measured"]


def test_what_is_left_out_is_named_by_its_system(monkeypatch, tmp_path):
    def verify(config, path, progress, *, is_fresh):
        (case,) = config.cases
        return VerifyResult(
            deployment=str(config.profile.deployment),
            profile_hosts=(),
            hosts=(),
            seed=config.seed,
            results=(),
            left_out=(f"{case} on {WAN}: the revealed result is wrong",),
        )

    monkeypatch.setattr(measure, "verify", verify)
    found = measure_systems(
        committed_profile(),
        MODELS["digits"],
        [WAN],
        tmp_path / "measured.parquet",
        SILENT,
        names=["puma"],
    )

    assert found.verified.left_out == (f"puma on {WAN}: the revealed result is wrong",)


@pytest.mark.parametrize("host", ["a machine", "another"])
def test_a_measurement_says_if_the_profile_is_of_another_machine(host):
    verified = make_verification(make_result(), hosts=(host,))

    lines = ZooMeasurement(names=("puma",), verified=verified).lines()

    noted = [line for line in lines if line.startswith("note: These cases were")]
    assert len(noted) == (host == "another")
    assert all("on another, the profile on a machine: " in line for line in noted)


def test_a_plan_of_trained_weights_is_refused_before_parties_start(
    monkeypatch, tmp_path
):
    asked = (committed_profile(), MODELS["cifar"], [WAN], tmp_path / "own.parquet")
    configs = []

    def verify(config, path, progress, *, is_fresh):
        configs.append(config)
        return make_verification()

    monkeypatch.setattr(measure, "verify", verify)
    reason = "tuned: its plan has the ranges of trained weights"
    with pytest.raises(UsageError, match=f"{reason}.*--plan plan.json --measured$"):
        measure_systems(*asked, SILENT, names=["tuned"])
    assert not configs

    found = measure_systems(*asked, SILENT)

    assert len(configs[0].cases) == len(SYSTEMS) - 1
    assert [line.startswith(reason) for line in found.verified.left_out] == [True]
