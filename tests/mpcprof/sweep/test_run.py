"""What a sweep takes as measured, and what it shows while it measures."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.clock import Counters, Path
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.measure import Case
from mpcprof.engine.recording import find_critical_path
from mpcprof.errors import EngineError, ProfileError
from mpcprof.network import LOOPBACK, NETWORKS, parse_network
from mpcprof.profile.io import write_profile
from mpcprof.progress import Silent
from mpcprof.sweep import cases
from mpcprof.sweep.cases import CaseRun, calibrate_host
from mpcprof.sweep.config import make_config
from mpcprof.sweep.run import sweep
from mpcprof.workloads.registry import get_workload
from tests.factories import make_profile, make_record
from tests.mpcprof.engine.test_measure import Parties

CASES = tuple(
    Case(workload=get_workload("square"), dims=Dims(n_heads=1, n_tokens=n))
    for n in (3, 4, 5)
)
PARTY = PartyFile(rank=0, addresses=("a:1", "b:1"))


def plan_for(network):
    return make_config(cases=CASES, protocol="semi2k", network=network)


class Watcher(Silent):
    """Counts steps and keeps lines."""

    def __init__(self):
        self.n_done = self.n_steps = 0
        self.lines = []

    def begin(self, n_steps, *, n_done=0):
        self.n_steps = n_steps

    def advance(self, n_steps=1):
        self.n_done += n_steps

    def say(self, line):
        self.lines.append(line)


class Failing(Parties):
    """Parties of which one dies in a late call of the second case."""

    def run(self, name):
        if (name, len(self.turns)) == ("case1", 7):
            raise EngineError("party 1 died")
        return super().run(name)


@pytest.mark.parametrize("network", [LOOPBACK, NETWORKS["wan"]], ids=str)
def test_the_bar_ends_at_its_end(network):
    progress = Watcher()
    run = CaseRun(plan_for(network), CASES, progress)

    [timings] = run._measure(Parties(2.0))

    assert len(timings) == len(CASES)
    assert progress.n_done == progress.n_steps > 0


def test_the_bar_ends_at_its_end_where_a_case_failed_in_between():
    progress = Watcher()
    run = CaseRun(plan_for(NETWORKS["wan"]), CASES, progress)

    assert list(run._measure(Failing(2.0))) == []
    [timings] = run._measure(Parties(2.0))

    assert [timing.case for timing in timings] == [CASES[0], CASES[2]]
    assert progress.n_done == progress.n_steps


def test_each_case_is_a_line_with_its_seconds_and_how_many_are_done():
    progress = Watcher()
    run = CaseRun(plan_for(NETWORKS["wan"]), CASES, progress)

    list(run._measure(Parties(2.0)))

    assert progress.lines[1:] == [
        f"{case}: 2 s, {number} of 3 cases measured"
        for number, case in enumerate(CASES, 1)
    ]


@pytest.mark.parametrize(
    ("network", "mode", "trimmed", "advice"),
    [
        ("10MBps,100ms", "priced", "44MBps,40ms", False),
        ("10MBps,100ms", "emulated", "11MBps,40ms", False),
        ("20MBps,10ms", "emulated", "20MBps,10ms", True),
    ],
)
def test_a_host_is_calibrated_on_a_link_that_was_trimmed(
    network, mode, trimmed, advice, monkeypatch
):
    calls = []

    def trim(session, link, *, advice):
        calls.append((session, link, bool(advice)))

    def calibrate(session, link, *, seed, is_rough):
        calls.append((session, link, seed, is_rough))
        return "constants"

    monkeypatch.setattr(cases, "trim_link", trim)
    monkeypatch.setattr(cases, "calibrate", calibrate)
    config = make_config(
        cases=CASES, protocol="aby3", network=parse_network(network), mode=mode, seed=7
    )

    assert calibrate_host(config, "parties") == "constants"

    against = NETWORKS["wan"] if mode == "priced" else parse_network(network)
    assert calls == [
        ("parties", parse_network(trimmed), advice),
        ("parties", against, 7, False),
    ]


@pytest.mark.parametrize(
    ("on_file", "parties", "asked"),
    [("relay", PARTY, "hosts"), ("hosts", None, "relay"), ("tun", None, "relay")],
)
def test_a_record_of_another_emulation_is_not_taken_as_measured(
    on_file, parties, asked, tmp_path
):
    path = tmp_path / "real.parquet"
    case, network = CASES[0], NETWORKS["wan"]
    record = make_record(
        workload="square", dims=case.dims, network=network, emulation=on_file
    )
    write_profile(path, make_profile(record))
    before = path.read_bytes()

    with pytest.raises(ProfileError) as refused:
        sweep(replace(plan_for(network), parties=parties), path)

    assert str(refused.value) == (
        f"{str(path)!r} has {record.key} by emulation {on_file!r}, and this run "
        f"measures by {asked!r}: choose another file with --output, or start this one "
        "anew with --fresh"
    )
    assert path.read_bytes() == before


def test_hops_between_hosts_are_the_mean_of_the_middle_two_of_four_calls(monkeypatch):
    seen = iter((9, 163, 166, 163, 164))  # the first, cold call does not count

    class OnOneHost(Parties):
        deployment = make_deployment("aby3")

        def __enter__(self):
            return self

        def run(self, name):
            path = Path(next(seen), 10)
            counters = Counters(
                lower=path, upper=path, deepest=path, carried_bytes=0, lines=()
            )
            return replace(super().run(name), counters=counters)

    config = make_config(cases=CASES[:1], protocol="aby3")
    config = replace(config, parties=replace(PARTY, addresses=("a:1", "b:1", "c:1")))
    monkeypatch.setattr(cases, "Session", lambda *_: OnOneHost(0.1))

    [[timing]] = CaseRun(config, CASES[:1], Watcher())._measure(Parties(2.0))

    context = SimpleNamespace(
        deployment=config.deployment, network=config.network, emulation="hosts"
    )
    assert find_critical_path(timing, context).hops == 163.5
