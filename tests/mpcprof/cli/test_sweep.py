"""What a user can get wrong with `mpcprof sweep`, and what a real one gives."""

import json
import os
import re
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.measure import Case
from mpcprof.network import parse_network
from mpcprof.profile.io import read_profile, write_profile
from mpcprof.provenance import host_description
from mpcprof.sweep.cases import LeftOut
from mpcprof.sweep.run import SweepResult
from mpcprof.workloads.registry import get_workload
from tests.factories import make_profile, make_record

# slow enough to be emulated beside other tests, and to be calibrated in seconds
NETWORK = "10MBps,20ms"
TINY = [
    *("sweep", "--network", NETWORK, "--heads", "1", "--tokens", "3,5"),
    *("--repeats", "2", "--json", "--output"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "semi3k"], "no protocol 'semi3k'; did you mean semi2k"),
        (["--protocol", "SEMI2K"], "no protocol 'SEMI2K'; did you mean semi2k"),
        (["--only", "expp"], "no workload 'expp'; did you mean exp"),
        (["--heads", "0"], "'--heads': '0' in '0': expected a whole number"),
        (["--tokens", "x"], "'--tokens': 'x' in 'x': expected a whole number"),
        (["--network", "40"], "'40' is not a network; expected bandwidth"),
        (["--network", "100mbps,40ms"], "may mean 100Mbps or 100MBps"),
        (["--network", "100/20Mbps,40ms"], "type 20Mbps,40ms"),
        (["--network", "44MBps,40"], "'40' has no unit; type 40ms"),
        (["--network", "0MBps,40ms"], "expected more than 0"),
        (["--preset", "papper"], "no preset 'papper'; did you mean paper"),
        (["--emulation", "relais"], "no emulation 'relais'; did you mean relay"),
        (["--runtime", "spu-1.0"], "no runtime 'spu-1.0'"),
        (["--option", "fxp_exp_iter=5"], "no option 'fxp_exp_iter'; did you mean"),
        (["--case-limit", "60"], "'60' has no unit"),
        (["--beaver", "me"], "'me'"),
        (["--beaver", "MultiParty"], "no such triples; expected TrustedFirstParty"),
        (["--beaver", "TrustedThirdParty"], "a server .* expected TrustedFirstParty"),
        (["--field-bits", "32"], "so small a ring; expected 64 or 128"),
        *(
            (["--emulation", name, *deployment], f"--emulation {name}: hops of {hops}")
            for name in ("tun", "netem")
            for deployment, hops in (
                (["--protocol", "aby3"], "aby3 on spu-0.9.5 are counted at the relay"),
                (["--protocol", "cheetah"], "cheetah on spu-0.9.5 are counted"),
                (["--protocol", "securenn"], "securenn on spu-0.9.5 are counted"),
                (["--runtime", "spu-0.3.1b0"], "semi2k on spu-0.3.1b0 are counted"),
            )
        ),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2_and_writes_nothing(
    tmp_path, arguments, message
):
    path = tmp_path / "p.parquet"

    result = CliRunner().invoke(main, ["sweep", "--output", str(path), *arguments])

    assert result.exit_code == 2
    assert re.search(message, result.stderr)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["x.csv", "x.JSON"])
def test_a_profile_does_not_go_into_a_file_that_promises_another_format(tmp_path, name):
    path = tmp_path / name

    result = CliRunner().invoke(main, ["sweep", "--output", str(path)])

    assert result.exit_code == 2
    assert "write" in result.stderr
    good = path.with_suffix(".parquet")
    assert f"`mpcprof table export {good} --output {path}`" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


def test_a_profile_of_another_deployment_is_refused_and_kept(tmp_path):
    path = tmp_path / "semi2k.parquet"
    write_profile(path, make_profile(make_record()))
    before = path.read_bytes()

    result = CliRunner().invoke(
        main, ["sweep", "--protocol", "cheetah", "--output", str(path)]
    )

    assert result.exit_code == 1
    assert "another deployment" in result.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", b"hello"])
def test_a_file_that_is_no_profile_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "foreign.parquet"
    path.write_bytes(content)

    result = CliRunner().invoke(main, ["sweep", "--output", str(path)])

    assert result.exit_code == 1
    assert "cannot be read as a profile" in result.stderr
    assert path.read_bytes() == content


