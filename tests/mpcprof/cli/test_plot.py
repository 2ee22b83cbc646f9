import json
import subprocess
import sys

import matplotlib as mpl
import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.cli.plot import _KINDS
from mpcprof.dims import Dims
from mpcprof.figures import FIGURES
from mpcprof.profile.io import write_profile
from tests.factories import make_full_profile, make_profile, make_record

RECORDS = [
    make_record(workload=workload, dims=Dims(n_heads=n_heads, n_tokens=65))
    for workload in ("exp", "relu")
    for n_heads in (1, 4)
]


@pytest.fixture
def path(tmp_path):
    write_profile(tmp_path / "a.parquet", make_profile(*RECORDS))
    return tmp_path / "a.parquet"


def run(*arguments):
    return CliRunner().invoke(main, ["plot", *map(str, arguments)])


@pytest.mark.parametrize("kind", _KINDS)
def test_plot_prints_the_path_that_it_wrote(tmp_path, kind):
    path, out = tmp_path / "full.parquet", tmp_path / "a.png"
    write_profile(path, make_full_profile())

    shown = run(path, kind, "-o", out)

    assert shown.exit_code == 0, shown.output
    assert shown.stdout == f"{out}\n"
    assert out.read_bytes().startswith(b"\x89PNG")


def test_shares_are_drawn_of_a_users_own_sizes(tmp_path, monkeypatch):
    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")  # text, no outlines
    path, out, sizes = (tmp_path / name for name in ("f.parquet", "a.svg", "own.json"))
    write_profile(path, make_full_profile())
    sizes.write_text('{"model": "cifar", "n_heads": 8, "width": 64}')

    shown = run(path, "shares", "-o", out, "--model", sizes)

    assert shown.exit_code == 0, shown.output
    assert "cifar: 7 layers, 8 heads" in out.read_text()
    assert "tiny-imagenet" not in out.read_text()


def test_json_says_how_many_records_were_drawn(path):
    out = path.with_name("a.svg")

    shown = run(path, "latency", "-o", out, "--workload", "exp", "--json")

    assert json.loads(shown.stdout) == {
        "path": str(out),
        "kind": "latency",
        "n_records": 2,
    }


def test_workloads_may_be_repeated(path):
    names = ("--workload", "exp", "--workload", "relu")

    shown = run(path, "latency", "-o", path.with_name("a.svg"), *names, "--json")

    assert json.loads(shown.stdout)["n_records"] == 4


def test_the_kinds_of_the_command_are_those_of_the_library():
    assert tuple(FIGURES) == _KINDS


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("latency", "-o", "a.pdf"), 2, "ends in .png or .svg"),
        (("latency", "-o", f"{__file__}/a.png"), 1, "cannot write"),
        (("latency", "-o", "a.png", "--workload", "rellu"), 1, "did you mean relu?"),
        (("shares", "-o", "a.png"), 1, "to price it from"),
        (("shares", "-o", "a.png", "--model", "none.json"), 2, "cannot read arch"),
        (("latency", "-o", "a.png", "--model", "cifar"), 2, "--model is of shares"),
        (("waterfall", "-o", "a.png"), 2, "steps.json that mpcvit tune writes"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(path, arguments, code, expected, monkeypatch):
    monkeypatch.chdir(path.parent)

    shown = run(path, *arguments)

    assert shown.exit_code == code
    assert shown.stdout == ""
    assert shown.stderr.count("\n") == 1
    assert expected in shown.stderr
    assert [p.name for p in path.parent.iterdir() if p.suffix != ".parquet"] == []


def test_a_file_that_is_no_profile_is_one_line(tmp_path):
    shown = run(tmp_path / "none.parquet", "latency", "-o", tmp_path / "a.png")

    assert shown.exit_code == 1
    assert "`mpcprof sweep --output` makes one" in shown.stderr


def test_an_unknown_kind_is_wrong_usage(path):
    shown = run(path, "pie", "-o", path.with_name("a.png"))

    assert shown.exit_code == 2
    assert "'latency', 'formula', 'predicted', 'shares'" in shown.stderr


def test_the_command_loads_nothing_heavy():
    code = "import sys, mpcprof.cli.plot; print(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    assert not {"matplotlib", "numpy", "pyarrow", "spu", "jax"} & {*loaded}
