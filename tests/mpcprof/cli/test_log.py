"""`mpcprof log`."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from tests import DATA

SAMPLES = DATA / "spulog"


def invoke(*args, stdin=None):
    return CliRunner().invoke(main, ["log", *map(str, args)], input=stdin)


def test_json_has_every_run_and_nothing_else_on_stdout():
    result = invoke(SAMPLES / "0.9.5.log", "--json")

    runs = json.loads(result.stdout)["runs"]
    assert result.exit_code == 0
    assert [r["name"] for r in runs] == ["softmax_row", "relu matmul", "add"]
    assert runs[2]["bytes_sent"] == 128
    assert runs[2]["operations"][0] == {
        "level": "pphlo",
        "name": "pphlo.multiply",
        "count": 1,
        "duration_s": 0.007769682,
        "bytes_sent": 128,
        "bytes_received": 128,
        "send_actions": 1,
        "recv_actions": 1,
    }


def test_json_has_null_where_the_build_prints_nothing():
    result = invoke(SAMPLES / "0.3.1b0.log", "--json")

    run = json.loads(result.stdout)["runs"][0]
    names = ("bytes_sent", "bytes_received", "send_actions", "recv_actions")
    assert [run[name] for name in names] == [None] * 4
    assert [run["operations"][0][name] for name in names] == [None] * 4


def test_tables_show_each_run_with_units():
    result = invoke(SAMPLES / "0.9.5.log", "--top", "2")

    assert result.exit_code == 0
    assert "run 1: softmax_row" in result.stdout
    assert "run 3: add" in result.stdout
    assert "22.3 kB" in result.stdout
    assert "pphlo.divide" in result.stdout
    assert "9 more (--top)" in result.stdout


def test_a_dash_reads_standard_input():
    result = invoke("-", "--json", stdin=(SAMPLES / "0.5.0b0.log").read_bytes())

    assert result.exit_code == 0
    assert [r["send_actions"] for r in json.loads(result.stdout)["runs"]] == [
        48,
        48,
        11,
    ]


def test_markup_in_a_name_is_only_text():
    text = (SAMPLES / "0.9.5.log").read_text().replace("softmax_row", "[bold]x[/nope]")

    result = invoke("-", stdin=text)

    assert result.exit_code == 0
    assert "[bold]x[/nope]" in result.stdout


def test_a_cut_log_is_read_with_a_warning(tmp_path):
    path = tmp_path / "cut.log"
    path.write_bytes((SAMPLES / "0.9.5.log").read_bytes()[:-400])

    result = invoke(path, "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["runs"][2]["problem"]
    assert "run 3 (add)" in result.stderr


def test_stray_bytes_in_a_log_are_replaced(tmp_path):
    path = tmp_path / "stray.log"
    path.write_bytes(b"\xff\xfe\0\x80\n" + (SAMPLES / "0.9.5.log").read_bytes())

    result = invoke(path, "--json")

    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["runs"]) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "0 lines"), (b"hello\n", "1 lines"), (b"\x7fELF\0\0", "NUL bytes")],
)
def test_a_file_without_a_run_is_one_line_on_stderr(tmp_path, content, expected):
    path = tmp_path / "some.log"
    path.write_bytes(content)

    result = invoke(path)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "some.log" in result.stderr
    assert expected in result.stderr


@pytest.mark.parametrize("name", ["missing.log", "."])
def test_a_file_that_cannot_be_opened_is_wrong_usage(tmp_path, name):
    result = invoke(tmp_path / name)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "expected a log file" in result.stderr


def test_the_command_loads_nothing_heavy():
    heavy = {"rich", "numpy", "jax", "spu", "pyarrow", "mpcprof.engine.spulog"}
    code = "import sys, json, mpcprof.cli.log; print(json.dumps([*sys.modules]))"

    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))

    assert not heavy & {*loaded}


def test_lines_that_ray_merged_are_told_with_what_to_set(tmp_path):
    text = (SAMPLES / "0.9.5.log").read_text().splitlines()
    path = tmp_path / "ray.log"
    merged = " [repeated 2x across cluster]\n"
    path.write_text("".join(f"(SPURuntime pid=3) {x}{merged}" for x in text))

    result = invoke(path, "--json")

    told = result.stderr.splitlines()
    assert result.exit_code == 0
    assert [run["problem"] for run in json.loads(result.stdout)["runs"]] == [None] * 3
    assert len(told) == 3
    assert "Ray merged" in told[0]
    assert "RAY_DEDUP_LOGS=0" in told[0]


def test_a_log_of_mp_spdz_is_sent_to_price(tmp_path):
    path = tmp_path / "party0.log"
    path.write_text("Time = 2.3 seconds\nData sent = 0.65 MB in ~2002 rounds (party 0)")

    result = invoke(path)

    assert result.exit_code == 1
    assert "a log of MP-SPDZ, 1 runs, and none of SPU" in result.stderr
    assert f"`mpcprof price {path} --network" in result.stderr
