"""Which cases are drawn, and what is said of their errors; no party is started."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.errors import EngineError, UsageError
from mpcprof.network import NETWORKS, Network, parse_network
from mpcprof.nn.catalogue import BLOCKS, trace_block, trace_model
from mpcprof.nn.plan import rewrites_only
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import write_profile
from mpcprof.sweep.cases import LeftOut
from mpcprof.sweep.grid import PRESETS
from mpcprof.verify import run
from mpcprof.verify.draw import draw_cases, draw_models
from mpcprof.verify.report import CaseResult, VerifyResult, summarise
from mpcprof.verify.run import VerifyConfig, _workload, make_config
from mpcprof.workloads.registry import all_workloads
from tests import PROFILES
from tests.architectures import make_architecture
from tests.committed import full_model
from tests.factories import make_full_profile, make_profile, make_record

WAN, LAN = NETWORKS["wan"], NETWORKS["lan"]


def draw(n_cases=20, seed=0, limit_s=20.0, networks=(WAN,)):
    return draw_cases(
        full_model(), networks, n_cases=n_cases, seed=seed, limit_s=limit_s
    )


def draw_vits(n_models=6, seed=0, limit_s=1e6, presets=("digits", "cifar")):
    return draw_models(
        full_model(),
        (WAN,),
        presets=presets,
        n_models=n_models,
        seed=seed,
        limit_s=limit_s,
    )


def named_models(*architectures: str, networks=(WAN,), **options: Any) -> VerifyConfig:
    return make_config(
        PROFILES / "semi2k.parquet",
        n_cases=0,
        n_models=0,
        architectures=architectures,
        seed=0,
        networks=networks,
        emulation="auto",
        repeats=1,
        warmups=0,
        limit_s=60.0,
        **options,
    )


def make_result(**overrides: Any) -> CaseResult:
    values: dict[str, Any] = {
        "workload": "exp",
        "kind": "primitive",
        "dims": Dims(n_heads=3, n_tokens=33),
        "network": WAN,
        "predicted_s": 1.0,
        "interval_s": (0.9, 1.1),
        "basis": "interpolated",
        "measured_s": 1.0,
        "latencies_s": (1.0,),
        "bytes_error": 0.0,
        "hops_error": 0.0,
    }
    return CaseResult(**(values | overrides))


def make_verification(*results: CaseResult, **overrides: Any) -> VerifyResult:
    values: dict[str, Any] = {
        "deployment": "semi2k",
        "profile_hosts": ("a machine",),
        "hosts": ("a machine",),
        "seed": 7,
        "results": results,
    }
    return VerifyResult(**(values | overrides))


RESULTS = (
    make_result(measured_s=1 / 1.04),
    make_result(workload="max", predicted_s=2.0, measured_s=2 / 1.08, bytes_error=-0.5),
    make_result(kind="block", predicted_s=3.0, measured_s=3 / 0.88, network=LAN),
    make_result(kind="block", predicted_s=4.0, measured_s=4 / 1.30, hops_error=0.1),
)


def test_a_report_says_where_predictions_and_measurements_are_from():
    same = make_verification(*RESULTS)
    other = make_verification(*RESULTS, hosts=("another",))

    assert "The profile and these cases were measured on a machine." in (
        same.to_markdown()
    )
    assert "measured on another, the profile on a machine:" in other.to_markdown()
    assert json.loads(other.to_json())["hosts"] == ["another"]
    assert json.loads(other.to_json())["profile_hosts"] == ["a machine"]


def test_the_same_seed_draws_the_same_cases_and_another_does_not():
    assert draw(seed=3) == draw(seed=3)
    assert draw(seed=3) != draw(seed=4)
    assert draw(n_cases=5, seed=3) == draw(n_cases=20, seed=3)[:5]


def test_primitives_and_blocks_take_turns_and_all_have_theirs():
    primitives = {workload.name for workload in all_workloads("primitive")}

    names = [case.name for case in draw(n_cases=2 * len(BLOCKS))]

    assert {*names[::2]} == primitives
    assert {*names[1::2]} == {*BLOCKS}


@pytest.mark.parametrize("seed", range(3))
def test_no_size_that_is_drawn_is_in_a_preset(seed):
    for case in draw(n_cases=60, seed=seed):
        for dim, size in case.dims.items():
            if dim == "n_heads":  # there are only so many
                continue
            for preset in PRESETS.values():
                assert size not in getattr(preset, dim), case


def test_no_case_is_drawn_twice():
    cases = [(case.name, case.dims) for case in draw(n_cases=300)]

    assert len({*cases}) == len(cases)


def test_a_case_carries_the_steps_of_its_shape():
    for case in draw():
        n_steps = 20 if case.name == "local" else 1  # in one call
        assert case.steps == trace_block(case.name, case.dims) * n_steps
        assert case.architecture is None


@pytest.mark.parametrize("limit_s", [12.0, 30.0])
def test_a_case_takes_no_longer_than_the_limit_on_any_network(limit_s):
    networks = (LAN, Network(bandwidth_bytes_per_s=2e6, rtt_s=0.040))

    def slowest_s(case):
        return max(full_model().predict(case.steps, n).latency_s for n in networks)

    limited = draw(n_cases=60, limit_s=limit_s, networks=networks)

    assert max(map(slowest_s, limited)) <= limit_s
    assert max(map(slowest_s, draw(n_cases=60, limit_s=1e9))) > limit_s


def test_a_limit_that_nothing_keeps_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr("mpcprof.verify.draw._TRIES", 2)

    with pytest.raises(UsageError, match=r"take at most 0\.001 s, .*; allow more"):
        draw(limit_s=0.001)
    with pytest.raises(UsageError, match=r"no digits model takes at most 0\.001 s"):
        draw_vits(limit_s=0.001)


def test_serial_and_batched_models_alternate_on_each_preset():
    drawn = [case.architecture for case in draw_vits(n_models=8)]

    kinds = [(a.model.name, a.heads) for a in drawn]
    serial, batched = (
        [("digits", heads), ("cifar", heads)] for heads in ("serial", "batched")
    )
    assert kinds == [*serial, *batched] * 2


def test_models_differ_in_heads_tokens_and_depth():
    drawn = [case.architecture for case in draw_vits(n_models=12)]

    variants = [{h for layer in a.attention for h in layer} for a in drawn]
    activations = [{n for layer in a.activation for n in layer} for a in drawn]
    assert sum(len(names) > 1 for names in variants) >= 10
    assert sum(len(names) > 1 for names in activations) >= 4
    assert len({architecture.n_layers for architecture in drawn}) > 2


def test_a_model_is_drawn_with_its_steps_by_its_seed():
    assert draw_vits(seed=1) == draw_vits(seed=1)
    assert draw_vits(seed=1) != draw_vits(seed=2)
    for case in draw_vits(n_models=4):
        assert case.steps == trace_model(case.architecture, 1)
        assert case.dims == Dims(n_batch=1)


def test_an_error_is_predicted_over_measured():
    result = make_result(predicted_s=1.2, measured_s=1.0)

    assert result.error == pytest.approx(0.2)


def test_an_interval_holds_its_ends():
    inside = [make_result(measured_s=s).is_inside for s in (0.89, 0.9, 1.1, 1.11)]

    assert inside == [False, True, True, False]


def test_a_summary_counts_what_is_within_each_limit():
    summary = summarise(RESULTS)

    assert summary.n == 4
    shares = (summary.within_5, summary.within_10, summary.within_15)
    assert shares == (0.25, 0.5, 0.75)
    assert summary.within_interval == 0.25
    assert summary.median_error == pytest.approx(0.10)
    assert summary.max_error == pytest.approx(0.30)
    assert summary.max_bytes_error == 0.5
    assert summary.max_hops_error == pytest.approx(0.1)
    assert summary.spearman == pytest.approx(0.8)  # the last two change places


@given(
    latencies_s=st.lists(
        st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=9
    )
)
def test_a_summary_is_in_its_ranges_and_its_json_is_valid(latencies_s):
    results = [make_result(predicted_s=p, measured_s=m) for p, m in latencies_s]

    summary = summarise(results)

    assert 0 <= summary.within_5 <= summary.within_10 <= summary.within_15 <= 1
    assert 0 <= summary.median_error <= summary.max_error
    assert math.isnan(summary.spearman) or abs(summary.spearman) <= 1 + 1e-9
    json.dumps(summary.to_json(), allow_nan=False)


@pytest.mark.parametrize("results", [RESULTS[:1], (RESULTS[0], RESULTS[0])])
def test_without_ranks_the_correlation_is_null(results):
    summary = summarise(results)

    assert math.isnan(summary.spearman)
    assert summary.to_json()["spearman"] is None
    assert str(summary).endswith("Spearman none")


def test_bytes_where_none_were_sent_are_null_in_json_and_no_infinity():
    result = make_result(bytes_error=math.inf)

    document = json.loads(make_verification(result).to_json())

    assert document["cases"][0]["bytes_error"] is None
    assert document["summary"]["max_bytes_error"] is None


def test_the_json_has_the_keys_of_the_contract():
    document = json.loads(make_verification(*RESULTS).to_json())

    assert document["seed"] == 7
    assert len(document["cases"]) == 4
    for case in document["cases"]:
        contract = "workload dims network predicted_s measured_s error"
        assert {*contract.split()} <= {*case}
    first = document["cases"][0]
    assert first["dims"] == {"n_heads": 3, "n_tokens": 33}
    assert first["network"] == "44MBps,40ms"
    assert first["error"] == pytest.approx(0.04)
    contract = "n within_5 within_10 median_error max_error spearman"
    assert {*contract.split()} <= {*document["summary"]}
    assert document["summary"]["n"] == 4


def test_kinds_and_networks_have_summaries_of_their_own():
    summaries = make_verification(*RESULTS).summaries()

    counts = {key: summary.n for key, summary in summaries.items()}
    assert counts == {"primitive": 2, "block": 2, "44MBps,40ms": 3, "384MBps,300us": 1}


def test_a_model_carries_its_architecture():
    architecture = make_architecture()
    result = make_result(kind="model", architecture=architecture.to_json())

    case = result.to_json()

    assert case["architecture"] == json.loads(architecture.to_json())
    assert "architecture" not in make_result().to_json()


def test_markdown_has_every_case_the_worst_first_and_what_was_left_out():
    verification = make_verification(*RESULTS, left_out=("exp on wan: too slow",))

    text = verification.to_markdown()

    rows = [line for line in text.splitlines() if line.startswith("| `")]
    errors = [row.split("|")[6].strip() for row in rows]
    assert errors == ["+30.0%", "-12.0%", "+8.0%", "+4.0%"]
    assert "- left out: exp on wan: too slow" in text
    assert f"{verification.summary}." in text


def test_the_order_of_results_does_not_change_the_summary():
    backwards = replace(make_verification(*RESULTS), results=RESULTS[::-1])

    assert backwards.summary == make_verification(*RESULTS).summary


def test_workloads_of_operations_that_were_never_measured_are_passed_over():
    kept = ("exp", "mul", "sum", "reciprocal")
    records = [r for r in make_full_profile() if r.workload in kept]
    model = fit_cost_model(make_profile(*records))

    drawn = draw_cases(model, (WAN,), n_cases=8, seed=0, limit_s=20.0)

    used = {step.operation for case in drawn for step in model.priced(case.steps)}
    assert used <= {*model.operations}
    assert {case.name for case in drawn} == {*kept}


def test_what_is_asked_for_twice_is_measured_once():
    config = named_models(
        *["digits:scale:serial"] * 2,
        "digits:scale:batched",
        networks=(WAN, parse_network("44MBps,40ms"), LAN),
    )

    assert len(config.cases) == 2
    assert config.networks == (WAN, LAN)


def test_one_layer_of_a_users_own_sizes_is_a_case(tmp_path):
    path = tmp_path / "own.json"
    path.write_text('{"model": "digits", "width": 96}')

    (case,) = named_models(f"{path}:softmax:batched", n_layers=1).cases

    assert case.architecture is not None
    assert case.architecture.model == replace(MODELS["digits"], width=96, n_layers=1)
    assert case.steps == trace_model(case.architecture, 1)


def test_a_model_is_a_case_in_a_batch_and_as_a_plan_deploys_it():
    plain, planned = (
        named_models("digits:scale:batched", n_batch=3, plan=plan).cases[0]
        for plan in (None, "rewrites")
    )

    assert planned.architecture is not None
    plan = rewrites_only(planned.architecture, 3)
    assert planned.steps == trace_model(planned.architecture, 3, plan)
    assert planned.dims == plain.dims == Dims(n_batch=3)
    assert planned.name != plain.name
    assert _workload(planned).name == planned.name


def scripted_sweep(left_out_on=(WAN, LAN), asked=None):
    """Measures each case at 1 s, but on some networks none."""

    def run(config, path, progress, *, is_fresh, calibration, cluster):
        (asked if asked is not None else []).append((config.network, is_fresh))
        is_left_out = config.network in left_out_on
        records = tuple(
            make_record(
                workload=case.workload.name, dims=case.dims, network=config.network
            )
            for case in config.cases
            if not is_left_out
        )
        left_out = tuple(
            LeftOut(case=case, reason="its result is wrong", has_failed=True)
            for case in config.cases
            if is_left_out
        )
        return SimpleNamespace(profile=make_profile(*records), left_out=left_out)

    return run


def verify_with(sweep, monkeypatch, path, **asked):
    monkeypatch.setattr(run, "sweep", sweep)
    config = VerifyConfig(
        profile=make_profile(),
        model=full_model(),
        cases=draw(n_cases=2, limit_s=1e6),
        networks=(WAN, LAN),
    )
    return run.verify(config, path, None, **asked)


def test_where_every_case_is_left_out_the_reasons_are_said(tmp_path, monkeypatch):
    with pytest.raises(
        EngineError, match=r"no case could be measured: .* on .*: its result is wrong"
    ):
        verify_with(scripted_sweep(), monkeypatch, tmp_path / "not there.parquet")


def test_what_a_fresh_verification_could_not_measure_is_not_taken_from_the_old_file(
    tmp_path, monkeypatch
):
    path, asked = tmp_path / "old.parquet", []
    write_profile(path, make_full_profile())

    verification = verify_with(
        scripted_sweep([WAN], asked), monkeypatch, path, is_fresh=True
    )

    assert {result.network for result in verification.results} == {LAN}
    assert asked == [(WAN, True), (LAN, True)]  # nothing was on file after the first


def test_a_measured_latency_shorter_than_its_hops_is_told_in_one_line(
    tmp_path, monkeypatch
):
    records = []

    def sweep(config, path, progress, **_):
        records.extend(
            make_record(
                workload=one.workload.name,
                dims=one.dims,
                network=config.network,
                latencies_s=(1.0,),
                hops=hops,
            )
            for one, hops in zip(config.cases, (5.0, 60.0), strict=True)
        )
        return SimpleNamespace(profile=make_profile(*records), left_out=())

    verification = verify_with(sweep, monkeypatch, tmp_path / "a.parquet")

    assert "the parts of 1 of 4 latencies do not fit" in verification.to_markdown()
    assert sum(bool(one.parts_problem) for one in verification.results) == 1
    cases = json.loads(verification.to_json())["cases"]
    assert [c["parts_problem"][:14] for c in cases] == ["", "hops and bytes", "", ""]


def test_a_back_end_that_cannot_count_the_hops_is_refused_before_measuring():
    aby3 = make_profile(deployment=Deployment(protocol="aby3"))
    config = VerifyConfig(
        profile=aby3,
        model=full_model(),
        cases=draw(n_cases=1),
        networks=(WAN,),
        emulation="tun",
    )

    with pytest.raises(UsageError, match=r"hops of aby3 .* expected relay"):
        run.verify(config, "a.parquet", None)
