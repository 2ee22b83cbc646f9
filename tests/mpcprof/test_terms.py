"""Lat(ATTN_ij) and Lat(Act_ij): sums of terms are what the cost model predicts."""

import functools
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.errors import MissingEntryError, UnknownNameError, UsageError
from mpcprof.network import NETWORKS, Network
from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.approximation import InverseBounds
from mpcprof.nn.architecture import Architecture, Heads, uniform_architecture
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.plan import LayerPlan, Plan, choose_planner, write_plan
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import read_profile
from mpcprof.terms import Term, Terms, compute_terms, export_terms
from tests import PROFILES
from tests.architectures import OWN_SIZES, sum_of_terms_s
from tests.committed import committed_model, full_model
from tests.factories import make_profile, make_record

WAN = NETWORKS["wan"]
COLUMNS = (
    *("kind", "layer", "variant", "n_units", "latency_s", "fixed_s", "per_unit_s"),
    *("bytes_sent", "hops", "basis"),
)

# each attention and each activation; mixed heads, below, are any two of them
PAIRS = [
    (attention, activation)
    for _, attention, activation in zip(
        range(max(len(ATTENTIONS), len(ACTIVATIONS))),
        itertools.cycle(ATTENTIONS),
        itertools.cycle(ACTIVATIONS),
        strict=False,
    )
]
ModelOf = Callable[[], CostModel]
MODELS_OF = [committed_model, full_model]  # without and with a price of local steps
presets = st.sampled_from(["digits", "cifar"])
networks = st.builds(
    Network, bandwidth_bytes_per_s=st.floats(1e5, 1e11), rtt_s=st.floats(0, 1)
)


@functools.cache
def terms_of(name: str, n_batch: int = 1, model_of: ModelOf = committed_model) -> Terms:
    return compute_terms(model_of(), MODELS[name], WAN, n_batch)


def predicted_s(
    architecture: Architecture, n_batch: int = 1, model_of: ModelOf = committed_model
) -> float:
    return model_of().predict(architecture, WAN, n_batch=n_batch).latency_s


def from_terms_s(
    architecture: Architecture, n_batch: int = 1, model_of: ModelOf = committed_model
) -> float:
    terms = terms_of(architecture.model.name, n_batch, model_of)
    return sum_of_terms_s(terms, architecture, model_of().per_call_s)


def left_out_by_terms_s(
    model: CostModel, architecture: Architecture, asked: str | None
) -> float:
    """Seconds of a network, planned or not, that are in no term."""
    planner = choose_planner(asked, architecture.model, deployment=model.deployment)
    terms = compute_terms(
        model,
        architecture.model,
        WAN,
        attentions={name for heads in architecture.attention for (name,) in heads},
        activations={name for (name,) in architecture.activation},
        planner=planner,
    )
    plan = planner and replace(planner(architecture), heads=architecture.heads)
    predicted = model.predict(architecture, WAN, plan=plan)
    total_s = sum_of_terms_s(terms, architecture, model.per_call_s)
    return predicted.latency_s - total_s


def draw_mixed(data: st.DataObject, name: str, heads: Heads) -> Architecture:
    """Any variant in any head, one activation a layer."""
    model = replace(MODELS[name], n_layers=2)
    head = st.tuples(st.sampled_from([*ATTENTIONS]))
    activation = st.tuples(st.sampled_from([*ACTIVATIONS]))
    return Architecture(
        model=model,
        heads=heads,
        attention=data.draw(st.tuples(*[st.tuples(*[head] * model.n_heads)] * 2)),
        activation=data.draw(st.tuples(activation, activation)),
    )


def make_term(**overrides: object) -> Term:
    values: dict[str, object] = {
        "kind": "attention",
        "layer": 0,
        "variant": "scale",
        "n_units": 4,
        "latency_s": 1.0,
        "fixed_s": 0.75,
        "per_unit_s": 0.25,
        "bytes_sent": 100.0,
        "hops": 10.0,
        "basis": "measured",
    }
    return Term(**(values | overrides))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["digits", "cifar"])
