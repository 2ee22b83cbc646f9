"""Figures 1, 3 and 8: their numbers, sentences and files, on committed data."""

import csv
import functools
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.errors import EngineError, ProfileError, UsageError
from mpcprof.figures.canvas import COLORS, group_style, workload_style
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.catalogue import trace_block
from mpcprof.nn.preset import MODELS, Convolution
from mpcprof.nn.steps import Bare, CountingAlgebra
from mpcprof.predict import GROUPS, SOFTMAX_GROUPS, operation_group
from mpcprof.profile.io import write_profile
from mpcprof.profile.record import Profile
from mpcprof.workloads.blocks import steps_workload
from mpcprof.workloads.reference import relu_softmax_rows64, softmax_rows64
from mpcprof.workloads.registry import get_workload
from mpcvit.paper.cases import (
    HEADS,
    STATED_HEADS,
    TOKENS,
    CaseConfig,
    block_steps,
    fig8_models,
    model_steps,
)
from mpcvit.paper.costs import FittedProfile
from mpcvit.paper.make import FIGURES, FigureConfig, make_figure
from mpcvit.paper.measuring import FigureMeasurer
from mpcvit.paper.output import write_csv
from mpcvit.paper.softmax_error import (
    KERNELS,
    VARIANCES,
    measure_errors,
    read_errors,
    write_errors,
)
from tests.committed import committed_fit
from tests.factories import make_errors, make_full_profile, make_record

WAN = CaseConfig(network=NETWORKS["wan"])
FULL = make_full_profile()


def make_fitted(**deployment):
    fields = {"protocol": "semi2k"} | deployment
    profile = Profile(deployment=Deployment(**fields), records=FULL.records)
    name = f"{profile.deployment.protocol}.parquet"
    return FittedProfile(
        path=Path(name), profile=profile, model=fit_cost_model(profile)
    )


def make_config(tmp_path, figure="fig1", **overrides):
    n_files = 2 if figure == "fig3" else 1
    names = ("semi2k.parquet", "cheetah.parquet")[:n_files]
    for name in names:
        protocol = name.partition(".")[0]
        own = Profile(deployment=Deployment(protocol=protocol), records=FULL.records)
        write_profile(tmp_path / name, own)
    values = {
        "figure": figure,
        "rows": (tuple(tmp_path / name for name in names),),
        "profiles": tmp_path,
        "case": WAN,
        "output": tmp_path / "out",
        "command": f"mpcvit breakdown {figure}",
    }
    return FigureConfig(**(values | overrides))


# numbers


def test_the_groups_of_a_block_add_up_to_its_latency():
    steps = block_steps(4, 65, WAN)
    costs = FIGURES["fig1"].price([committed_fit()], WAN)

    bar = [cost for cost in costs if (cost.panel, cost.x) == ("a", "4")]

    whole = committed_fit().model.predict(steps, WAN.network)
    assert [cost.group for cost in bar] == [*GROUPS]
    assert sum(c.latency_s for c in bar) == pytest.approx(whole.latency_s, abs=1e-9)
    assert sum(c.bytes_sent for c in bar) == pytest.approx(whole.bytes_sent)
    assert sum(c.hops for c in bar) == pytest.approx(whole.hops)


def test_both_panels_of_figure_1_share_the_block_that_they_have_in_common():
    costs = FIGURES["fig1"].price([committed_fit()], WAN)

    common = [
        [cost.latency_s for cost in costs if (cost.panel, cost.x) == place]
        for place in (("a", "4"), ("b", "65"))
    ]

    assert common[0] == common[1]
    assert {cost.x for cost in costs if cost.panel == "a"} == {str(n) for n in HEADS}
    assert {cost.x for cost in costs if cost.panel == "b"} == {str(n) for n in TOKENS}


def test_heads_one_by_one_cost_their_number_times_one_head():
    costs = FIGURES["fig1"].price([committed_fit()], WAN)

    softmax = {
        cost.x: cost.hops
        for cost in costs
        if (cost.panel, cost.group) == ("a", "softmax")
    }

    assert all(softmax[str(n)] == n * softmax["1"] for n in HEADS)


