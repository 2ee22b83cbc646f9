"""`fit`, `predict`, `table export --terms` and `verify` as a person types them."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.deployment import make_deployment
from mpcprof.nn.architecture import read_architecture, uniform_architecture
from mpcprof.nn.plan import rewrites_only, write_plan
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import write_profile
from tests.factories import make_full_profile, make_profile, make_record

FULL = make_full_profile()
PREDICT_KEYS = "latency_s interval_s bytes_sent hops compute_s layers operations basis"
PART_KEYS = {"name", "count", "latency_s", "bytes_sent", "hops", "compute_s"}
FIT_KEYS = {"operation", "n_records", "median", "percentile_95", "max_bytes_error"}
TERM_KEYS = {"kind", "layer", "variant", "latency_s", "fixed_s", "per_unit_s"}


OWN = {
    "model": "own",
    **{"n_layers": 1, "n_heads": 3, "width": 48, "mlp_ratio": 4, "n_classes": 5},
    **{"image_size": 32, "patch": 8},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of a profile of every primitive, and of what it may be asked for."""
    folder = tmp_path_factory.mktemp("price")
    write_profile(folder / "a.parquet", FULL)
    write_profile(folder / "exp.parquet", make_profile(make_record()))
    (folder / "broken.json").write_text("{")
    digits = uniform_architecture(MODELS["digits"], attention="scale", heads="batched")
    (folder / "arch.json").write_text(digits.to_json())
    (folder / "own.json").write_text(json.dumps(OWN))
    (folder / "own-arch.json").write_text(
        json.dumps(OWN | {"attention": [["softmax"] * 3], "activation": ["gelu_tanh"]})
    )
    document = json.loads(digits.to_json())
    document["attention"].pop()
    (folder / "misfit.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def path(files, tmp_path, monkeypatch):
    """The profile, in a copy of the folder that is the current one."""
    monkeypatch.chdir(shutil.copytree(files, tmp_path, dirs_exist_ok=True))
    return tmp_path / "a.parquet"


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def predict(*arguments):
    shown = run("predict", "a.parquet", *arguments, "--json")
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


def test_predict_takes_a_plan_or_the_rewrites_alone(path):
    architecture = read_architecture(path.parent / "arch.json")
    plan = rewrites_only(architecture, deployment=FULL.deployment)
    write_plan(path.parent / "plan.json", plan)

    plain = predict("--attention", "arch.json")
    rewritten = predict("--attention", "arch.json", "--plan", "rewrites")
    planned = predict("--attention", "arch.json", "--plan", "plan.json")
    serial = predict(
        "--attention", "arch.json", "--plan", "plan.json", "--heads", "serial"
    )

    assert rewritten["title"].endswith("by a plan")
    assert plain["hops"] > rewritten["hops"] == planned["hops"]
    assert serial["hops"] > planned["hops"]
    assert "heads serial" in serial["title"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "cifar"}, "plan.json: the plan is for model cifar of 3 layers"),
        (
            {"deployment": make_deployment("aby3")},
            "plan.json: the plan is for another deployment: protocol is 'aby3' in one",
        ),
    ],
)
def test_a_plan_for_something_else_predicts_nothing(path, changes, message):
    plan = rewrites_only(read_architecture(path.parent / "arch.json"))
    write_plan(path.parent / "plan.json", replace(plan, **changes))

    shown = run("predict", path, "--attention", "arch.json", "--plan", "plan.json")

    assert shown.exit_code == 2
    assert message in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_fit_json_has_a_row_per_operation(path):
    shown = run("fit", path, "--json")

    assert shown.exit_code == 0, shown.output
    rows = json.loads(shown.stdout)["workloads"]
    assert [row["operation"] for row in rows] == [*fit_cost_model(FULL).operations]
    assert all({*row} >= FIT_KEYS for row in rows)
    assert max(row["median"] for row in rows) < 0.01  # a linear profile


def test_fit_prints_a_line_per_operation_and_says_what_has_one_size(path):
    every, single = (run("fit", name) for name in (path, "exp.parquet"))

    assert len(every.stdout.splitlines()) == 1 + len(fit_cost_model(FULL).fits)
    assert "(one size only)" in single.stdout