@pytest.mark.parametrize(("attention", "activation"), PAIRS)
@pytest.mark.parametrize("model_of", MODELS_OF)
def test_terms_of_serial_heads_add_up_to_the_prediction(
    name, attention, activation, model_of
):
    architecture = uniform_architecture(
        MODELS[name], attention=attention, activation=activation
    )

    total_s = from_terms_s(architecture, model_of=model_of)

    expected_s = predicted_s(architecture, model_of=model_of)
    assert total_s == pytest.approx(expected_s, rel=1e-9)


@pytest.mark.parametrize(("attention", "activation"), PAIRS)
@pytest.mark.parametrize("is_file", [False, True])
def test_terms_of_a_planned_model_add_up_to_its_prediction(
    attention, activation, is_file, tmp_path
):
    model = MODELS["digits"]
    architecture = uniform_architecture(
        model, attention=attention, activation=activation, heads="batched"
    )
    deployment = committed_model().deployment
    asked = "rewrites"
    if is_file:
        asked = str(tmp_path / "plan.json")
        inverse = InverseBounds(low=0.5, high=9.0, degree=8)
        layer = LayerPlan(norm1=inverse, total=inverse, activation="relu", n_together=2)
        layers = (layer, LayerPlan(norm2=inverse), LayerPlan(n_together=3))
        write_plan(tmp_path / "plan.json", Plan(layers=layers, last_norm=inverse))
    planner = choose_planner(asked, model, deployment=deployment)

    terms = compute_terms(committed_model(), model, WAN, planner=planner)

    plan = planner(architecture)
    applied = plan.apply(architecture)
    predicted = committed_model().predict(trace_model(architecture, 1, plan), WAN)
    total_s = sum_of_terms_s(terms, architecture, committed_model().per_call_s)
    assert applied.heads == "batched"
    assert total_s == pytest.approx(predicted.latency_s, rel=1e-9)


def test_a_plan_of_other_layers_has_no_terms(tmp_path):
    write_plan(tmp_path / "plan.json", Plan(layers=(LayerPlan(),)))
    deployment = committed_model().deployment

    with pytest.raises(UsageError, match=r"plan\.json: the plan is for model any of 1"):
        choose_planner(
            str(tmp_path / "plan.json"), MODELS["digits"], deployment=deployment
        )


@pytest.mark.parametrize("model", OWN_SIZES.values(), ids=OWN_SIZES)
@pytest.mark.parametrize("asked", [None, "rewrites"])
def test_terms_of_a_users_own_sizes_add_up_to_the_prediction(model, asked):
    named = {"attention": "softmax", "activation": "identity_relu"}
    heads: Heads = "batched" if asked else "serial"
    architecture = uniform_architecture(model, heads=heads, **named)

    left_out_s = left_out_by_terms_s(committed_model(), architecture, asked)

    assert left_out_s == pytest.approx(0, abs=1e-9)


@settings(max_examples=25)
@given(data=st.data(), name=presets, model_of=st.sampled_from(MODELS_OF))
def test_terms_of_mixed_serial_heads_add_up_to_the_prediction(data, name, model_of):
    architecture = draw_mixed(data, name, "serial")

    total_s = from_terms_s(architecture, model_of=model_of)

    expected_s = predicted_s(architecture, model_of=model_of)
    assert total_s == pytest.approx(expected_s, rel=1e-9)


@pytest.mark.parametrize("name", ["digits", "cifar"])
def test_terms_of_a_batch_add_up_to_its_prediction(name):
    architecture = uniform_architecture(MODELS[name], attention="softmax")

    total_s = from_terms_s(architecture, n_batch=3)

    assert total_s == pytest.approx(predicted_s(architecture, 3), rel=1e-9)


@settings(max_examples=25)
@given(data=st.data(), name=presets)
def test_a_fixed_time_and_one_per_head_reproduce_batched_heads(data, name):
    architecture = draw_mixed(data, name, "batched")

    total_s = from_terms_s(architecture)

    assert total_s == pytest.approx(predicted_s(architecture), rel=0.02)


