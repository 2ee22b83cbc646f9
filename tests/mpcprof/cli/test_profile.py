"""`mpcprof profile`: what it refuses before parties start, and what it takes."""

import json

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.sweep.function import FunctionReport
from tests.factories import make_profile, make_record

SOURCE = """
import jax.numpy as jnp
import numpy as np
WEIGHTS = np.ones((4, 4), np.float32)

def twice(x):
    return 2 * x

def power(x, y):
    return jnp.power(x, y)

def inverse(x):
    return 1 / x

def dense(x, mask):
    return np.float32(2) * (x @ WEIGHTS) * mask

def example():
    return {"x": WEIGHTS, "mask": WEIGHTS > 0}
"""


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Runs the command in a folder with a file of functions; no party may start."""
    (tmp_path / "functions.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path / "home"))

    def refuse(*_):
        raise AssertionError("a party was started")

    monkeypatch.setattr("mpcprof.engine.session.Session.__enter__", refuse)
    return lambda *args: CliRunner().invoke(main, ["profile", *args])


def test_a_runtime_that_is_not_installed_is_said_before_any_work(profile, monkeypatch):
    def refuse(*_):
        raise AssertionError("a reference was computed")

    monkeypatch.setattr("mpcprof.sweep.function.inputs_and_result", refuse)

    result = profile("functions.py:twice", "--input", "4", "--runtime", "spu-0.3.1b0")

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "mpcprof: runtime spu-0.3.1b0: not installed; "
        "run `mpcprof runtime install spu-0.3.1b0`"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("twice",), "no input shapes; give one per input"),
        (("twice", "--input", "4", "--input", "4"), "2 input shape(s) given, too many"),
        (("twice", "--input", "4", "--domain", "y=0,1"), "a domain of 'y'"),
        (("twice", "--input", "4", "--domain", "=0,1"), "'=0,1' names no input"),
        (("dense", "--input", "4x5", "--input", "4"), "fails to trace at 4x5, 4"),
        (("dense", "--inputs", "exampl"), "no function 'exampl' there; did you mean"),
        (
            ("dense", "--input", "x=4x4", "--input", "mask=4:boolean"),
            "did you mean bool",
        ),
        (
            ("dense", "--input", "x=4x4", "--input", "mask=0x4"),
            "'0' in '0x4': expected",
        ),
        (("dense", "--inputs", "example", "--protocol", "semi3k"), "'semi3k'"),
        (("twice", "--input", "4", "--tolerance", "0.05"), "'0.05' has no unit; type"),
        (("twice", "--input", "4", "--tolerance", "nan%"), "'nan%' is not a percent"),
    ],
)
def test_what_the_command_line_alone_shows_is_refused_before_parties(
    profile, args, message
):
    name, *rest = args

    result = profile(f"functions.py:{name}", *rest)

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "value"),
    [
        (("power", "--input", "4", "--input", "4"), "nan"),
        (("inverse", "--input", "5", "--domain", "0,1"), "inf"),
    ],
)
def test_a_function_that_is_no_number_on_its_domain_is_refused_before_parties(
    profile, args, value
):
    name, *rest = args

    result = profile(f"functions.py:{name}", *rest, "--network", "loopback")

    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert f"the function itself is {value} in float64 at [" in line
    assert line.endswith("; choose another --domain")


def test_a_report_says_the_size_of_the_outputs_beside_the_largest_error():
    report = FunctionReport(
        profile=make_profile(make_record(max_abs_error=0.0269)), max_abs_reference=20.0
    )

    assert (
        "largest error against the reference: 0.0269, of outputs up to 20 in size"
        in str(report).splitlines()
    )
    assert report.to_json()["max_abs_reference"] == 20.0


def test_a_report_tells_people_and_programs_of_captured_values():
    report = FunctionReport(
        profile=make_profile(make_record()),
        max_abs_reference=1.0,
        captured=(("float32", (4, 4)), ("int32", (3,))),
    )

    assert (
        "public: 19 values that the function holds itself, float32[4x4], int32[3];"
        in (str(report))
    )
    assert report.to_json()["n_captured_values"] == 19
    assert report.to_json()["captured_arrays"] == [["float32", [4, 4]], ["int32", [3]]]


def report_of(**overrides) -> FunctionReport:
    values = {"latencies_s": (8.2,), "loopbacks_s": (0.3,), "wire_bytes": 44e3}
    record = make_record(**(values | overrides))
    return FunctionReport(profile=make_profile(record), max_abs_reference=1.0)


def test_a_report_says_what_is_an_upper_bound_and_shows_no_part_above_the_whole():
    report = report_of(hops=495.0, compute_s=0.3)

    lines = str(report).splitlines()

    assert lines[1].startswith("made of: compute up to 300 ms, hops 8.2 s, trans")
    assert lines[2] == (
        "note: hops and bytes would take 9.9 s of a latency of 8.2 s: messages waited "
        "less than RTT/2 each, so that hops are an upper bound"
    )
    assert report.to_json()["parts_problem"] == lines[2].removeprefix("note: ")
    assert report_of(hops=398.0, compute_s=0.1).to_json()["parts_problem"] is None


def test_a_report_of_calls_that_differ_has_the_range_and_the_mean():
    report = report_of(
        hops=60.0,
        hops_by_repeat=(84.0, 52.0, 60.0),
        total_bytes_sent_by_repeat=(29_400, 18_100, 22_900),
    )

    assert (
        "note: calls differ, as where SPU selects at random: 18.1 kB to 29.4 kB sent "
        "by all parties, mean 23.47 kB; 52 to 84 hops, mean 65.3; 3 calls, the median "
        "one above"
    ) in str(report).splitlines()
    assert report.to_json()["hops_by_repeat"] == [84, 52, 60]
    assert "--repeats 5" in str(report_of(hops_by_repeat=(60.0,)))


def test_a_rank_above_0_prints_a_document_where_one_is_asked_for(
    profile, tmp_path, monkeypatch
):
    (tmp_path / "party1.toml").write_text("rank = 1\naddresses = ['a:1', 'b:1']\n")
    monkeypatch.setattr("mpcprof.sweep.function.follow", lambda *_, **__: None)
    words = ("functions.py:twice", "--input", "4", "--parties", "party1.toml")

    plain, result = profile(*words), profile(*words, "--json")

    assert (plain.exit_code, plain.stdout) == (0, "")
    assert json.loads(result.stdout) == {"rank": 1, "workload": "functions:twice(4)"}