def test_batched_heads_share_the_hops_of_softmax():
    costs = FIGURES["fig1"].price([committed_fit()], replace(WAN, heads="batched"))

    hops = {c.hops for c in costs if (c.panel, c.group) == ("a", "softmax")}

    assert len(hops) == 1


def test_the_softmax_of_a_ring_is_what_its_operations_add_up_to():
    costs = FIGURES["fig3"].price(
        [committed_fit(), make_fitted(protocol="cheetah")], WAN
    )

    for deployment in {cost.deployment for cost in costs}:
        own = [cost for cost in costs if cost.deployment == deployment]
        (softmax,) = (c for c in own if (c.panel, c.group) == ("a", "softmax"))
        inside = [cost for cost in own if cost.panel == "b"]
        assert [cost.group for cost in inside] == [*SOFTMAX_GROUPS]
        assert sum(c.latency_s for c in inside) == pytest.approx(softmax.latency_s)


def test_every_step_of_a_model_has_a_group_and_norms_are_not_softmax():
    groups = {}
    for step in model_steps("cifar", WAN):
        groups.setdefault(operation_group(step), set()).add(step.operation)

    assert {*groups} == {*GROUPS}
    assert groups["softmax"] == {"max", "exp", "sum", "reciprocal", "mul"}
    assert "rsqrt" in groups["LayerNorm"]
    assert groups["MatMul"] == {"matmul"}


def test_the_layers_of_figure_8_add_up_to_the_model_without_its_ends():
    costs = FIGURES["fig8"].price([committed_fit()], WAN)

    parts = (
        committed_fit()
        .model.predict(model_steps("tiny-imagenet", WAN), WAN.network)
        .parts
    )
    whole_s = sum(p.latency_s for p in parts if p.name.startswith("layer "))
    softmax = [cost.latency_s for cost in costs if cost.series == "softmax"]
    assert len(softmax) == 9
    assert sum(softmax) == pytest.approx(whole_s)


def test_the_stated_architecture_keeps_half_of_the_heads_in_the_middle():
    preset = MODELS["tiny-imagenet"]

    assert 2 * sum(STATED_HEADS) == preset.n_layers * preset.n_heads
    assert STATED_HEADS[1:5] == (preset.n_heads,) * 4
    assert len(STATED_HEADS) == preset.n_layers


# sentences, on committed data


def test_division_by_entry_takes_more_reciprocals_and_nothing_else():
    by_row = model_steps("cifar", WAN)
    by_entry = model_steps("cifar", replace(WAN, division="entry"))

    others = [
        [
            (step.operation, step.size, operation_group(step))
            for step in steps
            if step.operation != "reciprocal"
        ]
        for steps in (by_row, by_entry)
    ]
    n_reciprocals = [
        sum(step.size[0] for step in steps if step.operation == "reciprocal")
        for steps in (by_row, by_entry)
    ]

    assert others[0] == others[1]
    assert n_reciprocals[1] == 65 * n_reciprocals[0]


def test_division_by_entry_holds_for_all_models_of_figure_8(tmp_path):
    setting = replace(WAN, division="entry")
    architecture = fig8_models(WAN)["MPCViT"]
    path = tmp_path / "arch.json"
    path.write_text(architecture.to_json())

    stated = fig8_models(setting)
    read = fig8_models(replace(setting, architecture=path))

    names = {
        name
        for model in stated.values()
        for layer in model.attention
        for head in layer
        for name in head
    }
    assert names == {"softmax_by_entry", "relu_softmax_by_entry", "scale"}
    assert read == stated

    path.write_text(read["MPCViT"].to_json())
    by_row = fig8_models(replace(WAN, architecture=path))
    assert by_row["MPCViT"] == architecture


# the error under MPC


class Exact:
    """Parties whose result is off by a known factor."""

    deployment = Deployment(protocol="semi2k")

    def __init__(self, factor):
        self.factor = factor
        self.functions = {}
        self.loaded = {}

    def lower(self, case, function, inputs):
        name, _, _ = case.rpartition("-")
        self.functions[name] = function
        return name

    def load(self, case, lowered, inputs):
        reference = {"softmax": softmax_rows64, "relu_softmax": relu_softmax_rows64}
        self.loaded[case] = reference[lowered](inputs[0].astype(np.float64))

    def run(self, case):
        assert case in self.loaded

    def fetch(self, case):
        return self.factor * self.loaded[case]

    def unload(self, case):
        del self.loaded[case]