def test_a_users_own_sizes_are_predicted_from_either_file(path):
    by_sizes = predict("--model", "own.json", "--attention", "softmax")
    by_file = predict("--attention", "own-arch.json")

    assert by_sizes == by_file == predict("--model", "own-arch.json")
    assert by_file["title"].startswith("own, 1 layers, 3 heads serial, 17 tokens")
    assert [layer["name"] for layer in by_file["layers"]] == [
        *("embedding", "layer 1", "head")
    ]


def test_terms_of_a_users_own_sizes_are_exported(path):
    shown = run("table", "export", path, "--terms", "--model", "own.json")

    assert shown.exit_code == 0, shown.output
    heads = re.findall(r"^attention,0,softmax,3,", shown.stdout, re.MULTILINE)
    assert len(heads) == 1


def test_fit_writes_nothing(path):
    before = path.read_bytes()

    run("fit", path)

    assert path.read_bytes() == before


def test_fit_still_takes_save_and_says_that_nothing_needs_saving(path):
    before = path.read_bytes()

    saved = run("fit", path, "--save")

    assert saved.exit_code == 0, saved.output
    assert "nothing needs saving" in saved.stderr
    assert path.read_bytes() == before


def test_predict_json_has_the_keys_of_the_design(path):
    document = predict("--model", "cifar", "--attention", "relu_softmax")

    assert {*PREDICT_KEYS.split()} <= {*document}
    low_s, high_s = document["interval_s"]
    assert low_s <= document["latency_s"] <= high_s
    assert len(document["layers"]) == 7 + 2
    for part in (*document["layers"], *document["operations"]):
        assert {*part} == PART_KEYS


def test_predict_takes_an_architecture_with_its_heads(path):
    batched = predict("--attention", "arch.json")
    serial = predict("--attention", "arch.json", "--heads", "serial")

    assert "heads batched" in batched["title"]
    assert serial["hops"] >= batched["hops"]
    assert serial["bytes_sent"] == batched["bytes_sent"]


def test_predict_prints_units_and_a_line_per_network(path):
    shown = run("predict", path, "--network", "wan", "--network", "100MBps,10ms")

    first, second = shown.stdout.splitlines()[1:3]
    for line, network in ((first, "44MBps,40ms"), (second, "100MBps,10ms")):
        assert re.match(rf"{network}: [\d.]+ (s|min) \(.*\), [\d.]+ [MG]B sent", line)


def test_what_is_far_outside_is_flagged_in_notes_and_basis(path):
    document = predict("--model", "digits", "--batch", "4096")

    assert document["basis"] == "extrapolated"
    assert any(
        re.fullmatch(r"exp: size .* is [\d.e+]+ times the largest measured", note)
        for note in document["notes"]
    )
    text = run("predict", path, "--model", "digits", "--batch", "4096").stdout
    assert "extrapolated" in text
    assert "note: exp: size" in text


@pytest.mark.parametrize("export_format", ["csv", "json", "md", "parquet"])
def test_terms_go_to_stdout_or_to_a_file_alike(path, export_format):
    arguments = ("table", "export", path, "--terms", "--format", export_format)

    shown = run(*arguments, "--model", "digits")
    written = run(*arguments, "--model", "digits", "-o", "terms")

    assert shown.exit_code == written.exit_code == 0, shown.output
    assert shown.stdout_bytes == path.with_name("terms").read_bytes()


def test_terms_of_rewritten_networks_have_fewer_hops(path):
    def hops(*options):
        arguments = ("--terms", "--format", "json", "--model", "digits", *options)
        shown = run("table", "export", path, *arguments)
        terms = json.loads(shown.stdout)["terms"]
        return {(t["kind"], t["layer"], t["variant"]): t["hops"] for t in terms}

    plain, rewritten = hops(), hops("--plan", "rewrites")

    assert plain.keys() == rewritten.keys()
    assert plain["attention", 0, "scale"] > rewritten["attention", 0, "scale"]
    assert plain["rest", 0, ""] > rewritten["rest", 0, ""]


def test_terms_with_a_plan_are_those_of_its_model(path):
    architecture = read_architecture(path.parent / "arch.json")
    plan = rewrites_only(architecture, deployment=FULL.deployment)
    write_plan(path.parent / "plan.json", plan)

    arguments = ("--terms", "--format", "json", "--plan", "plan.json")
    shown = run("table", "export", path, *arguments)
    refused = run("table", "export", path, *arguments, "--model", "cifar")

    assert json.loads(shown.stdout)["model"] == "digits"
    assert "the plan is for model digits of 3 layers" in refused.stderr


