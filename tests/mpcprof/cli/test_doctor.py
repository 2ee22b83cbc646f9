import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

import mpcprof.doctor
from mpcprof.cli import main
from mpcprof.doctor import (
    DoctorReport,
    LinkStatus,
    MachineStatus,
    ProtocolStatus,
    examine,
    examine_machine,
)
from mpcprof.engine.emulation.backends import BackendStatus
from mpcprof.engine.installation import Runtime
from mpcprof.errors import BackendUnavailableError

REFUSAL = "asked for 44MBps,40ms, the parties see 41.00 ms"


def make_link(**overrides):
    values = {
        "n_parties": 2,
        "protocol": "semi2k",
        "asked_rtt_s": 0.040,
        "asked_bytes_per_s": 44e6,
        "rtt_s": 0.0401,
        "goodput_bytes_per_s": 43.7e6,
        "problem": "",
    }
    return LinkStatus(**(values | overrides))


def make_protocol(**overrides):
    values = {
        "protocol": "semi2k",
        "n_parties": 2,
        "seconds": 0.7,
        "setup_s": 0.033,
        "problem": "",
    }
    return ProtocolStatus(**(values | overrides))


def make_report(**overrides):
    values = {
        "machine": MachineStatus(
            python="3.11.7",
            executable="/venv/bin/python",
            host="a 2-core machine",
            n_cpus=2,
            n_cpus_by_parties=((2, 1), (3, 0)),
            memory_bytes=25_000_000_000,
        ),
        "runtimes": (
            Runtime(
                name="spu-0.9.5", version="0.9.5", python="/venv/bin/python", problem=""
            ),
        ),
        "protocols": (make_protocol(),),
        "backends": (
            BackendStatus(name="relay", reason=""),
            BackendStatus(name="netem", reason="no [sch_netem] here"),
        ),
        "links": (make_link(),),
    }
    return DoctorReport(**(values | overrides))


@pytest.fixture
def run(monkeypatch):
    def invoke(report, *arguments):
        def examine(*, quick, on_step):
            on_step("semi2k: 2 parties")
            return report

        monkeypatch.setattr(mpcprof.doctor, "examine", examine)
        return CliRunner().invoke(main, ["doctor", *arguments])

    return invoke


def test_a_machine_that_works_is_shown_with_units(run):
    shown = run(make_report())

    assert shown.exit_code == 0, shown.output
    assert "3.11.7" in shown.stdout
    assert "25 GB" in shown.stdout
    assert "2 parties, 700 ms, of that set-up 33 ms" in shown.stdout
    assert "40.1 ms round trip (asked 40ms), 43.7 MBps each way" in shown.stdout
    assert "no [sch_netem] here" in shown.stdout
    assert "none of its own" in shown.stdout
    assert "semi-honest" in shown.stdout
    assert "unsafe for deployment" in shown.stdout


def test_progress_goes_to_stderr(run):
    shown = run(make_report(), "--json")

    assert shown.stderr == "doctor: semi2k: 2 parties\n"
    json.loads(shown.stdout)


def test_json_is_the_whole_report(run):
    document = json.loads(run(make_report(), "--json").stdout)

    assert document["is_ok"] is True
    assert document["machine"]["n_cpus_by_parties"] == [[2, 1], [3, 0]]
    assert document["runtimes"][0]["name"] == "spu-0.9.5"
    assert document["protocols"][0]["seconds"] == 0.7
    assert document["backends"][1]["reason"] == "no [sch_netem] here"
    assert document["links"][0]["goodput_bytes_per_s"] == 43.7e6
    assert len(document["notes"]) == 3


@pytest.mark.parametrize(
    "overrides",
    [
        {"links": (make_link(problem=REFUSAL),)},
        {"protocols": (make_protocol(problem=REFUSAL),), "links": ()},
    ],
)
def test_without_semi2k_over_the_relay_it_fails_with_one_line(run, overrides):
    shown = run(make_report(**overrides), "--json")

    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["problem"] == REFUSAL
    assert shown.stderr.splitlines()[1:] == [
        f"mpcprof: semi2k over the relay does not work: {REFUSAL}"
    ]


def test_another_protocol_may_fail(run):
    broken = make_protocol(protocol="aby3", n_parties=3, problem="party 2 ended with 1")

    shown = run(make_report(protocols=(make_protocol(), broken)))

    assert shown.exit_code == 0
    assert "party 2 ended with 1" in shown.stdout


def test_a_missing_runtime_is_a_line_and_not_a_traceback(monkeypatch):
    def refuse(build):
        raise BackendUnavailableError(
            f"runtime {build.name}: needs spu==0.9.5, found none"
        )

    steps = []
    monkeypatch.setattr(mpcprof.doctor, "get_runtime", refuse)
    monkeypatch.setattr(mpcprof.doctor, "probe_backends", tuple)

    report = examine(on_step=steps.append)

    assert report.problem == "runtime spu-0.9.5: needs spu==0.9.5, found none"
    assert [p.protocol for p in report.protocols] == [
        *("semi2k", "cheetah", "aby3", "securenn")
    ]
    assert all(p.problem == report.problem for p in report.protocols)
    assert report.links == ()
    assert len(steps) == 5


def test_a_container_has_the_memory_it_is_given(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(mpcprof.doctor, "_CGROUP_LIMIT", limit)

    unlimited_bytes = examine_machine().memory_bytes
    limit.write_text("max\n")
    still_unlimited_bytes = examine_machine().memory_bytes
    limit.write_text("1000000\n")

    assert unlimited_bytes == still_unlimited_bytes > 1_000_000
    assert examine_machine().memory_bytes == 1_000_000


def test_each_party_gets_an_equal_share_of_the_processors():
    machine = examine_machine()

    assert machine.n_cpus_by_parties == (
        (2, machine.n_cpus // 2),
        (3, machine.n_cpus // 3),
    )


@pytest.mark.spu
def test_quick_tries_semi2k_and_its_link_for_real(monkeypatch):
    monkeypatch.setattr("mpcprof.engine.calibration._N_TRIES", 2)

    shown = CliRunner().invoke(main, ["doctor", "--quick", "--json"])

    document = json.loads(shown.stdout)
    (protocol,) = document["protocols"]
    (link,) = document["links"]
    assert protocol["protocol"] == "semi2k"
    assert protocol["problem"] == ""
    assert 0 < protocol["setup_s"] < protocol["seconds"]
    assert link["rtt_s"] == pytest.approx(0.040, rel=0.5)
    assert link["goodput_bytes_per_s"] > 0
    assert {b["name"] for b in document["backends"]} == {"relay", "tun", "netem"}
    # a busy machine may miss the tolerance; then it must say so
    assert shown.exit_code == (1 if link["problem"] else 0)
    assert document["is_ok"] is not bool(link["problem"])


def test_the_command_loads_nothing_heavy():
    code = "import sys, mpcprof.cli.doctor; print(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    assert not {"rich", "numpy", "jax", "spu", "mpcprof.doctor"} & {*loaded}


def test_the_library_needs_no_spu_to_say_that_it_is_absent():
    code = "import sys, mpcprof.doctor; print(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    assert not {"jax", "spu"} & {*loaded}
