"""Who does what on a cluster: nothing lost, nothing twice; by a scripted Ray or Ray."""

import sys
from typing import Any

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.cluster import Cluster
from mpcprof.errors import EngineError, UsageError
from mpcprof.pricing import Calibration
from mpcprof.profile.io import read_profile
from mpcprof.sweep.grid import grid_config
from mpcprof.sweep.run import sweep
from tests.mpcprof.sweep.test_run import Watcher
from tests.scripted_ray import DeadActorError, ScriptedRay, install


class Doubler:
    """A worker that doubles numbers, unless something is up with its host."""

    what: Any = staticmethod(lambda items: None)

    def take(self, items: tuple[int, ...]) -> list[int]:
        Doubler.what(items)
        return [2 * item for item in items]

    def close(self) -> None:
        pass


@pytest.fixture
def ray(monkeypatch) -> ScriptedRay:
    """Three hosts."""
    monkeypatch.setattr(Doubler, "what", staticmethod(lambda items: None))
    return install(monkeypatch, "a", "b", "c")


def double(n_items: int, most_each: int = 4, progress: Any = None) -> list[int]:
    done: list[int] = []
    with Cluster("auto", Doubler, progress or Watcher()) as cluster:
        for share in cluster.run(range(n_items), most_each):
            done += share.answer
    return done


def test_all_hosts_take_shares_until_all_is_done(ray):
    hosts = []
    with Cluster("auto", Doubler) as cluster:
        shares = [*cluster.run(range(40), most_each=6)]
        hosts = [share.host for share in shares]

    assert sorted(x for share in shares for x in share.answer) == [*range(0, 80, 2)]
    assert {*hosts} == {"a", "b", "c"}
    assert max(len(share.items) for share in shares) == 6
    assert len(shares[-1].items) == 1
    assert ray.is_over


@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_what_a_lost_host_had_is_done_elsewhere_and_nothing_twice(
    ray, monkeypatch, n_before
):
    n_taken = []
    progress = Watcher()

    def lose_b(items: Any) -> None:
        n_taken.append(items)
        if len(n_taken) == n_before + 1:
            ray.dead.add("b")

    monkeypatch.setattr(Doubler, "what", staticmethod(lose_b))

    assert sorted(double(20, progress=progress)) == [*range(0, 40, 2)]
    assert any("lost the worker on b" in line for line in progress.lines)


def test_a_host_that_comes_later_takes_part(ray, monkeypatch):
    monkeypatch.setattr(
        Doubler,
        "what",
        staticmethod(lambda items: ray.hosts.append("d") if 0 in items else None),
    )
    progress = Watcher()

    assert sorted(double(30, progress=progress)) == [*range(0, 60, 2)]
    assert "cluster: d is ready" in progress.lines


def test_a_host_that_cannot_is_left_out_with_one_line(ray, monkeypatch):
    failed = []

    def fail_once(items: Any) -> None:
        if not failed:
            failed.append(items)
            raise EngineError("the link is off")

    monkeypatch.setattr(Doubler, "what", staticmethod(fail_once))
    progress = Watcher()

    assert sorted(double(12, progress=progress)) == [*range(0, 24, 2)]
    assert "cluster: left out: host a: the link is off" in progress.lines


def test_without_any_host_left_the_reasons_are_told(ray, monkeypatch):
    def fail(items: Any) -> None:
        raise EngineError("the link is off")

    monkeypatch.setattr(Doubler, "what", staticmethod(fail))

    with pytest.raises(EngineError, match="no host is left: host a: the link is off"):
        double(12)
    assert ray.is_over


def test_what_no_host_can_do_ends_it_at_once(ray, monkeypatch):
    def refuse(items: Any) -> None:
        raise UsageError("no such thing")

    monkeypatch.setattr(Doubler, "what", staticmethod(refuse))

    with pytest.raises(UsageError, match="no such thing"):
        double(12)


def test_an_item_that_kills_every_worker_does_not_kill_them_all(ray, monkeypatch):
    def die(items: Any) -> None:
        if 5 in items:
            raise DeadActorError("out of memory")

    monkeypatch.setattr(Doubler, "what", staticmethod(die))

    with pytest.raises(EngineError, match="3 workers died at the same work"):
        double(6, most_each=1)


def test_a_host_with_another_mpcprof_gets_no_work(ray, monkeypatch):
    versions = iter(["mpcprof 1", "mpcprof 1", "mpcprof 2", "mpcprof 1"])
    monkeypatch.setattr("mpcprof.cluster.own_version", lambda: next(versions))
    progress = Watcher()

    assert sorted(double(8, progress=progress)) == [*range(0, 16, 2)]
    assert (
        "cluster: left out: host b has mpcprof 2, this one mpcprof 1: install the same "
        "there" in progress.lines
    )


@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        ("x", 2, "--cluster 'x': expected HOST:PORT of a `ray start --head`, or auto"),
        ("ray://h:10001", 2, "--cluster 'ray://h:10001': expected HOST:PORT"),
        ("127.0.0.1:1", 1, "--cluster 127.0.0.1:1: no cluster of Ray there ("),
    ],
)
def test_where_no_cluster_is_one_line_says_so(ray, tmp_path, address, code, message):
    result = _sweep_on(address, tmp_path)

    assert result.exit_code == code
    assert message in result.stderr.splitlines()[-1]


def test_without_ray_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)

    result = _sweep_on("auto", tmp_path)

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "mpcprof: --cluster needs Ray, which is not installed here: "
        "pip install 'mpcprof[ray]', on every host of the cluster"
    )


def _sweep_on(address: str, folder: Any) -> Any:
    output = str(folder / "x.parquet")
    arguments = ["sweep", "--only", "exp", "--cluster", address, "--output", output]
    return CliRunner().invoke(main, arguments)


@pytest.mark.spu
def test_three_nodes_measure_what_one_machine_does_though_one_is_killed(
    tmp_path, monkeypatch
):
    pytest.importorskip("ray", reason="needs the extra ray: pip install 'mpcprof[ray]'")
    from ray.cluster_utils import Cluster as Nodes

    config = grid_config(
        protocol="semi2k",
        only="exp,relu,max,less,matmul",
        mode="priced",
        n_heads=(1, 2),
        n_tokens=(3, 5, 7, 9),
        hidden=(8,),
        width=(8, 16),
    )
    known = Calibration(loopback_s_per_hop=1e-4, loopback_s_per_byte=1e-9)
    memory = {"object_store_memory": 80_000_000, "num_cpus": 1}
    nodes = Nodes(initialize_head=True, head_node_args=memory)
    lost = nodes.add_node(**memory)
    nodes.add_node(**memory)

    class Killer(Watcher):
        def say(self, line: str) -> None:
            super().say(line)
            if sum("cases measured" in one for one in self.lines) == 12:
                nodes.remove_node(lost, allow_graceful=False)

    progress = Killer()
    try:
        path, address = tmp_path / "c", nodes.address
        found = sweep(config, path, progress, calibration=known, cluster=address)
    finally:
        nodes.shutdown()
    sweep(config, tmp_path / "alone", calibration=known)

    def costs(name: str) -> dict[Any, Any]:
        records = read_profile(tmp_path / name)
        return {one.key: (one.bytes_sent_by_rank, one.hops) for one in records}

    assert len(config.cases) == 40
    assert found.n_measured == 40
    assert not found.left_out
    assert costs("c") == costs("alone")
    (line,) = [line for line in progress.lines if "handing out took" in line]
    # under 5 % where cases wait for a network; these take milliseconds, on one machine
    assert float(line.split(", ")[1].split("%")[0]) < 50