def test_terms_json_is_one_document_of_that_network_and_batch(path):
    shown = run(
        *("table", "export", path, "--terms", "--format", "json", "--model", "digits"),
        *("--network", "lan", "--batch", "2"),
    )

    document = json.loads(shown.stdout)
    assert document["model"] == "digits"
    assert document["network"] == "384MBps,300us"
    assert document["n_batch"] == 2
    assert all({*term} >= TERM_KEYS for term in document["terms"])


WRONG = [
    (("fit", "none.parquet"), 1, "`mpcprof sweep --output` makes one"),
    (("fit", "broken.json"), 1, "it is not parquet"),
    (("fit", "a.parquet", "--folds", "1"), 2, "1 is not in the range x>=2"),
    (("predict", "none.parquet"), 1, "`mpcprof sweep --output` makes one"),
    (("predict", "exp.parquet"), 1, "`mpcprof sweep --protocol semi2k --only"),
    (("predict", "a.parquet", "--model", "cifr"), 2, "did you mean cifar?"),
    (("predict", "a.parquet", "--attention", "sofmax"), 2, "did you mean softmax"),
    (("predict", "a.parquet", "--activation", "gelu"), 2, "gelu_tanh"),
    (("predict", "a.parquet", "--network", "44MBps"), 2, "such as 44MBps,40ms"),
    (("predict", "a.parquet", "--network", "44,40ms"), 2, "has no unit"),
    (("predict", "a.parquet", "--batch", "0"), 2, "0 is not in the range 1<="),
    (("predict", "a.parquet", "--batch", "9" * 20), 2, "is not in the range"),
    (("predict", "a.parquet", "--attention", "none.json"), 2, "cannot read arch"),
    (("predict", "a.parquet", "--attention", "broken.json"), 2, "not JSON"),
    (("predict", "a.parquet", "--attention", "misfit.json"), 2, "attention has 2"),
    (
        ("predict", "a.parquet", "--attention", "arch.json", "--model", "cifar"),
        2,
        "arch.json is of model digits; leave --model out",
    ),
    (
        ("predict", "a.parquet", "--attention", "arch.json", "--activation", "relu"),
        2,
        "arch.json has gelu_tanh; leave --activation out",
    ),
    (("table", "export", "none.parquet", "--terms"), 1, "`mpcprof sweep --output`"),
    (("table", "export", "exp.parquet", "--terms"), 1, "`mpcprof sweep --protocol"),
    (("table", "export", "a.parquet", "--terms", "--model", "x"), 2, "no model 'x'"),
    (("table", "export", "a.parquet", "--terms", "-o", "a.parquet"), 2, "over the"),
    (("table", "export", "a.parquet", "--plan", "rewrites"), 2, "add --terms or leave"),
    (("table", "export", "a.parquet", "--terms", "--plan", "x"), 2, "cannot read plan"),
    (("verify", "none.parquet"), 1, "`mpcprof sweep --output` makes one"),
    (("verify", "a.parquet", "--cases", "0"), 2, "no cases: expected --cases"),
    (("verify", "a.parquet", "--limit", "1ms"), 2, "allow more with --limit"),
    (("verify", "a.parquet", "--limit", "20"), 2, "has no unit"),
    (("verify", "a.parquet", "--tolerance", "0.1"), 2, "has no unit"),
    (("verify", "a.parquet", "--network", "wam"), 2, "did you mean wan"),
    (("verify", "a.parquet", "--output", "a.parquet"), 2, "write over the profile"),
    (("verify", "a.parquet", "--report", "a.parquet"), 2, "over the profile"),
    (
        ("verify", "a.parquet", "--output", "b.parquet", "--report", "b.parquet"),
        2,
        "would write over what --",
    ),
    (("verify", "a.parquet", "--report", "."), 1, "it is a folder"),
    (("verify", ""), 2, "is a folder; expected the name of a file"),
    (("verify", "/"), 2, "is a folder; expected the name of a file"),
    (("zoo", "measure", ""), 2, "is a folder; expected the name of a file"),
    (("zoo", "measure", "a.parquet", "--output", "a.parquet"), 2, "over the profile"),
    (("zoo", "measure", "a.parquet", "-o", "a.parquet"), 2, "over the profile"),
    (("explore", "a.parquet", "-o", "page.htm"), 2, "a name that ends in .html"),
    (("explore", "none.parquet", "-o", "page"), 2, "a name that ends in .html"),
    (
        ("report", "a.parquet", "-o", "broken.json"),
        1,
        "'broken.json' is a file, not a folder; choose another place",
    ),
    (
        ("report", "a.parquet", "-o", "broken.json/x"),
        1,
        "'broken.json' is a file, not a folder; choose another place",
    ),
    (
        ("party", "--make-certificates", "broken.json"),
        2,
        "'broken.json' is a file; expected a folder",
    ),
    (
        ("party", "--make-certificates", "broken.json/x"),
        2,
        "'broken.json' is a file; expected a folder",
    ),
    (
        ("table", "merge", "a.parquet", "-o", "x" * 300),
        1,
        "xx': File name too long; check its name and mode",
    ),
    (("predict", "a.parquet", "--model", "x.svg"), 2, "or a file of sizes FILE.json"),
    (("report", "a.parquet", "-o", "r", "--model", "x.svg"), 2, "sizes FILE.json"),
    (
        ("predict", "a.parquet", "--model", "bert-base", "--tokens", "513"),
        2,
        "--tokens 513: model bert-base has 512 positions; expected at most 512",
    ),
    (("predict", "a.parquet", "--onnx", "x", "--tokens", "8"), 2, "says the whole"),
    (
        ("predict", "a.parquet", "--onnx", "x", "--dim", "a=1", "--dim", "a=2"),
        2,
        "--dim a is both 1 and 2: give it once",
    ),
    (("sweep", "--seed", "-1", "--only", "exp"), 2, "seed -1: expected a whole number"),
    (("sweep", "--seed", "9" * 20, "--only", "exp"), 2, "expected a whole number"),
    (("sweep", "--output", "", "--only", "exp"), 1, "it is a folder"),
    (("verify", "a.parquet", "--architecture", "cifar"), 2, "MODEL:ATTENTION:HEADS"),
    (
        ("verify", "a.parquet", "--architecture", "cifar:scale:serial:2"),
        2,
        "MODEL:ATTENTION:HEADS",
    ),
    (("verify", "a.parquet", "--architecture", "misfit.json"), 2, "attention has 2"),
    (("verify", "a.parquet", "--architecture", "x:scale:serial"), 2, "no model 'x'"),
]


