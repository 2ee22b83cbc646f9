import itertools
import re
import runpy

import matplotlib as mpl
import pytest

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.dims import Dims
from mpcprof.errors import FileError, MissingEntryError, ProfileError, UsageError
from mpcprof.figures import FIGURES
from mpcprof.figures.agreement import (
    formula_s,
    plot_measured_against_formula,
    plot_predicted_against_measured,
)
from mpcprof.figures.canvas import COLORS, workload_style
from mpcprof.figures.latency import plot_latency
from mpcprof.figures.shares import _GROUPS, _bar, plot_shares
from mpcprof.figures.waterfall import (
    SavingStep,
    Waterfall,
    plot_waterfall,
    read_waterfall,
)
from mpcprof.network import LOOPBACK, NETWORKS
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import write_profile
from mpcprof.workloads.registry import all_workloads
from tests import ROOT
from tests.factories import make_full_profile, make_profile, make_record


def make_line(workload, *, heads=(1, 4, 12), tokens=65, **overrides):
    return [
        make_record(
            workload=workload,
            dims=Dims(n_heads=n_heads, n_tokens=tokens),
            latencies_s=(0.4 * n_heads, 0.41 * n_heads, 0.42 * n_heads),
            **overrides,
        )
        for n_heads in heads
    ]


PROFILE = make_profile(*make_line("exp"), *make_line("relu"))
FULL = make_full_profile()
BY_KIND = dict.fromkeys(FIGURES, PROFILE) | {"shares": FULL}


@pytest.fixture
def drawn_text(monkeypatch):
    """Text of an svg kept as text rather than outlines."""
    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")

    def read(path):
        return " ".join(re.findall(r">([^<>]+)</text>", path.read_text()))

    return read


NAMES = [("a.png", b"\x89PNG"), ("a.PNG", b"\x89PNG"), ("a.svg", b"<?xml")]


@pytest.mark.parametrize(
    ("kind", "name", "magic"),
    [
        (kind, *name)
        for kind, name in zip(FIGURES, itertools.cycle(NAMES), strict=False)
    ],
)
def test_the_name_decides_the_format(tmp_path, kind, name, magic):
    n_records = FIGURES[kind](BY_KIND[kind], tmp_path / name)

    assert n_records == len(BY_KIND[kind])
    assert (tmp_path / name).read_bytes().startswith(magic)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("name", ["a.pdf", "a", "png"])
def test_another_format_is_wrong_usage(tmp_path, kind, name):
    with pytest.raises(UsageError, match=r"ends in \.png or \.svg"):
        FIGURES[kind](BY_KIND[kind], tmp_path / name)

    assert not [*tmp_path.iterdir()]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(FileError, match=r"cannot write .*choose another") as caught:
        plot_latency(PROFILE, tmp_path / "file" / "a.png")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", FIGURES)
def test_an_empty_profile_cannot_be_drawn(tmp_path, kind):
    with pytest.raises(ProfileError, match="0 records"):
        FIGURES[kind](make_profile(), tmp_path / "a.png")


@pytest.mark.parametrize("kind", FIGURES)
def test_drawing_leaves_no_setting_behind_and_is_repeatable(tmp_path, kind):
    before = dict(mpl.rcParams)

    FIGURES[kind](BY_KIND[kind], tmp_path / "a.svg")
    FIGURES[kind](BY_KIND[kind], tmp_path / "b.svg")

    assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_workload_has_one_color_whatever_else_is_drawn(tmp_path):
    color = workload_style("relu").color.lower()

    plot_latency(PROFILE, tmp_path / "both.svg")
    plot_latency(PROFILE.filtered(("relu",)), tmp_path / "one.svg")

    assert f"stroke: {color}" in (tmp_path / "both.svg").read_text()
    assert f"stroke: {color}" in (tmp_path / "one.svg").read_text()
    exp = workload_style("exp").color.lower()
    assert exp not in (tmp_path / "one.svg").read_text()


def test_no_two_primitives_look_the_same():
    styles = [workload_style(w.name) for w in all_workloads("primitive")]

    assert len({*styles}) == len(styles)
    assert {style.color for style in styles} <= {*COLORS.values()}


def test_an_unknown_name_has_a_style_of_its_own_on_every_machine():
    style = workload_style("attn.relu_softmax")

    assert (style.color, style.marker) == ("#0072B2", "v")  # crc32, not hash()
    assert style.color in COLORS.values()


def test_title_names_deployment_network_and_mode(tmp_path, drawn_text):
    plot_latency(PROFILE, tmp_path / "a.svg")

    text = drawn_text(tmp_path / "a.svg")
    assert "spu-0.9.5 semi2k 64-bit ring" in text
    assert "44MBps,40ms, emulated" in text
    assert "latency (s)" in text
    assert "heads (count)" in text
    assert "at 65 tokens" in text