def test_a_place_that_takes_no_file_is_found_out_before_measuring(tmp_path):
    path = tmp_path / "a file"
    path.write_text("")

    result = CliRunner().invoke(main, ["sweep", "--output", str(path / "p.parquet")])

    assert result.exit_code == 1
    assert str(path) in result.stderr


@pytest.mark.parametrize("hosts", [("one", "one"), ("one", "another")])
def test_a_profile_of_several_machines_is_noted(tmp_path, hosts):
    path = tmp_path / "semi2k.parquet"
    exp = make_record(host=hosts[0])
    write_profile(path, make_profile(exp, make_record(workload="max", host=hosts[1])))
    there = ["--only", "exp", "--heads", "4", "--tokens", "65", "--output", str(path)]

    text = CliRunner().invoke(main, ["sweep", *there]).stdout
    document = json.loads(CliRunner().invoke(main, ["sweep", *there, "--json"]).stdout)

    assert document["hosts"] == sorted({*hosts})
    assert ("note: records of 2 machines (another; one)" in text) == (
        hosts[0] != hosts[1]
    )


@pytest.mark.parametrize(
    ("n_measured", "n_resumed", "has_failed", "exit_code"),
    [(3, 0, True, 1), (3, 0, False, 0), (0, 3, False, 0), (0, 0, False, 1)],
    ids=["failed", "too long", "too long, others there", "all of them too long"],
)
def test_a_case_that_failed_is_exit_code_1_and_one_that_took_too_long_is_not(
    tmp_path, monkeypatch, n_measured, n_resumed, has_failed, exit_code
):
    case = Case(workload=get_workload("exp"), dims=Dims(n_heads=4, n_tokens=65))

    def scripted(*_, **__):
        return SweepResult(
            profile=make_profile(make_record()),
            n_measured=n_measured,
            n_resumed=n_resumed,
            left_out=(LeftOut(case=case, reason="so it is", has_failed=has_failed),),
            setup_s=1.0,
            measuring_s=2.0,
            timed_s=1.5,
        )

    monkeypatch.setattr("mpcprof.sweep.run.sweep", scripted)

    result = CliRunner().invoke(main, ["sweep", "--output", str(tmp_path / "p")])

    assert result.exit_code == exit_code
    assert "left out: exp [n_heads=4 n_tokens=65]: so it is" in result.stdout


@pytest.mark.spu
def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        result = CliRunner().invoke(
            main,
            ["sweep", "--base-port", port, "--output", str(tmp_path / "p.parquet")],
        )

    assert result.exit_code == 1
    assert f"port {port} is in use" in result.stderr.splitlines()[-1]


def run(arguments: list[str], *, exit_code: int = 0) -> dict[str, object]:
    """The only thing on standard output, which is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "mpcprof", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A file of a sweep, and what the sweep printed."""
    path = tmp_path_factory.mktemp("swept") / "semi2k.parquet"
    return path, run([*TINY, str(path), "--only", "exp,truncation"])


@pytest.mark.spu
def test_a_sweep_records_exact_bytes_and_hops_and_is_not_repeated(swept):
    path, first = swept

    again = run([*TINY, str(path), "--only", "exp,truncation"])

    assert (first["n_measured"], first["n_resumed"], first["left_out"]) == (4, 0, [])
    assert (again["n_measured"], again["n_resumed"]) == (0, 4)
    per_entry = {"exp": (100, 17), "truncation": (4, 1)}
    for record in read_profile(path):
        n_bytes, hops = per_entry[record.workload]
        n_entries = record.dims.n_heads * record.dims.n_tokens**2
        assert record.bytes_sent == n_bytes * n_entries
        assert record.hops == hops
        assert set(record.total_bytes_sent_by_repeat) == {2 * record.bytes_sent}
        assert len(record.latencies_s) >= 2
        assert record.latency_s > hops * 0.005
        assert record.operations


@pytest.mark.spu
def test_cases_beyond_the_limit_are_left_out_and_named(swept):
    path, first = swept

    tight = ["--only", "square", "--case-limit", "1us", "--mode", "priced"]
    result = run([*TINY, str(path), *tight], exit_code=1)  # nothing at all was measured

    assert result["n_measured"] == 0
    assert len(read_profile(path)) == first["n_measured"]
    reasons = [entry["reason"] for entry in result["left_out"]]
    assert "more than the limit of 1e-06 s" in reasons[0]
    assert len(reasons) == 2


