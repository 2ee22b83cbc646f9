"""What a record says of the paths that the relay saw."""

from types import SimpleNamespace

import pytest

from mpcprof.deployment import make_deployment
from mpcprof.engine.emulation.clock import Counters, Path
from mpcprof.engine.recording import find_critical_path
from mpcprof.network import NETWORKS

WAN = NETWORKS["wan"]


def path_of(*counted: Counters):
    """The critical path of an aby3 case, one call for each."""
    calls = [SimpleNamespace(counters=counters) for counters in counted]
    context = SimpleNamespace(
        deployment=make_deployment("aby3"), network=WAN, emulation="relay"
    )
    return find_critical_path(SimpleNamespace(on=lambda _: calls), context)


def counters(longest: Path, deepest: Path) -> Counters:
    return Counters(
        lower=longest, upper=longest, deepest=deepest, carried_bytes=0, lines=()
    )


def test_a_longest_path_of_fewer_hops_is_told_as_the_most_hops_in_the_same_time():
    longest, deepest = Path(24, 26_000_000), Path(26, 23_000_000)

    path = path_of(counters(longest, deepest))

    longest_s = 24 * WAN.one_way_s + 26e6 / WAN.bandwidth_bytes_per_s
    told_s = path.hops * WAN.one_way_s + path.n_bytes / WAN.bandwidth_bytes_per_s
    assert path.hops == 26
    assert told_s == pytest.approx(longest_s, rel=1e-12)
    assert deepest.n_bytes <= path.n_bytes < longest.n_bytes


def test_most_hops_that_take_longer_than_the_longest_path_leave_no_bytes():
    path = path_of(counters(Path(24, 1_000), Path(26, 10)))

    assert (path.hops, path.n_bytes) == (26, 0)


def test_a_longest_path_that_is_also_the_deepest_keeps_its_bytes_on_average():
    path = path_of(*[counters(Path(26, n), Path(26, n)) for n in (10, 30, 35)])

    assert (path.hops, path.n_bytes) == (26, 25)


def test_a_call_that_saw_a_hop_too_many_by_chance_does_not_count():
    seen = [counters(Path(n, 10), Path(n, 10)) for n in (3, 3, 4, 3)]

    assert path_of(*seen).hops == 3


def test_hops_that_differ_by_the_roles_of_the_parties_are_averaged():
    seen = [counters(Path(n, 10), Path(n, 10)) for n in (50, 51, 51)]

    assert path_of(*seen).hops == pytest.approx(152 / 3)
