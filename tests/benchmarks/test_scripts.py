"""The scripts that neither search nor train, as a person calls them."""

import ast
import contextlib
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import replace

import pytest
from click.testing import CliRunner

from mpcprof.nn.architecture import get_model
from mpcprof.nn.efficientvit import get_efficientvit
from mpcvit.train.recipe import get_recipe
from tests import ROOT
from tests.committed import committed_model
from tests.studies import PROFILE

SHARED = {  # what the scripts import
    *(
        "baselines",
        "candidates",
        "layers",
        "networks",
        "official_loop",
        "on_device",
        "script",
    ),
    *("searches", "attention_properties", "attention_rows"),
}
SCRIPTS = sorted({p.stem for p in (ROOT / "benchmarks").glob("*.py")} - SHARED)
STANDALONE = {"gpu_cifar10"}  # has no click, and a test file of its own
MAX_LINES = 120  # beside the docstring and imports


def run_script(name: str, *arguments: object) -> list[str]:
    main = importlib.import_module(f"benchmarks.{name}").main
    done = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", sorted({*SCRIPTS} - STANDALONE))
def test_every_script_explains_itself_and_how_it_is_called(name):
    module = importlib.import_module(f"benchmarks.{name}")

    done = CliRunner().invoke(module.main, ["--help"])

    assert done.exit_code == 0
    assert f"python benchmarks/{name}.py" in module.__doc__
    assert module.main.help