def test_a_panel_for_each_dimension_that_was_varied(tmp_path, drawn_text):
    hidden = [
        make_record(workload="gelu_tanh", dims=Dims(n_tokens=65, hidden=hidden))
        for hidden in (64, 256)
    ]
    more = make_line("exp", tokens=17, heads=(1, 4))

    n_records = plot_latency(make_profile(*PROFILE, *hidden, *more), tmp_path / "a.svg")

    text = drawn_text(tmp_path / "a.svg")
    assert "at 65 tokens" in text  # the size that most of the records have
    assert "tokens (count)" in text
    assert "at 4 heads" in text  # of those measured for both tokens
    assert "hidden width (features)" in text
    assert "head dimension" not in text
    assert n_records == 9


def test_the_network_and_mode_with_most_records_is_drawn(tmp_path, drawn_text):
    lan = make_line("exp", network=NETWORKS["lan"], heads=(1, 4))
    priced = make_line("relu", mode="priced", emulation="none", heads=(1,))

    n_records = plot_latency(make_profile(*PROFILE, *lan, *priced), tmp_path / "a.svg")

    text = drawn_text(tmp_path / "a.svg")
    assert n_records == 6
    assert "44MBps,40ms, emulated" in text
    assert "not drawn: 3 of 9" in text


def test_one_size_makes_no_curve(tmp_path):
    with pytest.raises(ProfileError, match="two sizes of a dimension"):
        plot_latency(make_profile(make_record()), tmp_path / "a.png")


def make_explained(n_heads, error):
    """Return a record whose formula is off by `error`, relative to its latency."""
    priced_s = 0.025 + 17 * 0.020 + 44e4 / 44e6
    return make_record(
        dims=Dims(n_heads=n_heads, n_tokens=65),
        latencies_s=(priced_s / (1 + error),),
        wire_bytes=44e4,
        hidden_s=0.0,
        compute_s=0.025,
        hops=17.0,
    )


@pytest.mark.parametrize("error", [0.25, -0.25])
def test_the_formula_prices_a_record_on_its_own_network(error):
    record = make_explained(1, error)

    assert formula_s(record) / record.latency_s - 1 == pytest.approx(error)


def test_hidden_compute_counts_where_the_network_is_faster_than_it():
    record = make_record(compute_s=0.1, hidden_s=9.0)

    assert formula_s(record) == pytest.approx(9.1)


def test_the_formula_script_has_a_row_for_all_records_and_for_each_workload(
    tmp_path, monkeypatch, capsys
):
    errors = (0.01, -0.02, 0.03)
    records = [make_explained(n, error) for n, error in enumerate(errors, start=1)]
    path = tmp_path / "a.parquet"
    write_profile(path, make_profile(*records))
    monkeypatch.setattr("sys.argv", ["formula.py", str(path)])

    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(ROOT / "benchmarks" / "formula.py"), run_name="__main__")

    everything, exp = capsys.readouterr().out.splitlines()
    assert everything.split()[0] == "all"
    assert exp.split()[0] == "exp"
    for row in (everything, exp):
        assert "n=   3  median  2.00%" in row
        assert "largest  3.00%  (exp n_heads=3" in row


def test_formula_states_its_errors(tmp_path, drawn_text):
    errors = (0.01, -0.02, 0.04)
    profile = make_profile(
        *(make_explained(i, e) for i, e in enumerate(errors, start=1))
    )

    assert plot_measured_against_formula(profile, tmp_path / "a.svg") == 3

    text = drawn_text(tmp_path / "a.svg")
    assert "relative error| of 3 cases" in text
    assert "median 2.00 %" in text
    assert "95th percentile 3.80 %" in text
    assert "max 4.00 %" in text
    assert "compute + hops x RTT/2 + bytes/bandwidth (s)" in text


def test_formula_says_when_compute_hides_behind_the_network(tmp_path, drawn_text):
    profile = make_profile(make_record(hidden_s=0.004))

    plot_measured_against_formula(profile, tmp_path / "a.svg")

    assert "max(hidden, hops x RTT/2" in drawn_text(tmp_path / "a.svg")


def test_formula_draws_a_price_of_zero_and_a_large_error(tmp_path):
    free = make_record(
        workload="sum", compute_s=0.0, hops=0.0, wire_bytes=0.0, hidden_s=0.0
    )

    n_records = plot_measured_against_formula(
        make_profile(free, *PROFILE), tmp_path / "a.png"
    )

    assert n_records == 1 + len(PROFILE)


def test_an_error_beyond_the_linear_range_has_a_logarithmic_scale(tmp_path, drawn_text):
    slow = make_record(latencies_s=(4.0,))

    plot_measured_against_formula(make_profile(slow), tmp_path / "a.svg")

    assert "log beyond 5" in drawn_text(tmp_path / "a.svg")


@pytest.mark.parametrize(
    "overrides", [{"mode": "priced", "emulation": "none"}, {"network": LOOPBACK}]
)
def test_formula_needs_records_that_really_waited(tmp_path, overrides):
    with pytest.raises(ProfileError, match="none of the 1 records was emulated"):
        plot_measured_against_formula(
            make_profile(make_record(**overrides)), tmp_path / "a.png"
        )


