"""No part of a latency is larger than the whole, or a line says so."""

import pytest

from mpcprof.deployment import make_deployment
from mpcprof.network import LOOPBACK
from mpcprof.profile.parts import misfit, parts_of
from mpcprof.profile.record import Record
from tests.factories import make_record

SEMI2K = make_deployment("semi2k")


def one(latency_s: float, **overrides) -> Record:
    """A single call on the wan that sends next to nothing."""
    values = {"latencies_s": (latency_s,), "loopbacks_s": (0.1,), "wire_bytes": 44.0}
    return make_record(**(values | overrides))


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (one(1.3, hops=60.0, compute_s=0.1), ""),
        (one(1.28, hops=60.0, compute_s=0.1), ""),  # 1.6 % off, as a link may be
        (one(8.2, hops=495.0), "hops and bytes would take 9.9 s of a latency of 8.2 s"),
        (one(1.3, hops=60.0, compute_s=0.5), "add up to 1.7 s of a latency of 1.3 s"),
    ],
)
def test_parts_that_add_up_to_more_than_the_latency_are_told_in_a_line(record, problem):
    parts = parts_of(record, record.latency_s)

    assert problem in parts.problem
    assert bool(problem) == bool(parts.problem)
    shown = parts.fitted()
    if problem:
        assert shown.total_s == pytest.approx(record.latency_s)
    assert max(shown.compute_s, shown.hops_s, shown.transfer_s) <= record.latency_s


def test_what_calls_differ_by_is_no_misfit():
    record = one(1.0, latencies_s=(1.0, 1.6, 1.0), hops=60.0, compute_s=0.1)

    assert parts_of(record, record.latency_s).problem == ""


@pytest.mark.parametrize("per_hop_s", [-0.003, 0.001])
def test_on_loopback_the_parts_are_the_whole(per_hop_s):
    record = one(
        13.4, network=LOOPBACK, hops=300.0, compute_s=14.2, loopback_s_per_hop=per_hop_s
    )

    parts = parts_of(record, record.latency_s)

    assert parts.total_s == pytest.approx(13.4)
    assert parts.compute_s <= 13.4
    assert not parts.problem


def test_a_profile_names_the_worst_of_those_that_do_not_fit():
    bad = [
        one(1.0, workload=name, hops=n) for name, n in (("exp", 60.0), ("relu", 90.0))
    ]
    good = one(2.0, workload="less")

    line = misfit([*bad, good], SEMI2K)

    assert line.startswith("the parts of 2 of 3 latencies do not fit; the most: relu")
    assert misfit([good], SEMI2K) == ""