@pytest.mark.parametrize(("arguments", "code", "expected"), WRONG)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    path, arguments, code, expected, monkeypatch
):
    monkeypatch.setattr("mpcprof.verify.draw._TRIES", 2)
    before = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}

    shown = run(*arguments)

    assert shown.exit_code == code, shown.output
    assert shown.stdout == ""
    assert shown.stderr.count("\n") == 1
    assert expected in shown.stderr
    after = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    assert after == before


OVER_ITSELF = [
    ("predict", "a.parquet", "--attention", "x.json", "--trace", "x.json"),
    ("predict", "a.parquet", "--model", "x.json", "--trace", "./x.json"),
    ("predict", "a.parquet", "--plan", "x.json", "--trace=x.json"),
    ("predict", "a.parquet", "--network", "x.json", "--trace", "x.json"),
    ("explore", "a.parquet", "-o", "a.parquet"),
    ("link", "--parties", "x.json", "--output", "x.json"),
    ("table", "export", "a.parquet", "--terms", "--model", "x.json", "-o", "x.json"),
    ("plot", "a.parquet", "latency", "-o", "a.parquet"),
    ("zoo", "predict", "a.parquet", "--model", "x.json", "-o", "x.json"),
    ("zoo", "predict", "a.parquet", "-o", "linked.parquet"),
]


@pytest.mark.parametrize("arguments", OVER_ITSELF, ids=" ".join)
def test_no_command_writes_over_what_it_reads(path, arguments):
    network = {"bandwidth_bytes_per_s": 44e6, "rtt_s": 0.04}
    path.with_name("x.json").write_text(json.dumps(network))
    path.with_name("linked.parquet").symlink_to(path)
    before = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}

    shown = run(*arguments)

    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "would write over" in shown.stderr
    after = {p.name: p.read_bytes() for p in path.parent.iterdir() if p.is_file()}
    assert after == before