def test_relative_error_is_that_of_the_entries_that_are_not_zero(tmp_path):
    table = measure_errors(Exact(1.25), CountingAlgebra())

    assert len(table.points) == len(KERNELS) * len(VARIANCES)
    assert all(p.relative_error == pytest.approx(0.25) for p in table.points)
    assert all(p.norm_error == pytest.approx(0.25) for p in table.points)
    write_errors(tmp_path / "e.csv", table)
    assert read_errors(tmp_path / "e.csv") == table
    assert read_errors(tmp_path / "none.csv") is None


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "deployment,kernel\nx,softmax\n"])
def test_a_csv_that_is_no_table_of_errors_is_refused(tmp_path, text):
    (tmp_path / "e.csv").write_text(text)

    with pytest.raises(ProfileError, match="measure it again with"):
        read_errors(tmp_path / "e.csv")


def test_what_is_no_text_is_no_table_of_errors(tmp_path):
    (tmp_path / "e.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ProfileError, match="measure it again with"):
        read_errors(tmp_path / "e.csv")


@pytest.mark.parametrize("name", KERNELS)
def test_the_rows_whose_error_is_measured_are_those_of_the_attention(name):
    ops, parties = CountingAlgebra(), Exact(1.0)
    measure_errors(parties, ops)

    parties.functions[name](Bare((4, 65, 65)))

    whole = trace_block(f"attn.{name}", Dims(n_heads=4, n_tokens=65, head_dim=64))
    inside = [s for s in whole if s.operation not in ("matmul", "truncation")]
    assert [s[:2] for s in ops.steps] == [s[:2] for s in inside]


# measured figures


def scripted_sweep(left_out=()):
    """Stands in for real parties: each group takes 2 s."""

    def run(config, path, progress, *, calibration):
        records = tuple(
            make_record(
                workload=case.workload.name,
                kind="steps",
                dims=case.dims,
                network=config.network,
                latencies_s=(2.0,),
            )
            for case in config.cases
        )
        names = [case.workload.name for case in config.cases]
        assert len({*names}) == len(names), "each list of steps is measured once"
        profile = Profile(deployment=config.deployment, records=records)
        return SimpleNamespace(profile=profile, left_out=left_out)

    return run


def measure_costs(fitted, costs, left_out=()):
    measurer = FigureMeasurer(run_sweep=scripted_sweep(left_out))
    return measurer.measure_costs(fitted, costs, WAN.network, Path("m.parquet"))


def test_measured_groups_stand_beside_the_predicted_ones():
    costs = FIGURES["fig8"].price([committed_fit()], WAN)

    found = measure_costs(committed_fit(), costs)

    assert {cost.measured_s for cost in found} == {2.0}
    assert {cost.shown_s for cost in found} == {2.0}
    assert [c.latency_s for c in found] == [c.latency_s for c in costs]


def test_a_group_that_cannot_be_measured_stops_the_figure():
    costs = FIGURES["fig8"].price([committed_fit()], WAN)
    left_out = (SimpleNamespace(reason="the result is wrong"),)

    with pytest.raises(EngineError, match="the first because: the result is wrong"):
        measure_costs(committed_fit(), costs, left_out)


def test_measuring_one_deployment_leaves_the_numbers_of_the_other():
    cheetah = make_fitted(protocol="cheetah")
    costs = FIGURES["fig3"].price([committed_fit(), cheetah], WAN)

    found = measure_costs(cheetah, costs)

    for cost in found:
        is_cheetah = cost.deployment == cheetah.deployment
        assert cost.measured_s == (2.0 if is_cheetah else None)


def test_each_step_of_a_group_is_judged_by_its_own_tolerance():
    steps = block_steps(2, 17, WAN)
    workload = steps_workload(steps)
    inputs = workload.make_inputs(Dims(), np.random.default_rng(0))

    n_results = workload.reference(*inputs).size

    assert sum(piece.n_entries for piece in workload.pieces) == n_results
    assert [piece.name for piece in workload.pieces] == [s.operation for s in steps]
    gelu = next(piece for piece in workload.pieces if piece.name == "gelu_tanh")
    assert gelu.tolerance == get_workload("gelu_tanh").tolerance


def test_what_is_measured_of_a_group_is_exactly_its_steps():
    steps = block_steps(2, 17, WAN)
    workload = steps_workload(steps)
    inputs = workload.make_inputs(Dims(), np.random.default_rng(0))

    found = np.asarray(workload.function(*inputs), np.float64)

    expected = workload.reference(*inputs)
    assert found.shape == expected.shape
    atol = max(piece.tolerance.atol for piece in workload.pieces)
    assert np.allclose(found, expected, rtol=1e-3, atol=atol)


class Twice:
    """Measures twice the predicted seconds, and errors without parties."""

    def measure_costs(self, fitted, costs, network, path):
        assert path.parent.is_dir()
        return tuple(replace(cost, measured_s=2 * cost.latency_s) for cost in costs)

    def measure_errors(self, deployment, path):
        write_errors(path, make_errors(deployment=str(deployment)))
        return read_errors(path)


def test_measured_figures_say_so_and_how_far_predictions_were_off(tmp_path):
    deployment = str(Deployment(protocol="semi2k"))

    made = make_figure(make_config(tmp_path), Twice())

    assert made.disagreement == pytest.approx(0.5)
    assert json.loads(made.to_json())["basis"]["shown"] == "measured"
    assert read_errors(tmp_path / "softmax-error-semi2k.csv").deployment == deployment


# files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="module")
def drawn(folder):
    """Each figure by its name, drawn once."""
    return functools.cache(lambda figure: make_figure(make_config(folder, figure)))


def write_own(folder, n_layers):
    """Write a first layer of moved channels alone, which sends nothing."""
    model = replace(MODELS["digits"], name="own", n_layers=2, pooling="mean")
    if not n_layers:
        stem = (Convolution(channels=model.width),)
        model = replace(model, n_layers=0, patch=1, stem=stem)
    heads = ((("shift",),), (("scale",),) * model.n_heads)
    own = Architecture(
        model=model,
        attention=heads[:n_layers],
        activation=(("relu",), ("relu",))[:n_layers],
        mlp_ratio=(0, 2.0)[:n_layers],
        norm=("none", "layernorm")[:n_layers],
    )
    path = folder / "own.json"
    path.write_text(own.to_json())
    return replace(WAN, architecture=path)


def test_a_layer_that_sends_nothing_is_a_bar_of_figure_8(tmp_path):
    given = write_own(tmp_path, 2)
    costs = FIGURES["fig8"].price([committed_fit()], given)

    write_csv(tmp_path / "fig8.csv", costs)
    (sentence,) = FIGURES["fig8"].sentences(SimpleNamespace(costs=costs))

    assert costs[-2].bytes_sent == 0
    assert re.search(r"MPCViT \d+\.\d+$", sentence.because)


def test_a_network_without_layers_is_no_figure_8(tmp_path):
    with pytest.raises(UsageError, match="has no layers: Figure 8 is of layers"):
        fig8_models(write_own(tmp_path, 0))


@pytest.mark.parametrize("figure", ["fig1", "fig3", "fig8"])
def test_a_figure_is_two_pictures_its_data_and_its_provenance(drawn, figure):
    made = drawn(figure)

    assert [path.name for path in made.files] == [
        f"{figure}.{suffix}" for suffix in ("png", "svg", "csv", "json")
    ]
    assert made.files[0].read_bytes().startswith(b"\x89PNG")
    rows = [*csv.DictReader(io.StringIO(made.files[2].read_text()))]
    assert len(rows) == len(made.costs)
    assert all(row["basis"] and float(row["latency_s"]) >= 0 for row in rows)
    document = json.loads(made.files[3].read_text())
    assert document["command"] == f"mpcvit breakdown {figure}"
    assert document["network"] == "44MBps,40ms"
    protocols = {entry["protocol"] for entry in document["profiles"]}
    assert protocols == {row["protocol"] for row in rows}
    assert all(entry["runtime"] == "spu-0.9.5" for entry in document["profiles"])


def test_shares_of_a_bar_add_up_to_one(drawn):
    data = drawn("fig1").files[2]

    totals = {}
    for row in csv.DictReader(io.StringIO(data.read_text())):
        place = (row["panel"], row["x"])
        totals[place] = totals.get(place, 0.0) + float(row["share"])
    assert all(total == pytest.approx(1.0) for total in totals.values())


def test_the_same_profile_gives_the_same_pictures(drawn, folder, tmp_path):
    first = [path.read_bytes() for path in drawn("fig1").files[:3]]

    again = make_figure(make_config(folder, output=tmp_path))

    assert [path.read_bytes() for path in again.files[:3]] == first


def test_a_missing_panel_says_what_to_run(drawn):
    assert any("--measured --profiles FOLDER" in note for note in drawn("fig1").notes)


def test_two_runtimes_are_two_rows_each_with_its_own_numbers(tmp_path):
    config = make_config(tmp_path)
    old = Deployment(protocol="semi2k", runtime="spu-0.3.1b0")
    path = tmp_path / "semi2k-spu0.3.1b0.parquet"
    write_profile(path, Profile(deployment=old, records=FULL.records))

    made = make_figure(replace(config, rows=((path,), *config.rows)))

    runtimes = {cost.deployment.runtime for cost in made.costs}
    assert runtimes == {"spu-0.9.5", "spu-0.3.1b0"}
    assert len({sentence.of for sentence in made.sentences}) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"protocol": "cheetah", "runtime": "spu-0.3.1b0"},
        {"protocol": "cheetah", "fraction_bits": 20},
        {"protocol": "cheetah", "field_bits": 128},
        {"protocol": "semi2k"},
    ],
)
def test_rings_of_one_figure_differ_in_the_protocol_only(other):
    with pytest.raises(ProfileError, match="expected two protocols"):
        FIGURES["fig3"].price([make_fitted(), make_fitted(**other)], WAN)