def test_a_script_runs_where_only_the_packages_are_installed(tmp_path):
    for package in ("mpcprof", "mpcvit"):
        (tmp_path / package).symlink_to(ROOT / package)
    # -S leaves out what an editable install adds: the whole checkout
    paths = map(str, (tmp_path, sysconfig.get_path("purelib")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    script = ROOT / "benchmarks" / "design_choices.py"

    done = subprocess.run(
        [sys.executable, "-S", script, "--help"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: design_choices.py ")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_read_at_one_sitting(name):
    tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))

    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]

    assert tree.body[-1].end_lineno - imports[-1].end_lineno <= MAX_LINES


def test_an_error_is_one_line_that_names_the_script(tmp_path):
    main = importlib.import_module("benchmarks.formula").main

    done = CliRunner().invoke(main, [str(tmp_path / "none.parquet")])

    assert done.exit_code == 1
    assert done.stderr.startswith("main: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_formula_has_a_line_for_all_records_and_one_for_each_workload():
    lines = run_script("formula", PROFILE)

    assert any(line.startswith("exp ") and "median" in line for line in lines)


def test_every_published_latency_has_a_line():
    lines = run_script("published", PROFILE)

    assert "heads one by one, predicted" in lines[0]
    assert sum(line.startswith("Table 2") for line in lines) == 9


def test_predictions_of_each_model_and_form_are_timed():
    lines = run_script("speed_prediction", PROFILE)

    models = ("cifar", "tiny-imagenet", "bert-base", "bert-large")
    assert [line.split()[0] for line in lines[1:]] == [
        name for name in models for _ in ("serial", "batched")
    ]


def test_the_tables_of_bert_are_those_of_its_page():
    lines = run_script("bert")

    text = (ROOT / "docs" / "bert.md").read_text(encoding="utf-8")
    assert lines == [line for line in text.splitlines() if line.startswith("|")]


def test_the_table_of_crypten_is_that_of_its_page_and_prices_nothing_that_is_wrong():
    lines = run_script("crypten_beside_spu", "--show")

    text = (ROOT / "docs" / "crypten.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in text
    refused = [line.split(" | ") for line in lines if "refused" in line]
    assert refused
    assert {tuple(cells[1:4]) for cells in refused} == {("-", "-", "-")}
    assert min(float(cells[5]) for cells in refused) > 0.005  # the error stands there


def test_the_cost_term_is_timed_for_each_granularity_and_form(one_thread, monkeypatch):
    monkeypatch.setattr("benchmarks.speed_cost_term.REPEATS", 1)

    lines = run_script("speed_cost_term", "--profile", PROFILE, "--models", "digits")

    assert [tuple(line.split()[1:3]) for line in lines] == [
        *(("head", "additive"), ("head", "grouped")),
        *(("row", "additive"), ("row", "grouped")),
    ]


def test_the_tables_of_efficientvit_say_what_is_counted_and_predicted():
    script = importlib.import_module("benchmarks.efficientvit")
    text = (ROOT / "docs" / "efficientvit.md").read_text(encoding="utf-8")
    network = get_efficientvit("efficientvit-m0")

    for attention in script.ATTENTIONS:
        own = replace(network, attention=attention)
        assert script.cost_line(own, committed_model()) in text
    assert script.size_line(network) in text


def test_the_table_of_approximations_says_what_is_computed_and_predicted():
    lines = run_script("approximations")

    text = (ROOT / "docs" / "approximations.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    for line, printed in zip(table, lines[:1] + lines[2:], strict=True):
        *says, error, _, hops, sent = (cell.strip() for cell in line.split("|")[1:-1])
        said = [cell.strip() for cell in printed.split("|")[1:-1]]
        assert [*says, hops, sent] == [*said[:2], *said[4:]]
        if error != "error":
            assert float(error) == pytest.approx(float(said[2]), rel=0.1), says


def test_the_page_for_designers_has_every_line_of_its_tables():
    page = (ROOT / "docs" / "designing-for-mpc.md").read_text(encoding="utf-8")

    lines = run_script("design_choices")

    assert len(lines) > 40
    assert {line for line in lines if line.startswith("| ")} <= {*page.splitlines()}


@pytest.mark.spu
def test_a_training_step_is_timed_and_what_bounds_it_said(monkeypatch):
    recipe = get_recipe("cifar10").with_changes(batch_size=2)
    name = "benchmarks.speed_training_step"
    monkeypatch.setattr(f"{name}.get_recipe", lambda _: recipe)
    monkeypatch.setattr(f"{name}.get_model", lambda _: get_model("digits"))
    monkeypatch.setattr(f"{name}.SQUARE", 64)

    line, *_, official = run_script("speed_training_step", "scale", 1)

    assert line.startswith("cpu 32-true, batch 2: ")
    assert re.search(r"images/s, step .* ms .*AdamW.* GFLOP/s .*; bound by \w+", line)
    assert re.search(r"as the official loop \d+: .* times \(.*\); .* GFLOP/s", official)


@pytest.mark.link
def test_two_and_three_parties_see_the_link():
    two, three = run_script("link", 1)

    assert two.startswith("2 parties: round trip ")
    assert three.startswith("3 parties: round trip ")


@pytest.mark.spu
def test_the_error_of_softmax_is_measured_and_written(tmp_path, monkeypatch, semi2k):
    live = contextlib.nullcontext(semi2k)
    monkeypatch.setattr("mpcvit.paper.measuring.Session", lambda *_: live)

    *points, path = run_script("softmax_error", "spu-0.9.5", tmp_path)

    assert path == str(tmp_path / "softmax-error-semi2k.csv")
    assert all("relative error" in point for point in points)
    assert (tmp_path / "softmax-error-semi2k.csv").exists()


def test_sparsemax_alone_keeps_more_of_softmax_than_table_2_prints():
    module = importlib.import_module("benchmarks.attention_properties")

    found = {name: module.properties(name) for name in module.PRINTED}

    differing = {name for name in found if found[name] != module.PRINTED[name]}
    assert differing == {"sparsemax"}
    assert found["sparsemax"] == (True, True, True)


def test_table_2_is_printed_for_both_protocols_and_builds_with_ranks(monkeypatch):
    monkeypatch.chdir(ROOT)
    runtimes = ("--runtime", "spu-0.9.5", "--runtime", "spu-0.3.1b0")

    lines = run_script("table2_attention", "--predict", *runtimes, "--json")
    found = json.loads("\n".join(lines))

    tables = {tuple(name.split()[:2]): table for name, table in found.items()}
    assert {*tables} == {*itertools.product(runtimes[1::2], ("semi2k", "cheetah"))}
    for (runtime, _), table in tables.items():
        by_name = {row["variant"]: row for row in table["rows"]}
        assert len(by_name) == 10
        assert table["spearman"] > 0.3
        assert by_name["square"]["latency_s"] < by_name["softmax"]["latency_s"]
        is_wrong = runtime == "spu-0.3.1b0"
        assert (by_name["xnorm"]["latency_s"] is None) == is_wrong
        assert bool(by_name["xnorm"]["refused"]) == is_wrong


def test_a_refused_variant_stands_in_table_2_without_a_number_or_a_rank():
    module = importlib.import_module("benchmarks.attention_rows")
    costs = {
        "attn.scale": module.Cost(0.1, 2e5, 5),
        "attn.square": module.Cost(0.2, 3e5, 7),
    }
    plain, refused = ((True, True, True), 1e-4), {"attn.xnorm": "it is wrong"}

    rows = [
        module.make_row(name, plain, costs, refused)
        for name in ("scale", "xnorm", "square")
    ]
    ranked = [row for row in rows if row.is_ranked]
    scale, xnorm, square = (row.cells(ranked)[5:] for row in rows)

    assert scale == ("400 ms", "800 kB", "20", "1", "0.66 s", "1")
    assert xnorm == ("refused", "-", "-", "-", "13.25 s", "-")
    assert (square[3], square[5]) == ("2", "2")
    assert rows[1].refused == "it is wrong"


@pytest.mark.spu
def test_the_memory_of_a_party_is_measured():
    (line,) = run_script("memory", "--only", "mul")

    found = re.fullmatch(
        r"mul: idle (\d+) MB, loading (\d+) bytes an entry of the inputs, working "
        r"(\d+) bytes an entry",
        line,
    )
    assert found
    idle, loading, working = map(int, found.groups())
    assert idle > 100  # 224 MB on one machine, 341 MB on another
    assert 8 <= loading < 60
    assert 16 <= working < 400