def test_predicted_is_of_sizes_that_the_fit_has_not_seen(tmp_path, drawn_text):
    n_records = plot_predicted_against_measured(FULL, tmp_path / "a.svg")

    text = drawn_text(tmp_path / "a.svg")
    assert n_records == len(FULL)
    assert f"relative error| of {len(FULL)} cases" in text
    assert "sizes held out of the fit" in text
    assert "measured latency (s)" in text
    assert "predicted latency (s)" in text
    assert "within 10 %" in text


def test_predicted_leaves_out_what_has_one_size(tmp_path):
    one = make_record(workload="mul")

    n_records = plot_predicted_against_measured(
        make_profile(one, *PROFILE), tmp_path / "a.png"
    )

    assert n_records == len(PROFILE)


def test_predicted_needs_two_sizes(tmp_path):
    with pytest.raises(ProfileError, match="no primitive was measured at two sizes"):
        plot_predicted_against_measured(make_profile(make_record()), tmp_path / "a.png")


def test_shares_names_models_heads_and_groups(tmp_path, drawn_text):
    plot_shares(FULL, tmp_path / "a.svg")

    text = drawn_text(tmp_path / "a.svg")
    for words in ("cifar: 7 layers, 4 heads", "tiny-imagenet: 9 layers, 12 heads"):
        assert words in text
    for heads in ("serial", "batched"):
        for attention in ("softmax", "relu_softmax", "scale"):
            assert f"{attention}, {heads}" in text
    legend = ["exp", "max", "reciprocal", "ReLU", "GeLU", "MatMul", "LayerNorm"]
    assert " ".join([*legend, "other"]) in text
    assert "predicted latency (s)" in text
    assert "44MBps,40ms, one image" in text


@pytest.mark.parametrize("heads", ["serial", "batched"])
def test_the_groups_of_a_bar_add_up_to_the_prediction(heads):
    model = fit_cost_model(FULL)
    architecture = uniform_architecture(
        MODELS["cifar"], attention="softmax", heads=heads
    )

    bar = _bar(model, MODELS["cifar"], "softmax", heads)

    predicted = model.predict(trace_model(architecture), model.reference)
    assert sum(bar.seconds) == pytest.approx(predicted.latency_s)
    shares = dict(zip(_GROUPS, bar.seconds, strict=True))
    assert shares["ReLU"] == 0
    assert min(seconds for name, seconds in shares.items() if name != "ReLU") > 0
    (gelu,) = (p for p in predicted.operations if p.name == "gelu_tanh")
    assert shares["GeLU"] == pytest.approx(gelu.latency_s)


def test_shares_needs_every_operation_of_the_models(tmp_path):
    with pytest.raises(MissingEntryError, match="to price it from"):
        plot_shares(PROFILE, tmp_path / "a.png")

    assert not [*tmp_path.iterdir()]


def test_an_operation_has_the_same_color_in_shares_as_everywhere(tmp_path):
    plot_shares(FULL, tmp_path / "a.svg")

    drawn = (tmp_path / "a.svg").read_text()
    for name in ("exp", "max", "reciprocal", "relu", "gelu_tanh"):
        assert f"fill: {workload_style(name).color.lower()}" in drawn


def test_a_waterfall_goes_down_step_by_step_from_untuned_to_tuned(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")  # text, no outlines
    names = ("heads together", "norm bounded", "slower gelu")
    steps = tuple(
        SavingStep(name=name, group=group, saved_s=saved_s)
        for name, group, saved_s in zip(
            names, ("rewrite", "norm", "activation"), (4.0, 2.5, -0.5), strict=True
        )
    )
    shown = Waterfall(schema_version=1, title="digits", untuned_s=10.0, steps=steps)

    n_steps = plot_waterfall(shown, tmp_path / "a.svg")

    drawn = (tmp_path / "a.svg").read_text()
    assert n_steps == 3
    assert shown.levels_s == (10.0, 6.0, 3.5, 4.0)
    for text in ("untuned", *names, "10.0 s", "4.00 s (-60%)"):
        assert text in drawn


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", "schema_version"),
        ('{"schema_version": 2, "title": "", "untuned_s": 1, "steps": []}', "again"),
        ('{"schema_version": 1, "title": "", "untuned_s": 1, "steps": []}', "0 steps"),
        (
            '{"schema_version": 1, "title": "", "untuned_s": 1, "steps": '
            '[{"name": "a", "group": "nrom", "saved_s": 1}]}',
            "expected one of rewrite, norm",
        ),
    ],
)
def test_steps_that_nobody_could_draw_are_one_line(tmp_path, content, expected):
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(UsageError, match="mpcvit tune") as caught:
        read_waterfall(tmp_path / "a.json")

    assert expected in str(caught.value)