def test_rows_that_differ_in_more_than_the_runtime_are_refused(tmp_path):
    config = make_config(tmp_path)
    path = tmp_path / "cheetah.parquet"
    cheetah = Deployment(protocol="cheetah", runtime="spu-0.3.1b0")
    write_profile(path, Profile(deployment=cheetah, records=FULL.records))

    with pytest.raises(ProfileError, match="no comparison of runtimes"):
        make_figure(replace(config, rows=((path,), *config.rows)))


def test_rows_of_one_runtime_are_no_comparison(tmp_path):
    config = make_config(tmp_path)

    with pytest.raises(ProfileError, match="expected two runtimes"):
        make_figure(replace(config, rows=config.rows * 2))


def test_errors_of_another_deployment_are_not_drawn_beside_a_profile(tmp_path):
    config = make_config(tmp_path)
    write_errors(
        tmp_path / "softmax-error-semi2k.csv", make_errors(deployment="another")
    )

    made = make_figure(config)

    (missing,) = [note for note in made.notes if "panel (c) is missing" in note]
    assert "softmax-error-semi2k.csv of this deployment" in missing


def test_an_operation_has_the_same_colour_in_every_figure():
    for name in ("exp", "max", "reciprocal"):
        assert group_style(name) == workload_style(name)
    assert group_style("GeLU") == workload_style("gelu_tanh")
    assert group_style("MatMul") == workload_style("matmul")
    names = (*GROUPS, *SOFTMAX_GROUPS)
    assert len({group_style(name).color for name in names}) == len(names)
    assert group_style("softmax").color not in COLORS.values()


def test_the_axes_of_figure_1_have_units_and_a_legend(drawn):
    picture = drawn("fig1").files[1].read_text()

    for text in ("number of heads", "latency of a Transformer block (s)", *GROUPS):
        assert f"<!-- {text} -->" in picture, text
    color = re.escape(group_style("softmax").color)
    assert len(re.findall(f"fill: {color}", picture)) >= len(HEADS) + len(TOKENS)