@pytest.mark.parametrize("name", ["digits", "cifar"])
@pytest.mark.parametrize("n_tokens", [1, 5, 12])
def test_tokens_of_two_activations_cost_both_fixed_times(name, n_tokens):
    one = uniform_architecture(replace(MODELS[name], n_layers=1), attention="scale")
    n_rest = one.model.n_tokens - n_tokens
    tokens = ("gelu_tanh",) * n_tokens + ("relu",) * n_rest
    mixed = replace(one, activation=(tokens,))

    total_s = from_terms_s(mixed)

    assert total_s == pytest.approx(predicted_s(mixed), rel=0.02)


@pytest.mark.parametrize("n_batch", [1, 8])
@pytest.mark.parametrize("name", MODELS)
def test_no_term_is_below_zero(name, n_batch):
    for term in terms_of(name, n_batch).terms:
        quantities = (term.latency_s, term.fixed_s, term.per_unit_s)

        assert min(*quantities, term.bytes_sent, term.hops) >= 0, term


def test_every_choice_of_every_layer_has_one_term():
    model = MODELS["digits"]

    terms = terms_of("digits").terms

    per_layer = len(ATTENTIONS) + len(ACTIVATIONS) + len(("mlp", "fused", "rest"))
    assert len(terms) == model.n_layers * per_layer + 1
    keys = {(term.kind, term.layer, term.variant) for term in terms}
    assert len(keys) == len(terms)
    assert {term.layer for term in terms} == {-1, *range(model.n_layers)}


@settings(max_examples=10)
@given(network=networks, more_s=st.floats(0, 1), factor=st.floats(1, 100))
def test_a_longer_or_narrower_line_makes_no_term_cheaper(network, more_s, factor):
    slower = Network(
        bandwidth_bytes_per_s=network.bandwidth_bytes_per_s / factor,
        rtt_s=network.rtt_s + more_s,
    )

    near, far = (
        compute_terms(full_model(), MODELS["digits"], n).terms
        for n in (network, slower)
    )

    for a, b in zip(near, far, strict=True):
        assert b.latency_s >= a.latency_s or b.latency_s == pytest.approx(a.latency_s)


def test_lambda_over_eta_is_a_layer_of_attention_over_one_of_activation():
    token = make_term(kind="activation", variant="gelu_tanh", n_units=5, latency_s=0.1)
    terms = Terms(
        model=MODELS["digits"], network=WAN, n_batch=1, terms=(make_term(), token)
    )

    assert terms.lambda_over_eta("scale", "gelu_tanh") == pytest.approx(4.0 / 0.5)


def test_softmax_is_dearer_than_relu_softmax_and_that_than_scale():
    ratios = [
        terms_of("cifar").lambda_over_eta(name, "gelu_tanh")
        for name in ("softmax", "relu_softmax", "scale")
    ]

    assert ratios == sorted(ratios, reverse=True)


def test_a_variant_that_no_unit_uses_costs_nothing():
    term = make_term()

    assert [term.layer_s(n) for n in (0, 1, 4)] == [0.0, 1.0, 1.75]


def test_what_has_no_term_is_a_key_error():
    with pytest.raises(KeyError, match="'attention', 0, 'none'"):
        terms_of("digits").get("attention", 0, "none")


def test_a_profile_without_a_needed_operation_has_no_terms():
    model = fit_cost_model(make_profile(make_record()))

    with pytest.raises(MissingEntryError, match="to price it from"):
        compute_terms(model, MODELS["digits"], WAN)


def test_what_a_build_cannot_run_is_left_out_and_said_so():
    old = PROFILES / "semi2k-spu0.3.1b0.parquet"
    model = fit_cost_model(read_profile(old))

    terms = compute_terms(model, MODELS["digits"], WAN)

    assert {t.variant for t in terms.terms if t.kind == "attention"} == {*ATTENTIONS}
    (line,) = terms.left_out
    assert line.startswith("activation gelu_exact: no record of 'gelu_exact'")
    document = json.loads(export_terms(terms, "json"))
    assert document["left_out"] == [line]
    assert {*document["lambda_over_eta"]} == {"softmax", "relu_softmax", "scale"}
    with pytest.raises(MissingEntryError, match="gelu_exact"):
        compute_terms(model, MODELS["digits"], WAN, activations=["gelu_exact"])