@pytest.mark.spu
def test_a_sweep_of_three_parties_sees_the_hops_on_the_wire(tmp_path):
    path = tmp_path / "aby3.parquet"
    # slow enough for the tolerance of the link check on a busy machine of two cores
    network = "10MBps,100ms"
    known = make_record(
        n_parties=3, network=parse_network(network), host=host_description()
    )
    write_profile(path, make_profile(known, deployment=make_deployment("aby3")))

    tiny = [network if word == NETWORK else word for word in TINY]
    aby3 = ["--protocol", "aby3", "--mode", "priced"]
    run([*tiny, str(path), *aby3, "--only", "mul"])

    calibrated, *records = read_profile(path)
    assert calibrated == known
    assert len(records) == 2
    for record in records:
        assert record.loopback_s_per_hop == known.loopback_s_per_hop
        assert (record.mode, record.hops_basis) == ("priced", "measured")
        assert record.hops == 3
        assert record.wire_bytes > 0
        assert len({*record.total_bytes_sent_by_repeat}) == 1


def test_what_the_users_file_prints_is_not_data(tmp_path):
    (tmp_path / "talks.py").write_text("print('loaded')\ndef f(x): return None\n")
    command = [sys.executable, "-m", "mpcprof", "profile", "talks.py:f", "--input", "4"]

    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == "loaded"
    assert "returns no numbers" in done.stderr.splitlines()[1]


@pytest.mark.spu
def test_a_function_in_the_users_own_file_is_measured_beside_any_other(tmp_path):
    for name in ("queue", "jax", "numpy", "random", "selectors", "spu", "rich"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "extra.py").write_text("")
    (tmp_path / "my_layer.py").write_text(
        "import extra\n"
        "import jax.numpy as jnp\n"
        "def positive_product(q, k):\n"
        "    return jnp.maximum(q @ k.T, 0)\n"
    )

    done = subprocess.run(
        [
            *(sys.executable, "-m", "mpcprof", "profile"),
            *("my_layer.py:positive_product", "--input", "5x4", "--input", "5x4"),
            *("--network", NETWORK, "--json", "--trace", "trace.json"),
        ],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cuda", "OMP_NUM_THREADS": "none"},
        capture_output=True,
        text=True,
        check=True,
    )

    report = json.loads(done.stdout)
    assert report["workload"] == "my_layer:positive_product(5x4, 5x4)"
    assert report["hops"] == 10  # product 1, truncation 1, comparison 7, select 1
    product, relu = 8 * (20 + 20) + 4 * 25, 72 * 25
    assert report["bytes_sent"] == product + relu
    assert {op["level"] for op in report["operations"]} == {"pphlo", "hal", "mpc"}
    waited_s = sum(party["waiting_s"] for party in report["trace"]["parties"])
    assert waited_s > 0.9 * 10 * 0.010
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    sent = [e for e in trace["traceEvents"] if e["name"] == "sending" and e["tid"] == 0]
    assert sum(event["args"]["bytes_sent"] for event in sent) == report["bytes_sent"]


def test_latencies_shorter_than_their_hops_are_told_by_sweep_and_by_table_show(
    tmp_path, monkeypatch
):
    profile = make_profile(make_record(latencies_s=(1.0,), hops=60.0))
    path = tmp_path / "a.parquet"
    write_profile(path, profile)
    result = SweepResult(
        profile=profile,
        n_measured=1,
        n_resumed=0,
        left_out=(),
        setup_s=1.0,
        measuring_s=2.0,
        timed_s=1.5,
    )
    monkeypatch.setattr("mpcprof.sweep.run.sweep", lambda *_, **__: result)
    line = "the parts of 1 of 1 latencies do not fit; the most: exp"

    told = CliRunner().invoke(main, ["sweep", "--output", str(path)])
    as_json = CliRunner().invoke(main, ["sweep", "--json", "--output", str(path)])
    shown = CliRunner().invoke(main, ["table", "show", str(path)])

    assert f"note: {line}" in told.stdout
    assert json.loads(as_json.stdout)["misfit"].startswith(line)
    assert f"note: {line}" in shown.stdout
