"""What a sweep shows while it measures: calls that are made, a line at each case."""

import pytest

from mpcprof.dims import Dims
from mpcprof.engine.measure import Case
from mpcprof.errors import EngineError
from mpcprof.network import LOOPBACK, NETWORKS, parse_network
from mpcprof.progress import Silent
from mpcprof.sweep import cases
from mpcprof.sweep.cases import CaseRun, calibrate_host
from mpcprof.sweep.config import make_config
from mpcprof.workloads.registry import get_workload
from tests.mpcprof.engine.test_measure import Parties

CASES = tuple(
    Case(workload=get_workload("square"), dims=Dims(n_heads=1, n_tokens=n))
    for n in (3, 4, 5)
)


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