def test_json_has_the_model_the_ratios_and_every_term():
    terms = terms_of("digits")

    document = json.loads(export_terms(terms, "json"))

    assert (document["model"], document["n_batch"]) == ("digits", 1)
    assert document["network"] == "44MBps,40ms"
    ratio = document["lambda_over_eta"]["softmax"]
    assert ratio == terms.lambda_over_eta("softmax", "gelu_tanh")
    assert tuple(Term(**row) for row in document["terms"]) == terms.terms


def read_csv(content: str | bytes) -> pd.DataFrame:
    assert isinstance(content, str)
    return pd.read_csv(
        io.StringIO(content), keep_default_na=False, float_precision="round_trip"
    )


def read_parquet(content: str | bytes) -> pd.DataFrame:
    assert isinstance(content, bytes)
    return pd.read_parquet(io.BytesIO(content))


@pytest.mark.parametrize(
    ("export_format", "read"), [("csv", read_csv), ("parquet", read_parquet)]
)
def test_a_table_that_is_read_again_has_the_same_terms(export_format, read):
    terms = terms_of("digits")

    frame = read(export_terms(terms, export_format))

    assert tuple(frame.columns) == COLUMNS
    rows = frame.to_dict("records")
    assert tuple(Term(**row) for row in rows) == terms.terms


def test_markdown_has_a_line_for_each_term():
    terms = terms_of("digits")

    header, rule, *lines = str(export_terms(terms, "md")).splitlines()

    assert [cell.strip() for cell in header.strip("|").split("|")] == [*COLUMNS]
    assert rule == "|" + "---|" * len(COLUMNS)
    assert len(lines) == len(terms.terms)
    assert {line.count("|") for line in lines} == {len(COLUMNS) + 1}


def test_an_unknown_format_is_named():
    with pytest.raises(UnknownNameError, match=r"no format 'xlsx'; .*parquet"):
        export_terms(terms_of("digits"), "xlsx")


@pytest.mark.parametrize("asked", [None, "rewrites"])
@pytest.mark.parametrize("heads", ["serial", "batched"])
@pytest.mark.parametrize(("attention", "n_left_out"), [("scale", 0), ("softmax", 1)])
def test_terms_of_aby3_lack_the_hop_of_the_first_maximum_alone(
    attention, n_left_out, heads, asked
):
    model = committed_model("aby3")
    architecture = uniform_architecture(
        MODELS["digits"], attention=attention, heads=heads
    )

    left_out_s = left_out_by_terms_s(model, architecture, asked)

    assert "local" in model.operations
    assert left_out_s == pytest.approx(n_left_out * WAN.one_way_s, abs=1e-9)


def test_a_quantity_is_an_array_or_a_tensor_like_another():
    torch = pytest.importorskip("torch")
    terms, variants = terms_of("digits"), ["softmax", "scale"]
    like = torch.zeros(1, dtype=torch.float32)

    fixed_s = terms.values("fixed_s", "attention", variants)
    tensor = terms.tensor("fixed_s", "attention", variants, like)

    assert fixed_s.shape == (3, 2)
    assert fixed_s[1, 0] == terms.get("attention", 1, "softmax").fixed_s
    assert tensor.dtype == torch.float32
    assert tensor.tolist() == torch.tensor(fixed_s, dtype=torch.float32).tolist()
    assert (terms.unit_s("attention", variants) >= fixed_s).all()


def test_a_notebook_shows_each_choice_of_the_first_layer():
    terms = terms_of("digits")

    shown = terms._repr_html_()

    assert "digits, batch 1, on 44MBps,40ms; layer 1 of 3" in shown
    assert shown.count("<tr>") == 1 + sum(one.layer == 0 for one in terms.terms)


def test_the_cost_model_has_the_terms_of_names_and_of_values():
    named = committed_model().terms("digits", "wan", attentions=["scale"])

    assert (
        named.terms
        == committed_model().terms(MODELS["digits"], WAN, attentions=["scale"]).terms
    )
    assert {t.variant for t in named.terms if t.kind == "attention"} == {"scale"}
